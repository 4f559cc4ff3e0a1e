"""Pilothouse: router."""
