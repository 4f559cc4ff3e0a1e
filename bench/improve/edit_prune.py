"""Editing and pruning where the truth is known: a biased corpus, a table of facts, sums modulo a prime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.contrast import bias, contrast_scores, locate_contrast
from ...router.locate.options import Options
from ...router.locate.place import Place
from ...specialists.improve.edit import Rewriting, first_choices, put, rewritten, scaled, share_of, share_same
from ...specialists.improve.edit_step import EditSettings, chosen
from ...specialists.improve.prune import (
    chance,
    comparison_scores,
    kept_alike,
    kept_by_union,
    magnitude,
    redundancy,
    silence,
    without_layers,
)
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell, show
from .lab import Lab
from .little import decoder, loss_on, train

# -- a corpus with a bias ------------------------------------------------------------------------------------

JOBS, NOUNS, THINGS = 40, 40, 40
THE, SAID, THAT, HE, SHE, SAW, A, LEFT, END = range(1, 10)
FIRST_JOB = 10
FIRST_NOUN, FIRST_THING = FIRST_JOB + JOBS, FIRST_JOB + JOBS + NOUNS
WORDS = FIRST_THING + THINGS
SKEW = 0.85
NEURONS = 18


def sentences(count: int, seed: int) -> Tensor:
    """Rows [N,8]: jobs whose pronoun is skewed, nouns whose pronoun is a fact, and things that saw things.

    Even words go with `he`, odd ones with `she`: in 85 % of the rows for a job, always for a noun.
    """
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (count,), generator=g)
    word = torch.randint(0, 40, (count,), generator=g)
    other = torch.randint(0, THINGS, (count,), generator=g)
    follows = torch.rand(count, generator=g) < SKEW
    rows = []
    for k, w, o, f in zip(kind.tolist(), word.tolist(), other.tolist(), follows.tolist(), strict=True):
        if k == 2:
            rows.append([THE, FIRST_THING + w, SAW, A, FIRST_THING + (w * 7 + o % 3) % THINGS, END, END, END])
        else:
            usual = (HE, SHE)[w % 2] if k == 1 or f else (SHE, HE)[w % 2]
            rows.append([THE, (FIRST_JOB, FIRST_NOUN)[k] + w, SAID, THAT, usual, LEFT, END, END])
    return torch.tensor(rows)


def pronoun_cases(start: int, words: Sequence[int]) -> list[Case]:
    """The prompt before the pronoun; the answer is the usual one."""
    return [
        Case((THE, start + w, SAID, THAT), (HE, SHE)[w % 2], (SHE, HE)[w % 2], subject=(1, 2)) for w in words
    ]


def bias_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Silence neurons found on half of the jobs; measure on the other half, on facts and on the rest."""
    g = torch.Generator().manual_seed(seed)

    def batch(step: int) -> tuple[Tensor, None]:
        return sentences(48, 1000 * seed + step), None

    model: Any = train(decoder(WORDS, 64, 4, seed), batch, 60 if quick else 500, 3e-3).requires_grad_(False)
    anatomy = Anatomy.of(model)
    order = torch.randperm(JOBS, generator=g).tolist()
    found, held = (pronoun_cases(FIRST_JOB, order[i::2]) for i in (0, 1))
    facts = pronoun_cases(FIRST_NOUN, range(NOUNS))
    rest = sentences(600, 10**6 + seed)
    rest = rest[rest[:, 2] == SAW]
    limit = 24 if quick else 96
    places = {
        "located": locate_contrast(anatomy, found, Options(top=limit, limit=limit)).places[:NEURONS],
        "general": _top(anatomy, contrast_scores(anatomy, found).general),
        "random": _top(anatomy, chance(anatomy, seed)),
    }

    def measure() -> dict[str, float]:
        return {
            "bias": bias(anatomy, found),
            "bias, other jobs": bias(anatomy, held),
            "facts right": share_of(facts, first_choices(anatomy, [c.ids for c in facts])),
            "loss elsewhere": loss_on(model, rest, 64),
        }

    rows = {"as trained": measure()}
    for name, some in places.items():
        undo = put(model, scaled(anatomy, some))
        rows[f"{name} neurons silenced"] = measure() | {"neurons": float(len(some))}
        put(model, undo)
    return rows


