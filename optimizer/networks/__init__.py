"""Modules that the networks of two or more domains share; every operator in them is batch-invariant in onnxruntime."""
