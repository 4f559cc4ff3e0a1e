"""ShifCon on five languages of disjoint words: facts that a weak one is not told are asked for in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ...specialists.improve.align import Band, Method, Shift, Vectors, language_vectors, shared_band, shifts
from ...specialists.improve.align_step import Align, Lessons, train
from ...specialists.improve.step import Context, Made
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from . import toys
from .lab import Lab
from .shifcon_world import (
    DOMINANT,
    ENTITIES,
    LANGUAGES,
    LAYERS,
    LOW,
    OBJECTS,
    RELATIONS,
    World,
    decoder,
    draw_world,
)

SHARE = 0.5  # of the layers, in the band
STAGE, STAGE_RATE = 1000, 1e-3  # of the first training
STEPS, RATE = 300, 2e-3  # of each way from there; MSFT answers alike at 3e-4, 1e-3, 2e-3 and 3e-3
UNTRAINED, BEFORE = "untrained", "before any of these"
MATCHED, TOLD = "MSFT, as much compute", "MSFT, every fact told"
FULL = "ShifCon"


@dataclass(frozen=True)
class Way:
    """How one row of the table trains, and how it answers."""

    method: Method = "shifcon"
    longer: float = 1.0
    recentre: bool = True
    scale: float = 10.0
    back: bool = True
    elsewhere: bool = False
    swapped: bool = False
    anew: bool = False
    everything: bool = False


WAYS: Mapping[str, Way] = {
    "MSFT": Way("msft"),
    MATCHED: Way("msft", longer=2.0),
    TOLD: Way("msft", everything=True),
    "AFP-like": Way("afp", scale=20.0),
    "shift only": Way("shift"),
    "contrast only": Way("contrast"),
    FULL: Way(),
    "ShifCon, scale 1 as released": Way(scale=1.0),
    "ShifCon, answered without the way back": Way(back=False),
    "ShifCon, contrast on unshifted states": Way(recentre=False),
    "ShifCon, another band": Way(elsewhere=True),
    "ShifCon, the wrong language's vectors": Way(swapped=True),
    "ShifCon, vectors taken anew": Way(anew=True),
}
SHOWN = (UNTRAINED, BEFORE, *WAYS)
NOTES = (
    "Words of another language: MSFT has as many, and none where every fact is told. On development seeds "
    "they were the right object, named in English or in another weak language. A higher rate made them "
    "fewer there; half the scale, a quarter of the contrast weight, and vectors that follow the model "
    "(languages then run together, and fewer answers are right) did not.",
    "Why unshifted states do as well: a difference that all translations share adds the same to a whole "
    "row of logits, so recentring changes only half of the contrastive loss, the half that chooses among "
    "English sentences.",
    "The wrong vectors are wrong in training too, so the model learns to answer behind them. The ways "
    "without the way back and with vectors taken anew train as ShifCon does and differ in how they "
    "answer.",
    "Rate and steps were searched for MSFT and ShifCon on development seeds, for AFP-like not: it has "
    "ShifCon's. The world was chosen by MSFT, the oracle and the untrained model; then once more, when "
    "ShifCon's errors showed words that a weak language had never heard.",
)


@torch.no_grad()
def answered(model: Any, w: World, name: str, shift: Shift | None) -> tuple[float, float]:
    """Share of right first words in a language, and of first words that are of that language."""
    rows = [(*w.codec.encode_prompt(p), *w.codec.invocation) for p, _ in w.asked[name]]
    wanted = [w.codec.encode_text(a)[0] for _, a in w.asked[name]]
    if shift is not None:
        shift.say(name)
    found = model(input_ids=torch.tensor(rows)).logits[:, -1].argmax(-1).tolist()
    of = [w.codec.decode([t]).strip().startswith(name) for t in found]
    return toys.accuracy([float(a == b) for a, b in zip(found, wanted, strict=True)]), toys.accuracy(of)


def settings_of(way: Way, steps: int, rate: float = RATE) -> Align:
    """The step's settings."""
    return Align(
        data="rows", pairs="pairs", method=way.method, dominant=DOMINANT, recentre=way.recentre,
        scale=way.scale, steps=round(way.longer * steps), rate=rate, rows=48, pair_rows=16, vectors=60,
        every=10_000,
    )  # fmt: skip


