"""Replay: recorded decisions, made again in another process, must come out as they were."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..page import Goal, Section
from .soaking import exactly

if TYPE_CHECKING:
    from ...agents.pilot import Pilot


def section(home: Path, family: str, count: int, seed: int) -> Section:
    """Record decisions by answering prompts with one token each, then decide every one again."""
    from ...agents.pilot import Pilot
    from ...agents.replay import replay
    from ...store.audit import Audit
    from ...store.ledger import Ledger

    log = home / "log.db"
    with Ledger.open(log) as ledger, Pilot(family, ledger) as pilot:
        for prompt in prompts(pilot, count, seed):
            pilot.ask(prompt, max_tokens=1, remember=False)
    # opened anew: nothing that was read is still in the engine
    with Ledger.open(log) as ledger, Pilot(family, ledger) as pilot, Audit.open(log) as audit:
        begun = time.perf_counter()
        found = [replay(page, pilot.ship) for page in audit.pages()]
        seconds = time.perf_counter() - begun
    verdicts = Counter(one.verdict for one in found)
    good = sum(
        one.verdict == "reproduced" or (one.verdict == "changed" and bool(one.blamed)) for one in found
    )
    rows = (
        *((verdict, f"{number:,}") for verdict, number in verdicts.items()),
        ("largest difference of a probability or reading", f"{max(one.largest for one in found):.1e}"),
        ("records a second", f"{len(found) / seconds:.0f}"),
    )
    goal = Goal(
        f"replay of {len(found):,} decisions: identical, or the changed artifact named",
        "at least",
        1.0,
        "%",
        exactly(good / len(found), len(found)),
    )
    text = (
        "The cards' examples with numbers and endings of their own, each answered with one token at most; "
        "the log is then opened again by a fresh pilot, which decides every record again."
    )
    return Section("Replay", text, ("what", "value"), rows, (goal,))


def prompts(pilot: Pilot, count: int, seed: int) -> list[str]:
    """`count` different prompts: the cards' examples, and each with endings that nobody wrote before."""
    rng = random.Random(seed)
    examples = [example for card in pilot.warm().ship.cards.values() for example in card.examples]
    ends = ("", " Please.", " Thank you.", " Be brief.", "?", " I ask for a friend.")
    found = dict.fromkeys(examples)
    while len(found) < count:
        text = "".join(str(rng.randrange(10)) if c.isdigit() else c for c in rng.choice(examples))
        found[f"{text}{rng.choice(ends)}{'' if rng.random() < 0.5 else f' ({rng.randrange(1000)})'}"] = None
    return list(found)[:count]
