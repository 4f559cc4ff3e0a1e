"""Prompts that carry what the reading probes read: harm, injected instructions, a wanted language, wanted
dialogue.

Rows have skill ``stories`` where a steered story answers them, else ``outside``: harmful requests are
answered by a
refusal, which is steering too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from . import screening, stories
from .example import Example, Split, bucket, wider_pool

LANGUAGES = {"fr": "French", "es": "Spanish", "de": "German"}
SUBJECTS = tuple(sorted(stories.NOUNS))

IN_LANGUAGE = """Tell me a story about {a} in {l}.
Write a short story in {l} about {a}.
Reply in {l}: tell me about {a}.
Answer in {l}. Tell me a story about {a}.
In {l}, please: a little tale about {a}.
I speak {l}. Tell me a story with {a}.
Please write in {l}. The story is about {a}.
Give me a {l} story about {a}.
Say something in {l} about {a}.
a story about {a}, in {l} please
Could you write about {a} in {l}?
Use {l} only. Tell a story about {a}.
My son learns {l}. Tell him a story about {a} in {l}.
Make up a {l} tale about {a}.
Respond in {l}. I want a story about {a}.""".splitlines()

WITH_DIALOGUE = """Tell me a story about {a} with lots of talking.
Write a story about {a} where everyone talks a lot.
I want a story with dialogue about {a}.
Tell a tale about {a} and let them speak to each other.
A story about {a} with a conversation in it, please.
Tell me about {a}, and make the characters talk.
Write a dialogue story with {a}.
Give me a story about {a} full of speech.
Story about {a}, with people saying things to each other.
Tell me a chatty story about {a}.
Can you write a story about {a} with quoted speech?
Make a story about {a}. I like when they talk.
Please include dialogue. The story is about {a}.
Let the characters chat in a story about {a}.
A talking tale about {a}.""".splitlines()

# Fifteen phrasings teach a probe themselves, not what they have in common: fitting gets these beside its own.
SAYING = (
    "with speech in it",
    "in which everybody speaks",
    "where people talk to one another",
    "with a lot of talk",
    "in which they say things",
    "where somebody is always speaking",
    "with many spoken lines",
    "with plenty of dialogue",
    "with quotes",
    "in which they argue aloud",
    "where they ask each other questions",
    "and tell me what everyone said",
    "and have them talk",
    "and let everyone have a say",
    "that is mostly dialogue",
    "where two friends discuss something",
    "with voices in it",
    "told in dialogue",
    "where they whisper and shout to each other",
)
TELLING = (
    "Tell me a story about {a} %s.",
    "Write a story about {a} %s.",
    "I'd like a story about {a} %s, please.",
    "Make up a tale about {a} %s.",
    "Could you tell a story about {a} %s?",
    "story about {a} %s",
    "Can I have a little story about {a} %s?",
    "Invent something about {a} %s.",
)
MORE_DIALOGUE = [frame % saying for frame in TELLING for saying in SAYING]


def harmful(split: Split, data: Path | None) -> list[Example]:
    """Bare harmful requests: 70 % of the train file fits, the rest calibrates, the validation file tests.

    What fits and calibrates comes as a question, too; the tests keep the file's wording.
    """
    if split == "train" or data is None:
        return []
    name = "harmful_val.json" if split == "test" else "harmful_train.json"
    return _bare(_mine(screening.requests(data, name), split), "harmful")


def harmless(split: Split, data: Path | None, count: int) -> list[Example]:
    """Bare harmless requests of the same register, for contrast and for over-refusal."""
    if split == "train" or data is None:
        return []
    name = "harmless_val.json.gz" if split == "test" else "harmless_train.json.gz"
    return _bare(_mine(screening.requests(data, name), split), "harmless")[:count]


def _mine(texts: Sequence[str], split: Split) -> list[str]:
    """Return a split's requests, and outside the test split every one as a question as well."""
    if split == "test":
        return list(texts)
    own = [t for t in texts if (bucket(t) < 70) == (split == "fit")]
    return [wording for t in own for wording in (t, as_question(t))]


def as_question(request: str) -> str:
    """Turn an order into a question: "Explain how to X." asks "How do I X?", others "Can you …?"."""
    text = request.strip().rstrip(".?!")
    found = re.search(r"\bhow to (.+)", text)
    if found:
        return f"How {'do' if bucket(text, 2) else 'can'} I {found.group(1)}?"
    if re.match(
        r"(what|why|how|who|where|when|which|is|are|do|does|can|could|should)\b", text, re.IGNORECASE
    ):
        return request
    return f"{('Can you', 'Could you please', 'Would you')[bucket(text, 3)]} {text[0].lower()}{text[1:]}?"


def _bare(texts: Sequence[str], kind: str) -> list[Example]:
    return [Example(t, "", "outside", kind, "bare", "open") for t in dict.fromkeys(texts)]


def injected(split: Split, data: Path | None, count: int, seed: int) -> list[Example]:
    """Bare texts that carry an injected instruction (BIPIA): what a prompt with pasted content looks like."""
    if split == "train" or data is None:
        return []
    texts = screening.injections(data, split, count, random.Random(f"injected/{split}/{seed}"))
    return [Example(t, "", "outside", "injected", "bare", "open") for t in texts]


def _styled(
    split: Split,
    count: int,
    seed: int,
    templates: list[str],
    kind: str,
    language: str,
    more: Sequence[str] = (),
) -> list[Example]:
    rng = random.Random(f"{kind}/{split}/{seed}")
    pool = wider_pool(templates, more, split)
    rows = []
    for _ in range(count):
        noun, template = rng.choice(SUBJECTS), rng.choice(pool)
        prompt = template.replace("{a}", stories.article(noun)).replace("{l}", language)
        prompt = prompt.lower() if rng.random() < 0.15 else prompt
        rows.append(Example(prompt, "", "stories", kind, template, "open"))
    return rows


def in_language(split: Split, count: int, seed: int) -> list[Example]:
    """Story requests that ask for French, Spanish or German; kind ``reply-fr`` …"""
    share = -(-count // len(LANGUAGES))
    rows = [
        row
        for code, language in LANGUAGES.items()
        for row in _styled(split, share, seed, IN_LANGUAGE, f"reply-{code}", language)
    ]
    return rows[:count]


def with_dialogue(split: Split, count: int, seed: int) -> list[Example]:
    """Story requests that ask for dialogue; kind ``dialogue``."""
    return _styled(split, count, seed, WITH_DIALOGUE, "dialogue", "", MORE_DIALOGUE)
