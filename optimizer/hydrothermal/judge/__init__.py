"""Judging: policies operated on common scenarios, their costs compared in pairs; read `course.py` first."""
