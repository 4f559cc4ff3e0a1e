"""Pilothouse: bench."""
