"""Pilothouse: locate."""
