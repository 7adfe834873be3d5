"""What a policy would have earned: scored rows, mergeable sums, estimators, intervals and verdicts.

Read `estimators.py` first.
"""
