"""What a dictionary is worth: on states, inside its model, for probing, and against a twin of another seed.

Karvonen et al., 'SAEBench' (2025), for loss recovered and k-sparse probing; Cho et al., 'FaithfulSAE' (2025),
for shared and fake features. Scores of automatic labels are no evidence: they look alike for random models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ...store.errors import UsageError
from ..checks import Numbers, both_classes, labels, matrix
from ..taps import decoder_layers, layer_at, stream
from .sae import SAE


class Quality(NamedTuple):
    """On states: latents active a state, share of variance explained, share of latents that never fired."""

    l0: float
    explained: float
    dead: float


def quality(sae: SAE, states: Tensor) -> Quality:
    """Measure a dictionary on states [N,D]."""
    acts = sae.encode(states)
    return Quality(
        float((acts > 0).sum(1).float().mean()),
        1 - sae.unexplained(states.float()),
        float((acts == 0).all(0).float().mean()),
    )


class Losses(NamedTuple):
    """Mean next-token loss (nats): as the model is, through the dictionary, with the layer's output
    zeroed.
    """

    model: float
    through: float
    zeroed: float

    @property
    def recovered(self) -> float:
        """(zeroed - through) / (zeroed - model): 1 is perfect, 0 no better than nothing."""
        return (self.zeroed - self.through) / max(self.zeroed - self.model, 1e-9)


@torch.no_grad()
def losses(model: Any, sae: SAE, rows: Sequence[Sequence[int]], layer: int | None = None) -> Losses:
    """Replace the output of a layer (the dictionary's own, unless given) by its reconstruction and measure
    what is lost on token rows. Raises UsageError when the dictionary is of another width than the layer.
    """
    module = layer_at(decoder_layers(model), sae.layer if layer is None else layer)
    found = []
    for change in (None, sae, 0):
        handle = module.register_forward_hook(_replaced(change)) if change is not None else None
        try:
            found.append(_mean_loss(model, rows))
        finally:
            if handle is not None:
                handle.remove()
    return Losses(*found)


def _replaced(change: SAE | int | None) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = stream(output)
        if isinstance(change, SAE):
            flat = x.reshape(-1, x.shape[-1]).float()
            y = change.decode(change.encode(flat)).to(x).view_as(x)
        else:
            y = torch.zeros_like(x)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    return hook


def _mean_loss(model: Any, rows: Sequence[Sequence[int]]) -> float:
    device, total, count = next(model.parameters()).device, 0.0, 0
    for row in rows:
        ids = torch.tensor([list(row)], device=device)
        if ids.shape[1] < 2:
            continue
        logits = model(ids).logits[0, :-1].float()
        total += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    if not count:
        raise UsageError("there is no row of at least two tokens; a loss needs a next token")
    return total / count


# -- probing -------------------------------------------------------------------------------------------------


def sparse_probe(train: Tensor, y: Numbers, test: Tensor, test_y: Numbers, k: int) -> float:
    """Return the test accuracy of a logistic probe on the k latents with the largest difference of class
    means.

    `train` [N,S] and `test` [M,S] are latents, y 0 or 1. Raises UsageError for one class only, or too large a
    k.
    """
    x, z = matrix("train", train).float(), matrix("test", test, train.shape[1]).float()
    target, wanted = labels("y", y, len(x)).float(), labels("test_y", test_y, len(z))
    both_classes("y", target.double())
    if not 1 <= k <= x.shape[1]:
        raise UsageError(f"k is {k}; it is within 1 and the {x.shape[1]} latents")
    gap = x[target == 1].mean(0) - x[target == 0].mean(0)
    chosen = gap.abs().topk(k).indices
    mean, spread = x[:, chosen].mean(0), x[:, chosen].std(0).clamp_min(1e-6)
    weight, bias = logistic((x[:, chosen] - mean) / spread, target)
    guess = ((z[:, chosen] - mean) / spread) @ weight + bias > 0
    return float((guess == (wanted == 1)).float().mean())


def logistic(x: Tensor, y: Tensor, strength: float = 1e-3, steps: int = 25) -> tuple[Tensor, Tensor]:
    """Fit weights [D] and bias by Newton's method on the logistic loss with an L2 term: x [N,D], y [N]."""
    ones = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    target, w = y.double(), torch.zeros(x.shape[1] + 1, dtype=torch.float64)
    ridge = strength * torch.eye(len(w), dtype=torch.float64)
    ridge[-1, -1] = 1e-9
    for _ in range(steps):
        p = torch.sigmoid(ones @ w)
        slope = ones.T @ (p - target) / len(x) + ridge @ w
        bend = (ones * (p * (1 - p))[:, None]).T @ ones / len(x) + ridge
        step = torch.linalg.solve(bend, slope)
        w = w - step
        if float(step.abs().max()) < 1e-8:
            break
    return w[:-1].float(), w[-1].float()


# -- against twins and foreign inputs ------------------------------------------------------------------------


def shared_ratio(one: SAE, two: SAE, cosine: float = 0.7, how: str = "matching") -> float:
    """Return the share of `one`'s latents whose counterpart in `two` has a decoder cosine above `cosine`.

    `matching` pairs one to one for the largest total (Hungarian, needs scipy); `top1` takes each latent's
    best.
    """
    if one.d_in != two.d_in:
        raise UsageError(f"the dictionaries are {one.d_in} and {two.d_in} wide; compare two of one layer")
    table = normalize(one.W_dec) @ normalize(two.W_dec).T
    if how == "top1":
        return float((table.amax(1) > cosine).float().mean())
    if how != "matching":
        raise UsageError(f"how {how!r} is unknown; choose matching or top1")
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError(
            "matching needs scipy (pip install 'pilothouse[bench]'); or take how='top1'"
        ) from error
    rows, columns = linear_sum_assignment(-table.numpy())
    return float((table[rows, columns] > cosine).float().mean())


def fake_ratio(sae: SAE, own: Tensor, foreign: Tensor, tau: float = 0.1) -> float:
    """Return the share of live latents (those that fire on `own` states [N,D]) that fire on more than `tau`
    of `foreign` ones, such as states of uniformly random tokens. The paper's threshold is not known: a
    reconstruction; report several `tau`.
    """
    live = (sae.encode(own) > 0).any(0)
    often = (sae.encode(foreign) > 0).float().mean(0) > tau
    return float((often & live).sum() / live.sum().clamp_min(1))
