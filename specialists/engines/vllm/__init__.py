"""Pilothouse: a plugin for vLLM, with probes, gates, steering and activated adapters for each request."""
