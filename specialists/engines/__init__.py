"""Pilothouse: engines. `choose.open_engine` opens a family with the one that suits it."""
