"""How modules are trained: one loop, and one objective for each contract."""
