"""What the kernels save over the plain expressions, and over the operators that people use instead.

Every case is one baseline and one of our paths on the same tensors. Both run in turns, round after round, so
that whatever else the machine does falls on both; what is shown is the ratio of medians with its interval,
and how far the two results lie apart.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .circumstances import facts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..kernels.dispatch import Backend
    from .page import Goal, Report, Section

SUBSET_GOAL, TOPK_GOAL, SHARE_GOAL = 50.0, 1.5, 0.7
_ROUND_S = 0.002  # a round is at least this long, so that reading the clock does not count
_CASE_S, _LEAST = 1.5, 5  # a case ends after so long, but not before so many rounds


class Scale(NamedTuple):
    """Sizes: SAE width, latents, wanted latents, k; model width and inner width; at most so many rounds."""

    width: int = 2304
    latents: int = 16384
    few: int = 64
    k: int = 64
    model: int = 896
    inner: int = 4864
    rounds: int = 40


QUICK = Scale(256, 2048, 16, 16, 128, 256, 5)


class Case(NamedTuple):
    """One comparison: `theirs` against `ours`, two calls that give the same."""

    what: str
    sizes: str
    baseline: str
    path: str
    theirs: Callable[[], Tensor]
    ours: Callable[[], Tensor]


@dataclass(frozen=True)
class Found:
    """Seconds of each round of a case, and the largest difference over the largest value."""

    case: Case
    theirs: list[float]
    ours: list[float]
    apart: float


def kernels(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of every draw and resample.")] = 0,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the tensors lie.")] = "cpu",
    limit: Annotated[float, typer.Option(min=1, help="Seconds after which no further case starts.")] = 170,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, 5 rounds: a trial, no result.")
    ] = False,
) -> None:
    """Time the kernels against plain torch: SAE, steering, quantized and low-rank products, probes.

    Writes kernels.md; on a GPU kernels-cuda.md. Takes about a minute of two cores.
    """
    name = "kernels" if device == "cpu" else f"kernels-{device}"
    options = f"--device {device} --seed {seed} --limit {limit:g}{' --quick' if quick else ''}"
    command = f"pilothouse bench kernels {options}"
    scale = QUICK if quick else Scale()
    report = make(
        scale, device, seed, facts(command, seed), limit=limit, say=lambda line: typer.echo(line, err=True)
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(report.markdown(), encoding="utf-8")
    typer.echo(f"wrote {out / f'{name}.md'}", err=True)


def make(
    scale: Scale,
    device: str,
    seed: int,
    header: tuple[tuple[str, str], ...],
    say: Callable[[str], None],
    limit: float = math.inf,
) -> Report:
    """Run every case that starts within `limit` seconds and return the page.

    Raises UsageError where torch cannot reach `device`.
    """
    import torch

    from ..store.errors import UsageError
    from .page import Report

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"device {device!r} cannot be used here; it is cpu, or cuda where torch sees a GPU")
    torch.manual_seed(seed)
    header = (*header, ("load", busy()))
    found, late, begun = [], [], time.monotonic()
    with torch.inference_mode():
        for case in cases(scale, torch.device(device)):
            if time.monotonic() - begun > limit:
                late.append(f"not measured, the time was up: {case.what}, {case.sizes}, {case.path}")
                continue
            say(f"{case.what}, {case.sizes}")
            found.append(measured(case, scale.rounds, torch.device(device)))
        speed = copy_speed(torch.device(device))
    about = (
        "Each row: one baseline and one of our paths on the same tensors, in turns, at most "
        f"{scale.rounds} rounds, fewer where a case took over {_CASE_S:g} s. `plain` is the "
        "shortest torch expression of the same thing. "
        f"Random float32 weights; {threads(device)}; copying 256 MiB moves {speed / 1e9:.1f} GB/s, reads and "
        "writes counted."
    )
    section = replace(
        _table(found, seed), notes=tuple(late), goals=tuple(_goals(found, seed, scale, device, speed))
    )
    return Report("Kernels", about, header, (section,))


def busy() -> str:
    """How busy the machine was before: processes that wanted to run, as a mean over a minute."""
    return (
        f"{os.getloadavg()[0]:.1f} processes wanted to run in the minute before"
        if hasattr(os, "getloadavg")
        else "?"
    )


def threads(device: str) -> str:
    """What computes, in words."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of torch"


def copy_speed(device: torch.device) -> float:
    """Bytes a second, read and written, of copying 256 MiB; the best of eight."""
    import torch

    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    best = min(_timed(lambda: target.copy_(source), 1, device) for _ in range(8))
    return 2 * source.numel() * 4 / best


