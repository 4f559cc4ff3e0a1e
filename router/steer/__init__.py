"""Steering: vectors, how they are made, and how they act inside a forward pass."""
