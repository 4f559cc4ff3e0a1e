"""CoFiTune on a small decoder that knows ten tasks and learns another: what that costs the ten.

Every way stops where it has learnt as much of the new task: what is left of the others can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from ...specialists.improve import cofitune
from ...specialists.improve.cofitune import Region, Scores
from ...specialists.improve.distill import student_pass
from ...specialists.improve.finetune import Row, collate, targets_of
from ...specialists.improve.finetune_full import Sft, interpolate, region, tune
from ...specialists.improve.finetune_mask import Control, SoftMask, controlled, importance
from ...specialists.improve.finetune_step import low_rank
from ...specialists.improve.loop import Tick
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..page import Goal, Section, cell, signed
from . import toys
from .lab import Lab

OLD = ("copy", "reverse", "sort", "next", "before", "swap", "rotate", "double", "first", "jump")
NEW = "mirror"
LAYERS, WIDTH = 4, 64
WHOLE, PART = (1e-4, 3e-4), (3e-4, 6e-4)  # rates for all weights; a part of them needs a higher one
ENOUGH, LOOK = 0.95, 10  # of the new task right on the split `fit`: seen every so many steps
ANCHOR, SHARES, RANK = 1.0, (0.5, 0.7, 0.8, 0.9), 8
MASKS = (None, "importance", "shuffled", "constant", "hindsight")


@dataclass(frozen=True)
class Size:
    """How much a run does."""

    pretrain: int = 700
    steps: int = 300
    lessons: int = 1500
    held: int = 60
    layers: int = LAYERS


@dataclass(frozen=True)
class World:
    """The base model, its lessons and what judges it, each task with held-out words of two splits."""

    codec: ChatCodec
    model: PreTrainedModel
    start: dict[str, Tensor]
    lessons: list[tuple[str, str]]
    judges: Mapping[str, Mapping[str, list[tuple[str, str]]]]
    size: Size
    seed: int

    def judge(self, split: str) -> dict[str, list[float]]:
        """Right and wrong answers by task."""
        asked = self.judges[split]
        pairs = [pair for one in asked.values() for pair in one]
        found = iter(toys.known(self.codec, self.model, toys.rows_of(self.codec, pairs)))
        return {task: list(islice(found, len(one))) for task, one in asked.items()}

    def reset(self) -> None:
        """Put the base's weights back."""
        toys.put_back(self.model, self.start)


def world(lab: Lab, seed: int, size: Size) -> World:
    """Train the base on the old tasks."""
    folder = lab.folder(f"cofitune/{seed}")
    codec = toys.codec_in(folder)
    model = toys.decoder(codec, size.layers, WIDTH, seed)
    pairs = toys.draw(OLD, "train", 30_000 if not lab.quick else 600, seed)
    plan = Sft(rows=48, steps=size.pretrain, rate=2e-3, warmup=50, seed=seed)
    toys.trained(codec, model, pairs, plan, folder / "base")
    judges = {
        split: {t: toys.draw((t,), split, size.held, seed) for t in (*OLD, NEW)} for split in ("fit", "test")
    }
    lessons = toys.draw((NEW,), "train", size.lessons, seed)
    return World(codec, model, toys.state_of(model), lessons, judges, size, seed)


def scores_of(found: Mapping[str, Sequence[float]]) -> Scores:
    """Speciality and versatility from answers by task."""
    return Scores(toys.accuracy(found[NEW]), sum(toys.accuracy(found[t]) for t in OLD) / len(OLD))


class Learnt(Exception):
    """The new task is known well enough."""


def until_learnt(here: World, model: PreTrainedModel) -> Tick:
    """Raise Learnt where enough of the new task is right on the split ``fit``, looked at now and then."""
    rows = toys.rows_of(here.codec, here.judges["fit"][NEW])

    def tick(done: int, _total: int) -> None:
        if done % LOOK == 0 and toys.accuracy(toys.known(here.codec, model, rows)) >= ENOUGH:
            raise Learnt

    return tick


