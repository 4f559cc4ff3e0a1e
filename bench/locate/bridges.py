"""Two-hop questions that the shipped trunk really gets, answered in one pass and with the bridge written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.hops import HOPS, NONE
from ...router.locate.repair import LATE, repairs, traced
from ...router.locate.run import device_of, prompt_row
from ...specialists.starter.skills import facts
from ...specialists.starter.skills.example import Example
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..page import Section, cell
from .real import DATA
from .trunk import opened, untrained

CUE, WRITTEN = "Answer:", 40  # before the answer; tokens that the trunk may write up to there
VERBS = (" is in ", " comes from ")
ROWS = (
    "questions",
    "right",
    *(f"fails at {stage}" for stage in HOPS),
    "patching confirms the stage",
    "restored at the named stage's site",
    "restored at sites before it, or by own states",
    "restored by the bridge's own later state",
    "read",
)


class Question(NamedTuple):
    """A two-hop question: the prompt's tokens, where the entity stands, bridge and answer in words."""

    ids: tuple[int, ...]
    subject: tuple[int, int]
    bridge: str
    answer: str


def section(folder: Path, data: Path | None, count: int, seed: int) -> Section | None:
    """How failures divide among the stages, and what patching restores; None where there is no data."""
    data = data or DATA
    if not (data / facts.RELATIONS).is_file():
        return None
    anatomy, codec = opened(folder)
    rows = facts.examples("calibrate", 8 * count, seed, data)
    asked = [one for one in (question(codec, row) for row in rows) if one][:count]
    once = [case for one in asked if (case := direct(codec, one))]
    long = [case for one in asked if (case := spoken(anatomy, codec, one))]
    table = {
        "in one pass": _column(anatomy, once, seed),
        "bridge written": _column(anatomy, long, seed),
        "in one pass, untrained twin": _column(Anatomy.of(untrained(folder, seed)), once, seed),
    }
    return Section(
        "Two hops of the shipped trunk",
        f"Two-hop questions of the calibration split ({len(asked)} whose entity stands in the prompt as "
        "whole tokens, less those whose bridge and answer begin alike). In one pass: the answer is asked for "
        "at once, which the trunk never learnt. Bridge written: after what the trunk itself writes up to its "
        f"answer, as it learnt; {len(once) - len(long)} more, at which it stops before an answer, are left "
        "out. Right: the answer's first token. Below it, the share of all questions that fail at each stage; "
        "of the failing ones, those that patching confirms where every site has a donor, and those restored "
        "at each site where it has one. Read: right answers whose bridge is read as resolved, as carried; "
        "where few are, the stages named are not to be trusted. No target: nobody knows where these fail.",
        ("measured", *table),
        tuple((name, *(column[i] for column in table.values())) for i, name in enumerate(ROWS)),
    )


def question(codec: ChatCodec, row: Example) -> Question | None:
    """Read a two-hop example; None for others, and where the entity is not whole tokens of the prompt."""
    if not row.kind.startswith("two-hop"):
        return None
    line, answer = row.answer.split(f" {CUE} ")
    verb = next(one for one in VERBS if one in line)
    entity, bridge = line.removesuffix(".").rsplit(verb, 1)
    start = row.prompt.lower().find(entity.lower())
    name = row.prompt[start : start + len(entity)]
    ids = codec.encode_prompt(row.prompt)
    spans = (_span(ids, codec.encode_text(text)) for text in (f" {name}", name))
    span = next(filter(None, spans), None)
    return Question((*ids, *codec.invocation), span, bridge, answer) if start >= 0 and span else None


def _span(ids: Sequence[int], wanted: Sequence[int]) -> tuple[int, int] | None:
    size = len(wanted)
    starts = (i for i in range(len(ids) - size + 1) if tuple(ids[i : i + size]) == tuple(wanted))
    return next(((i, i + size) for i in starts), None)


def _next(codec: ChatCodec, before: str, word: str) -> int:
    """The first token of a word that follows a text."""
    return codec.encode_text(f"{before} {word}")[len(codec.encode_text(before))]


def direct(codec: ChatCodec, asked: Question) -> Case | None:
    """Ask for the answer at once; None where bridge and answer begin alike."""
    ids = (*asked.ids, *codec.encode_text(CUE))
    bridge, answer = _next(codec, "is in", asked.bridge), _next(codec, CUE, asked.answer)
    words = tuple(codec.decode([token]) for token in ids)
    return None if bridge == answer else Case(ids, answer, subject=asked.subject, tokens=words, bridge=bridge)


@torch.no_grad()
def spoken(anatomy: Anatomy, codec: ChatCodec, asked: Question) -> Case | None:
    """Let the trunk write up to its answer; None where it never comes to one."""
    case = direct(codec, asked)
    cue = codec.encode_text(f". {CUE}")[-len(codec.encode_text(CUE)) :]
    ids = list(asked.ids)
    for _ in range(WRITTEN):
        ids.append(int(anatomy.model(prompt_row(ids, device_of(anatomy))).logits[0, -1].argmax()))
        if case and tuple(ids[-len(cue) :]) == cue and len(ids) > len(asked.ids) + len(cue):
            words = tuple(codec.decode([token]) for token in ids)
            return replace(case, ids=tuple(ids), tokens=words)
    return None


def _column(anatomy: Anatomy, cases: Sequence[Case], seed: int) -> tuple[str, ...]:
    found = traced(anatomy, cases)
    tried = repairs(anatomy, found)
    named = [value for one in tried if (value := one.restored[one.named]) is not None]
    lists: tuple[list[bool], ...] = (
        [one.confirmed for one in tried if None not in one.restored.values()],
        named,
        [value for one in tried for value in one.elsewhere],
        [bool(one.restored[LATE]) for one in tried],
    )
    right = [one.hops for one in found if one.hops.right]
    resolved, carried = sum(one.resolved for one in right), sum(one.carried for one in right)
    return (
        str(len(found)),
        *(cell(estimates.mean([one.hops.stage == s for one in found], seed), "%") for s in (NONE, *HOPS)),
        *(f"{cell(estimates.mean(v, seed), '%')} (n {len(v)})" if v else "–" for v in lists),
        f"{resolved} and {carried} of {len(right)}",
    )
