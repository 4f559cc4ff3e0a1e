"""Pilothouse: starter."""
