"""Train a TopK sparse autoencoder on the residual stream and turn it into a JumpReLU one.

Gao et al., 'Scaling and evaluating sparse autoencoders' (2024): TopK activation, encoder started at the
decoder's transpose, decoder rows of unit length with the parallel part of their gradient removed, b_dec
started at the geometric median, and the AuxK loss (weight 1/32) by which dead latents learn what the living
ones miss. TopK needs every latent to know one of them; the JumpReLU form that is returned does not, and so
a few features can be read for the price of a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...kernels.sae import decode_topk, encode_topk
from ...store.errors import UsageError
from ..checks import matrix
from .sae import SAE

AUX_WEIGHT = 1 / 32


@dataclass(eq=False)
class _Student:
    """The dictionary in training, on states scaled to unit mean square. Encoder kept as [S,D] rows."""

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor

    @classmethod
    def start(cls, states: Tensor, d_sae: int, generator: torch.Generator) -> _Student:
        w_dec = normalize(torch.randn(d_sae, states.shape[1], generator=generator))
        centre = _geometric_median(states[:4096])
        student = cls(w_dec.clone(), torch.zeros(d_sae), w_dec, centre)
        for tensor in student.tensors:
            tensor.requires_grad_()
        return student

    @property
    def tensors(self) -> list[Tensor]:
        return [self.w_enc, self.b_enc, self.w_dec, self.b_dec]

    def bias(self) -> Tensor:
        """Encoder bias with the subtraction of b_dec folded in."""
        return self.b_enc - self.w_enc @ self.b_dec

    def tidy_gradient(self) -> None:
        """Take out of each decoder row's gradient the part along the row; the row's length is fixed."""
        assert self.w_dec.grad is not None
        along = (self.w_dec.grad * self.w_dec).sum(1, keepdim=True)
        self.w_dec.grad -= along * self.w_dec.detach()


def _geometric_median(x: Tensor, steps: int = 20) -> Tensor:
    """Weiszfeld's iteration: the point with the least total distance to the rows of x [N,D]."""
    centre = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - centre).norm(dim=1).clamp_min(1e-6)
        centre = (weight[:, None] * x).sum(0) / weight.sum()
    return centre


def _loss(student: _Student, x: Tensor, k: int, dead: Tensor) -> tuple[Tensor, Tensor]:
    """Return (normalised error + AuxK, indices [B,k] of the active latents)."""
    values, indices = encode_topk(x, student.w_enc.T, student.bias(), k)
    error = x - decode_topk(values, indices, student.w_dec, student.b_dec)
    loss = error.square().sum() / (x - x.mean(0)).square().sum().clamp_min(1e-12)
    if bool(dead.any()):
        loss = loss + AUX_WEIGHT * _aux_loss(student, x, error.detach(), dead)
    return loss, indices[values > 0]


