"""CorrSteer on a toy whose right answers hang on one planted direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from ...router.features.correlate import Correlation
from ...router.features.sae import SAE
from ...router.features.train import train_topk
from ...router.steer.choice import stronger
from ...router.steer.corrsteer import (
    Pick,
    Pool,
    at_random,
    correlate,
    entries,
    picks,
    pruned,
    shuffled,
)
from ...router.steer.crl import states_of
from ...router.steer.task import Answer, Task, play, right, side_effect_ratio, valid, validity_share
from ...router.steer.vector import SteeringVector
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section
from . import toy as toys
from .toy import Toy

LATENTS, ACTIVE, STEPS = 48, 4, 600
SAE_LAYERS = (0, 1, 2)
RANDOM = 20
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
Vectors = Sequence[SteeringVector]


def dictionaries(toy: Toy, layers: Sequence[int], forms: Sequence[int], seed: int) -> dict[int, SAE]:
    """A dictionary of each layer, trained on the states that answers are drawn from."""
    task = toy.task(toy.draw(1500, 1, forms))
    found = {}
    for layer in layers:
        meta = {"layer": layer, "fingerprint": "", "model_name": "toy"}
        found[layer] = train_topk(states_of(toy.model, task, layer), LATENTS, ACTIVE, STEPS, seed, meta=meta)
    return found


@dataclass(eq=False)
class Hint:
    """One seed's toy, its dictionaries, and its prompts: half with the hint to find features on; for
    validation and test prompts without."""

    toy: Toy
    count: int

    @cached_property
    def saes(self) -> dict[int, SAE]:
        """A dictionary a layer."""
        return dictionaries(self.toy, SAE_LAYERS, (0, 1), self.toy.seed)

    def task(self, seed: int, forms: Sequence[int]) -> Task:
        """Prompts whose last token has one of these forms."""
        return self.toy.task(self.toy.draw(self.count, seed, forms))

    @cached_property
    def fit(self) -> Task:
        """Prompts to find features on."""
        return self.task(2, (0, 1))

    @cached_property
    def test(self) -> Task:
        """Held-out prompts that lack the hint."""
        return self.task(3, (0,))

    @cached_property
    def plain(self) -> list[Answer]:
        """Unsteered answers to the test."""
        return play(self.toy.model, self.test)

    @cached_property
    def labels(self) -> list[bool]:
        """Verdicts on `fit`."""
        return [one.right for one in play(self.toy.model, self.fit)]

    def found(self, pool: Pool, shuffles: int = 0) -> list[dict[int, Correlation]]:
        """Correlations with the verdicts, then with shuffled ones."""
        labels = [self.labels, *(shuffled(self.labels, i) for i in range(shuffles))]
        return correlate(self.toy.model, self.fit, self.saes, labels, pool)

    def entry(self, chosen: Sequence[Pick]) -> tuple[SteeringVector, ...]:
        """Picks as vectors."""
        return entries(chosen, self.saes, "hint")

    def answers(self, vectors: Vectors) -> list[Answer]:
        """Steered answers to the test."""
        return play(self.toy.model, self.test, vectors)

    def gain(self, vectors: Vectors) -> float:
        """Rise of the share of right answers where the hint is missing."""
        return right(self.answers(vectors)) - right(self.plain)

    def truth(self, layer: int) -> torch.Tensor:
        """What the hint changes at a layer [D]: the mean difference over prompts told apart by it alone."""
        without = self.toy.draw(64, 4, (0,))
        hinted = [self.toy.hinted(prompt, 1) for prompt in without]
        first = [replace(self.toy.task(rows), max_tokens=1) for rows in (hinted, without)]
        a, b = (states_of(self.toy.model, one, layer) for one in first)
        return (a - b).mean(0)


def numpy_error(seed: int) -> float:
    """Largest difference of the streamed r from numpy's, 1,000 samples of 500 features, some constant."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1000, 500, generator=generator).relu() * torch.logspace(-3, 3, 500)
    x[:, ::50] = 1.5
    y = torch.rand(1000, generator=generator) < 0.4
    sums = Correlation(500)
    for at in range(0, len(x), 64):
        sums.add(x[at : at + 64], y[at : at + 64])
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = np.nan_to_num(np.corrcoef(x.double().numpy().T, y.double().numpy())[-1, :-1])
    return float(np.abs(sums.coefficients().numpy() - wanted).max())


