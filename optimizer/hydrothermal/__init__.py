"""Hydrothermal dispatch: reservoirs in cascade, a thermal fleet and a grid; `case.py` is the page to read first."""
