"""One training or test row of a skill, and the rule that keeps splits apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "fit", "calibrate", "test"]
Check = Literal["exact", "number", "label", "chrf", "open"]

SPLITS: tuple[Split, ...] = ("train", "fit", "calibrate", "test")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, its reference answer and how an answer is judged.

    ``kind`` is the sub-skill reported in tables (``add``, ``capital``, ``en-fr`` …); ``template`` names the
    surface form,
    so that a test can prove that no test template was trained on.
    ``history`` holds earlier (user, assistant) turns, for prompts that only make sense after them ("and of
    Spain?").
    """

    prompt: str
    answer: str
    skill: str
    kind: str
    template: str
    check: Check
    history: tuple[tuple[str, str], ...] = ()


def bucket(key: str, buckets: int = 100) -> int:
    """Return a stable bucket in ``[0, buckets)`` for a row key; it does not depend on the process or the
    seed.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % buckets


def row_split(key: str) -> Split:
    """Assign a row to one split for ever: 80 % train, 8 % fit, 4 % calibrate, 8 % test."""
    place = bucket(key)
    if place < 80:
        return "train"
    if place < 88:
        return "fit"
    return "calibrate" if place < 92 else "test"


def template_pool(templates: Sequence[T], split: Split) -> list[T]:
    """Give each split its surface templates: every fifth is test only, every fifth calibrate only, the rest
    train and fit.

    Raises:
        ValueError: fewer than five templates cannot be split.
    """
    if len(templates) < 5:
        raise ValueError(
            f"{len(templates)} templates: at least 5 are needed so that test and calibrate get their own"
        )
    if split == "test":
        return [t for i, t in enumerate(templates) if i % 5 == 4]
    if split == "calibrate":
        return [t for i, t in enumerate(templates) if i % 5 == 3]
    return [t for i, t in enumerate(templates) if i % 5 < 3]


def wider_pool(templates: Sequence[str], more: Sequence[str], split: Split) -> list[str]:
    """``template_pool``, and for train and fit also those of ``more`` that are in no split already."""
    return [template for _, template in numbered_pool(templates, more, split)]


def unheard(templates: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return those of ``more`` that are not among ``templates``, whatever their case and punctuation."""
    known = {_bare(template) for template in templates}
    return [template for template in more if _bare(template) not in known]


def numbered_pool(templates: Sequence[str], more: Sequence[str], split: Split) -> list[tuple[str, str]]:
    """Return ``wider_pool`` as (id, template) pairs; ids count each list, those of ``more`` as ``more-N``."""
    pool = template_pool([(str(i), text) for i, text in enumerate(templates)], split)
    if split in ("train", "fit"):
        pool += [(f"more-{i}", text) for i, text in enumerate(unheard(templates, more))]
    return pool


def _bare(template: str) -> str:
    return " ".join(re.findall(r"[\w{}]+", template.casefold()))
