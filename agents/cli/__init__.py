"""The command line: one module per sub-command, listed in `main`."""
