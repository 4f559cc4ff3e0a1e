"""Which prompts the benchmark asks: the skills' test splits, hand-written ones, Tatoeba, out of scope."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ...specialists.starter import corpus
from ...specialists.starter.skills import freeform, outside, translate
from ...specialists.starter.skills.example import Example, Split, bucket
from ...specialists.starter.skills.sources import members, required

WRITTEN = Path(__file__).resolve().parent.parent / "data"
HELP = "help"
LANGUAGES = {"fr": ("fra", "French"), "es": ("spa", "Spanish"), "de": ("deu", "German")}
_WORD = re.compile(r"[^\W\d_]+")


class NeedsData(Exception):
    """A skill's rows come from a data folder, and none was given."""


def draw(skill: str, split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Draw up to `count` distinct prompts of a skill.

    Raises:
        NeedsData: they are read from a data folder that was not given, or lacks them.
    """
    try:
        rows = corpus.draw(skill, split, count, seed, data)
    except (ValueError, FileNotFoundError) as error:
        raise NeedsData(f"{skill}: needs --data ({error})") from error
    return list({(row.prompt, row.history): row for row in rows}.values())


def per_group(rows: Sequence[Example], groups: dict[str, Any], each: int) -> dict[str, list[Example]]:
    """The first `each` rows of each group; a group is named by a test on the kind."""
    return {name: [row for row in rows if belongs(row.kind)][:each] for name, belongs in groups.items()}


def mixture(
    skills: Sequence[str], split: Split, each: int, seed: int, data: Path | None
) -> tuple[list[Example], list[str]]:
    """Return equally many rows of each skill, and the skills that were left out for want of data."""
    rows: list[Example] = []
    missing = []
    for skill in skills:
        try:
            rows += draw(skill, split, each, seed, data)[:each]
        except NeedsData:
            missing.append(skill)
    return rows, missing


def fitting(
    skills: Sequence[str], each: int, seed: int, data: Path | None, split: Split = "fit"
) -> list[Example]:
    """What baselines of routing learn from: the kinds of rows that the probes were fitted on, free phrasings
    included.
    """
    rows, missing = mixture(skills, split, each, seed, data)
    free = freeform.examples(split, 10_000, seed)
    return rows + [row for row in free if row.skill in skills and row.skill not in missing]


@cache
def written(name: str) -> tuple[dict[str, Any], ...]:
    """Rows written by hand: `paraphrases`, `outside` or `multipart`."""
    lines = (WRITTEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines if line.strip())


def paraphrases() -> list[Example]:
    """Free phrasings that no generator made; nothing was fitted or tuned on them."""
    return [
        Example(row["prompt"], row["answer"], row["specialist"], row["kind"], "hand-written", row["check"])
        for row in written("paraphrases")
    ]


def out_of_scope(count: int, seed: int, data: Path | None) -> list[Example]:
    """Prompts nobody here can answer: hand-written ones, and with a data folder those of the test sources."""
    rows = [
        Example(row["prompt"], "", "outside", "hand-written", "hand-written", "open")
        for row in written("outside")
    ]
    if data is not None:
        rows += outside.examples("test", count, seed, data)
    return rows


# -- Tatoeba ----------------------------------------------------------------------------------------------


def tatoeba(count: int, data: Path) -> Iterator[Example]:
    """Yield `count` pairs a direction whose words all lie in the translator's vocabularies.

    The sentences are other people's; only their words are known. Which are taken depends on their text alone.

    Raises:
        FileNotFoundError: the archive is missing.
    """
    texts = _tatoeba_texts(data)
    for code, (long, name) in LANGUAGES.items():
        pairs = zip(texts[f"{long}-eng.{long}"], texts[f"{long}-eng.eng"], strict=True)
        known = sorted(
            {pair for pair in pairs if _known(pair, code)}, key=lambda pair: bucket(pair[0], 1 << 30)
        )
        for foreign, english in known[:count]:
            ask = f"Translate to {name}: {english}"
            yield Example(ask, foreign, "translate", f"en-{code}", "tatoeba", "exact")
            ask = f"Translate to English: {foreign}"
            yield Example(ask, english, "translate", f"{code}-en", "tatoeba", "exact")


def _known(pair: tuple[str, str], code: str) -> bool:
    for text, language in zip(pair, (code, "en"), strict=True):
        words = _WORD.findall(text.lower())
        if not 2 <= len(words) <= 10 or not set(words) <= translate.vocabulary(language):
            return False
        if any(letter.isdigit() for letter in text):
            return False
    return True


def _tatoeba_texts(data: Path) -> dict[str, list[str]]:
    wanted = {f"{long}-eng.{end}" for long, _ in LANGUAGES.values() for end in (long, "eng")}
    found = {}
    for name, raw in members(required(data, outside.TATOEBA), ""):
        tail = Path(name).name.removeprefix("tatoeba.")
        if tail in wanted:
            found[tail] = [line.strip() for line in raw.decode("utf-8").splitlines()]
    return found
