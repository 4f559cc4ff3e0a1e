"""Which layers suffer most from few bits: NSDS from weights alone, and the scores it is compared with."""
