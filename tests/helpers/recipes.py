"""How the recipes of tests begin: a toy with a trunk, and sixty rows of a language of letters."""

from __future__ import annotations

HEAD = """
format = 1
name = "toy"
trunk = "trunk"
licence = "Apache-2.0"

[data.train]
generator = "symbols:sort,next"
rows = 60
"""
