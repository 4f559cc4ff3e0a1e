"""The recipe step `prune`: fewer neurons or fewer layers; a `finetune` step after it recovers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case, settle
from ...store.errors import UsageError
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .finetune_step import save_model
from .prune import (
    chance,
    comparison_scores,
    kept_alike,
    kept_by_union,
    magnitude,
    narrowed,
    redundancy,
    silence,
    top_kept,
    without_layers,
)
from .quantize_step import loss_on
from .step import Context, Estimate, Figures, Kind, Plan, Preview, Settings
from .texts import token_rows


class Prune(Settings):
    """Settings. `what` neurons: `narrow` keeps the share `keep` of every layer and makes the model smaller;
    otherwise the `per_case` best of every case stay in layers from `first` (a share of the depth) on, and the
    rest write nothing. `by` chooses them; the last token of the first `rows` rows of `data` are the cases. A
    second input is the model that `cna` compares with. `what` layers: `count` of the most redundant go.
    """

    what: Literal["neurons", "layers"] = "neurons"
    by: Literal["cna", "magnitude", "random"] = "cna"
    data: str
    rows: Annotated[int, Field(ge=1)] = 32
    length: Annotated[int, Field(ge=2)] = 128
    narrow: bool = False
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    per_case: Annotated[int, Field(ge=1)] = 500
    first: Annotated[float, Field(ge=0, lt=1)] = 0.5
    count: Annotated[int, Field(ge=1)] = 1


def check(settings: Prune, plan: Plan) -> None:
    """Refuse what cannot work together."""
    if settings.data not in plan.data:
        raise UsageError(f"there is no data set {settings.data!r} in the recipe")
    if plan.data[settings.data].test:
        raise UsageError(f"data {settings.data!r} is a test set: it does not choose what to prune")
    if len(plan.inputs) > 1 and (settings.by != "cna" or settings.what != "neurons"):
        raise UsageError("a second input is compared with by cna, for neurons: leave it out")


def neurons_kept(settings: Prune, anatomy: Anatomy, cases: list[Case], other: Any, seed: int) -> Tensor:
    """Mark the neurons that stay, [L,F]."""
    first = int(settings.first * anatomy.layers)
    shape = torch.zeros(anatomy.layers, anatomy.neurons)
    if settings.by == "cna" or not settings.narrow:
        scores = comparison_scores(anatomy, cases, None if other is None else Anatomy.of(other))
        shape = torch.stack(scores).clamp_min(0).mean(0)
        union = kept_by_union(scores, settings.per_case, first)
    ranked = {"cna": shape, "magnitude": magnitude(anatomy), "random": chance(anatomy, seed)}[settings.by]
    if settings.narrow:
        return top_kept(ranked, settings.keep)
    return union if settings.by == "cna" else kept_alike(union, ranked)


def run(settings: Prune, ctx: Context) -> Figures:
    """Prune the first input into `ctx.out`."""
    folder = ctx.inputs[0].folder
    model: Any = load_model_folder(folder, torch.float32).requires_grad_(False)
    rows = token_rows(ChatCodec.load(folder), ctx.data[settings.data], settings.rows, settings.length)
    before, size = loss_on(model, rows)(), sum(p.numel() for p in model.parameters())
    figures: dict[str, Any] = {"loss_before": before}
    anatomy = Anatomy.of(model)
    if settings.what == "layers":
        model, stay = without_layers(model, redundancy(anatomy, rows), settings.count)
        figures["layers_kept"] = stay
    else:
        other = None
        if len(ctx.inputs) > 1:
            other = load_model_folder(ctx.inputs[1].folder, torch.float32).requires_grad_(False)
        cases = settle(anatomy, [Case(row[:-1], row[-1]) for row in rows])
        kept = neurons_kept(settings, anatomy, cases, other, ctx.seed)
        figures["neurons_kept"] = float(kept.float().mean())
        if settings.narrow:
            model = narrowed(model, kept)
        else:
            silence(anatomy, kept)
    after = loss_on(model, rows)()
    ctx.say(f"loss on the cases {before:.3f} before, {after:.3f} after")
    save_model(model, folder, ctx.out)
    share = sum(p.numel() for p in model.parameters()) / size
    return {**figures, "loss_after": after, "parameters_kept": share}


def estimate(settings: Prune, preview: Preview) -> Estimate:
    """One pass a case and part, most of it reading neurons out."""
    size = preview.inputs[0]
    rows = min(settings.rows, preview.rows[settings.data])
    flops = 2.0 * size.parameters * rows * settings.length * 4
    if settings.what == "neurons":
        flops += 4.0 * rows * size.layers * size.feed * size.width * size.vocabulary / 1e2
    return Estimate(flops / preview.speed, 10 * size.parameters, 4 * size.parameters)


STEP = Kind(
    name="prune",
    settings=Prune,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    takes=(1, 2),
    check=check,
    help="fewer neurons (comparative neuron analysis) or layers (redundancy)",
)
