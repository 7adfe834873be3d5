"""Benchmarks: each prints its ratios within one run and the command that reproduces it."""
