"""The audit: pages and JSON over the log, replay and diff, for keys that may audit."""
