"""CoFiTune on a small decoder that knows six tasks and learns a seventh: what that costs the six."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ...specialists.improve import cofitune
from ...specialists.improve.cofitune import Region, Scores
from ...specialists.improve.finetune_full import Sft, interpolate, region, tune
from ...specialists.improve.finetune_mask import Control, SoftMask, controlled, importance
from ...specialists.improve.finetune_step import low_rank
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..page import Goal, Section, cell, signed
from . import toys
from .lab import Lab

OLD = ("copy", "reverse", "next", "before", "rotate", "swap")
NEW = "mirror"
LAYERS, WIDTH = 8, 64
RATES = (5e-4, 2e-3)
ANCHOR, SHARE, RANK = 1.0, 0.5, 8
LONGEST = 6  # tokens of an answer: right ones have four, and none gets right by going on
MASKS: tuple[Control | None, ...] = (None, "importance", "shuffled", "constant")


@dataclass(frozen=True)
class Size:
    """How much a run does."""

    pretrain: int = 400
    steps: int = 200
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
        found = iter(
            toys.right(self.codec, self.model, [p for pairs in asked.values() for p in pairs], LONGEST)
        )
        return {task: list(islice(found, len(pairs))) for task, pairs in asked.items()}

    def reset(self) -> None:
        """Put the base's weights back."""
        toys.put_back(self.model, self.start)


def world(lab: Lab, seed: int, size: Size) -> World:
    """Train the base on six tasks."""
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


def train(
    lab: Lab,
    here: World,
    name: str,
    rate: float,
    where: Region | None = None,
    anchor: float = 0.0,
    mask: Control | None = None,
) -> None:
    """Train the base on the new task: all of it, or a region, anchored or masked (on the update)."""
    here.reset()
    rows = toys.rows_of(here.codec, here.lessons)
    chosen = None if where is None else region(here.model, (where.first, where.last), where.module)
    change = None
    if mask is not None and chosen is not None:
        general = toys.rows_of(here.codec, toys.draw(OLD, "train", 192, here.seed + 100))
        found = importance(here.model, general, len(here.codec.invocation), here.seed)
        change = SoftMask(here.model, chosen, controlled(found, mask, here.seed), "update")
    plan = Sft(rows=32, steps=here.size.steps, rate=rate, seed=here.seed, anchor=anchor, every=10_000)
    tune(
        here.model,
        rows,
        len(here.codec.invocation),
        plan,
        lab.folder(f"cofitune/{here.seed}/{name}-{rate}"),
        chosen,
        change=change,
    )


def arm(lab: Lab, here: World, name: str, rate: float) -> dict[str, Any]:
    """Train and judge one method at one rate; the rate is chosen on the split ``fit``."""
    if name == "LoRA":
        return _lora(lab, here, rate)
    kinds: dict[str, dict[str, Any]] = {"full": {}, "L2 to start": {"anchor": ANCHOR}, "interpolated": {}}
    where = _region(name) if name not in kinds else None
    train(lab, here, name, rate, where, **kinds.get(name, {}))
    if name == "interpolated":
        interpolate(here.model, here.start, SHARE)
    return {"rate": rate, "fit": here.judge("fit"), "test": here.judge("test")}


def _region(name: str) -> Region:
    module, first, last = name.split("-")
    return Region(int(first), int(last), module)  # type: ignore[arg-type]


def _lora(lab: Lab, here: World, rate: float) -> dict[str, Any]:
    model = toys.decoder(here.codec, here.size.layers, WIDTH, here.seed)
    toys.put_back(model, here.start)
    plan = Sft(rows=32, steps=here.size.steps, rate=rate, seed=here.seed, every=10_000)
    rows = toys.rows_of(here.codec, here.lessons)
    folder = lab.folder(f"cofitune/{here.seed}/lora-{rate}")
    merged = low_rank(model, rows, len(here.codec.invocation), plan, folder, RANK, 2.0 * RANK)
    judged = World(here.codec, merged, here.start, here.lessons, here.judges, here.size, here.seed)
    return {"rate": rate, "fit": judged.judge("fit"), "test": judged.judge("test")}


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
        rates = [rate * (2 if name == "LoRA" else 1) for rate in RATES]
        keys = [f"cofitune/{seed}/{name}-{rate}".replace(" ", "-") for rate in rates]
        found = [lab.keep(k, partial(arm, lab, here, name, r)) for k, r in zip(keys, rates, strict=True)]
        out[name], known[name] = best(found), scores_of(found[-1]["fit"])
    ffn = max((q for q in quarters if q.startswith("ffn")), key=lambda q: scores_of(out[q]["fit"]).uni)
    out["best ffn"], out["masks"] = ffn, _masks(lab, here, ffn, out[ffn]["rate"])
    out["search"] = _search(lab, here, known)
    return out


def _masks(lab: Lab, here: World, name: str, rate: float) -> dict[str, Any]:
    def run(mask: Control | None) -> dict[str, list[float]]:
        train(lab, here, f"mask-{mask}", rate, _region(name), mask=mask)
        return here.judge("test")

    return {str(m): lab.keep(f"cofitune/{here.seed}/mask-{m}", partial(run, m)) for m in MASKS}


def _search(lab: Lab, here: World, known: Mapping[str, Scores]) -> dict[str, Any]:
    """Uni on the split ``fit`` of every region of the grid, and which of them the tree asks for; ``known``
    has quarters that were trained at the same rate.
    """

    def one(where: Region) -> list[float]:
        train(lab, here, f"grid-{where.name}", RATES[-1], where)
        found = scores_of(here.judge("fit"))
        return [found.speciality, found.versatility]

    grid = cofitune.grid(here.size.layers)
    table = {
        r: known.get(r.name) or Scores(*lab.keep(f"cofitune/{here.seed}/grid-{r.name}", partial(one, r)))
        for r in grid
    }
    found, trials = cofitune.search(here.size.layers, lambda regions: [table[r] for r in regions])
    return {
        "found": found.name, "uni": table[found].uni, "runs": len(trials), "grid": len(grid),
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
        _row(f"best FFN quarter, mask {m}", [t["masks"][str(m)] for t in trials], trials, lab) for m in MASKS
    ]
    best = ", ".join(f"seed {s}: {t['best ffn']}" for s, t in zip(lab.seeds, trials, strict=True))
    tree = ", ".join(
        f"{t['search']['found']} in {t['search']['runs']} of {t['search']['grid']}" for t in trials
    )
    return Section(
        "CoFiTune: a new skill at the least cost to the old ones",
        f"A decoder of {size.layers} layers learns {len(OLD)} tasks in {size.pretrain} steps, then {NEW} in "
        f"{size.steps} steps by each method, at the better of two rates (chosen on other words than those it "
        "is judged on). Uni = speciality + versatility; forgetting is the fall of the old tasks' mean.",
        ("method", "speciality", "versatility", "forgetting", "Uni", "Uni minus full, points"),
        tuple(rows),
        _goals(trials, lab.seeds[0]),
        notes=(
            f"Best FFN quarter by Uni on the split it was chosen on: {best}. Tree search found: {tree}.",
            "Masks act on the update: Adam undoes a constant factor on the gradient (tested).",
        ),
    )


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
    mask = [_paired(t["masks"]["importance"], t["masks"]["shuffled"]) for t in trials]
    against = estimates.mean([x for one in mask for x in one], seed)
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
    )


def _paired(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> list[float]:
    """Differences on the old tasks' prompts, row by row."""
    return [a - b for t in OLD for a, b in zip(ours[t], theirs[t], strict=True)]