# -- measuring ---------------------------------------------------------------------------------------------


def measured(case: Case, rounds: int, device: torch.device) -> Found:
    """Time a case in turns, who goes first alternating."""
    a, b = case.theirs().float(), case.ours().float()
    apart = float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))
    many = [_repeats(call, device) for call in (case.theirs, case.ours)]
    times: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    for at in range(rounds):
        if at >= _LEAST and time.perf_counter() - begun > _CASE_S:
            break
        for which in (0, 1) if at % 2 else (1, 0):
            times[which].append(_timed((case.theirs, case.ours)[which], many[which], device))
    return Found(case, *times, apart)


def _repeats(call: Callable[[], Tensor], device: torch.device) -> int:
    return max(1, math.ceil(_ROUND_S / min(_timed(call, 1, device) for _ in range(3))))


def _timed(call: Callable[[], Tensor], many: int, device: torch.device) -> float:
    """Seconds of one call, as the mean of `many`."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(many):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / many


# -- cases -------------------------------------------------------------------------------------------------


def cases(scale: Scale, device: torch.device) -> Iterator[Case]:
    """Every comparison, made when it is asked for, so that few tensors live at a time."""
    path: Backend = "fast" if device.type == "cpu" else "triton"
    yield from _sae(scale, device, path)
    yield from _steering(scale, device, path)
    yield from _quantized(scale, device, path)
    yield from _low_rank(scale, device, path)
    yield from _heads(scale, device, path)


def _sae(scale: Scale, device: torch.device, path: Backend) -> Iterator[Case]:
    import torch

    from ..kernels.sae import Subset, decode_topk, encode_jumprelu, encode_subset, encode_topk

    def top(x: Tensor, way: Backend) -> Tensor:
        return encode_topk(x, w, bias, k, way)[0]

    def chosen(x: Tensor) -> Tensor:
        return encode_jumprelu(x, w, bias, threshold)[:, some]

    d, s, k = scale.width, scale.latents, scale.k
    w, bias = torch.randn(d, s, device=device) / d**0.5, torch.randn(s, device=device)
    threshold, some = torch.rand(s, device=device), torch.randperm(s, device=device)[: scale.few]
    states = torch.randn(16, d, device=device)
    x, sizes = states[:1], f"1 × {d}, {len(some)} of {s}"
    subset, whole = Subset.of(w, bias, threshold, some), partial(chosen, x)
    kept, copied = partial(subset.encode, x, path), partial(encode_subset, x, w, bias, threshold, some)
    yield Case("SAE encode, subset kept", sizes, "whole encoder", path, whole, kept)
    yield Case("SAE encode, subset copied", sizes, "whole encoder", "auto", whole, copied)
    for rows in (1, 16):
        x, sizes = states[:rows], f"{rows} × {d} → {s}"
        yield _ways("SAE encode, top k", f"{sizes}, k {k}", path, partial(top, x))
        yield _ways("SAE encode, JumpReLU", sizes, path, partial(encode_jumprelu, x, w, bias, threshold))
    dec, zero = torch.randn(s, d, device=device), torch.zeros(d, device=device)
    sparse = partial(decode_topk, *encode_topk(states, w, bias, k), dec, zero)
    yield _ways("SAE decode, sparse", f"16 × {k} of {s} → {d}", path, sparse)


def _steering(scale: Scale, device: torch.device, path: Backend) -> Iterator[Case]:
    import torch

    from ..kernels.steer import SteerTables, steer

    d = scale.model
    tables = SteerTables.empty(9, d, device)
    for row in range(1, 9):
        tables.put(row, ("add", "project_out")[row % 2], torch.randn(d), 0.1)
    for tokens, share in ((8, 1), (512, 1), (8, 0), (512, 0)):
        x, at = torch.randn(tokens, d, device=device), torch.arange(tokens, device=device)
        rows = (at % 8 + 1) * (at % 2) * share
        sizes = f"{tokens} tokens × {d}, {('none', 'half')[share]} steered"
        yield _ways("Steering", sizes, path, partial(steer, x, tables, rows, None, None, None))


def _quantized(scale: Scale, device: torch.device, path: Backend) -> Iterator[Case]:
    import torch

    from ..kernels.packed import dequantize, quantize_range
    from ..kernels.packed_linear import Int4, linear

    made = torch.randn(scale.inner, scale.model)
    for bits in (8, 4, 3, 2):
        packed = quantize_range(made, bits, 64).to(device)
        dense = dequantize(packed)
        share = packed.nbytes / (dense.numel() * dense.element_size())
        for tokens in (1, 8):
            x, what = torch.randn(tokens, scale.model, device=device), f"Product, {bits} bits"
            sizes = f"{tokens} × {scale.model} → {scale.inner}, {share:.0%} of the bytes"
            matrix = partial(torch.nn.functional.linear, x, dense)
            yield Case(what, sizes, "float32 product", path, matrix, partial(linear, x, packed, path))
            if device.type == "cpu":
                yield Case(what, sizes, "float32 product", "Int4", matrix, partial(Int4.of(packed).linear, x))


def _low_rank(scale: Scale, device: torch.device, path: Backend) -> Iterator[Case]:
    import torch

    from ..kernels.lowrank import LowRank, add_lowrank

    d = scale.model
    tables = LowRank.empty(9, 16, d, d, device)
    for row in range(1, 9):
        tables.put(row, torch.randn(16, d), torch.randn(16, d), 0.1)
    for tokens in (8, 512):
        x, y = torch.randn(tokens, d, device=device), torch.randn(tokens, d, device=device)
        rows, sizes = (
            torch.arange(tokens, device=device) * 8 // tokens + 1,
            f"{tokens} tokens, {d} → 16 → {d}",
        )
        yield _ways("8 adapters in a batch", sizes, path, partial(add_lowrank, y, x, tables, rows))


def _heads(scale: Scale, device: torch.device, path: Backend) -> Iterator[Case]:
    import torch

    from ..kernels.heads import POOLINGS, Heads, read

    d = scale.model
    x, starts = torch.randn(1024, d, device=device), torch.arange(0, 1025, 128, device=device)
    for poolings in (("last",), POOLINGS):
        weight = torch.randn(len(poolings), 16, d, device=device)
        heads = Heads(weight, torch.zeros(16, device=device), poolings)
        sizes = f"8 prompts × 128 × {d}, {', '.join(poolings)}"
        yield _ways("16 probes", sizes, path, partial(read, x, starts, heads))


def _ways(what: str, sizes: str, path: Backend, call: Callable[[Backend], Tensor]) -> Case:
    """The plain path against `path`."""
    return Case(what, sizes, "plain", path, partial(call, "plain"), partial(call, path))


# -- the page ----------------------------------------------------------------------------------------------


def _table(found: list[Found], seed: int) -> Section:
    from .estimates import median, median_ratio
    from .page import Section, cell, show

    rows = []
    for one in found:
        case = one.case
        theirs, ours = (median([1e3 * s for s in times], seed).value for times in (one.theirs, one.ours))
        faster = median_ratio(one.theirs, one.ours, seed)
        times = f"{theirs:.3f} ms", f"{ours:.3f} ms"
        named = case.what, case.sizes, case.baseline, times[0], case.path, times[1]
        rows.append((*named, cell(faster, "×"), str(faster.n), show(one.apart, "e")))
    header = (
        "what",
        "sizes",
        "baseline",
        "",
        "path",
        "",
        "times as fast, 95 % interval",
        "rounds",
        "largest difference",
    )
    return Section("Every case", "", header, tuple(rows))


def _goals(found: list[Found], seed: int, scale: Scale, device: str, speed: float) -> Iterator[Goal]:
    from .estimates import Estimate, median, median_ratio
    from .page import Goal

    def ratio(what: str) -> Estimate:
        one = next(each for each in found if each.case.what == what)
        return median_ratio(one.theirs, one.ours, seed)

    few, latents = scale.few, scale.latents
    yield Goal(
        f"subset of {few} latents against the whole encoder, d {scale.width}, {latents} latents",
        "at least", SUBSET_GOAL, "×", ratio("SAE encode, subset kept"),
    )  # fmt: skip
    what, note = "SAE top-k kernel, one token", "needs a GPU"
    if device == "cpu":
        yield Goal(f"{what}, against the torch expression", "at least", TOPK_GOAL, "×", None, note)
        yield Goal(f"{what}: share of the copying speed", "at least", SHARE_GOAL, "%", None, note)
        return
    seconds = median(next(each.ours for each in found if each.case.what == "SAE encode, top k"), seed)
    bound = 4 * scale.width * latents / speed  # the weights, read once
    share = Estimate(bound / seconds.value, bound / seconds.high, bound / seconds.low, seconds.n)
    faster = ratio("SAE encode, top k")
    yield Goal(f"{what}, against the torch expression", "at least", TOPK_GOAL, "×", faster)
    yield Goal(f"{what}: share of the copying speed", "at least", SHARE_GOAL, "%", share)
