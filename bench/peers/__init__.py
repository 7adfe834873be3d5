"""What runs inside a peer's own environment; only its arrays and its answers cross the border."""
