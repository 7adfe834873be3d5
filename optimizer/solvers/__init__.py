"""Programs as arrays and the solvers that take them; nothing here knows a domain."""
