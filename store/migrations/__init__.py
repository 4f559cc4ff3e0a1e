"""Schema migrations, run by `pilothouse.store.database` when a log is opened."""
