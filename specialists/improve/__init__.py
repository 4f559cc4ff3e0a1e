"""Pilothouse: improve."""
