"""The recipe step `edit`: silence a bias or rewrite facts at located neurons, with what it did and a way
back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ...router.locate.anatomy import Anatomy
from ...router.locate.attribute import value_neurons
from ...router.locate.case import Case, read_cases, settle
from ...router.locate.contrast import bias, contrast_scores, locate_contrast, neutral_loss
from ...router.locate.finding import mean_of
from ...router.locate.options import Options
from ...router.locate.place import Place
from ...router.locate.run import record
from ...router.steer.bias import propose
from ...store.errors import UsageError
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .data import Data
from .edit import Columns, Rewriting, first_choices, put, rewritten, scaled, share_of, share_same, write_edit
from .edit_spared import Sparing, spared
from .step import Context, Estimate, Figures, Kind, Plan, Preview, Settings


class EditSettings(Settings):
    """Settings. `what` bias: rows of `data` have prompt, answer, against and subject; the neurons that tip
    one against the other are multiplied by `scale`, or, where `spare` names prompts whose answers must stay,
    each by as little as those and the first `anchors` rows of `others` allow. `what` facts: rows have prompt
    and the new answer; the neurons that say the old one are rewritten until every new answer has the
    probability `until`, and kept off those rows of `others`. `by` general and random are controls.
    `paraphrases` (as `data`) show generality, and what is left of `others` (rows with prompt) specificity.
    """

    also = ("paraphrases", "others", "spare")
    what: Literal["bias", "facts"]
    data: str
    paraphrases: str | None = None
    others: str | None = None
    spare: str | None = None
    by: Literal["located", "general", "random"] = "located"
    neurons: Annotated[int, Field(ge=1)] = 18
    scale: float = 0.0
    limit: Annotated[int, Field(ge=1)] = 64
    steps: Annotated[int, Field(ge=1)] = 80
    rate: Annotated[float, Field(gt=0)] = 0.1
    keep: Annotated[float, Field(ge=0)] = 3.0
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    anchors: Annotated[int, Field(ge=0)] = 16


def check(settings: EditSettings, plan: Plan) -> None:
    """Refuse what cannot work together."""
    columns = ("prompt", "answer") + (("against", "subject") if settings.what == "bias" else ())
    for name, needs in (
        (settings.data, columns),
        (settings.paraphrases, columns),
        (settings.others, ("prompt",)),
        (settings.spare, ("prompt",)),
    ):
        if name is not None and name not in plan.data:
            raise UsageError(f"there is no data set {name!r} in the recipe")
        if name is not None:
            plan.data[name].require(needs)
    if settings.what == "facts" and settings.by == "general":
        raise UsageError('by = "general" is a control for bias: facts have located and random')
    if settings.spare is not None and (settings.what == "facts" or settings.scale != 0):
        raise UsageError(
            f"spare = {settings.spare!r} has each neuron of a bias scaled by a factor of its own: it goes "
            'with what = "bias" and without scale; for facts, name what must stay in others'
        )


def cases_of(data: Data, codec: ChatCodec, work: Path) -> list[Case]:
    """Read rows as cases; prompts are plain text, not chats."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{data.name}.jsonl"
    path.write_text("".join(json.dumps(dict(row)) + "\n" for row in data.rows), encoding="utf-8")
    return read_cases(path, lambda text: list(codec.encode_text(text)), lambda token: codec.decode([token]))


def chosen(settings: EditSettings, anatomy: Anatomy, cases: Sequence[Case], seed: int) -> list[Place]:
    """The neurons to edit, best first."""
    if settings.by == "random":
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(anatomy.layers * anatomy.neurons, generator=generator)[: settings.neurons]
        return [Place("neuron", *divmod(at, anatomy.neurons)) for at in drawn.tolist()]
    if settings.what == "facts":
        old = settle(anatomy, [Case(case.ids, -1) for case in cases])
        scores = mean_of([value_neurons(anatomy, record(anatomy, c.ids), c.answer) for c in old])
        return _best(anatomy, scores, settings.neurons)
    if settings.by == "general":
        return _best(anatomy, contrast_scores(anatomy, cases).general, settings.neurons)
    if settings.spare is not None:  # the fit of their factors is the causal test
        return propose(anatomy, cases, settings.neurons)
    found = locate_contrast(anatomy, cases, Options(top=settings.limit, limit=settings.limit))
    return found.places[: settings.neurons]


