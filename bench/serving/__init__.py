"""Throughput and latency of Penstock and of streaming peers, side by side in one run on one real Kafka."""