def train(
    lab: Lab,
    here: World,
    name: str,
    rate: float,
    where: Region | None = None,
    anchor: float = 0.0,
    mask: str | None = None,
) -> None:
    """Train the base on the new task until it is learnt: all of it, or a region, anchored or masked (on the
    update).
    """
    change, chosen = None, None
    if where is not None:
        chosen = region(here.model, (where.first, where.last), where.module)
        if mask is not None:
            change = SoftMask(here.model, chosen, masks(lab, here, where, rate, mask), "update")
    here.reset()
    rows = toys.rows_of(here.codec, here.lessons)
    plan = Sft(rows=32, steps=here.size.steps, rate=rate, seed=here.seed, anchor=anchor, every=10_000)
    work = lab.folder(f"cofitune/{here.seed}/{name}-{rate}")
    with suppress(Learnt):
        tune(
            here.model, rows, len(here.codec.invocation), plan, work, chosen,
            tick=until_learnt(here, here.model), change=change,
        )  # fmt: skip
    here.model.train(False).requires_grad_(True)


def masks(lab: Lab, here: World, where: Region, rate: float, mask: str) -> dict[str, Tensor]:
    """Importances of units for the old tasks, or a control that hands out the same ones otherwise."""
    here.reset()
    invocation, general = len(here.codec.invocation), _general(here)
    found = importance(here.model, general, invocation, here.seed)
    if mask != "hindsight":
        return controlled(found, cast(Control, mask), here.seed)
    train(lab, here, "mask-None", rate, where)
    return arranged(found, damage(here, region(here.model, (where.first, where.last), where.module)))


def _general(here: World) -> list[Row]:
    return toys.rows_of(here.codec, toys.draw(OLD, "train", 192, here.seed + 100))


def damage(here: World, chosen: Sequence[str]) -> dict[str, Tensor]:
    """How much the way that each unit's row went adds to the loss on the old tasks and the new one together,
    to first order: the gradient half-way times the way. A mask cannot know it before training.
    """
    held = dict(here.model.named_parameters())
    ways = {n: held[n].detach() - here.start[n] for n in chosen}
    interpolate(here.model, here.start, 0.5)
    invocation, losses = len(here.codec.invocation), []
    for rows in (_general(here), toys.rows_of(here.codec, here.lessons[:192])):
        batch = collate(rows, invocation, here.model.device)
        losses.append(F.cross_entropy(student_pass(here.model, batch)[1], targets_of(batch)))
    gradients = torch.autograd.grad(torch.stack(losses).sum(), [held[n] for n in chosen])
    return {n.removesuffix(".weight"): (g * ways[n]).sum(1) for n, g in zip(chosen, gradients, strict=True)}