@dataclass(eq=False)
class Measured:
    """Everything of one seed."""

    hint: Hint
    variants: dict[str, list[Answer]]
    best: Pick
    closest: bool
    cosine: float
    nearest: tuple[int, float, float]  # the feature closest to the truth at its layer, cosine, r
    nulls: list[float]
    random: list[float]
    curve: list[tuple[float, float, float]]


def measure(seed: int, count: int, shuffles: int) -> Measured:
    """Train a toy and try every variant on it."""
    hint = Hint(toys.make(1, False, seed), count)
    found, *nulls = hint.found("max", shuffles)
    every, (best,) = picks(found, "A"), picks(found, "S")
    a, s = hint.entry(every), hint.entry([best])
    validation = hint.task(5, (0,))
    p = pruned(hint.toy.model, validation, a)
    (means,) = hint.found("mean")
    chosen: Mapping[str, Vectors] = {
        "S, max": s,
        "A, max": a,
        "P, max": p,
        "S, mean": hint.entry(picks(means, "S")),
        "A, mean": hint.entry(picks(means, "A")),
        "S, negative": hint.entry(picks(found, "S", sign="negative")),
    }
    cosines = normalize(hint.saes[best.layer].W_dec) @ normalize(hint.truth(best.layer), dim=0)
    near = int(cosines.argmax())
    scaled = [(scale, hint.answers(stronger(s, scale)) if scale else hint.plain) for scale in SCALES]
    return Measured(
        hint,
        {"unsteered": hint.plain} | {name: hint.answers(v) for name, v in chosen.items()},
        best,
        near == best.feature,
        float(cosines[best.feature]),
        (near, float(cosines[near]), float(found[best.layer].coefficients()[near])),
        [hint.gain(hint.entry(picks(null, "S"))) for null in nulls],
        [right(hint.answers(hint.entry(at_random(every, hint.saes, i)))) for i in range(RANDOM)],
        [(scale, right(answers), valid(answers)) for scale, answers in scaled],
    )


def section(seeds: Sequence[int], seed: int, quick: bool, out: Path) -> Section:
    """CorrSteer, its variants and its controls."""
    count, shuffles = (120, 2) if quick else (400, 10)
    found = [measure(one, count, shuffles) for one in seeds]
    picture = _picture(found, out)
    return Section(
        "CorrSteer on a planted hint",
        "A Llama of four layers answers rightly if the last prompt token carries a planted direction; "
        "otherwise "
        "4 of 16 keys are right, 8 wrong and 4 get no value at all. Features are found on prompts of which "
        f"half have the hint, and tried on {count} others that all lack it. Dictionaries: {LATENTS} "
        f"latents at layers {', '.join(map(str, SAE_LAYERS))}. The strength is CorrSteer's own, the mean "
        "activation on right answers. `of them only form`: "
        "the share of the answers that became right which had no valid form before.",
        ("variant", "right", "valid answers", "side-effect ratio", "of them only form"),
        tuple(_row(name, found) for name in found[0].variants),
        (
            Goal(
                "CorrSteer: streamed r against numpy.corrcoef (largest difference)",
                "at most",
                1e-6,
                "e",
                estimates.mean([numpy_error(one) for one in seeds], seed),
            ),
            Goal(
                "CorrSteer S picks the feature closest to the planted direction (share of seeds)",
                "at least",
                1.0,
                "%",
                estimates.mean([one.closest for one in found], seed),
            ),
            *_gains(found, seed),
            *_orders(found, seed),
        ),
        pictures=(picture,) if picture else (),
        notes=(
            "S picked, by seed: "
            + "; ".join(
                f"layer {m.best.layer}, feature {m.best.feature}, r {m.best.correlation:.2f}, cosine "
                f"{m.cosine:.2f}"
                + ("" if m.closest else f" (closest there: {m.nearest[0]}, cosine {m.nearest[1]:.2f}, r ")
                + ("" if m.closest else f"{m.nearest[2]:.2f})")
                for m in found
            )
            + ". The dictionaries above layer 0 split the direction, and their closest feature may be silent "
            "in answers",
            f"random features at the layers of A with its strengths, {RANDOM} draws a seed: right "
            + ", ".join(f"{100 * float(np.mean(m.random)):.1f} %" for m in found),
        ),
    )