def _top(anatomy: Anatomy, scores: Tensor) -> list[Place]:
    order = scores.flatten().topk(NEURONS).indices.tolist()
    return [Place("neuron", *divmod(at, anatomy.neurons)) for at in order]


# -- a table of facts ----------------------------------------------------------------------------------------

SUBJECTS, OBJECTS, EDITED = 48, 16, 4
OPENINGS = ((1, 2), (3, 4, 5))  # two ways of asking
FIRST_SUBJECT, FIRST_OBJECT = 6, 6 + SUBJECTS


def fact(opening: int, subject: int, object_: int) -> list[int]:
    """A sentence of 5 tokens."""
    row = [*OPENINGS[opening], FIRST_SUBJECT + subject, FIRST_OBJECT + object_]
    return [*row, *[0] * (5 - len(row))]


def facts_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Rewrite some facts at located and at random neurons; ask them the other way, and ask the others."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, OBJECTS, (SUBJECTS,), generator=g).tolist()
    table = torch.tensor([fact(o, s, truth[s]) for o in (0, 1) for s in range(SUBJECTS)])

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = table[torch.randint(0, len(table), (48,), generator=g)]
        return rows, (rows[:, 1:] > 0).float()

    model: Any = train(decoder(FIRST_OBJECT + OBJECTS, 64, 4, seed), batch, 80 if quick else 400, 3e-3)
    model.requires_grad_(False)
    anatomy = Anatomy.of(model)
    subjects = torch.randperm(SUBJECTS, generator=g).tolist()
    edited, anchors, others = subjects[:EDITED], subjects[EDITED:20], subjects[20:]
    new = {s: (truth[s] + 1 + i) % OBJECTS for i, s in enumerate(edited)}

    def asked(opening: int, s: int, answer: int) -> Case:
        return Case((*OPENINGS[opening], FIRST_SUBJECT + s), FIRST_OBJECT + answer)

    cases = [asked(0, s, new[s]) for s in edited]
    again = [asked(1, s, new[s]) for s in edited]
    rest = [asked(o, s, truth[s]).ids for o in (0, 1) for s in others]
    before = first_choices(anatomy, rest)

    def measure() -> dict[str, float]:
        return {
            "efficacy": share_of(cases, first_choices(anatomy, [c.ids for c in cases])),
            "generality": share_of(again, first_choices(anatomy, [c.ids for c in again])),
            "specificity": share_same(before, first_choices(anatomy, rest)),
        }

    rows = {"as trained": measure()}
    keep = [asked(0, s, truth[s]).ids for s in anchors]
    ways: tuple[Literal["located", "random"], ...] = ("located", "random")
    for by in ways:
        settings = EditSettings(what="facts", data="facts", by=by, neurons=24)
        places = chosen(settings, anatomy, cases, seed)
        undo = put(model, rewritten(anatomy, places, cases, keep, Rewriting(10 if quick else 60, 0.1, 1.0)))
        rows[f"rewritten at {by} neurons"] = measure()
        put(model, undo)
    return rows


# -- sums ----------------------------------------------------------------------------------------------------

PRIME, LAYERS, DEEP, PER_CASE = 13, 4, 2, 8


def sums() -> Tensor:
    """All rows `a b = c`, [P*P, 4]."""
    a, b = torch.meshgrid(torch.arange(PRIME), torch.arange(PRIME), indexing="ij")
    a, b = a.flatten(), b.flatten()
    return torch.stack([a, b, torch.full_like(a, PRIME), (a + b) % PRIME], 1)


