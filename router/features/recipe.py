"""Recipes for training dictionaries, and what each makes of a batch: latents, losses, gradients.

| kind | latents | sparsity | source |
|---|---|---|---|
| standard | ReLU | L1 on latents, dead ones re-drawn | Bricken et al., 'Towards Monosemanticity' (2023) |
| topk | the k largest of each state | k, AuxK | Gao et al. (2024) |
| batchtopk | the k B largest of a batch | k on average, AuxK | Bussmann et al. (2024) |
| matryoshka | as batchtopk | every prefix must reconstruct | Bussmann et al. (2025) |
| jumprelu | those above their own threshold | (L0 / target - 1)^2 by straight-through | Rajamanoharan et al.
(2024) |

States are scaled to unit mean square, so E|x|^2 = D. Where a released code scales to E|x|^2 = 1 instead, its
constants are carried over by factors of sqrt(D), which leaves the optimum where it was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...kernels.sae import decode_topk, encode_topk
from ...store.errors import UsageError

Kind = Literal["standard", "topk", "batchtopk", "matryoshka", "jumprelu"]


@dataclass(frozen=True)
class Recipe:
    """How to train. `k`: active latents a state (the target L0 of jumprelu; unused by standard).

    `rate` None means 2e-3 / sqrt(d_sae / 1024) for the TopK kinds, 1e-3 else. `dead_after`: states without
    firing until a latent is dead. `groups`: Matryoshka's prefix sizes as shares of all latents, the rest
    last. `aux` 0 turns AuxK off. `l1`, `bandwidth` are for E|x|^2 = 1, as in the sources.
    """

    kind: Kind
    d_sae: int
    k: int = 32
    steps: int = 2000
    batch: int = 512
    seed: int = 0
    rate: float | None = None
    warm_up: int = 100
    dead_after: int = 100_000
    aux: float = 1 / 32
    l1: float = 0.1
    sparsity_warm_up: int = 200
    resample_every: int = 0
    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
    bandwidth: float = 0.001
    l0_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"kind {self.kind!r} is unknown; choose one of {', '.join(get_args(Kind))}")
        sizes = (self.d_sae, self.k, self.steps, self.batch, self.dead_after)
        if min(sizes) < 1 or self.k > self.d_sae:
            raise UsageError(
                f"d_sae, k, steps, batch, dead_after are {sizes}; each is at least 1, and k at most d_sae"
            )
        if not all(g > 0 for g in self.groups) or sum(self.groups) >= 1:
            raise UsageError(f"groups are {self.groups}; give shares above 0 that sum to less than 1")

    @property
    def peak(self) -> float:
        """The learning rate after warm-up."""
        if self.rate is not None:
            return self.rate
        return 1e-3 if self.kind in ("standard", "jumprelu") else 2e-3 / (self.d_sae / 1024) ** 0.5

    def rate_at(self, step: int) -> float:
        """Warm-up, flat, then down to nothing over the last fifth."""
        return self.peak * min(
            (step + 1) / max(self.warm_up, 1), 1.0, (self.steps - step) / max(self.steps / 5, 1)
        )

    def prefixes(self) -> list[int]:
        """Matryoshka's cumulative prefix lengths, the last being all latents."""
        ends, total = [], 0.0
        for share in self.groups:
            total += share
            ends.append(max(1, round(total * self.d_sae)))
        return [*dict.fromkeys(ends), self.d_sae]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Recipe(**value)` reads them back."""
        return asdict(self)


class Weights:
    """The dictionary in training: w_enc [S,D], b_enc [S], w_dec [S,D], b_dec [D], theta [S] (jumprelu
    only).
    """

    NAMES = ("w_enc", "b_enc", "w_dec", "b_dec", "theta")

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.w_enc, self.b_enc, self.w_dec, self.b_dec, self.theta = (tensors[name] for name in self.NAMES)
        for tensor in self.all:
            tensor.requires_grad_()

    @classmethod
    def start(cls, sample: Tensor, recipe: Recipe) -> Weights:
        """Encoder = decoder's transpose, rows of unit length; b_dec at the sample's geometric median."""
        # far from seeds that data are drawn with: equal ones would start training at the planted atoms
        generator = torch.Generator().manual_seed(1_000_003 * (recipe.seed + 1))
        width = sample.shape[1]
        w_dec = normalize(torch.randn(recipe.d_sae, width, generator=generator)).to(sample)
        zeros = torch.zeros(recipe.d_sae).to(sample)
        theta = torch.full_like(zeros, recipe.bandwidth * width**0.5)
        found = {"w_enc": w_dec.clone(), "b_enc": zeros, "w_dec": w_dec, "b_dec": geometric_median(sample)}
        return cls(found | {"theta": theta})

    @property
    def all(self) -> list[Tensor]:
        """All tensors, in the order of NAMES."""
        return [self.w_enc, self.b_enc, self.w_dec, self.b_dec, self.theta]

    def pre(self, x: Tensor) -> Tensor:
        """Pre-activations [B,S] of scaled states."""
        return (x - self.b_dec) @ self.w_enc.T + self.b_enc


def geometric_median(x: Tensor, steps: int = 20) -> Tensor:
    """Weiszfeld's iteration: the point with the least total distance to the rows of x [N,D]."""
    centre = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - centre).norm(dim=1).clamp_min(1e-6)
        centre = (weight[:, None] * x).sum(0) / weight.sum()
    return centre


# -- jumprelu's straight-through gradients -------------------------------------------------------------------


def _near(x: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """The rectangular kernel: 1 / bandwidth within half a bandwidth of the threshold."""
    return ((x - theta).abs() < bandwidth / 2).to(x) / bandwidth


class Jump(torch.autograd.Function):
    """x where x > theta, else 0. d/dtheta = -theta K((x - theta) / bandwidth) / bandwidth."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(x, theta)
        ctx.bandwidth = bandwidth
        return x * (x > theta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, theta = ctx.saved_tensors
        return grad * (x > theta), (-theta * _near(x, theta, ctx.bandwidth) * grad).sum(0), None


class Step(torch.autograd.Function):
    """1 where x > theta, else 0. d/dtheta = -K((x - theta) / bandwidth) / bandwidth; none for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(x, theta)
        ctx.bandwidth = bandwidth
        return (x > theta).to(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        x, theta = ctx.saved_tensors
        return None, (-_near(x, theta, ctx.bandwidth) * grad).sum(0), None


# -- losses --------------------------------------------------------------------------------------------------


def loss_of(recipe: Recipe, weights: Weights, x: Tensor, dead: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return (loss, which latents fired [S] bool) of a batch of scaled states x [B,D]. `dead` [S] bool."""
    if recipe.kind == "standard":
        return _standard(recipe, weights, x, step)
    if recipe.kind == "jumprelu":
        return _jumprelu(recipe, weights, x, step)
    if recipe.kind == "topk":
        bias = weights.b_enc - weights.w_enc @ weights.b_dec
        values, indices = encode_topk(x, weights.w_enc.T, bias, recipe.k)
        error = x - decode_topk(values, indices, weights.w_dec, weights.b_dec)
        fired = torch.zeros_like(dead)
        fired[indices[values > 0]] = True
        loss = unexplained(x, error)
    else:
        loss, error, fired = _batch_topk(recipe, weights, x)
    if recipe.aux and bool(dead.any()):
        loss = loss + recipe.aux * aux_loss(weights, x, error.detach(), dead)
    return loss, fired


def unexplained(x: Tensor, error: Tensor) -> Tensor:
    """Share of the batch's variance that an error [B,D] leaves."""
    return error.square().sum() / (x - x.mean(0)).square().sum().clamp_min(1e-12)


def _standard(recipe: Recipe, weights: Weights, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
    acts = weights.pre(x).relu()
    error = x - acts @ weights.w_dec - weights.b_dec
    width = x.shape[1]
    warm = min(1.0, (step + 1) / max(recipe.sparsity_warm_up, 1))
    # |e|^2 + l1 |a| for E|x|^2 = 1 becomes, for E|x|^2 = D, D times |e|^2 / D + l1 |a| / sqrt(D)
    loss = error.square().sum(1).mean() / width + warm * recipe.l1 * acts.sum(1).mean() / width**0.5
    return loss, (acts > 0).any(0)


def _jumprelu(recipe: Recipe, weights: Weights, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
    bandwidth = recipe.bandwidth * x.shape[1] ** 0.5
    pre = weights.pre(x).relu()
    acts = Jump.apply(pre, weights.theta, bandwidth)  # type: ignore[no-untyped-call]
    fired = Step.apply(pre, weights.theta, bandwidth)  # type: ignore[no-untyped-call]
    l0 = fired.sum(1).mean()
    error = x - acts @ weights.w_dec - weights.b_dec
    warm = min(1.0, (step + 1) / max(recipe.sparsity_warm_up, 1))
    loss = unexplained(x, error) + warm * recipe.l0_weight * (l0 / recipe.k - 1).square()
    return loss, (acts > 0).any(0)


def batch_topk(pre: Tensor, k: int) -> Tensor:
    """Keep the k B largest positive entries of pre [B,S], the others become 0."""
    flat = pre.relu().flatten()
    best = flat.topk(min(k * pre.shape[0], flat.numel()), sorted=False)
    return torch.zeros_like(flat).scatter(0, best.indices, best.values).view_as(pre)


def _batch_topk(recipe: Recipe, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    acts = batch_topk(weights.pre(x), recipe.k)
    if recipe.kind == "batchtopk":
        error = x - acts @ weights.w_dec - weights.b_dec
        return unexplained(x, error), error, (acts > 0).any(0)
    guess, losses, start = weights.b_dec.expand_as(x), [], 0
    for end in recipe.prefixes():
        guess = guess + acts[:, start:end] @ weights.w_dec[start:end]
        losses.append(unexplained(x, x - guess))
        start = end
    # the mean over prefixes, once: the released code divides by their number twice
    return torch.stack(losses).mean(), x - guess, (acts > 0).any(0)


def aux_loss(weights: Weights, x: Tensor, missed: Tensor, dead: Tensor) -> Tensor:
    """How badly the top D/2 dead latents reconstruct what the living missed; the living get no gradient."""
    rows = torch.nonzero(dead)[:, 0]
    count = min(max(x.shape[1] // 2, 1), rows.numel())
    w_enc = weights.w_enc[rows]
    bias = weights.b_enc[rows] - w_enc @ weights.b_dec.detach()
    values, indices = encode_topk(x, w_enc.T, bias, count)
    guess = decode_topk(values, indices, weights.w_dec[rows], torch.zeros_like(weights.b_dec))
    return (missed - guess).square().sum() / missed.square().sum().clamp_min(1e-12)
