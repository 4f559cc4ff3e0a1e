"""The recipe step `quantize`: bits for every layer under a budget, then rounding, half-quadratic scales or
GPTQ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...store.errors import UsageError
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .gptq import calibrate
from .nsds import rivals
from .nsds.bits import Rounded, allocate, greedy
from .nsds.parts import Parts, check_layers, parts_of, unembedding
from .nsds.scores import Switches, sensitivity
from .quantize import Choice, quantize_folder
from .step import Context, Estimate, Figures, Kind, Plan, Preview, Settings
from .texts import token_rows

Allocation = Literal[
    "nsds", "uniform", "kurtboost", "mse", "zd", "ewq", "lim", "lsaq", "ends", "random", "inverse", "greedy"
]
NEED_DATA = ("lim", "lsaq", "greedy")
Width = Literal[2, 3, 4, 8]
Export = Literal["gguf", "compressed-tensors"]
HEADS = ("embed_tokens", "lm_head", "embed_in", "embed_out", "wte")


class Quantize(Settings):
    """Settings. `budget` is the mean bits of a layer: those that `allocation` scores highest get `high`, the
    others `low`; `uniform` gives all of them `high`. `inverse` is NSDS upside down, `random` a draw:
    controls. `embeddings`: bits of embedding and head, 0 leaves them as they are. `solver` gptq, and the
    allocations lim, lsaq and greedy, read `rows` rows of `data`. The other switches are those of
    `nsds.scores.Switches`.
    """

    allocation: Allocation = "nsds"
    budget: Annotated[float, Field(ge=2, le=8)] = 3.0
    high: Width = 4
    low: Width = 2
    embeddings: Literal[0, 2, 3, 4, 8] = 8
    solver: Literal["nearest", "hqq", "gptq"] = "hqq"
    group: Literal[32, 64, 128, 256] = 64
    data: str | None = None
    rows: Annotated[int, Field(ge=1)] = 64
    length: Annotated[int, Field(ge=2)] = 256
    energy: Annotated[float, Field(gt=0, le=1)] = 0.90
    expressiveness: Literal["multiply", "divide"] = "multiply"
    roles: bool = True
    aspects: Literal["both", "numerical", "structural"] = "both"
    mad: Annotated[float, Field(gt=0)] = 1.4826
    gains: bool = False
    export: tuple[Export, ...] = ()

    @property
    def switches(self) -> Switches:
        """The open points of NSDS as chosen."""
        names = ("energy", "expressiveness", "roles", "aspects", "mad", "gains")
        return Switches(**{name: getattr(self, name) for name in names})


def check(settings: Quantize, plan: Plan) -> None:
    """Refuse what cannot work together."""
    needs: list[str] = [settings.allocation] if settings.allocation in NEED_DATA else []
    needs += ["gptq"] if settings.solver == "gptq" else []
    if needs and settings.data is None:
        raise UsageError(f"{' and '.join(needs)} read data: name a data set, or choose what needs none")
    if settings.data is not None and settings.data not in plan.data:
        raise UsageError(f"there is no data set {settings.data!r} in the recipe")
    if settings.data is not None and plan.data[settings.data].test:
        raise UsageError(f"data {settings.data!r} is a test set: it is not calibrated on")
    if settings.allocation != "uniform":
        allocate([0.0, 0.0], settings.budget, settings.high, settings.low)


def scores(settings: Quantize, model: Any, rows: Sequence[Sequence[int]], seed: int) -> Tensor:
    """Return each layer's score [L] under the chosen allocation; greedy has none and is not asked."""
    parts = check_layers(parts_of(model, gains=settings.gains))
    name = settings.allocation
    if name in ("nsds", "inverse"):
        found = sensitivity(parts, unembedding(model), settings.switches).layers
        return -found if name == "inverse" else found
    if name in rivals.BY_WEIGHTS:
        return rivals.BY_WEIGHTS[name](parts)
    if name in rivals.BY_DATA:
        return rivals.BY_DATA[name](Anatomy.of(model), rows)
    if name == "ends":
        return rivals.ends(len(parts))
    return torch.rand(len(parts), generator=torch.Generator().manual_seed(seed))


