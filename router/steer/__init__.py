"""Pilothouse: steer."""
