"""Make steering vectors: from two sets of states, by gradient, from a feature; and set their strength.

A good detector's direction is not a good steering direction, and raw dictionary rows steer weakly (AxBench,
2025): so a vector is kept for what it changes, under a budget for what else it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, nll_loss

from ...store.errors import UsageError
from ...store.records import SteeringScope
from ..checks import matrix
from ..denormals import as_zero
from ..features.sae import SAE
from ..taps import decoder_layers, layer_at, stream
from .runtime import Steering
from .vector import Encoder, SteeringVector

# A batch: input_ids [B,T]; labels [B,T] with -100 where no loss is due; attention_mask [B,T] where padded.
Batch = Mapping[str, Tensor]
_IGNORED = -100


def difference_in_means(pos: Tensor, neg: Tensor) -> Tensor:
    """Return mean(pos) - mean(neg), [N,D] and [M,D] -> [D] float32, not normalised: its length is the gap.

    Raises UsageError for other shapes, numbers that are not finite, or equal means. Rimsky et al., 'Steering
    Llama 2 via contrastive activation addition' (2024).
    """
    high, low = matrix("pos", pos), matrix("neg", neg, pos.shape[-1])
    vector = (high.double().mean(0) - low.double().mean(0)).float()
    if not bool(vector.any()):
        raise UsageError(
            f"the means of {len(high)} pos and {len(low)} neg states are equal; contrast other prompts"
        )
    return vector


def feature_vector(
    sae: SAE,
    feature: int,
    value: float,
    name: str,
    *,
    clamp: bool = True,
    scope: SteeringScope = "generation",
    meta: dict[str, Any] | None = None,
) -> SteeringVector:
    """Return a vector that holds an SAE feature at `value` (`clamp_feature`), or adds value * d_j (`add`).

    Raises UsageError when the feature does not exist or the SAE names no layer.
    """
    if not 0 <= feature < sae.d_sae:
        raise UsageError(f"feature {feature} does not exist; this SAE has features 0 to {sae.d_sae - 1}")
    encoder = Encoder(sae.W_enc[:, feature], float(sae.b_enc[feature]), float(sae.threshold[feature]))
    return SteeringVector(
        name=name,
        kind="clamp_feature" if clamp else "add",
        layer=sae.layer,
        coefficient=value,
        scope=scope,
        vector=sae.W_dec[feature],
        feature=feature,
        encoder=encoder if clamp else None,
        fingerprint=sae.fingerprint,
        meta=meta or {},
    )


# -- by gradient -------------------------------------------------------------------------------------------


def _generation(labels: Tensor) -> Tensor:
    """Which tokens are generation [B,T]: those that predict the first labelled token, and all after it."""
    labelled = labels != _IGNORED
    started = labelled.long().cumsum(1) > 0
    return torch.cat([started[:, 1:], started[:, -1:]], dim=1)


def _adder(vector: Tensor, mask: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
    def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = stream(output)
        steered = x + (mask[..., None] * vector).to(x.dtype)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return add


@contextmanager
def _adding(module: nn.Module, vector: Tensor, batch: Batch, scope: SteeringScope) -> Iterator[None]:
    """Inside, a layer's output has the vector added on a batch's tokens in scope."""
    handle = module.register_forward_hook(_adder(vector, _mask(batch, scope)))
    try:
        yield
    finally:
        handle.remove()


def _predictions(model: nn.Module, batch: Batch) -> Tensor:
    """Log-probabilities [N,V] where a labelled token is predicted, by the token before it."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
    kept = batch["labels"][:, 1:] != _IGNORED
    return log_softmax(model(**inputs).logits[:, :-1][kept].float(), -1)


def _answer_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of the labelled tokens."""
    targets = batch["labels"][:, 1:]
    return nll_loss(_predictions(model, batch), targets[targets != _IGNORED])


def _change(
    model: nn.Module, module: nn.Module, vector: Tensor, batch: Batch, scope: SteeringScope
) -> Tensor:
    """KL(plain || steered) on a neutral batch, nats a token."""
    with torch.no_grad():
        plain = _predictions(model, batch)
    with _adding(module, vector, batch, scope):
        return kl_div(_predictions(model, batch), plain, reduction="batchmean", log_target=True)


@as_zero()
def train_vector(
    model: nn.Module,
    layer: int,
    batches: Iterable[Batch],
    *,
    scope: SteeringScope = "generation",
    rate: float = 0.02,
    limit: float | None = None,
    start: Tensor | None = None,
    neutral: Sequence[Batch] = (),
    price: float = 1.0,
    report: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Train an additive vector [D] after decoder layer `layer` so that the frozen model gives the labels.

    One Adam step a batch. `scope` says on which tokens it acts while it is trained; generation begins at the
    token that predicts the first label. `limit` keeps its length at or below so much (residual units). Text
    like the `neutral` batches should stay as it is: `price` times KL(plain || steered) on one of them, in
    turn, is added to each step's loss, for what is later chosen under a budget of side effects.
    `report(step, loss)` is called each step. The model's parameters and their gradients stay as they were.
    Raises UsageError for a missing layer, a batch without labels, or no batch; and when the loss stops being
    finite.
    """
    module = layer_at(decoder_layers(model), layer)
    weight = next(model.parameters())
    width = int(model.get_input_embeddings().weight.shape[1]) if start is None else start.numel()  # type: ignore[operator]
    vector = (torch.zeros(width) if start is None else start.detach().clone().float()).to(weight.device)
    vector.requires_grad_()
    optimizer = torch.optim.Adam([vector], lr=rate)
    steps = 0
    for steps, batch in enumerate(batches, 1):
        with _adding(module, vector, batch, scope):
            loss = _answer_loss(model, batch)
        if neutral:
            loss = loss + price * _change(model, module, vector, neutral[steps % len(neutral)], scope)
        _descend(optimizer, vector, loss, steps)
        if limit is not None:
            with torch.no_grad():
                vector *= (limit / vector.norm().clamp_min(1e-12)).clamp_max(1.0)
        if report is not None:
            report(steps, float(loss.detach()))
    if not steps:
        raise UsageError("there is no batch to train the steering vector on; give at least one")
    return vector.detach().cpu()


