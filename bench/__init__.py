"""Measured comparisons: every table of docs/results/ comes from here, with baselines and intervals.

`commands.py` is the command line, one command a benchmark; each benchmark is a sub-package with `run()`.
"""
