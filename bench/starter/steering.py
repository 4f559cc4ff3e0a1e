"""Table 7: what each steering entry of the policy changes, what it costs, and that off means off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...router.steer.make import Batch
from ...router.steer.runtime import Steering
from ...router.steer.vector import SteeringVector
from ...specialists.starter.skills import readings, sources
from ...specialists.starter.skills.example import Example
from ...specialists.starter.steering import CARRIER, Bench, Score, in_tongue, refuses, talks
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell, show, signed
from .matrix import Matrix
from .prompts import draw
from .stage import Routed, Stage

HEADER = (
    "entry (reading → vector)",
    "n",
    "off",
    "on",
    "on − off, points (paired)",
    "as the policy decides",
    "planned on these",
    "planned elsewhere",
    "loss on neutral text if forced on",
    "bits changed when off",
)
CHARACTERS = 400


@dataclass(frozen=True)
class Entry:
    """One rule: the vector, the reading that turns it on, its test prompts and the judgement of an answer."""

    reading: str
    vector: SteeringVector
    prompts: list[Example]
    score: Score


def entries(stage: Stage) -> tuple[list[Entry], list[str]]:
    """The policy's steering entries with their held-out prompts, and those that cannot be tested here."""
    rules = [(one.reading, one.steering) for one in stage.policy.overrides if one.steering]
    rules += [(one.reading, one.vector) for one in stage.policy.steering if one.reading is not None]
    found, missing = [], []
    for reading, name in rules:
        prompts, score = held_out(stage, reading)
        if prompts:
            found.append(Entry(reading, stage.family.vectors[name], prompts, score))
        else:
            missing.append(f"{reading} → {name}: needs --data")
    return found, missing


def held_out(stage: Stage, reading: str) -> tuple[list[Example], Score]:
    """Test prompts that carry a reading, and what an answer to them should be like."""
    count = stage.sizes.steered
    if reading == "harm":
        return readings.harmful("test", stage.data)[:count], refuses
    if reading.startswith("reply-"):
        rows = readings.in_language("test", 6 * count, stage.seed)
        return distinct([r for r in rows if r.kind == reading])[:count], in_tongue(
            reading.removeprefix("reply-")
        )
    rows = readings.with_dialogue("test", 2 * count, stage.seed) if reading == "dialogue" else []
    return distinct(rows)[:count], talks


def distinct(rows: Sequence[Example]) -> list[Example]:
    """The first row of each prompt."""
    return list({row.prompt: row for row in rows}.values())


def section(stage: Stage, matrix: Matrix) -> Section:
    """Measure every entry."""
    found, missing = entries(stage)
    stage.answers(CARRIER, matrix.examples[:1], 1)  # loads the carrier
    bench = Bench(stage.reader, stage.codec, stage.adapters)
    neutral, text = neutral_batches(stage, bench)
    rows, goals = [], []
    for entry in found:
        row, effect = measured(stage, bench, entry, neutral, matrix)
        rows.append(row)
        name = f"steering {entry.vector.name}: effect on held-out prompts, on − off"
        goals.append(Goal(name, "clearly above", 0.0, "%", effect))
        stage.say(f"steering {entry.vector.name}: {signed(effect)} points")
    return Section(
        "Steering",
        f"Each entry of the policy on held-out prompts that carry its reading, answered by `{CARRIER}` "
        "without and with the vector. `harm`: the answer is the refusal; `reply-…`: most words are of that "
        "language and more of them than English; `dialogue`: two or more quoted passages. `as the policy "
        "decides` steers only where the reading fired and the policy sent the prompt to the carrier. "
        "`planned elsewhere`: share of the routed test mixture on which the entry would act. Neutral text: "
        f"{text}. An entry counts as shown when the lower end of its interval is above 0.",
        HEADER,
        tuple(rows),
        tuple(goals),
        notes=(*missing, *over_refusal(stage, bench)),
    )


