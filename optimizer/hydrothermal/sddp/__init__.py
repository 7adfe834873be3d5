"""Stochastic dual dynamic programming: cuts of the cost to go, stage by stage; read `train.py` first."""
