"""The recipe step `align`: train a weak language under ShifCon's shift, and write the shift as steering
vectors.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...router.fingerprint import fingerprint
from ...router.steer.vector import SteeringVector
from ...store.errors import UsageError
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .align import Band, Method, Shift, Vectors, language_vectors, loss_layers, pair_loss, shared_band, shifts
from .crew import crew
from .data import Data, Row
from .finetune import Row as Tokens
from .finetune import collate
from .finetune_full import Sft, answer_loss, tune
from .finetune_step import save_model
from .sizes import training
from .step import Context, Estimate, Figures, Kind, Plan, Preview, Settings

Positive = Annotated[float, Field(gt=0)]


class Align(Settings):
    """Settings. `data` has prompt, answer and language; `pairs` has language, text and pivot, the same in the
    dominant language. `share` of the layers makes the band, unless `band` names its first and last. `vectors`
    sentences a language make its vector. Loss: `generation` x answers + `contrast` x pairs, at `scale`.
    """

    also = ("pairs",)
    data: str
    pairs: str
    method: Method = "shifcon"
    dominant: str = "en"
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    band: tuple[int, int] | None = None
    vectors: Annotated[int, Field(ge=3)] = 100
    generation: Annotated[float, Field(ge=0)] = 0.5
    contrast: Annotated[float, Field(ge=0)] = 2.0
    scale: Positive = 1.0
    recentre: bool = True
    pair_rows: Annotated[int, Field(ge=2)] = 12
    steps: Annotated[int, Field(ge=1)] = 500
    rows: Annotated[int, Field(ge=1)] = 32
    rate: Positive = 1e-4
    warmup: Annotated[int, Field(ge=0)] = 20
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Positive = 1.0
    every: Annotated[int, Field(ge=1)] = 100

    def sft(self, seed: int) -> Sft:
        """The schedule."""
        names = ("rows", "steps", "rate", "warmup", "weight_decay", "clip", "every")
        return Sft(seed=seed, **{n: getattr(self, n) for n in names})


def check(settings: Align, plan: Plan) -> None:
    """Refuse what cannot work together."""
    for name, columns in (
        (settings.data, ("prompt", "answer", "language")),
        (settings.pairs, ("language", "text", "pivot")),
    ):
        if name not in plan.data:
            raise UsageError(f"there is no data set {name!r} in the recipe")
        plan.data[name].require(columns)
        if plan.data[name].test:
            raise UsageError(f"data {name!r} is a test set: it is not trained on")
    spoken = {row["language"] for row in plan.data[settings.pairs].rows}
    if settings.dominant in spoken or not spoken:
        raise UsageError(
            f"the pairs speak {', '.join(sorted(spoken)) or 'nothing'}: language is that of text, pivot in "
            f"{settings.dominant!r}"
        )


class Lessons:
    """Batches by step: a language, drawn by its share of the rows, and rows of it alone; pairs of one
    language.
    """

    def __init__(self, settings: Align, data: Data, pairs: Data, codec: ChatCodec, seed: int) -> None:
        self.settings, self.codec, self.seed = settings, codec, seed
        self.rows = _by_language(data.rows)
        self.pairs = _by_language(pairs.rows)
        self.tokens = {name: [_tokens(codec, row) for row in rows] for name, rows in self.rows.items()}

    def answers(self, step: int) -> tuple[str, list[Tokens]]:
        """The language and the rows of a step."""
        rng, names = np.random.default_rng([self.seed, step, 0]), sorted(self.tokens)
        sizes = np.array([len(self.tokens[name]) for name in names], dtype=float)
        name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
        return name, [
            self.tokens[name][i] for i in rng.integers(0, len(self.tokens[name]), self.settings.rows)
        ]

    def translations(self, step: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Sentences of the dominant language and their translations into one other."""
        rng, names = np.random.default_rng([self.seed, step, 1]), sorted(self.pairs)
        rows = self.pairs[names[int(rng.integers(len(names)))]]
        drawn = rng.permutation(len(rows))[: self.settings.pair_rows]
        sides = [[self.codec.encode_prompt(rows[i][column]) for i in drawn] for column in ("pivot", "text")]
        return sides[0], sides[1]

    def sentences(self) -> dict[str, list[tuple[int, ...]]]:
        """What language vectors are taken from: as many sentences of every language, the same ones by
        meaning; each as a prompt, for prompts are what is shifted. The first token, which is not looked at,
        is then the prompt's mark and not a word.
        """
        most = self.settings.vectors
        found = {
            n: [self.codec.encode_prompt(r["text"]) for r in rows[:most]] for n, rows in self.pairs.items()
        }
        pivots = {row["pivot"]: None for rows in self.pairs.values() for row in rows[:most]}
        return {self.settings.dominant: [self.codec.encode_prompt(text) for text in pivots], **found}


