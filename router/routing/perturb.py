"""Prompts that mean the same: typing errors, other words, wrappers. A decision that flips on them is
shaky.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

_NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j":
    "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad",
    "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xa",
}  # fmt: skip
# Pairs that say the same in most prompts; replaced either way round.
_SAME = (
    ("which of the following", "which one of these"),
    ("what is", "what's"),
    ("how many", "what number of"),
    ("how much", "what amount"),
    ("approximately", "about"),
    ("according to", "in the view of"),
    ("in order to", "to"),
    ("most likely", "probably"),
    ("refers to", "means"),
    ("for example", "for instance"),
    ("because", "since"),
    ("begin", "start"),
    ("buy", "purchase"),
    ("large", "big"),
    ("small", "little"),
    ("each", "every"),
    ("person", "individual"),
    ("usually", "normally"),
    ("total", "overall"),
    ("find", "determine"),
)
_BEFORE = (
    "Please answer this question.\n",
    "Hi! Could you help me with this?\n\n",
    "Question: ",
    "Here is my task:\n",
)
_AFTER = ("\n\nThank you!", "\nPlease answer.", "", "\n")


def typo(text: str, rng: random.Random) -> str:
    """One typing error every hundred letters or so, at least one: a neighbour key, a swap, a loss, a
    double.
    """
    letters = [i for i, c in enumerate(text) if c.isalpha()]
    if not letters:
        return text
    found = list(text)
    for place in rng.sample(letters, max(1, len(letters) // 100)):
        kind = rng.randrange(4)
        if kind == 0:
            found[place] = rng.choice(_NEAR.get(text[place].lower(), text[place]))
        elif kind == 1 and place + 1 < len(found):
            found[place], found[place + 1] = found[place + 1], found[place]
        else:
            found[place] = "" if kind == 2 else found[place] * 2
    return "".join(found)


def paraphrase(text: str, rng: random.Random) -> str:
    """The same in other words, as far as a table of pairs goes; a text without any gets a polite opening."""
    found = text
    for one, other in rng.sample(_SAME, len(_SAME)):
        for old, new in ((one, other), (other, one)):
            at = found.lower().find(old)
            whole = at >= 0 and not found[at - 1 : at].isalpha() and not found[at + len(old) :][:1].isalpha()
            if whole:
                cased = new[0].upper() + new[1:] if found[at].isupper() else new
                found = found[:at] + cased + found[at + len(old) :]
                break
    return found if found != text else f"Tell me: {text}"


def wrapper(text: str, rng: random.Random) -> str:
    """The prompt with a polite word before or after it."""
    return rng.choice(_BEFORE) + text + rng.choice(_AFTER)


PERTURBATIONS: Mapping[str, Callable[[str, random.Random], str]] = {
    "typo": typo,
    "paraphrase": paraphrase,
    "wrapper": wrapper,
}


def variants(text: str, kind: str, count: int, seed: int = 0) -> list[str]:
    """Several perturbations of one kind, always the same for the same text and seed."""
    rng = random.Random(f"{seed}/{kind}/{text}")
    return [PERTURBATIONS[kind](text, rng) for _ in range(count)]
