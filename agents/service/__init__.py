"""The HTTP service: OpenAI-compatible chat, records, health and metrics over one `Pilot`."""