def _mask(batch: Batch, scope: SteeringScope) -> Tensor:
    labels = batch.get("labels")
    if labels is None or not bool((labels[:, 1:] != _IGNORED).any()):
        raise UsageError(
            f"a batch with the keys {sorted(batch)} labels no token to predict; mark the answer's tokens"
        )
    generation = _generation(labels)
    if scope == "both":
        return torch.ones_like(generation, dtype=torch.float32)
    return (generation if scope == "generation" else ~generation).float()


def _descend(optimizer: torch.optim.Optimizer, vector: Tensor, loss: Tensor, step: int) -> None:
    if not bool(torch.isfinite(loss)):
        raise UsageError(
            f"the loss is {float(loss.detach())} at step {step}; lower the rate or set a limit on the length"
        )
    (vector.grad,) = torch.autograd.grad(loss, [vector])
    optimizer.step()


# -- strength under a budget -------------------------------------------------------------------------------


class SideEffect(NamedTuple):
    """What steering does to text it should leave alone: nats per predicted token."""

    kl: float
    loss_increase: float


@torch.no_grad()
def side_effect(model: nn.Module, vectors: Sequence[SteeringVector], batches: Iterable[Batch]) -> SideEffect:
    """Measure KL(plain || steered) and the rise of the loss on neutral batches, on labelled tokens.

    Vectors act in their own scope, generation beginning as in `train_vector`; the rows of a batch must begin
    it at the same token. Raises UsageError when they do not, or when there is no batch.
    """
    total = torch.zeros(2, dtype=torch.float64)
    count = 0
    for batch in batches:
        targets = batch["labels"][:, 1:]
        kept = targets != _IGNORED
        plain = _predictions(model, batch)
        with Steering(model, vectors) as steering:
            steering.boundary = _boundary(batch)
            steered = _predictions(model, batch)
        total[0] += float(kl_div(steered, plain, reduction="sum", log_target=True))
        wanted = targets[kept][:, None]
        total[1] += float((plain.gather(1, wanted) - steered.gather(1, wanted)).sum())
        count += int(kept.sum())
    if not count:
        raise UsageError(
            "there is no labelled token in the neutral batches; a side effect needs some to be seen on"
        )
    kl, increase = (total / count).tolist()
    return SideEffect(max(kl, 0.0), increase)


def _boundary(batch: Batch) -> int:
    starts = set(_generation(batch["labels"]).float().argmax(1).tolist())
    if len(starts) > 1:
        raise UsageError(
            f"generation begins at tokens {sorted(starts)} in one batch; bucket prompts by length"
        )
    return int(starts.pop())


class Trial(NamedTuple):
    """One strength that was tried."""

    coefficient: float
    effect: float
    side_effect: float


class Strength(NamedTuple):
    """The strength that was chosen (0 where none is worth it), why, and everything that was tried."""

    coefficient: float
    reason: str
    trials: tuple[Trial, ...]


def choose_strength(
    vector: SteeringVector,
    effect: Callable[[SteeringVector], float],
    cost: Callable[[SteeringVector], float],
    *,
    budget: float,
    coefficients: Sequence[float],
    baseline: float,
    near: float = 0.0,
) -> Strength:
    """Choose the coefficient with the best `effect` (higher is better) whose `cost` is within `budget`.

    Both are called with the vector at each coefficient; `baseline` is the effect without steering. The
    weakest coefficient wins whose effect is the best, or within `near` of it: past the point where a vector
    does what it is for, more of it only makes text worse. Where none within budget beats the
    baseline, 0 is chosen and the reason says so. Raises UsageError when there is nothing to try.
    """
    if not coefficients:
        raise UsageError("there is no coefficient to try; give at least one")
    tried = [replace(vector, coefficient=c) for c in sorted(coefficients, key=abs)]
    trials = tuple(Trial(one.coefficient, effect(one), cost(one)) for one in tried)
    within = [one for one in trials if one.side_effect <= budget]
    most = max((one.effect for one in within), default=0.0)
    best = next((one for one in within if one.effect >= most - near), None)
    if best is None:
        least = min(one.side_effect for one in trials)
        return Strength(
            0.0, f"no strength stays within the budget {budget:g}: the least cost is {least:g}", trials
        )
    if best.effect <= baseline:
        text = f"no strength within the budget {budget:g} beats the unsteered effect {baseline:g}"
        return Strength(0.0, f"{text}: the best is {best.effect:g}", trials)
    text = f"effect {baseline:g} -> {best.effect:g} at cost {best.side_effect:g} of {budget:g}"
    return Strength(best.coefficient, text, trials)