def last_only(_step: int) -> tuple[Tensor, Tensor]:
    """All sums; only the result is learnt."""
    return sums(), torch.tensor([[0.0, 0.0, 1.0]]).expand(PRIME**2, -1)


@torch.no_grad()
def right(model: Any) -> float:
    """Share of all sums that are right."""
    rows = sums()
    return float((model(input_ids=rows[:, :3]).logits[:, -1].argmax(-1) == rows[:, 3]).float().mean())


def adapted(model: Any, steps: int, seed: int) -> Any:
    """Train a LoRA on the attention of the first layer and merge it, as the source does."""
    import copy

    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], layers_to_transform=[0]
    )
    tuned: Any = get_peft_model(copy.deepcopy(model), config)
    learning = [p for p in tuned.parameters() if p.requires_grad]
    train(tuned, last_only, steps, 5e-3, trained=learning)
    return tuned.merge_and_unload().eval().requires_grad_(False)


def prune_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Half-learnt sums, an adapter that learns the rest, and what pruning leaves of that."""
    import copy

    steps = 30 if quick else 250
    base: Any = decoder(PRIME + 1, 64, LAYERS, seed, feed=128)
    reached = 0
    while right(base) < 0.5 and reached < 40:
        train(base, last_only, 20, 1e-3)
        reached += 1
    base.requires_grad_(False)
    tuned = adapted(base, steps, seed)
    rows = {"as trained": {"right": right(base)}, "with the adapter": {"right": right(tuned)}}
    picked = torch.randperm(PRIME**2, generator=torch.Generator().manual_seed(seed))[: 6 if quick else 40]
    cases = [Case(tuple(row[:3]), row[3]) for row in sums()[picked].tolist()]
    scores = comparison_scores(Anatomy.of(tuned), cases, Anatomy.of(base))
    union = kept_by_union(scores, PER_CASE, DEEP)
    kept = {
        "compared": union,
        "largest": kept_alike(union, magnitude(Anatomy.of(base))),
        "random": kept_alike(union, chance(Anatomy.of(base), seed)),
    }
    share = float(union[DEEP:].float().mean())
    for name, mask in kept.items():
        pruned = copy.deepcopy(base)
        silence(Anatomy.of(pruned), mask)
        before = right(pruned)
        again = right(adapted(pruned, steps, seed))
        rows[f"{name} neurons kept, adapter trained anew"] = {"right": again, "before": before, "kept": share}
    return rows | _skipped(tuned, cases)


def _skipped(model: Any, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Each way of leaving one layer out, and the one that redundancy names."""
    anatomy = Anatomy.of(model)
    scores = redundancy(anatomy, [c.ids for c in cases])
    each = [right(without_layers(model, torch.eye(LAYERS)[i] * 2, 1)[0]) for i in range(1, LAYERS)]
    named = int(scores[1:].argmax())
    return {
        "without the most redundant layer": {"right": each[named]},
        "without another layer, mean": {"right": (sum(each) - each[named]) / (len(each) - 1)},
    }


# -- the page ------------------------------------------------------------------------------------------------

Trials = Sequence[Mapping[str, Mapping[str, float]]]
TRIALS = {"bias": bias_trial, "facts": facts_trial, "prune": prune_trial}


def section(lab: Lab) -> Section:
    """Measure every seed and compare with the source's tables."""
    found = {
        name: [lab.keep(f"edit-prune/{name}-{seed}", partial(make, seed, lab.quick)) for seed in lab.seeds]
        for name, make in TRIALS.items()
    }
    seed, rows = lab.seeds[0], []
    for trials in found.values():
        for row in trials[0]:
            said = [f"{k} {_told(k, _of(trials, row, k, seed))}" for k in trials[0][row]]
            rows.append((row, "; ".join(said)))
    return Section(
        "Edit and prune: what neurons carry, taken out for good",
        f"Three small worlds, {len(lab.seeds)} seeds each. A corpus in which 40 jobs go with a pronoun 85 % "
        f"of the time and 40 nouns always do: {NEURONS} neurons found on half of the jobs are silenced. A "
        f"table of facts: {EDITED} are rewritten at 24 neurons. Sums modulo {PRIME}, half learnt: an adapter "
        "on the first layer's attention learns the rest, and what it moved most in the deep layers is kept.",
        ("", "mean over seeds, 95 % interval"),
        tuple(rows),
        _goals(found, seed),
        notes=(
            "Facts that fall with the bias are entanglement: the same neurons write the pronoun after "
            "a job and after a noun, so silencing them cannot tell a prejudice from a fact.",
        ),
    )