def trial(lab: Lab, seed: int) -> dict[str, Any]:
    """Train the first stage once, then every way from there."""
    stage, steps = (10, 2) if lab.quick else (STAGE, STEPS)
    folder = lab.folder(f"shifcon/{seed}")
    w = draw_world(folder, seed, 400 if lab.quick else 6000)
    start = decoder(w.codec, seed)

    def context(name: str) -> Context:
        trunk = Made("trunk", "model", folder, "")
        return Context(folder / name.replace(" ", "-").replace("'", ""), folder, seed, (), trunk)

    def lessons(way: Way, count: int, rate: float = RATE) -> Lessons:
        rows = w.everything if way.everything else w.rows
        return Lessons(settings_of(way, count, rate), rows, w.pairs, w.codec, seed)

    first = lessons(Way("msft"), stage, STAGE_RATE)
    sentences = first.sentences()
    found: dict[str, Any] = {"untrained": shared_band(start, sentences, DOMINANT, SHARE)[1]}
    plain = {UNTRAINED: judged(start, w)}
    train(start, first, language_vectors(start, sentences), Band(0, LAYERS - 1), context("first"))
    plain[BEFORE] = judged(start, w)
    vectors = language_vectors(start, sentences)
    band, found["distances"] = shared_band(start, sentences, DOMINANT, SHARE)
    found["band"] = [band.first, band.last]
    found["ways"] = plain
    for names in trained_alike():
        work = context(names[0])
        go = partial(gone_on, start, vectors, w, lessons(WAYS[names[0]], steps), band, names, work)
        found["ways"] |= lab.keep(f"shifcon/{seed}/{work.work.name}", go)
    return found


def trained_alike() -> list[list[str]]:
    """The ways, those together that train alike and differ in how they answer."""
    found: dict[Way, list[str]] = {}
    for name, way in WAYS.items():
        found.setdefault(replace(way, back=True, anew=False), []).append(name)
    return list(found.values())


def gone_on(
    start: Any,
    vectors: Vectors,
    w: World,
    lessons: Lessons,
    band: Band,
    names: Sequence[str],
    ctx: Context,
) -> dict[str, dict[str, list[float]]]:
    """Train one way from the start; judge it, and the ways that answer otherwise."""
    model, way = copy.deepcopy(start), WAYS[names[0]]
    used, vectors = other_band(band) if way.elsewhere else band, swapped(vectors, way)
    train(model, lessons, vectors, used, ctx)
    if not shifts(way.method):
        return {name: judged(model, w) for name in names}
    found = {}
    for name in names:
        # under the vectors that it was trained with, or under its own
        final = language_vectors(model, lessons.sentences()) if WAYS[name].anew else vectors
        with Shift(model, final, DOMINANT, used, back=WAYS[name].back) as shift:
            found[name] = judged(model, w, shift)
    return found


def other_band(band: Band) -> Band:
    """A band of the same size at the far end of the model."""
    size = band.last - band.first
    return Band(0, size) if band.first > (LAYERS - 1 - size) / 2 else Band(LAYERS - 1 - size, LAYERS - 1)


def swapped(vectors: Vectors, way: Way) -> Vectors:
    """The vectors as they are, or each weak language with the next one's."""
    if not way.swapped:
        return vectors
    return {**vectors, **{a: vectors[b] for a, b in zip(LOW, (*LOW[1:], LOW[0]), strict=True)}}


