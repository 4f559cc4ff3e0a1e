"""Wrap the rows of a labelled text collection into prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .example import Check, Example, Split, numbered_pool, row_split


def own_split(text: str) -> Split:
    """Assign a row of a file that has its own test file: the test share of ``row_split`` goes to train."""
    split = row_split(text)
    return "train" if split == "test" else split


def clip(text: str, limit: int) -> str:
    """Put a text on one line and cut it to at most ``limit`` characters, at a sentence or else a word end."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    head = line[:limit]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? "))
    return head[: end + 1] if end > limit // 3 else head.rsplit(" ", 1)[0]


def wrapped(
    rows: Sequence[tuple[str, str]],
    templates: Sequence[str],
    split: Split,
    count: int,
    rng: random.Random,
    skill: str,
    check: Check = "label",
    more: Sequence[str] = (),
) -> list[Example]:
    """Ask about (text, label) rows, every row once before any row twice; ``{t}`` in a template is the text.

    Training and fitting draw from ``more`` templates too.

    A split with fewer than ``count`` distinct prompts returns those; only train repeats a row and template.
    """
    pool = numbered_pool(templates, more, split)
    found: list[Example] = []
    seen: set[str] = set()
    order = list(rows)
    for _ in range(1 + 4 * count // max(1, len(order))):
        rng.shuffle(order)
        for text, label in order:
            if len(found) == count:
                return found
            i, template = rng.choice(pool)
            prompt = template.replace("{t}", text)
            if split != "train" and prompt in seen:
                continue
            seen.add(prompt)
            found.append(Example(prompt, label, skill, label, f"{skill}-{i}", check))
    return found
