"""Where messages come from and results go: memory, files, Kafka; one conformance suite for all."""
