"""The deciding floor: receive, decide, record, join, assess. Read `contract.py` first."""
