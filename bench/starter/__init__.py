"""The starter family measured: skills, routing, calibration, abstention, explanation, steering, latency."""