def arranged(found: Mapping[str, Tensor], by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same importances of each map, the largest to the units that ``by`` puts first."""
    return {n: x.sort().values[by[n].argsort().argsort()] if n in by else x for n, x in found.items()}


def arm(lab: Lab, here: World, name: str, rate: float) -> dict[str, Any]:
    """Train and judge one method at one rate; rate and share are chosen on the split ``fit``."""
    if name == "LoRA":
        return _lora(lab, here, rate)
    kinds: dict[str, dict[str, Any]] = {"full": {}, "L2 to start": {"anchor": ANCHOR}, "interpolated": {}}
    where = _region(name) if name not in kinds else None
    train(lab, here, name, rate, where, **kinds.get(name, {}))
    if name != "interpolated":
        return {"rate": rate, **_judged(here)}
    end, tried = toys.state_of(here.model), []
    for share in SHARES:
        toys.put_back(here.model, end)
        interpolate(here.model, here.start, share)
        tried.append({"rate": rate, "share": share, **_judged(here)})
    return best(tried)


def _judged(here: World) -> dict[str, Any]:
    return {split: here.judge(split) for split in ("fit", "test")}


def _region(name: str) -> Region:
    module, first, last = name.split("-")
    return Region(int(first), int(last), module)  # type: ignore[arg-type]


def _lora(lab: Lab, here: World, rate: float) -> dict[str, Any]:
    model = toys.decoder(here.codec, here.size.layers, WIDTH, here.seed)
    toys.put_back(model, here.start)
    plan = Sft(rows=32, steps=here.size.steps, rate=rate, seed=here.seed, every=10_000)
    rows = toys.rows_of(here.codec, here.lessons)
    folder = lab.folder(f"cofitune/{here.seed}/lora-{rate}")
    # peft puts its matrices into the model itself, so that it is the tuned one wherever training stops
    with suppress(Learnt):
        tick = until_learnt(here, model)
        model = low_rank(model, rows, len(here.codec.invocation), plan, folder, RANK, 2.0 * RANK, tick=tick)
    return {"rate": rate, **_judged(replace(here, model=model.train(False)))}


def best(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rate with the highest Uni on the split ``fit``."""
    return max(found, key=lambda one: scores_of(one["fit"]).uni)


def trial(lab: Lab, seed: int, size: Size) -> dict[str, Any]:
    """Run every method, the masks on the best quarter, and the tree search beside the whole grid."""
    here = world(lab, seed, size)
    base = lab.keep(f"cofitune/{seed}/base", lambda: here.judge("test"))
    quarters = [f"{m}-{a}-{b}" for m in ("mha", "ffn") for a, b in cofitune.quarters(size.layers)]
    out: dict[str, Any] = {"base": base, "quarters": quarters}
    known: dict[str, Scores] = {}
    for name in ("full", "LoRA", "L2 to start", "interpolated", *quarters):
        rates = PART if name in quarters or name == "LoRA" else WHOLE
        keys = [f"cofitune/{seed}/{name}-{rate}".replace(" ", "-") for rate in rates]
        found = [lab.keep(k, partial(arm, lab, here, name, r)) for k, r in zip(keys, rates, strict=True)]
        out[name], known[name] = best(found), scores_of(found[0]["fit"])
    ffn = max((q for q in quarters if q.startswith("ffn")), key=lambda q: scores_of(out[q]["fit"]).uni)
    table = _table(lab, here, known)
    half = max((r for r in table if _is_half(r, size.layers)), key=lambda r: table[r].uni)
    out["best ffn"], out["half"], out["search"] = ffn, half.name, _search(size.layers, table)
    out["masks"] = {str(m): best([_masked(lab, here, half, m, rate) for rate in PART]) for m in MASKS}
    return out


def _is_half(where: Region, layers: int) -> bool:
    return where.module == "ffn" and where.last - where.first == layers // 2


def _masked(lab: Lab, here: World, where: Region, mask: str | None, rate: float) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        train(lab, here, f"mask-{mask}", rate, where, mask=mask)
        return {"rate": rate, **_judged(here)}

    return lab.keep(f"cofitune/{here.seed}/mask-{mask}-{rate}", run)


def _table(lab: Lab, here: World, known: Mapping[str, Scores]) -> dict[Region, Scores]:
    """Scores on the split ``fit`` of every region that the tree can reach; ``known`` has quarters that were
    trained at the same rate.
    """

    def one(where: Region) -> list[float]:
        train(lab, here, f"grid-{where.name}", PART[0], where)
        found = scores_of(here.judge("fit"))
        return [found.speciality, found.versatility]

    return {
        r: known.get(r.name) or Scores(*lab.keep(f"cofitune/{here.seed}/grid-{r.name}", partial(one, r)))
        for r in cofitune.grid(here.size.layers)
    }


def _search(layers: int, table: Mapping[Region, Scores]) -> dict[str, Any]:
    """What the tree finds, by how many runs, and the best of the whole grid."""
    found, trials = cofitune.search(layers, lambda regions: [table[r] for r in regions])
    return {
        "found": found.name, "uni": table[found].uni, "runs": len(trials), "grid": len(table),
        "best": max(s.uni for s in table.values()),
    }  # fmt: skip


def section(lab: Lab) -> Section:
    """Measure selective fine-tuning against its baselines."""
    size = Size(20, 4, 100, 10, 4) if lab.quick else Size()
    trials = [trial(lab, seed, size) for seed in lab.seeds]
    names = ["full", "LoRA", "L2 to start", "interpolated", *trials[0]["quarters"]]
    rows = [_row("base", [t["base"] for t in trials], trials, lab)]
    rows += [_row(n, [t[n]["test"] for t in trials], trials, lab) for n in names]
    rows += [
        _row(f"best FFN half, mask {m}", [t["masks"][str(m)]["test"] for t in trials], trials, lab)
        for m in MASKS
    ]
    best = ", ".join(
        f"seed {s}: {t['best ffn']}, {t['half']}" for s, t in zip(lab.seeds, trials, strict=True)
    )
    tree = ", ".join(
        f"{t['search']['found']} in {t['search']['runs']} of {t['search']['grid']}" for t in trials
    )
    quarter = ", ".join(_special(t[t["best ffn"]]["test"]) for t in trials)
    half = ", ".join(_special(t["masks"]["None"]["test"]) for t in trials)
    return Section(
        "CoFiTune: a new skill at the least cost to the old ones",
        f"A decoder of {size.layers} layers learns {len(OLD)} tasks in {size.pretrain} steps, then {NEW} by "
        f"each method, until {ENOUGH:.0%} of it is right on words of another split, or for {size.steps} "
        "steps; at the better of two rates (chosen on that split). Uni = speciality + versatility; "
        "forgetting is the fall of the old tasks' mean.",
        ("method", "speciality", "versatility", "forgetting", "Uni", "Uni minus full, points"),
        tuple(rows),
        _goals(trials, lab.seeds[0]),
        notes=(
            f"Best FFN quarter and half by Uni on the split they were chosen on: {best}. Tree search found: "
            f"{tree}.",
            f"Of the new task, that quarter learnt {quarter}, and that half, without a mask, {half}, by seed."
            " A region that learns nothing costs nothing, and its Uni is the base's: where it is chosen, its "
            "versatility is no gain, and masks have nothing to hold back.",
            "Masks act on the update: Adam undoes a constant factor on the gradient (tested). Each has the "
            "same values in every map; hindsight hands the largest to the units whose way, trained without "
            "a mask, adds most to the loss on old and new tasks together, which no mask can know before.",
        ),
    )


def _special(found: Mapping[str, Sequence[float]]) -> str:
    return f"{scores_of(found).speciality:.0%}"


def _uni(found: Mapping[str, Sequence[float]]) -> float:
    return scores_of(found).uni


def _row(
    name: str, found: Sequence[Mapping[str, Sequence[float]]], trials: Sequence[Any], lab: Lab
) -> tuple[str, ...]:
    seed, scores = lab.seeds[0], [scores_of(f) for f in found]
    base = [scores_of(t["base"]).versatility for t in trials]
    fall = [b - s.versatility for b, s in zip(base, scores, strict=True)]
    full = [_uni(t["full"]["test"]) for t in trials]
    gap = estimates.difference([s.uni for s in scores], full, seed)
    special = estimates.mean([x for f in found for x in f[NEW]], seed)
    versatile = estimates.mean([x for f in found for t in OLD for x in f[t]], seed)
    return (
        name, cell(special, "%"), cell(versatile, "%"), cell(estimates.mean(fall, seed), "%"),
        cell(estimates.mean([s.uni for s in scores], seed), ""), signed(gap),
    )  # fmt: skip


def _goals(trials: Sequence[dict[str, Any]], seed: int) -> tuple[Goal, ...]:
    full = [_uni(t["full"]["test"]) for t in trials]
    ffn = [_uni(t[t["best ffn"]]["test"]) for t in trials]
    wins = [float(a > b) for a, b in zip(ffn, full, strict=True)]
    kept = [_paired(t[t["best ffn"]]["test"], t["full"]["test"]) for t in trials]
    versatile = estimates.mean([x for one in kept for x in one], seed)
    mask = [_paired(t["masks"]["importance"]["test"], t["masks"]["shuffled"]["test"]) for t in trials]
    against = estimates.mean([x for one in mask for x in one], seed)
    pulled = [_paired(t["L2 to start"]["test"], t["full"]["test"]) for t in trials]
    anchored = estimates.mean([x for one in pulled for x in one], seed)
    lost = estimates.mean([x for t in trials for x in _paired(t["base"], t["full"]["test"])], seed)
    gap = max(1 - t["search"]["uni"] / max(t["search"]["best"], 1e-9) for t in trials)
    runs = max(t["search"]["runs"] / t["search"]["grid"] for t in trials)
    count = len(trials)
    behind, asked = (estimates.Estimate(x, x, x, count) for x in (gap, runs))
    won = estimates.mean(wins, seed)
    return (
        Goal("seeds in which an FFN quarter beats full SFT on Uni", "at least", 0.5, "%", won),
        Goal("its versatility above full SFT's", "clearly above", 0.0, "%", versatile),
        Goal("importance mask above shuffled mask on versatility", "clearly above", 0.0, "%", against),
        Goal("tree search behind the grid's best, worst seed", "at most", 0.01, "%", behind),
        Goal("runs of the tree by runs of the grid", "at most", 0.5, "", asked),
        Goal("power: old tasks lost by full fine-tuning", "at least", 0.1, "%", lost),
        Goal("power: the same", "at most", 0.9, "%", lost),
        Goal("power: L2 to start above full fine-tuning on versatility", "clearly above", 0.0, "%", anchored),
    )


def _paired(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> list[float]:
    """Differences on the old tasks' prompts, row by row."""
    return [a - b for t in OLD for a, b in zip(ours[t], theirs[t], strict=True)]
