"""Routing policies from labelled tables: read, fit, stack, calibrate, decide, report."""
