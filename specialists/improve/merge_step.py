"""The recipe step `merge`: several tuned models into one, or a tuned model and its base into a compromise."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from safetensors.torch import save_file

from ..weights import SINGLE, read_json, read_model_tensors
from .merge import Merging, Tensors, merge
from .neurons import Heads
from .quantize import carry
from .step import Context, Estimate, Figures, Kind, Preview, Settings

Share = Annotated[float, Field(ge=0, le=1)]


class Merge(Settings):
    """Settings; see `merge.Merging`. The inputs were tuned from the recipe's trunk, which is the base."""

    method: Literal["fusion", "task", "ties", "dare", "della", "breadcrumbs"] = "fusion"
    weight: float = 1.0
    norm: Annotated[float, Field(ge=0)] | None = None
    top: Share = 0.2
    weak: float = 0.3
    strong: float = 1.0
    measure: Literal["relative", "absolute"] = "relative"
    rule: Literal["moved", "random", "inverted", "elements"] = "moved"
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.5
    window: Share = 0.2
    low: Share = 0.85
    high: Share = 0.01

    def merging(self, seed: int) -> Merging:
        """The same as plain settings."""
        return Merging(**self.model_dump(), seed=seed)


def run(settings: Merge, ctx: Context) -> Figures:
    """Merge the inputs into `ctx.out`."""
    base = read_model_tensors(ctx.trunk.folder)
    tuned = [read_model_tensors(one.folder) for one in ctx.inputs]
    heads = Heads.of(read_json(ctx.trunk.folder / "config.json"))
    found = merge(base, tuned, settings.merging(ctx.seed), heads)
    ctx.out.mkdir(parents=True, exist_ok=True)
    carry(ctx.trunk.folder, ctx.out)
    save_file({n: t.contiguous() for n, t in found.items()}, ctx.out / SINGLE, metadata={"format": "pt"})

    whole = sum(_length(base, one) ** 2 for one in tuned) ** 0.5
    share = _length(base, found) / whole if whole else 0.0
    return {"method": settings.method, "models": len(tuned), "length_kept": share}


def _length(base: Tensors, model: Tensors) -> float:
    """How far a model is from the base."""
    return math.sqrt(sum(float((model[n].float() - base[n].float()).square().sum()) for n in base))


def estimate(settings: Merge, preview: Preview) -> Estimate:
    """A few passes over all weights, which are all held."""
    size = preview.inputs[0]
    models = len(preview.inputs)
    held = 4 * (3 * models + 2) * size.parameters
    return Estimate(60.0 * models * size.parameters / preview.speed, held, 4 * size.parameters, size)


STEP = Kind(
    name="merge",
    settings=Merge,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    takes=(1, 16),
    help="models tuned from one trunk into one (Neuron-Fusion, TIES, DARE, ...)",
)