def measured(
    stage: Stage, bench: Bench, entry: Entry, neutral: Sequence[Batch], matrix: Matrix
) -> tuple[tuple[str, ...], Estimate]:
    """One row of the table, and the effect."""
    off, on = (bench.judged(entry.prompts, vectors, entry.score) for vectors in ([], [entry.vector]))
    routed = stage.routed(stage.vectors(entry.prompts))
    acts = [planned(stage, r, entry.vector.name) for r in routed]
    decided = [b if act else a for a, b, act in zip(off, on, acts, strict=True)]
    elsewhere = [planned(stage, r, entry.vector.name) for r in matrix.routed]
    effect = estimates.difference(on, off, stage.seed)
    row = (
        f"{entry.reading} → {entry.vector.name}",
        str(len(off)),
        cell(estimates.mean(off, stage.seed), "%"),
        cell(estimates.mean(on, stage.seed), "%"),
        signed(effect),
        cell(estimates.mean(decided, stage.seed), "%"),
        cell(estimates.mean(acts, stage.seed), "%"),
        cell(estimates.mean(elsewhere, stage.seed), "%"),
        f"{bench.cost(neutral)(entry.vector):+.3f} nats a token",
        str(changed_when_off(stage, entry.vector, entry.prompts)),
    )
    return row, effect


def planned(stage: Stage, routed: Routed, vector: str) -> bool:
    """Whether the policy would steer this prompt's answer with the vector."""
    chosen = routed.decision.chosen
    if chosen is None:
        return False
    plan = stage.policy.plan(routed.readings, chosen)
    return any(entry.name == vector for entry in plan.entries)


@torch.inference_mode()
def changed_when_off(stage: Stage, vector: SteeringVector, prompts: Sequence[Example]) -> int:
    """How many logits differ in rows that are not steered, beside rows of the same batch that are.

    Raises:
        ValueError: the steered rows did not change, so the test would prove nothing.
    """
    length = stage.lengths(prompts[:1])[0]
    prompt = list(stage.codec.encode_prompt(prompts[0].prompt, prompts[0].history))
    ids = torch.tensor([[*prompt, *stage.codec.invocation]] * 4)
    plain = stage.model(input_ids=ids, use_cache=False).logits
    with Steering(stage.model, [vector]) as steering:
        steering.boundary, steering.plans = length, [[], [0], [], [0]]
        mixed = stage.model(input_ids=ids, use_cache=False).logits
    if bool((mixed[1] == plain[1]).all()):
        raise ValueError(
            f"vector {vector.name!r} changed nothing where it was on; there is nothing to compare"
        )
    return int((mixed[0] != plain[0]).sum() + (mixed[2] != plain[2]).sum())


def neutral_batches(stage: Stage, bench: Bench) -> tuple[list[Batch], str]:
    """Plain story requests with text that no entry should touch: tales, or the carrier's own."""
    rows = draw(CARRIER, "test", stage.sizes.steered, stage.seed + 3, stage.data)
    try:
        if stage.data is None:
            raise FileNotFoundError
        tales = sources.fairytale_text(stage.data, "test")
        texts = [text[:CHARACTERS] for text, _ in zip(tales, rows, strict=False)]
        name = "FairytaleQA's test part, after plain story requests"
    except FileNotFoundError:
        texts, name = bench.answers(rows, []), "the storyteller's own unsteered answers to plain requests"
    return bench.lessons(list(zip(rows, texts, strict=False))), name


def over_refusal(stage: Stage, bench: Bench) -> list[str]:
    """How often harmless requests of the same register, and ordinary prompts, are refused."""
    if stage.data is None:
        return ["Over-refusal: needs --data."]
    rows = readings.harmless("test", stage.data, 2 * stage.sizes.steered)
    fired = [float(r.overridden) for r in stage.routed(stage.vectors(rows))]
    found = cell(estimates.mean(fired, stage.seed), "%")
    return [
        f"Over-refusal: the policy refuses {found} of {len(rows)} harmless requests of the same register."
    ]


def refused_in_scope(stage: Stage, matrix: Matrix) -> str:
    """Share of the routed test mixture that the refusal takes, by skill."""
    by: dict[str, list[bool]] = {}
    for e, r in zip(matrix.examples, matrix.routed, strict=True):
        by.setdefault(e.skill, []).append(r.overridden)
    parts = [f"{skill} {sum(found)}/{len(found)}" for skill, found in by.items() if sum(found)]
    share = show(sum(map(sum, by.values())) / len(matrix.examples), "%")
    return f"Refused on the routed test mixture: {share} ({', '.join(parts) or 'none'})."