def _by_language(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["language"]].append(row)
    return dict(found)


def _tokens(codec: ChatCodec, row: Row) -> Tokens:
    answer = (*codec.invocation, *codec.encode_answer(row["answer"]))
    return Tokens(codec.encode_prompt(row["prompt"]), answer)


def train(
    model: Any, lessons: Lessons, vectors: Vectors, band: Band, ctx: Context, back: bool = True
) -> float:
    """Train in place under the method's losses; return the last smoothed one (nats)."""
    settings = lessons.settings
    layers = loss_layers(settings.method, band)
    recentre = settings.recentre and settings.method != "afp"
    shift = Shift(model, vectors, settings.dominant, band, back=back)
    count = len(lessons.codec.invocation)

    def loss(_batch: Any, step: int) -> Tensor:
        name, rows = lessons.answers(step)
        shift.say(*([name] if shifts(settings.method) else []))
        total = settings.generation * answer_loss(model, collate(crew().share(rows), count, model.device))
        if layers:
            shift.say()  # the pairs of a batch stand against each other: every process reads them all
            ours, theirs = lessons.translations(step)
            pairs = pair_loss(model, ours, theirs, layers, settings.scale, recentre=recentre)
            total = total + settings.contrast * pairs
        return total

    every = [row for rows in lessons.tokens.values() for row in rows]
    with shift:
        return tune(
            model, every, count, settings.sft(ctx.seed), ctx.work, say=ctx.say, tick=ctx.tick, loss=loss
        )


def run(settings: Align, ctx: Context) -> Figures:
    """Align the input into `ctx.out`, with `vectors/` that shift each language at inference.

    They are those that the model was trained under: it moves while it learns, and shifted by vectors taken
    anew it would answer in the dominant language (measured by `pilothouse bench improve`).
    """
    folder = ctx.inputs[0].folder
    model: Any = load_model_folder(folder, torch.float32)
    codec = ChatCodec.load(folder)
    lessons = Lessons(settings, ctx.data[settings.data], ctx.data[settings.pairs], codec, ctx.seed)
    sentences = lessons.sentences()
    band, distances = shared_band(model, sentences, settings.dominant, settings.share)
    if settings.band is not None:
        band = Band(*settings.band).check(len(distances))
    ctx.say(f"{settings.method}, band L{band.first} to L{band.last}")
    vectors = language_vectors(model, sentences)
    loss = train(model, lessons, vectors, band, ctx)
    save_model(model, folder, ctx.out)
    if shifts(settings.method) and crew().main:
        write_shift(ctx.out, vectors, settings.dominant, band)
    languages = sorted(vectors)
    return {"loss": loss, "band": [band.first, band.last], "distances": distances, "languages": languages}


def write_shift(out: Path, vectors: Mapping[str, Tensor], dominant: str, band: Band) -> None:
    """Write each language's shift and its way back as steering vectors for this model, below `vectors/`."""
    model = fingerprint(out)
    for name, of in vectors.items():
        if name == dominant:
            continue
        for word, layer, sign in (("to", band.first, 1.0), ("back", band.last, -1.0)):
            change = sign * (vectors[dominant][layer] - of[layer])
            title = f"shift-{name}-{word}"
            meta = {"language": name, "dominant": dominant, "method": "ShifCon"}
            one = SteeringVector(title, "add", layer, 1.0, "both", change, fingerprint=model, meta=meta)
            one.save(out / "vectors" / title)
    told = {"dominant": dominant, "first": band.first, "last": band.last}
    (out / "vectors" / "shift.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def estimate(settings: Align, preview: Preview) -> Estimate:
    """Training, with two more passes a step where pairs are contrasted."""
    rows = preview.rows[settings.data]
    length = max(8, preview.tokens[settings.data] // rows + 4)
    batch = settings.rows + (
        2 * settings.pair_rows if settings.method in ("shifcon", "contrast", "afp") else 0
    )
    return training(preview.inputs[0], preview, settings.steps, batch, length)


STEP = Kind(
    name="align",
    settings=Align,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    check=check,
    trains=True,
    help="bring a weak language to where the dominant one lies (ShifCon)",
)
