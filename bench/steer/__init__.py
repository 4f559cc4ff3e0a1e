"""Measures the makers of steering entries where the truth is known."""
