"""Static attribution: which parts raise the answer's log-probability, and which earlier neurons feed them.

Value neurons, query neurons, heads and layers after Yu and Ananiadou, 'Neuron-Level Knowledge Attribution in
Large Language Models' (EMNLP 2024): Imp(v) = log p(w | base + v) - log p(w | base), read through the final
norm with its variance fixed. One forward pass; no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy, matrix_of, unflatten
from .case import Case, need
from .finding import Finding, Found, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .readout import Readout, written
from .run import Run, record

CHUNK = 4096  # vectors read at once


def base_of(run: Run, layer: int, half: str) -> Tensor:
    """The stream [D] of the last token that a half of a layer writes to."""
    before = run.stream[layer, -1]
    return before + run.attention[layer, -1] if half == "mlp" else before


def neuron_vectors(anatomy: Anatomy, run: Run, layer: int) -> Tensor:
    """What each neuron of a layer adds to the last token's stream, per unit of coefficient: [F,D]."""
    return written(anatomy, run, layer, "mlp", matrix_of(anatomy.blocks[layer].down), -1)


def channel_parts(anatomy: Anatomy, run: Run, layer: int, position: int = -1) -> Tensor:
    """Weighted values alpha * v by source position: [T, H*d]; their sum is `mixed` at `position`.

    Raises UsageError when the run has no attention weights.
    """
    if run.weights is None:
        raise UsageError("attention neurons need attention weights; record with weights=True")
    weight, bias = anatomy.value_map(layer)
    values = run.read[layer] @ weight + (0 if bias is None else bias)
    shared = unflatten(values, 1, (anatomy.groups, anatomy.head_size))
    each = shared.repeat_interleave(anatomy.heads // anatomy.groups, 1)
    return (run.weights[layer, :, position].T[:, :, None] * each).flatten(1)


def increase(readout: Readout, base: Tensor, vectors: Tensor, token: int) -> Tensor:
    """Log-probability increase of adding each of vectors [N,D] to base [D]: [N]."""
    before = readout.log_probability(base, token)
    return torch.cat([readout.log_probability(base + v, token) for v in torch.split(vectors, CHUNK)]) - before


def value_neurons(anatomy: Anatomy, run: Run, token: int) -> Tensor:
    """Return Imp of every FFN neuron at the last token: [L,F]."""
    readout = Readout(anatomy, run)
    rows = []
    for layer in range(anatomy.layers):
        vectors = neuron_vectors(anatomy, run, layer) * run.neurons[layer, -1][:, None]
        rows.append(increase(readout, base_of(run, layer, "mlp"), vectors, token))
    return torch.stack(rows)


def value_channels(anatomy: Anatomy, run: Run, token: int) -> Tensor:
    """Return Imp of every attention neuron (head dimension) by source position: [L,T,H*d]."""
    readout = Readout(anatomy, run)
    rows = []
    for layer in range(anatomy.layers):
        out = written(anatomy, run, layer, "attention", matrix_of(anatomy.blocks[layer].mix), -1)
        base = base_of(run, layer, "attention")
        parts = channel_parts(anatomy, run, layer)
        rows.append(torch.stack([increase(readout, base, part[:, None] * out, token) for part in parts]))
    return torch.stack(rows)


def head_vectors(anatomy: Anatomy, run: Run, layer: int, mixed: Tensor | None = None) -> Tensor:
    """What each head adds to the last token's stream: [H,D]; or, of mixed [N,H*d], [N,H,D]."""
    z = run.mixed[layer, -1] if mixed is None else mixed
    out = unflatten(matrix_of(anatomy.blocks[layer].mix), 0, (anatomy.heads, anatomy.head_size))
    parts = torch.einsum("...hd,hde->...he", unflatten(z, -1, (anatomy.heads, anatomy.head_size)), out)
    return written(anatomy, run, layer, "attention", parts, -1)


def head_increase(anatomy: Anatomy, run: Run, token: int) -> Tensor:
    """Return Imp of every head: [L,H]."""
    readout = Readout(anatomy, run)
    return torch.stack(
        [
            increase(readout, base_of(run, layer, "attention"), head_vectors(anatomy, run, layer), token)
            for layer in range(anatomy.layers)
        ]
    )


def layer_increase(anatomy: Anatomy, run: Run, token: int) -> Tensor:
    """Return Imp of every layer's attention and MLP: [L,2]."""
    readout = Readout(anatomy, run)
    rows = []
    for layer in range(anatomy.layers):
        halves = (("attention", run.attention), ("mlp", run.mlp))
        rows.append(
            torch.cat(
                [increase(readout, base_of(run, layer, h), x[layer, -1][None], token) for h, x in halves]
            )
        )
    return torch.stack(rows)


def query_neurons(
    anatomy: Anatomy, run: Run, token: int, *, positions: tuple[int, int] | None = None, values: int = 30
) -> Tensor:
    """Return how much each FFN neuron feeds the top value channels, by position: [L,T,F].

    For the `values` best attention neurons (l, channel k, position p) with importance s, the key is W_V's
    column k times the gain of the norm before attention; a neuron of a lower layer at p scores its inner
    product with the key, as a share of the whole state's, times s. `positions` counts only sources there.
    """
    importance = value_channels(anatomy, run, token)
    if positions is not None:
        inside = torch.zeros(run.tokens, dtype=torch.bool)
        inside[positions[0] : positions[1]] = True
        importance = importance.masked_fill(~inside[None, :, None].to(importance.device), -torch.inf)
    flat = importance.flatten()
    best = flat.topk(min(values, int(torch.isfinite(flat).sum())))
    found = torch.zeros(anatomy.layers, run.tokens, anatomy.neurons, device=flat.device)
    for score, at in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        layer, rest = divmod(at, importance.shape[1] * importance.shape[2])
        position, channel = divmod(rest, importance.shape[2])
        if score > 0:
            _feed(anatomy, run, found, (layer, position, channel), score)
    return found


def _feed(anatomy: Anatomy, run: Run, found: Tensor, place: tuple[int, int, int], score: float) -> None:
    layer, position, channel = place
    head, inner = divmod(channel, anatomy.head_size)
    column = head // (anatomy.heads // anatomy.groups) * anatomy.head_size + inner
    key = anatomy.value_map(layer)[0][:, column] * gain_of(anatomy, run, layer)
    whole = run.stream[layer, position] @ key
    if abs(float(whole)) < 1e-6:
        return
    for below in range(layer):
        out = written(anatomy, run, below, "mlp", matrix_of(anatomy.blocks[below].down), position)
        found[below, position] += run.neurons[below, position] * (out @ key) / whole * score


def gain_of(anatomy: Anatomy, run: Run, layer: int) -> Tensor:
    """The gain of the norm before attention, [D]."""
    from .readout import FixedNorm

    return FixedNorm(anatomy.blocks[layer].before, run.stream[layer]).gain


# -- the scores that attribution is compared with ------------------------------------------------------------


def neuron_scores(anatomy: Anatomy, run: Run, case: Case, seed: int = 0) -> dict[str, Tensor]:
    """Return nine scores of the FFN neurons at the last token, each [L,F]; higher is more important.

    Which seven others the paper compares with is not known; these are a reconstruction. `random` is the
    control.
    """
    from .gradient import neuron_gradients

    readout, token = Readout(anatomy, run), case.answer
    coefficient = run.neurons[:, -1]
    vectors = [neuron_vectors(anatomy, run, layer) for layer in range(anatomy.layers)]
    logit = torch.stack([readout.logits(v)[:, token] for v in vectors]) * coefficient
    rank = torch.stack([_rank(readout.logits(v), token) for v in vectors])
    norm = torch.stack([v.norm(dim=-1) for v in vectors])
    logp = value_neurons(anatomy, run, token)
    base = torch.stack(
        [readout.log_probability(base_of(run, layer, "mlp"), token) for layer in range(anatomy.layers)]
    )[:, None]
    generator = torch.Generator().manual_seed(seed)
    return {
        "log-probability increase": logp,
        "probability increase": (logp + base).exp() - base.exp(),
        "coefficient": coefficient.abs(),
        "value norm": norm,
        "coefficient x norm": coefficient.abs() * norm,
        "coefficient / rank": coefficient.abs() / rank,
        "logit": logit,
        "gradient x activation": neuron_gradients(anatomy, case)[:, -1],
        "random": torch.rand(coefficient.shape, generator=generator).to(coefficient.device),
    }


def _rank(logits: Tensor, token: int) -> Tensor:
    """Rank of a token among logits [F,V], 1 the highest."""
    return 1.0 + (logits > logits[:, token : token + 1]).sum(-1)


# -- methods -------------------------------------------------------------------------------------------------


def _over(
    anatomy: Anatomy, cases: Sequence[Case], score: Callable[[Run, Case], Tensor], weights: bool = False
) -> list[Tensor]:
    need(cases, "")
    return [score(record(anatomy, case.ids, weights=weights), case) for case in cases]


def places(kind: str, scores: Tensor) -> Mapping[Place, float]:
    """Give scores [L,N] their names."""
    return {
        Place(kind, layer, unit): value  # type: ignore[arg-type]
        for layer, row in enumerate(scores.tolist())
        for unit, value in enumerate(row)
    }


def locate_neurons(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank FFN value neurons by mean log-probability increase."""
    found = _over(anatomy, cases, lambda run, case: value_neurons(anatomy, run, case.answer))
    scores = mean_of(found)
    return _finding("neurons", anatomy, ranked(places("neuron", scores), options.top), scores, len(cases))


def locate_heads(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank heads by mean log-probability increase of what they write."""
    scores = mean_of(_over(anatomy, cases, lambda run, case: head_increase(anatomy, run, case.answer)))
    columns = tuple(f"H{i}" for i in range(anatomy.heads))
    grid = Grid("Log-probability increase of each head", layer_names(anatomy.layers), columns, scores)
    return _finding("heads", anatomy, ranked(places("head", scores), options.top), scores, len(cases), grid)


def locate_layers(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank the attention and the MLP of each layer by mean log-probability increase."""
    scores = mean_of(_over(anatomy, cases, lambda run, case: layer_increase(anatomy, run, case.answer)))
    found = {Place("attention", i): float(row[0]) for i, row in enumerate(scores)}
    found |= {Place("mlp", i): float(row[1]) for i, row in enumerate(scores)}
    grid = Grid("Log-probability increase", layer_names(anatomy.layers), ("attention", "mlp"), scores)
    return _finding("layers", anatomy, ranked(found, options.top), scores, len(cases), grid)


def locate_channels(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank attention value neurons (one dimension of one head), summed over source positions."""
    every = _over(
        anatomy, cases, lambda run, case: value_channels(anatomy, run, case.answer).sum(1), weights=True
    )
    scores = mean_of(every)
    found = ranked(places("channel", scores), options.top)
    notes = tuple(one._replace(note=f"head {one.place.unit // anatomy.head_size}") for one in found)
    return _finding("channels", anatomy, notes, scores, len(cases))


def locate_queries(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank query neurons: FFN neurons that feed the attention value neurons. Counts sources at the subject
    where prompts name one.
    """

    def score(run: Run, case: Case) -> Tensor:
        return query_neurons(anatomy, run, case.answer, positions=case.subject).sum(1)

    scores = mean_of(_over(anatomy, cases, score, weights=True))
    return _finding("queries", anatomy, ranked(places("neuron", scores), options.top), scores, len(cases))


def _finding(
    method: str,
    anatomy: Anatomy,
    found: tuple[Found, ...],
    scores: Tensor,
    prompts: int,
    grid: Grid | None = None,
) -> Finding:
    by_layer = scores.clamp_min(0).sum(1)[:, None]
    grids: tuple[Grid, ...] = (grid,) if grid else ()
    grids += (Grid("Sum of positive scores by layer", layer_names(anatomy.layers), (method,), by_layer),)
    return Finding(
        method,
        "query score (feeds value neurons)"
        if method == "queries"
        else "mean log-probability increase (nats)",
        found,
        {"prompts": prompts},
        grids,
        {"scores": scores},
        anatomy.fingerprint,
    )
