"""Measure the steps of `pilothouse build` against their baselines and controls."""