def judged(model: Any, w: World, shift: Shift | None = None) -> dict[str, list[float]]:
    """(right, in the language) of every language."""
    model.eval()
    return {name: list(answered(model, w, name, shift)) for name in LANGUAGES}


# -- the page ------------------------------------------------------------------------------------------------


def section(lab: Lab) -> Section:
    """Measure every seed and compare with the issue's targets."""
    found = [lab.keep(f"shifcon/{seed}", partial(trial, lab, seed)) for seed in lab.seeds]
    seed = lab.seeds[0]
    rows = tuple(
        (
            name,
            *(cell(estimates.mean(_values(found, name, of, 0), seed), "%") for of in LANGUAGES),
            *(cell(estimates.mean(_low(found, name, which), seed), "%") for which in (0, 1)),
        )
        for name in SHOWN
    )
    bands = ", ".join(f"L{one['band'][0]} to L{one['band'][1]}" for one in found)
    told = ", ".join(f"{name} {count}" for name, (_, count) in LANGUAGES.items())
    return Section(
        "ShifCon: facts told in one language, asked for in another",
        f"Five languages of disjoint words share {ENTITIES * RELATIONS} facts. Of the {RELATIONS} facts of "
        f"every entity each is told so many: {told}; weak languages have a tenth of the rows each and are "
        f"asked for what they were not told (one of {OBJECTS} objects), English for everything. A decoder of "
        f"{LAYERS} layers, whose words of one meaning begin a little alike, learns all rows in {STAGE} steps "
        f"and goes on from there for {STEPS} in each of these ways; {len(found)} seeds. The band of least "
        f"distance was {bands}; sentence pairs tell no fact and are not asked.",
        ("way", *(f"{name} right" for name in LANGUAGES), "weak ones right", "in their language"),
        rows,
        _goals(found, seed),
        notes=(_distances(found), *NOTES),
    )


def _values(found: Sequence[Mapping[str, Any]], way: str, language: str, which: int) -> list[float]:
    return [one["ways"][way][language][which] for one in found]


def _low(found: Sequence[Mapping[str, Any]], way: str, which: int) -> list[float]:
    """All weak languages of every seed."""
    return [value for name in LOW for value in _values(found, way, name, which)]


def _distances(found: Sequence[Mapping[str, Any]]) -> str:
    def line(key: str) -> str:
        layers = torch.tensor([one[key] for one in found]).mean(0).tolist()
        return " ".join(f"{value:.2f}" for value in layers)

    trained, untrained = line("distances"), line("untrained")
    return f"Distance to English by layer, mean over seeds: trained {trained}; untrained {untrained}."


def _goals(found: Sequence[Mapping[str, Any]], seed: int) -> tuple[Goal, ...]:
    def gain(one: str, other: str, language: str | None = None) -> Estimate:
        ours, theirs = (
            _low(found, n, 0) if language is None else _values(found, n, language, 0) for n in (one, other)
        )
        return estimates.difference(ours, theirs, seed)

    ablations = [name for name in WAYS if name.startswith("ShifCon, ") and "scale" not in name]
    fidelity = estimates.mean(_low(found, FULL, 1), seed)
    return (
        Goal("weak languages under MSFT with as much compute: some of it carries over", "at least", 0.2, "%",
             estimates.mean(_low(found, MATCHED, 0), seed)),
        Goal("every fact told, above MSFT with as much compute: what there is to win", "at least", 0.2, "%",
             gain(TOLD, MATCHED)),
        Goal("weak languages, above MSFT with as much compute", "clearly above", 0.0, "%",
             gain(FULL, MATCHED)),
        Goal("English, against MSFT with as much compute", "at least", -0.02, "%",
             gain(FULL, MATCHED, DOMINANT)),
        Goal("weak languages answer in their own language", "at least", 0.99, "%", fidelity),
        *(
            Goal(f"weak languages, above {name}", "clearly above", 0.0, "%", gain(FULL, name))
            for name in ablations
        ),
    )  # fmt: skip