def _best(anatomy: Anatomy, scores: torch.Tensor, count: int) -> list[Place]:
    order = scores.flatten().topk(count).indices.tolist()
    return [Place("neuron", *divmod(at, anatomy.neurons)) for at in order]


def measured(
    settings: EditSettings, anatomy: Anatomy, sets: dict[str, list[Case]], choices: list[int]
) -> dict[str, float]:
    """Efficacy on `data`, generality on paraphrases, specificity on others, as the model is now."""
    others = [case.ids for case in sets["others"]]
    figures = {"same_choices": share_same(choices, first_choices(anatomy, others))} if others else {}
    if [row for row in others if len(row) > 1]:
        figures["others_loss"] = neutral_loss(anatomy, [row for row in others if len(row) > 1])
    for name in ("data", "paraphrases"):
        cases = sets[name]
        if cases and settings.what == "bias":
            figures[f"{name}_bias"] = bias(anatomy, cases)
        elif cases:
            figures[f"{name}_right"] = share_of(cases, first_choices(anatomy, [c.ids for c in cases]))
    return figures


def changed(
    settings: EditSettings,
    anatomy: Anatomy,
    places: Sequence[Place],
    sets: Mapping[str, Sequence[Case]],
    anchors: Sequence[Sequence[int]],
) -> Columns:
    """The columns of `places` as the edit wants them, for `put`."""
    if settings.what == "facts":
        how = Rewriting(settings.steps, settings.rate, settings.keep, until=settings.until)
        return rewritten(anatomy, places, sets["data"], anchors, how)
    if settings.spare is None:
        return scaled(anatomy, places, settings.scale)
    facts, fit = [case.ids for case in sets["spare"]], Sparing(settings.steps, settings.rate, settings.keep)
    return scaled(anatomy, places, spared(anatomy, places, sets["data"], facts, anchors, fit))


def run(settings: EditSettings, ctx: Context) -> Figures:
    """Edit the input into `ctx.out`, with `revert/` beside the weights."""
    folder = ctx.inputs[0].folder
    model: Any = load_model_folder(folder, torch.float32).requires_grad_(False)
    anatomy, codec = Anatomy.of(model, ctx.inputs[0].sha256), ChatCodec.load(folder)
    names = {n: getattr(settings, n) for n in ("data", "paraphrases", "others", "spare")}
    sets = {n: cases_of(ctx.data[d], codec, ctx.work) if d else [] for n, d in names.items()}
    used = settings.anchors if settings.what == "facts" or settings.spare is not None else 0
    anchors, sets["others"] = sets["others"][:used], sets["others"][used:]  # what is held is not judged
    choices = first_choices(anatomy, [case.ids for case in sets["others"]])
    before = measured(settings, anatomy, sets, choices)
    places = chosen(settings, anatomy, sets["data"], ctx.seed)
    if not places:
        raise UsageError(
            "no neuron shrinks the bias when it is silenced: give other prompts, or a higher limit"
        )
    columns = changed(settings, anatomy, places, sets, [case.ids for case in anchors])
    put(model, columns)
    after = measured(settings, anatomy, sets, choices)
    ctx.say(f"{len(places)} neurons edited: {before} before, {after} after")
    found = {"neurons": [p.name for p in places], "before": before, "after": after}
    write_edit(folder, columns, ctx.out, found)
    return found


def estimate(settings: EditSettings, preview: Preview) -> Estimate:
    """Locating reads every neuron out; rewriting goes forward and back over the prompts."""
    size, rows = preview.inputs[0], preview.rows[settings.data]
    tokens = preview.tokens[settings.data] + 8 * settings.anchors
    tokens += preview.tokens[settings.spare] if settings.spare is not None else 0
    rounds = settings.limit if settings.what == "bias" and settings.spare is None else settings.steps
    flops = 4.0 * rows * size.layers * size.feed * size.width * min(size.vocabulary, 4096)
    flops += 6.0 * size.parameters * tokens * rounds
    return Estimate(flops / preview.speed, 16 * size.parameters, 4 * size.parameters)


STEP = Kind(
    name="edit",
    settings=EditSettings,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    check=check,
    help="silence a bias or rewrite facts at located neurons, with a way back",
)
