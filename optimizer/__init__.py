"""The training floor: domain solvers train policies and export them as artifacts. Read `contract.py` first."""
