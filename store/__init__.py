"""Pilothouse: store."""
