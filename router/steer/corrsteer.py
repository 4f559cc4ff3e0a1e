"""CorrSteer: steer with the SAE features whose activation during generation goes with being right.

Cho et al., 'CorrSteer' (arXiv 2508.12535): a feature's activations are pooled over an answer's generated
tokens (maximum, or mean), correlated over answers with the verdict, and the decoder row of the best
one is added, times its mean activation on right answers, wherever a token is drawn. S takes the best feature
of all layers, A the best of each layer, P those of A that alone raise accuracy on validation prompts. The
slides of the authors describe another P (drop layers below the median correlation): `above_median`.

Their streams are those that enter a block, ours those that leave one: their layer l is l - 1 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..features.correlate import Correlation, Mean, Sign
from ..features.sae import SAE
from .task import Task, play, right
from .vector import SteeringVector

Pool = Literal["max", "mean"]
Variant = Literal["S", "A"]


class Pick(NamedTuple):
    """A feature that was chosen at a layer, its correlation with being right, and its strength."""

    layer: int
    feature: int
    correlation: float
    coefficient: float


class _Pools:
    """Pools one batch's activations over its generated tokens: {layer: [B,S]}; memory of one batch only."""

    def __init__(self, saes: Mapping[int, SAE], pool: Pool) -> None:
        self.saes, self.pool = saes, pool
        self.rows: list[int] = []
        self.sums: dict[int, Tensor] = {}
        self.count = torch.zeros(0)
        self.done: list[tuple[list[int], dict[int, Tensor]]] = []

    def __call__(self, rows: Sequence[int], states: dict[int, Tensor], alive: Tensor) -> None:
        if list(rows) != self.rows:
            self.flush()
            self.rows, self.count = list(rows), torch.zeros(len(rows))
            self.sums = {layer: torch.zeros(len(rows), sae.d_sae) for layer, sae in self.saes.items()}
        self.count += alive
        for layer, sae in self.saes.items():
            acts = sae.encode(states[layer]) * alive[:, None]
            held = self.sums[layer]
            self.sums[layer] = torch.maximum(held, acts) if self.pool == "max" else held + acts

    def flush(self) -> None:
        """End the batch."""
        if self.rows:
            share = self.count[:, None] if self.pool == "mean" else 1.0
            self.done.append((self.rows, {layer: x / share for layer, x in self.sums.items()}))
        self.rows = []

    def take(self) -> list[tuple[list[int], dict[int, Tensor]]]:
        """Hand over what is whole."""
        taken, self.done = self.done, []
        return taken


def correlate(
    model: nn.Module,
    task: Task,
    saes: Mapping[int, SAE],
    labellings: Sequence[Sequence[bool]],
    pool: Pool = "max",
) -> list[dict[int, Correlation]]:
    """Let the model answer, and correlate each layer's features with each of several labellings of the N
    answers: the true verdicts, say, and shuffled ones. Sums only are kept.

    Raises UsageError when a labelling has another length, or there is no dictionary.
    """
    if not saes or any(len(one) != len(task) for one in labellings):
        raise UsageError(
            f"{len(saes)} dictionaries, and labellings of {[len(one) for one in labellings]} for {len(task)} "
            "prompts: give at least one dictionary, and one label a prompt"
        )
    found = [{layer: Correlation(sae.d_sae) for layer, sae in saes.items()} for _ in labellings]
    pools = _Pools(saes, pool)

    def watch(rows: Sequence[int], states: dict[int, Tensor], alive: Tensor) -> None:
        pools(rows, states, alive)
        _feed(found, labellings, pools)

    play(model, task, taps=tuple(saes), watch=watch)
    pools.flush()
    _feed(found, labellings, pools)
    return found


def _feed(
    found: Sequence[Mapping[int, Correlation]], labellings: Sequence[Sequence[bool]], pools: _Pools
) -> None:
    for rows, pooled in pools.take():
        for sums, labels in zip(found, labellings, strict=True):
            for layer, x in pooled.items():
                sums[layer].add(x, [float(labels[row]) for row in rows])


def picks(
    found: Mapping[int, Correlation], variant: Variant, *, sign: Sign = "positive", mean: Mean = "all"
) -> tuple[Pick, ...]:
    """Choose the features of variant S (one) or A (one a layer), by layer; none where no feature correlates
    with the wanted sign or its strength is 0.
    """
    best = [
        Pick(layer, *choice)
        for layer, sums in sorted(found.items())
        for choice in sums.best(1, sign, mean)
        if choice.coefficient
    ]
    if variant == "A" or not best:
        return tuple(best)
    return (max(best, key=lambda one: abs(one.correlation)),)


def above_median(chosen: Sequence[Pick]) -> tuple[Pick, ...]:
    """The picks whose correlation is at least the median: P as the authors' slides have it."""
    least = torch.tensor([abs(one.correlation) for one in chosen]).median() if chosen else 0.0
    return tuple(one for one in chosen if abs(one.correlation) >= least)


def entries(
    chosen: Sequence[Pick], saes: Mapping[int, SAE], name: str, fingerprint: str = ""
) -> tuple[SteeringVector, ...]:
    """The picks as additive entries of scope `generation`, named NAME (NAME-L3 … where there are several)."""
    several = len(chosen) > 1
    return tuple(
        SteeringVector(
            name=f"{name}-L{one.layer}" if several else name,
            kind="add",
            layer=one.layer,
            coefficient=one.coefficient,
            scope="generation",
            vector=saes[one.layer].W_dec[one.feature],
            feature=one.feature,
            fingerprint=fingerprint or saes[one.layer].fingerprint,
            meta={"correlation": one.correlation},
        )
        for one in chosen
    )


def pruned(
    model: nn.Module, task: Task, vectors: Sequence[SteeringVector], baseline: float | None = None
) -> tuple[SteeringVector, ...]:
    """Variant P: the vectors that alone are more often right than no steering, on a validation task."""
    least = right(play(model, task)) if baseline is None else baseline
    return tuple(one for one in vectors if right(play(model, task, [one])) > least)


def at_random(chosen: Sequence[Pick], saes: Mapping[int, SAE], seed: int) -> tuple[Pick, ...]:
    """A control: other features, drawn uniformly, at the same layers with the same strengths."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for one in chosen:
        others = [i for i in range(saes[one.layer].d_sae) if i != one.feature]
        at = int(torch.randint(len(others), (1,), generator=generator))
        drawn.append(one._replace(feature=others[at], correlation=0.0))
    return tuple(drawn)


def shuffled(labels: Sequence[bool], seed: int) -> list[bool]:
    """A control: the same labels on other answers."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    return [labels[i] for i in order]
