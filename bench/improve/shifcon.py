"""ShifCon on three languages of disjoint words: facts told in one of them only are asked for in the
others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from ...specialists.improve.align import Band, Method, Shift, Vectors, language_vectors, shared_band, shifts
from ...specialists.improve.align_step import Align, Lessons, train
from ...specialists.improve.data import Data, made
from ...specialists.improve.step import Context, Made
from ...specialists.starter.tokenizer import SPECIALS, save_tokenizer
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from . import toys
from .lab import Lab

# share of the rows, and of the facts that are told, of each language
LANGUAGES = {"en": (0.90, 1.0), "xx": (0.08, 0.4), "yy": (0.02, 0.15)}
DOMINANT, LOW = "en", ("xx", "yy")
ENTITIES, RELATIONS, OBJECTS = 30, 4, 20
LAYERS, WIDTH, SHARE = 6, 64, 0.5
STAGE, STEPS = 2000, 500  # of the first training, and of each way from there
MATCHED = "MSFT, as much compute"
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


WAYS: Mapping[str, Way] = {
    "MSFT": Way("msft"),
    MATCHED: Way("msft", longer=2.0),
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


@dataclass(frozen=True)
class World:
    """The languages, their facts, and what is asked in the end."""

    codec: ChatCodec
    rows: Data
    pairs: Data
    asked: Mapping[str, list[tuple[str, str]]]


def word(language: str, kind: str, number: int) -> str:
    """A word of a language."""
    return f"{language}{kind}{number}"


def codec_in(folder: Path) -> ChatCodec:
    """A tokenizer with a token for every word of every language."""
    kinds = (("e", ENTITIES), ("r", RELATIONS), ("o", OBJECTS))
    words = [word(name, kind, i) for name in LANGUAGES for kind, count in kinds for i in range(count)]
    listed = [*SPECIALS, "<|unknown|>", *words]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIALS))
    save_tokenizer(tokenizer, folder)
    return ChatCodec.load(folder)


def world(folder: Path, seed: int, count: int) -> World:
    """Draw facts, who is told which, and sentences that say the same in two languages but tell no fact."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, OBJECTS, (ENTITIES, RELATIONS), generator=g)
    facts = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]
    order = torch.randperm(len(facts), generator=g).tolist()

    def row(name: str, e: int, r: int) -> tuple[str, str]:
        return f"{word(name, 'e', e)} {word(name, 'r', r)}", word(name, "o", int(truth[e, r]))

    rows, asked = [], {}
    for name, (share, told) in LANGUAGES.items():
        known = [facts[i] for i in order[: round(told * len(facts))]]
        drawn = torch.randint(0, len(known), (round(share * count),), generator=g).tolist()
        for i in drawn:
            prompt, answer = row(name, *known[i])
            rows.append({"prompt": prompt, "answer": answer, "language": name})
        hidden = facts if name == DOMINANT else [f for f in facts if f not in known]
        asked[name] = [row(name, *f) for f in hidden]
    pairs = []
    for name in LOW:
        for _ in range(count // 10):
            places = [int(torch.randint(0, n, (1,), generator=g)) for n in (ENTITIES, RELATIONS, OBJECTS)]
            sides = [" ".join(map(partial(word, to), "ero", places)) for to in (name, DOMINANT)]
            pairs.append({"language": name, "text": sides[0], "pivot": sides[1]})
    return World(
        codec_in(folder), made("rows", rows, "own", "drawn"), made("pairs", pairs, "own", "drawn"), asked
    )


@torch.no_grad()
def answered(model: Any, world: World, name: str, shift: Shift | None) -> tuple[float, float]:
    """Share of right first words in a language, and of first words that are of that language."""
    rows = [(*world.codec.encode_prompt(p), *world.codec.invocation) for p, _ in world.asked[name]]
    wanted = [world.codec.encode_text(a)[0] for _, a in world.asked[name]]
    if shift is not None:
        shift.say(name)
    found = model(input_ids=torch.tensor(rows)).logits[:, -1].argmax(-1).tolist()
    of = [world.codec.decode([t]).strip().startswith(name) for t in found]
    return toys.accuracy([float(a == b) for a, b in zip(found, wanted, strict=True)]), toys.accuracy(of)


def settings_of(way: Way, steps: int) -> Align:
    """The step's settings."""
    return Align(
        data="rows", pairs="pairs", method=way.method, dominant=DOMINANT, recentre=way.recentre,
        scale=way.scale, steps=round(way.longer * steps), rate=1e-3, rows=48, pair_rows=16, vectors=60,
        every=10_000,
    )  # fmt: skip


def trial(lab: Lab, seed: int) -> dict[str, Any]:
    """Train the first stage once, then every way from there."""
    stage, steps = (10, 2) if lab.quick else (STAGE, STEPS)
    folder = lab.folder(f"shifcon/{seed}")
    w = world(folder, seed, 400 if lab.quick else 6000)
    start = toys.decoder(w.codec, LAYERS, WIDTH, seed)

    def context(name: str) -> Context:
        trunk = Made("trunk", "model", folder, "")
        return Context(folder / name.replace(" ", "-").replace("'", ""), folder, seed, (), trunk)

    def lessons(way: Way, count: int) -> Lessons:
        return Lessons(settings_of(way, count), w.rows, w.pairs, w.codec, seed)

    first = lessons(Way("msft"), stage)
    sentences = first.sentences()
    train(start, first, language_vectors(start, sentences), Band(0, LAYERS - 1), context("first"))
    vectors = language_vectors(start, sentences)
    band, distances = shared_band(start, sentences, DOMINANT, SHARE)
    untrained = toys.decoder(w.codec, LAYERS, WIDTH, seed + 500)
    found: dict[str, Any] = {"band": [band.first, band.last], "distances": distances}
    found["untrained"] = shared_band(untrained, sentences, DOMINANT, SHARE)[1]
    found["ways"] = {
        name: lab.keep(
            f"shifcon/{seed}/{context(name).work.name}",
            partial(gone_on, start, vectors, w, lessons(way, steps), band, way, context(name)),
        )
        for name, way in WAYS.items()
    }
    return found


def gone_on(
    start: Any,
    vectors: Vectors,
    w: World,
    lessons: Lessons,
    band: Band,
    way: Way,
    ctx: Context,
) -> dict[str, list[float]]:
    """Train one way from the start and judge it, under the vectors it was trained with or under its own."""
    model = copy.deepcopy(start)
    used = other_band(band) if way.elsewhere else band
    # the ablation without a way back answers without it, and trained as ShifCon did
    train(model, lessons, swapped(vectors, way), used, ctx)
    final = language_vectors(model, lessons.sentences()) if way.anew else vectors
    return judged(model, w, swapped(final, way), used, way)


def other_band(band: Band) -> Band:
    """A band of the same size at the far end of the model."""
    size = band.last - band.first
    return Band(0, size) if band.first > (LAYERS - 1 - size) / 2 else Band(LAYERS - 1 - size, LAYERS - 1)


def swapped(vectors: Vectors, way: Way) -> Vectors:
    """The vectors as they are, or each weak language with the other's."""
    return {**vectors, LOW[0]: vectors[LOW[1]], LOW[1]: vectors[LOW[0]]} if way.swapped else vectors


def judged(model: Any, w: World, vectors: Vectors, band: Band, way: Way) -> dict[str, list[float]]:
    """(right, in the language) of every language, as the way answers."""
    model.eval()
    if not shifts(way.method):
        return {name: list(answered(model, w, name, None)) for name in LANGUAGES}
    with Shift(model, vectors, DOMINANT, band, back=way.back) as shift:
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
            cell(estimates.mean(_low(found, name, 1), seed), "%"),
        )
        for name in WAYS
    )
    bands = ", ".join(f"L{one['band'][0]} to L{one['band'][1]}" for one in found)
    return Section(
        "ShifCon: facts told in one language, asked for in another",
        f"Three languages of disjoint words share {ENTITIES * RELATIONS} facts; 90, 8 and 2 % of the rows. "
        "The weak two are told 40 and 15 % of the facts and are asked for the others. A decoder of "
        f"{LAYERS} layers learns all rows in {STAGE} steps, then goes on from there for {STEPS} in each of "
        f"these ways; {len(found)} seeds. English is "
        f"asked for all facts. The band of least distance was {bands}; sentence pairs tell no fact.",
        ("way", *(f"{name} right" for name in LANGUAGES), "weak ones answer in their language"),
        rows,
        _goals(found, seed),
        notes=(_distances(found),),
    )


def _values(found: Sequence[Mapping[str, Any]], way: str, language: str, which: int) -> list[float]:
    return [one["ways"][way][language][which] for one in found]


def _low(found: Sequence[Mapping[str, Any]], way: str, which: int) -> list[float]:
    """Both weak languages of every seed."""
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