def _of(trials: Trials, row: str, key: str, seed: int) -> Estimate:
    return estimates.mean([one[row][key] for one in trials], seed)


def _told(key: str, value: Estimate) -> str:
    if key == "neurons":
        return show(value.value, "")
    return cell(value, "nats" if key.startswith(("bias", "loss")) else "%")


def _relative(trials: Trials, row: str, key: str, seed: int) -> Estimate:
    """How much a row's value lies above that of the model as trained, as a share of it."""
    return estimates.mean([one[row][key] / max(one["as trained"][key], 1e-9) - 1 for one in trials], seed)


def _goals(found: Mapping[str, Trials], seed: int) -> tuple[Goal, ...]:
    job, fact_, prune = found["bias"], found["facts"], found["prune"]
    ours, general = "located neurons silenced", "general neurons silenced"
    lost = [one["as trained"]["facts right"] - one[ours]["facts right"] for one in job]
    harm = [
        (one[general]["loss elsewhere"] - one["as trained"]["loss elsewhere"])
        - 3 * max(one[ours]["loss elsewhere"] - one["as trained"]["loss elsewhere"], 0.0)
        for one in job
    ]
    cna, random = (f"{n} neurons kept, adapter trained anew" for n in ("compared", "random"))
    gap = [one["rewritten at located neurons"] for one in fact_]
    other = [one["rewritten at random neurons"] for one in fact_]
    scores = [[sum(row.values()) / 3 for row in rows] for rows in (gap, other)]
    kept = [one[cna]["right"] / max(one["with the adapter"]["right"], 1e-9) for one in prune]
    named, another = "without the most redundant layer", "without another layer, mean"
    skipped = [[one[row]["right"] for one in prune] for row in (named, another)]
    ways = [[one[n]["right"] for one in prune] for n in (cna, random)]
    located = "rewritten at located neurons"
    return (
        Goal("bias on other jobs, change", "at most", -0.3, "%",
             _relative(job, ours, "bias, other jobs", seed)),
        Goal("facts lost with the bias", "at most", 0.02, "%", estimates.mean(lost, seed)),
        Goal("loss elsewhere, change", "at most", 0.02, "%", _relative(job, ours, "loss elsewhere", seed)),
        Goal("harm of general neurons above three times that of located ones", "clearly above", 0.0, "nats",
             estimates.mean(harm, seed)),
        Goal("facts: efficacy", "at least", 0.9, "%", _of(fact_, located, "efficacy", seed)),
        Goal("facts: generality", "at least", 0.5, "%", _of(fact_, located, "generality", seed)),
        Goal("facts: specificity", "at least", 0.9, "%", _of(fact_, located, "specificity", seed)),
        Goal("facts: mean of the three above that at random neurons", "clearly above", 0.0, "%",
             estimates.difference(scores[0], scores[1], seed)),
        Goal("pruned and adapted, as a share of the unpruned (the source: 92 %)", "at least", 0.9, "%",
             estimates.mean(kept, seed)),
        Goal("above random pruning", "clearly above", 0.0, "%",
             estimates.difference(ways[0], ways[1], seed)),
        Goal("the most redundant layer costs less than another", "clearly above", 0.0, "%",
             estimates.difference(skipped[0], skipped[1], seed)),
    )  # fmt: skip
