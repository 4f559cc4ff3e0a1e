"""Small talk around a prompt ("Hi! … Thanks."), so that specialists and probes learn to look past it.

Only rows of the training and fitting splits are dressed; the others keep the phrasing of their templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from .example import Example, Split

SHARE = 0.25
LONGEST = 240  # characters of an answer that is put before a prompt on something else
SKIPPED = ("continue",)  # kinds whose prompt is a text to go on with

GREETINGS = (
    "Hi.", "Hi!", "Hello.", "Hello!", "Hey,", "hey", "Hi there!", "Good morning.", "Good evening!", "ok,",
    "Okay.", "So,", "Well,", "Right,", "Next one:", "Next question.", "Now this:", "New question:",
    "Another one:", "One more:", "A quick one:", "Excuse me,", "Sorry to bother you.", "Hmm,", "Um,",
)  # fmt: skip
REASONS = (
    "I need help.", "I need some help with this.", "Help me out here.", "I have a question.",
    "Please help me.",
    "I have been wondering about this.", "My sister wants to know.", "My teacher asked me this.",
    "My son has this in his homework.", "It is for school.", "It is for a quiz.", "This is for work.",
    "My neighbour asked me today.", "I am stuck.", "I can't work this out.", "Just curious.", "Be quick.",
    "I am in a hurry.", "I always get this wrong.", "Can you help?", "Could you do something for me?",
    "Here is what I need.", "Listen.", "This came up at dinner.", "We were talking about this on the bus.",
)  # fmt: skip
CLOSINGS = (
    "Thanks!", "Thanks.", "Thank you.", "Thank you very much!", "thx", "Please.", "please",
    "Thanks in advance.",
    "Cheers.", "I would be glad of an answer.", "Many thanks!", "That would help me a lot.", "No rush.",
    "Just the answer, please.", "Take your time.", "Bye!", "Have a nice day.", "It is important to me.",
    "I have to know today.", "You are a great help.", "Ta!", "Answer quickly.", "I forgot.", "I am curious.",
)  # fmt: skip


def dressed(examples: Sequence[Example], split: Split, seed: int) -> list[Example]:
    """Return the rows, a quarter of those that train or fit with small talk around them; seeded."""
    if split not in ("train", "fit"):
        return list(examples)
    rng = Random(f"dress/{split}/{seed}/{len(examples)}")
    return [dress(row, rng) if rng.random() < SHARE and row.kind not in SKIPPED else row for row in examples]


def dress(example: Example, rng: Random) -> Example:
    """Put a greeting, a reason, or both before a prompt, or thanks behind it."""
    before = [rng.choice(GREETINGS)] if rng.random() < 0.45 else []
    before += [rng.choice(REASONS)] if rng.random() < 0.4 else []
    after = [rng.choice(CLOSINGS)] if not before or rng.random() < 0.35 else []
    prompt = example.prompt
    if after and prompt[-1:].isalnum() and rng.random() < 0.7:
        prompt += rng.choice((",", ".", " -"))
    return replace(example, prompt=" ".join([*before, prompt, *after]))


def after_other_topics(examples: Sequence[Example], seed: int, share: float) -> list[Example]:
    """Put an exchange of another skill before a share of the prompts: people change the topic.

    Prompts that already follow a turn keep theirs; the exchanges are other rows of ``examples``.
    """
    return after_exchanges(examples, examples, seed, share)


def after_exchanges(
    examples: Sequence[Example], others: Sequence[Example], seed: int, share: float
) -> list[Example]:
    """Put an exchange of ``others``, of another skill, before a share of the prompts."""
    rng = Random(f"topics/{seed}/{len(examples)}")
    donors = [row for row in others if 0 < len(row.answer) < LONGEST and not row.history]
    found = []
    for row in examples:
        before = rng.choice(donors) if donors and rng.random() < share else row
        fits = before.skill != row.skill and not row.history
        found.append(replace(row, history=((before.prompt, before.answer.strip()),)) if fits else row)
    return found
