"""Bring your own log and spec: a policy learned from any feedback with propensities."""