def _aux_loss(student: _Student, x: Tensor, missed: Tensor, dead: Tensor) -> Tensor:
    """How badly the top D/2 dead latents reconstruct what the living missed; the living get no gradient."""
    rows = torch.nonzero(dead)[:, 0]
    count = min(max(x.shape[1] // 2, 1), rows.numel())
    w_enc = student.w_enc[rows]
    bias = student.b_enc[rows] - w_enc @ student.b_dec.detach()
    values, indices = encode_topk(x, w_enc.T, bias, count)
    guess = decode_topk(values, indices, student.w_dec[rows], torch.zeros_like(student.b_dec))
    return (missed - guess).square().sum() / missed.square().sum().clamp_min(1e-12)


def _rate(step: int, steps: int, peak: float) -> float:
    """Short warm-up, then flat, then down to nothing over the last fifth."""
    return peak * min((step + 1) / max(steps // 50, 1), 1.0, (steps - step) / max(steps / 5, 1))


def train_topk(
    states: Tensor,
    d_sae: int,
    k: int,
    steps: int,
    seed: int,
    *,
    batch: int = 512,
    rate: float | None = None,
    dead_after: int = 200,
    meta: dict[str, Any] | None = None,
    report: Callable[[int, float, int], None] | None = None,
) -> SAE:
    """Train on states [N,D] and return a JumpReLU SAE with `d_sae` latents, about `k` active a state.

    `rate` None means 2e-3 / sqrt(d_sae / 1024) (Adam). A latent is dead when it was silent for `dead_after`
    steps. The returned threshold, one for all latents, is the value at which `k` are active on average.
    `report(step, unexplained, dead)` is called 20 times. Deterministic in `seed` for one machine and
    thread count. `meta` should hold `layer`, `fingerprint` and `model_name`; `unexplained`, `l0`
    and `dead` are added. Raises UsageError for wrong shapes, sizes or numbers.
    """
    rows = matrix("states", states).detach().cpu().float()
    if min(steps, batch, dead_after) < 1 or not 1 <= k <= d_sae or rows.shape[0] < 2:
        raise UsageError(
            f"train_topk got {rows.shape[0]} states, d_sae {d_sae}, k {k}, steps {steps}, batch {batch}: k "
            "must be within 1 and d_sae, and the others at least 1 (two states)"
        )
    scale = float(rows.square().mean().sqrt().clamp_min(1e-12))
    generator = torch.Generator().manual_seed(seed)
    student = _Student.start(
        rows[torch.randperm(rows.shape[0], generator=generator)[:4096]] / scale, d_sae, generator
    )
    peak = rate if rate is not None else 2e-3 / (d_sae / 1024) ** 0.5
    silent = torch.zeros(d_sae, dtype=torch.long)
    optimizer = torch.optim.Adam(student.tensors, lr=peak, eps=6.25e-10)
    for step in range(steps):
        x = rows[torch.randint(rows.shape[0], (batch,), generator=generator)] / scale
        optimizer.param_groups[0]["lr"] = _rate(step, steps, peak)
        loss, active = _loss(student, x, k, silent >= dead_after)
        _update(student, optimizer, loss)
        silent += 1
        silent[active] = 0
        if report is not None and (step + 1) % max(steps // 20, 1) == 0:
            report(step + 1, float(loss.detach()), int((silent >= dead_after).sum()))
    return _finished(student, rows, scale, k, meta or {})


def _update(student: _Student, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    student.tidy_gradient()
    torch.nn.utils.clip_grad_norm_(student.tensors, 1.0)
    optimizer.step()
    with torch.no_grad():
        student.w_dec /= student.w_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)


@torch.no_grad()
def _finished(student: _Student, rows: Tensor, scale: float, k: int, meta: dict[str, Any]) -> SAE:
    """Undo the scaling (activations grow by it, directions stay) and set the thresholds."""
    sample = rows[torch.linspace(0, rows.shape[0] - 1, min(rows.shape[0], 4096)).long()]
    bias = student.bias() * scale
    threshold = _threshold(sample @ student.w_enc.T + bias, k)
    sae = SAE(
        W_enc=student.w_enc.T.contiguous(),
        b_enc=bias,
        W_dec=student.w_dec,
        b_dec=student.b_dec * scale,
        threshold=torch.full_like(bias, threshold),
        check=sample[:8].clone(),
        meta=meta,
    )
    acts = sae.encode(sample)
    facts = {
        "unexplained": sae.unexplained(sample),
        "l0": float((acts > 0).sum(1).float().mean()),
        "dead": int((acts == 0).all(0).sum()),
        "k": k,
    }
    sae.meta.update(facts)
    return sae


def _threshold(pre: Tensor, k: int) -> float:
    """The value that k pre-activations a row exceed on average; never below 0."""
    flat = pre.flatten()
    count = min(k * pre.shape[0], flat.numel() - 1)
    return max(float(flat.topk(count + 1).values[-1]), 0.0)
