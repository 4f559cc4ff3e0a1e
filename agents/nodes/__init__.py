"""One node of the controller's graph per file."""
