"""Pilothouse: specialists."""
