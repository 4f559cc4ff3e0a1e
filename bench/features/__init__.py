"""Measure dictionaries on data in which the truth is known."""
