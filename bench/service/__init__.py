"""What the service costs, how long it lasts, what it survives, and whether its past can be replayed."""
