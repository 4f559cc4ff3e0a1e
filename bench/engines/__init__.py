"""Pilothouse: the CPU engines measured side by side."""
