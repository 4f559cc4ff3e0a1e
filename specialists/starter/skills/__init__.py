"""Pilothouse: skills."""
