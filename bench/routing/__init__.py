"""Measure routing from labelled tables on public data, against its baselines."""
