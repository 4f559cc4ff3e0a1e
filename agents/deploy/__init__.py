"""Pilothouse: agents.deploy."""
