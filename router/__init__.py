"""Locate and decide: taps on hidden states, features, probes, the routing policy, steering."""
