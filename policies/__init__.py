"""The ground floor: what a request, a decision, an outcome and an estimate are.

Read `spec.py` and `events.py` first. Nothing here imports torch, pyomo, kafka, `optimizer` or `serving`.
"""
