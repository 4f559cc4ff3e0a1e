"""Pilothouse: agents."""
