"""Streaming peers that decide by the same ONNX policy, and what feeds and reads all of them alike."""
