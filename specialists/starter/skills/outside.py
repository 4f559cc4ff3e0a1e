"""Outside: prompts that no specialist serves, in two disjoint groups to fit and test an out-of-scope reading.

FIT sources feed train, fit and calibrate; TEST sources feed test only. No source, CLINC intent, language
or kind of gibberish is in both groups, so that a test measures kinds of prompt that were never fitted.
"""

from __future__ import annotations

import csv
import io
import json
import random
import string
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from .example import Example, Split, bucket
from .outside_questions import QUESTIONS
from .sources import instructions, members, required, text_of
from .wrap import clip, own_split

INTENTS = "intent/clinc150_banking77_stackoverflow/glean_intents.tar.gz"
MBPP = "code/mbpp/mbpp.jsonl"
MMLU = "knowledge/mmlu/mmlu_dev_test_csv.tar.gz"
TATOEBA = "multilingual/tatoeba_laser/tatoeba_v1_112_languages.tar.gz"
MBPP_LAST_FIT = 600
LIMIT = 400  # characters


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# CLINC intents that the family serves, or that are an answer to a question rather than a request.
SERVED = _words(
    """calculator translate definition spelling measurement_conversion greeting goodbye thank_you
what_can_i_ask_you who_are_you are_you_a_bot what_is_your_name who_made_you who_do_you_work_for
how_old_are_you where_are_you_from what_are_your_hobbies do_you_have_pets meaning_of_life fun_fact
time date timezone yes no maybe cancel repeat change_language change_ai_name user_name exchange_rate
todo_list roll_dice flip_coin tell_joke"""
)
T0_SERVED = ("emotion", "translat", "sentiment", "story", "spam")

FIT_SOURCES = (
    "t0",
    "clinc-a",
    "banking",
    "stackoverflow",
    "gibberish-words",
    "scripts-a",
    "mbpp-a",
    "questions",
)
TEST_SOURCES = ("mmlu", "mbpp-b", "code", "clinc-b", "gibberish-keys", "scripts-b")


def _intent_group(label: str) -> str:
    """Put a CLINC intent into group a (fit) or b (test)."""
    return "b" if bucket(f"clinc/{label}") < 40 else "a"


@lru_cache(maxsize=4)
def _intents(data: Path) -> dict[str, tuple[str, ...]]:
    """Return the intent collections' prompts by source name."""
    found: dict[str, list[str]] = {"clinc-a": [], "clinc-b": [], "banking": [], "stackoverflow": []}
    for name, raw in members(required(data, INTENTS), ".tsv"):
        folder, part = Path(name).parent.name, Path(name).stem
        for line in raw.decode("utf-8").splitlines()[1:]:
            text, _, label = line.rpartition("\t")
            if folder != "clinc":
                if part == "train":
                    found[folder].append(text)
            elif label not in SERVED and (part == "train") == (_intent_group(label) == "a") and part != "dev":
                found[f"clinc-{_intent_group(label)}"].append(text)
    found["clinc-b"] = [text for text in found["clinc-b"] if text not in set(found["clinc-a"])]
    return {source: tuple(clip(text, LIMIT) for text in texts if text) for source, texts in found.items()}


@lru_cache(maxsize=4)
def _mbpp(data: Path) -> dict[str, tuple[str, ...]]:
    """Return programming tasks of the fit and test halves, and code of the test half."""
    rows = [json.loads(line) for line in text_of(required(data, MBPP)).splitlines()]
    early = {row["text"] for row in rows if row["task_id"] <= MBPP_LAST_FIT}
    later = [row for row in rows if row["task_id"] > MBPP_LAST_FIT and row["text"] not in early]
    return {
        "mbpp-a": tuple(sorted(early)),
        "mbpp-b": tuple(row["text"] for row in later),
        "code": tuple(row["code"].replace("\r\n", "\n")[:LIMIT].strip() for row in later),
    }


@lru_cache(maxsize=4)
def _mmlu(data: Path) -> tuple[str, ...]:
    """Return short MMLU test questions without choices; school arithmetic is served, so it is left out."""
    found: list[str] = []
    for name, raw in members(required(data, MMLU), ".csv"):
        if "/test/" in name and "elementary_mathematics" not in name:
            rows = csv.DictReader(io.StringIO(raw.decode("utf-8")))
            found += [" ".join(row["question"].split()) for row in rows if 0 < len(row["question"]) <= LIMIT]
    return tuple(found)


