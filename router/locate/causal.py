"""Causal attribution: ablate a part and see what is lost; patch a part from another run and see what returns.

Ablation effect: measure(clean) - measure(without the part). Patching effect, as a share of what separates the
two prompts: (measure(corrupt with the clean part) - measure(corrupt)) / (measure(clean) - measure(corrupt)).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy
from .case import Case, need
from .edit import Edit, edited, value_at
from .finding import Finding, Grid, layer_names, ranked
from .gradient import neuron_gradients
from .options import Options
from .place import Kind, Place
from .run import Run, record

HALVES: tuple[Kind, ...] = ("attention", "mlp")
KINDS = ("heads", "layers", "neurons", "states")


def candidates(anatomy: Anatomy, kind: str, tokens: int = 0) -> list[Place]:
    """All places of a kind: heads, layers (attention and MLP), neurons, or states (each position)."""
    layers = range(anatomy.layers)
    if kind == "heads":
        return [Place("head", layer, unit) for layer in layers for unit in range(anatomy.heads)]
    if kind == "layers":
        return [Place(half, layer) for layer in layers for half in HALVES]
    if kind == "neurons":
        return [Place("neuron", layer, unit) for layer in layers for unit in range(anatomy.neurons)]
    if kind == "states":
        return [Place("residual", layer, -1, at) for layer in layers for at in range(tokens)]
    raise UsageError(f"kind {kind!r} is unknown here; choose one of {', '.join(KINDS)}")


def ablation_effects(
    anatomy: Anatomy, case: Case, places: Sequence[Place], mean: dict[Place, Tensor] | None = None
) -> Tensor:
    """Return what each place alone is worth to a case: measure lost when it is zeroed, or set to its mean
    over other prompts: [N].
    """
    clean = record(anatomy, case.ids)
    values = mean or {}
    edits = [[Edit(place, 0.0, values.get(place))] for place in places]
    logits = edited(anatomy, torch.tensor(case.ids), edits)
    return case.measure(clean.logits[-1]) - case.measure(logits)


def without(anatomy: Anatomy, case: Case, places: Sequence[Place]) -> Tensor:
    """Return logits [V] of the last token with all `places` zeroed together."""
    return edited(anatomy, torch.tensor(case.ids), [[Edit(place) for place in places]])[0]


def patch_effects(anatomy: Anatomy, case: Case, places: Sequence[Place]) -> Tensor:
    """Return how much of the answer each place brings back when its clean value is put into the corrupt run:
    [N]; 1 is all of it. Raises UsageError when the two prompts differ in length or are answered alike.
    """
    clean, corrupt = twin_runs(anatomy, case)
    low, high = case.measure(corrupt.logits[-1]), case.measure(clean.logits[-1])
    if not float(high - low) > 1e-4:
        raise UsageError(
            f"the corrupt prompt is answered no worse ({float(low):.3g}) than the clean one "
            f"({float(high):.3g}); "
            "there is nothing to bring back: give a corrupt prompt with another answer"
        )
    edits = [[Edit(place, 0.0, value_at(anatomy, clean, place))] for place in places]
    logits = edited(anatomy, corrupt.ids, edits)
    return (case.measure(logits) - low) / (high - low)


def twin_runs(anatomy: Anatomy, case: Case) -> tuple[Run, Run]:
    """Record the clean and the corrupt prompt of a case. Raises UsageError when they differ in length."""
    if case.corrupt is None or len(case.corrupt) != len(case.ids):
        raise UsageError(
            f"the clean prompt has {len(case.ids)} tokens, the corrupt one {len(case.corrupt or ())}; "
            "patching "
            'needs "corrupt" prompts of equal length'
        )
    return record(anatomy, case.ids), record(anatomy, case.corrupt)


def likely_neurons(anatomy: Anatomy, cases: Sequence[Case], limit: int) -> list[Place]:
    """The neurons with the largest |activation x gradient|: candidates for a costlier look."""
    size = torch.stack([neuron_gradients(anatomy, case).sum(1).abs() for case in cases]).mean(0)
    best = size.flatten().topk(min(limit, size.numel())).indices.tolist()
    return [Place("neuron", *divmod(at, size.shape[1])) for at in best]


def locate_ablate(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank heads (default), layers or neurons by what is lost without them. `how` = mean puts their mean over
    the prompts (at all positions) in their place instead of zero. Of neurons, the `limit` likeliest are
    tried.
    """
    need(cases, "")
    kind = options.kind or "heads"
    if kind == "states":
        raise UsageError(
            "zeroing a whole state leaves nothing; choose heads, layers or neurons, or patch states"
        )
    places = likely_neurons(anatomy, cases, options.limit) if kind == "neurons" else candidates(anatomy, kind)
    means = _means(anatomy, cases, places) if options.how == "mean" else None
    effects = torch.stack([ablation_effects(anatomy, case, places, means) for case in cases]).mean(0)
    return _finding("ablate", anatomy, places, effects, options, kind, len(cases))


def _means(anatomy: Anatomy, cases: Sequence[Case], places: Sequence[Place]) -> dict[Place, Tensor]:
    runs = [record(anatomy, case.ids) for case in cases]
    return {
        place: torch.stack([value_at(anatomy, run, place).mean(0) for run in runs]).mean(0)
        for place in places
    }


def locate_patch(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank heads (default), layers, neurons or states by how much of the answer they bring back. States are
    mapped over layer and position, averaged over prompts of equal length.
    """
    need(cases, "corrupt")
    kind = options.kind or "heads"
    tokens = len(cases[0].ids)
    if kind == "states" and any(len(case.ids) != tokens for case in cases):
        raise UsageError("the prompts differ in length, so positions cannot be averaged; give equal ones")
    places = (
        likely_neurons(anatomy, cases, options.limit)
        if kind == "neurons"
        else candidates(anatomy, kind, tokens)
    )
    effects = torch.stack([patch_effects(anatomy, case, places) for case in cases]).mean(0)
    columns = tuple(f"{i} {text}" for i, text in enumerate(cases[0].words()))
    return _finding("patch", anatomy, places, effects, options, kind, len(cases), columns)


def _finding(
    method: str,
    anatomy: Anatomy,
    places: Sequence[Place],
    effects: Tensor,
    options: Options,
    kind: str,
    prompts: int,
    columns: tuple[str, ...] = (),
) -> Finding:
    names = {
        "heads": tuple(f"H{i}" for i in range(anatomy.heads)),
        "layers": ("attention", "mlp"),
        "states": columns,
    }
    grids: tuple[Grid, ...] = ()
    if kind in names:
        values = effects.reshape(anatomy.layers, len(names[kind]))
        grids = (Grid(f"Effect by layer ({kind})", layer_names(anatomy.layers), names[kind], values),)
    tried = {"tried": len(places)} if kind == "neurons" else {}
    return Finding(
        method,
        "lost measure (nats or logits)" if method == "ablate" else "share of the answer brought back",
        ranked(dict(zip(places, effects.tolist(), strict=True)), options.top),
        {"prompts": prompts, "kind": kind, **tried},
        grids,
        {"effects": effects},
        anatomy.fingerprint,
    )
