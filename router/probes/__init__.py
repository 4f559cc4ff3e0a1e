"""Pilothouse: probes."""
