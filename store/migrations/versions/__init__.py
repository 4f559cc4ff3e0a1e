"""One revision per file, append-only."""