def layer_bits(
    settings: Quantize, model: Any, rows: Sequence[Sequence[int]], seed: int, parts: Sequence[Parts]
) -> tuple[list[int], list[float]]:
    """Return the bits of each layer, and the scores they come from (none for uniform and greedy)."""
    if settings.allocation == "uniform":
        return [settings.high] * len(parts), []
    if settings.allocation == "greedy":
        method = "nearest" if settings.solver == "gptq" else settings.solver
        rounded = Rounded(model, [p.names for p in parts], settings.group, method)
        return greedy(rounded, loss_on(model, rows), settings.budget, settings.high, settings.low), []
    found = scores(settings, model, rows, seed)
    return allocate(found, settings.budget, settings.high, settings.low), found.double().tolist()


def loss_on(model: Any, rows: Sequence[Sequence[int]]) -> Callable[[], float]:
    """Return what measures the mean next-token loss (nats) on token rows."""

    @torch.no_grad()
    def loss() -> float:
        total, count = 0.0, 0
        for row in rows:
            ids = torch.tensor([list(row)])
            logits = model(ids).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(row) - 1
        return total / count

    return loss


def run(settings: Quantize, ctx: Context) -> Figures:
    """Quantize the input's folder into `ctx.out`."""
    folder = ctx.inputs[0].folder
    model = load_model_folder(folder, torch.float32).requires_grad_(False)
    rows: list[tuple[int, ...]] = []
    if settings.data is not None:
        codec = ChatCodec.load(folder)
        rows = token_rows(codec, ctx.data[settings.data], settings.rows, settings.length)
    parts = parts_of(model)
    bits, scored = layer_bits(settings, model, rows, ctx.seed, parts)
    ctx.say(f"bits by layer: {' '.join(map(str, bits))}")
    by_name = {name: width for one, width in zip(parts, bits, strict=True) for name in one.names}
    made = {}
    if settings.solver == "gptq":
        made = calibrate(model, [torch.tensor([row]) for row in rows], by_name, settings.group)
    method = "nearest" if settings.solver == "gptq" else settings.solver
    about = {"allocation": settings.allocation, "solver": settings.solver, "layers": bits, "scores": scored}
    widths = choice(by_name, settings.embeddings)
    report = quantize_folder(folder, ctx.out, widths, settings.group, method=method, made=made, about=about)
    for kind in settings.export:
        _export(kind, ctx)
    return {
        "bits": report.bits,
        "layers": bits,
        "bytes": report.bytes_after,
        "bytes_before": report.bytes_before,
        "relative_error": report.relative_error,
    }


def choice(by_name: dict[str, int], embeddings: int) -> Choice:
    """Bits of a matrix by its name: a layer's, those of embeddings and heads, or none."""

    def bits(name: str) -> int | None:
        if name in by_name:
            return by_name[name]
        return embeddings or None if any(part in HEADS for part in name.split(".")) else None

    return bits


def _export(kind: Export, ctx: Context) -> None:
    if kind == "gguf":
        from .export_gguf import to_gguf

        to_gguf(ctx.out, ctx.out / "model.gguf")
    else:
        from .export_compressed import to_compressed

        to_compressed(ctx.out, ctx.out / "compressed-tensors")
    ctx.say(f"exported {kind}")


def estimate(settings: Quantize, preview: Preview) -> Estimate:
    """Scores cost about the model's singular values; rounding, some passes over its weights."""
    size = preview.inputs[0]
    flops = 40.0 * size.parameters * size.width + 2e3 * size.parameters * (settings.solver == "hqq")
    if settings.data is not None:
        tokens = min(settings.rows, preview.rows[settings.data]) * settings.length
        passes = {"greedy": size.layers**2 / 2}.get(settings.allocation, 1)
        passes += 2 * size.layers * (settings.solver == "gptq")
        flops += 2 * size.parameters * tokens * passes
    copies = 4 if settings.allocation == "greedy" else 2
    return Estimate(flops / preview.speed, copies * 4 * size.parameters, size.parameters, size)


STEP = Kind(
    name="quantize",
    settings=Quantize,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    check=check,
    help="fewer bits for the weights, most where layers are sensitive (NSDS)",
)
assert set(NEED_DATA) <= set(get_args(Allocation))