def _gains(found: Sequence[Measured], seed: int) -> list[Goal]:
    ours = [one.right for m in found for one in m.variants["S, max"]]
    plain = [one.right for m in found for one in m.hint.plain]
    errors = [_beyond_random(m) for m in found]
    return [
        Goal(
            "CorrSteer S where the hint is missing (gain)",
            "at least",
            0.10,
            "%",
            estimates.difference(ours, plain, seed),
        ),
        Goal(
            "CorrSteer S from shuffled labels (gain)",
            "at most",
            0.02,
            "%",
            estimates.mean([gain for m in found for gain in m.nulls], seed),
        ),
        Goal(
            f"CorrSteer A above {RANDOM} draws of random features, in standard errors (least of the seeds)",
            "at least",
            2.0,
            "",
            Estimate(min(errors), min(errors), max(errors), len(errors)),
        ),
    ]


def _beyond_random(m: Measured) -> float:
    ours = np.array([one.right for one in m.variants["A, max"]], float)
    error = (ours.var() / len(ours) + np.var(m.random, ddof=1) / len(m.random)) ** 0.5
    return float((ours.mean() - np.mean(m.random)) / max(error, 1e-9))


def _orders(found: Sequence[Measured], seed: int) -> list[Goal]:
    """What must be in an order: pooling, the strength curve, side effects, signs."""

    def rights(name: str) -> list[bool]:
        return [one.right for m in found for one in m.variants[name]]

    peaks = [max(r for _, r, _ in m.curve) - max(m.curve[0][1], m.curve[-1][1]) for m in found]
    harm = [
        _zero(side_effect_ratio(m.hint.plain, m.variants["A, max"]))
        - _zero(side_effect_ratio(m.hint.plain, m.variants["P, max"]))
        for m in found
    ]
    worse = estimates.difference(rights("S, max"), rights("S, negative"), seed)
    return [
        Goal(
            "CorrSteer: max pooling above mean pooling (S)",
            "at least",
            0.0,
            "%",
            estimates.difference(rights("S, max"), rights("S, mean"), seed),
        ),
        Goal("CorrSteer: positive above negative features (S)", "clearly above", 0.0, "%", worse),
        Goal(
            "CorrSteer: peak of the strength curve above both its ends (an inverted U)",
            "clearly above",
            0.0,
            "%",
            estimates.mean(peaks, seed),
        ),
        Goal(
            "CorrSteer: side-effect ratio of A less that of P",
            "at least",
            0.0,
            "",
            estimates.mean(harm, seed),
        ),
    ]


def _zero(value: float) -> float:
    """A ratio of no changed answers is no harm."""
    return 0.0 if value != value else value


def _row(name: str, found: Sequence[Measured]) -> tuple[str, ...]:
    pairs = [(m.hint.plain, m.variants[name]) for m in found]
    before = [one for plain, _ in pairs for one in plain]
    after = [one for _, steered in pairs for one in steered]
    return (
        name,
        f"{100 * right(after):.1f} %",
        f"{100 * valid(after):.1f} %",
        _ratio(side_effect_ratio(before, after)),
        _ratio(validity_share(before, after)),
    )


def _ratio(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _picture(found: Sequence[Measured], out: Path) -> tuple[str, str]:
    """Right and valid answers over the strength."""
    from .pictures import curve

    scales = list(SCALES)
    rows = {
        "right": [float(np.mean([m.curve[i][1] for m in found])) for i in range(len(scales))],
        "valid": [float(np.mean([m.curve[i][2] for m in found])) for i in range(len(scales))],
    }
    name = "steer-strength.png"
    curve(
        out / name, scales, rows, "strength, times the mean activation on right answers", "share of answers"
    )
    return name, "Right and valid answers over the strength: an inverted U"