@lru_cache(maxsize=4)
def _t0(data: Path) -> tuple[str, ...]:
    """Return short T0 prompts that do not look like something a specialist serves."""
    prompts = (prompt for prompt, _ in instructions(data, LIMIT))
    return tuple(dict.fromkeys(p for p in prompts if not any(word in p.lower() for word in T0_SERVED)))


def latin_share(text: str) -> float:
    """Return the share of a text's letters that are Latin; 1 for a text without letters."""
    letters = [c for c in text if c.isalpha()]
    return sum("LATIN" in unicodedata.name(c, "") for c in letters) / len(letters) if letters else 1.0


@lru_cache(maxsize=4)
def _scripts(data: Path) -> dict[str, tuple[str, ...]]:
    """Return sentences of languages in other scripts; every second language (by code) is for testing."""
    languages: dict[str, list[str]] = {}
    for name, raw in members(required(data, TATOEBA), ""):
        code = name.rsplit(".", 1)[-1]
        if code == "eng" or "tatoeba." not in name:
            continue
        text = raw.decode("utf-8")
        if latin_share(text[:2000]) < 0.5:
            languages[code] = [line.strip() for line in text.splitlines() if line.strip()]
    codes = sorted(languages)
    return {
        "scripts-a": tuple(clip(s, LIMIT) for code in codes[::2] for s in languages[code]),
        "scripts-b": tuple(clip(s, LIMIT) for code in codes[1::2] for s in languages[code]),
    }


def invented_words(rng: random.Random) -> str:
    """Gibberish of the fit group: pronounceable invented words, as a sentence or a question."""

    def word() -> str:
        syllables = range(rng.randint(1, 4))
        return (
            "".join(rng.choice("bdfgklmnprstvwz") + rng.choice("aeiou") for _ in syllables)
            + rng.choice("nrst ").strip()
        )

    return " ".join(word() for _ in range(rng.randint(2, 12))) + rng.choice(["", ".", "?", "!"])


def mashed_keys(rng: random.Random) -> str:
    """Gibberish of the test group: keys hit at random, one row of the keyboard, repeats, or symbols."""
    form = rng.randrange(4)
    if form == 0:
        return "".join(rng.choice("asdfghjkl;") for _ in range(rng.randint(6, 40)))
    if form == 1:
        return "".join(rng.choice(string.printable[:94]) for _ in range(rng.randint(8, 60)))
    if form == 2:
        return "".join(c * rng.randint(2, 7) for c in rng.sample(string.ascii_lowercase, rng.randint(2, 6)))
    return " ".join(
        "".join(rng.choice("qwrtpxzcvbnm0123456789") for _ in range(rng.randint(3, 9))) for _ in range(6)
    )


def _endless(make: Callable[[random.Random], str], rng: random.Random) -> Iterator[str]:
    while True:
        yield make(rng)


def _rows(source: str, data: Path) -> tuple[str, ...]:
    """Return all prompts of a source that has rows."""
    if source == "questions":
        return tuple(QUESTIONS)
    if source == "t0":
        return _t0(data)
    if source == "mmlu":
        return _mmlu(data)
    if source.startswith("scripts"):
        return _scripts(data)[source]
    return _mbpp(data)[source] if source in ("mbpp-a", "mbpp-b", "code") else _intents(data)[source]


def _prompts(source: str, split: Split, data: Path, rng: random.Random) -> Iterator[str]:
    """Yield a split's prompts of one source in random order; gibberish is endless."""
    if source == "gibberish-words":
        yield from (text for text in _endless(invented_words, rng) if own_split(text) == split)
    elif source == "gibberish-keys":
        yield from _endless(mashed_keys, rng)
    else:
        rows = [text for text in _rows(source, data) if split == "test" or own_split(text) == split]
        rng.shuffle(rows)
        yield from rows


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return up to ``count`` distinct prompts, taken in turn from the split's sources (``kind``).

    Raises:
        ValueError: no data folder was given.
        FileNotFoundError: an archive is missing from it.
    """
    if data is None:
        raise ValueError("out-of-scope prompts are read from a data folder: pass data=<folder>")
    rng = random.Random(f"outside/{split}/{seed}")
    sources = TEST_SOURCES if split == "test" else FIT_SOURCES
    streams = {source: _prompts(source, split, data, rng) for source in sources}
    found: dict[str, Example] = {}
    while streams and len(found) < count:
        for source in list(streams):
            prompt = next(streams[source], None)
            if prompt is None:
                del streams[source]
            elif len(found) < count:
                found.setdefault(prompt, Example(prompt, "", "outside", source, f"outside-{source}", "open"))
    return list(found.values())
