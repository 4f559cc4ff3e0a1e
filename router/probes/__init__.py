"""Linear probes on hidden states: fit, calibrate, read."""
