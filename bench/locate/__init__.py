"""Measure the methods of `router/locate` on models in which the truth is known."""
