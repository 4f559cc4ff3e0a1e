"""Pilothouse: engines."""
