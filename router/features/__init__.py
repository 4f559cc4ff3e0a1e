"""Sparse dictionaries of the residual stream: load, train, label."""
