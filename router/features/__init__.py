"""Pilothouse: features."""
