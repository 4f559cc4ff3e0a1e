"""NSDS: numerical and structural dual sensitivity of layers to few bits, from the weights alone.

After 'Beyond Outliers: A Data-Free Layer-wise Mixed-Precision Quantization Approach Driven by Numerical and
Structural Dual-Sensitivity' (arXiv 2603.17354). Where paper, figure and released code differ or are silent,
the choice is a field of `Switches`; this is a reconstruction, and the released code's defects are not
repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .parts import Parts

COMPONENTS = ("qk", "ov", "up", "gate", "down")


@dataclass(frozen=True)
class Switches:
    """The paper's open points. `energy`: share of the squared spectrum that is kept (named 90 % in the code,
    0.99 in its constant). `expressiveness`: spectral magnitude times (the name asks for it) or by (the code)
    the effective rank. `roles`: weigh singular directions by what they do. `mad`: 1.4826 (figure) or 1
    (code). `gains`: fold the norms' gains into what reads (the code does not).
    """

    energy: float = 0.90
    expressiveness: Literal["multiply", "divide"] = "multiply"
    roles: bool = True
    aspects: Literal["both", "numerical", "structural"] = "both"
    mad: float = 1.4826
    union: Literal["softplus", "product", "geometric"] = "softplus"
    gains: bool = False


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """`layers` [L]: the fused score, higher is more sensitive. `numerical` and `structural` [L,C] before
    fusing, under `components`; `kept` is k_U / D, how much of the stream's space the unembedding's keeps.
    """

    layers: Tensor
    numerical: Tensor
    structural: Tensor
    components: tuple[str, ...]
    kept: float

    @property
    def ranking(self) -> list[int]:
        """Layers, the most sensitive first; ties keep their order."""
        return torch.argsort(self.layers, descending=True, stable=True).tolist()


@torch.no_grad()
def sensitivity(parts: Sequence[Parts], unembed: Tensor, how: Switches | None = None) -> Sensitivity:
    """Score layers. `unembed` [V,D] is what reads the last state."""
    how = how or Switches()
    space = row_space(unembed, how.energy)
    tables = [_layer(one, space, how) for one in parts]
    names = tuple(name for name in COMPONENTS if name in tables[0])
    numerical = torch.tensor([[table[name][0] for name in names] for table in tables], dtype=torch.float64)
    structural = torch.tensor([[table[name][1] for name in names] for table in tables], dtype=torch.float64)
    chosen = {
        "both": torch.cat([numerical, structural], 1),
        "numerical": numerical,
        "structural": structural,
    }[how.aspects]
    layers = soft_or(deviation(chosen, how.mad), how.union)
    return Sensitivity(layers, numerical, structural, names, space.shape[1] / space.shape[0])


def _layer(parts: Parts, space: Tensor, how: Switches) -> dict[str, tuple[float, float]]:
    """(numerical vulnerability, structural expressiveness) of each component; heads are averaged."""
    pairs = parts.head_pairs()
    qk = [(q, k) for q, k, _, _ in pairs]
    ov = [(o.T, v) for _, _, o, v in pairs]  # [d,D] each; the product is o @ v
    found = {
        "qk": (
            _mean([float(kurtosis((q.T @ k).flatten())) for q, k in qk]),
            _mean([expressiveness(*_reading(product_svd(q, k), how, both=True), how) for q, k in qk]),
        ),
        "ov": (
            _mean([float(kurtosis((o.T @ v).flatten())) for o, v in ov]),
            _mean([expressiveness(*_writing(product_svd(o, v), space, how), how) for o, v in ov]),
        ),
        "down": (
            float(kurtosis(parts.down.flatten())),
            expressiveness(*_writing(plain_svd(parts.down), space, how), how),
        ),
    }
    for name, matrix in (("up", parts.up), ("gate", parts.gate)):
        if matrix is not None:
            scored = expressiveness(*_reading(plain_svd(matrix), how, both=False), how)
            found[name] = float(kurtosis(matrix.flatten())), scored
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def kurtosis(x: Tensor) -> Tensor:
    """Excess kurtosis over the first dimension, biased (Fisher): 0 for a normal; 0 where nothing varies."""
    x = x.double()
    centred = x - x.mean(0)
    second = centred.square().mean(0)
    found = centred.pow(4).mean(0) / second.clamp_min(1e-300).square() - 3
    return torch.where(second > 1e-30, found, torch.zeros_like(found))


# -- structure -----------------------------------------------------------------------------------------------

Spectrum = tuple[Tensor, Tensor, Tensor]


def plain_svd(w: Tensor) -> Spectrum:
    """u [m,k], s [k], v [n,k] of w [m,n]."""
    u, s, vh = torch.linalg.svd(w.double(), full_matrices=False)
    return u, s, vh.T


def product_svd(left: Tensor, right: Tensor) -> Spectrum:
    """u [m,r], s [r], v [n,r] of left.T @ right, left [r,m] and right [r,n], without forming [m,n]."""
    a, b = torch.linalg.qr(left.double().T), torch.linalg.qr(right.double().T)
    u, s, vh = torch.linalg.svd(a.R @ b.R.T, full_matrices=False)
    return a.Q @ u, s, b.Q @ vh.T


def kept(s: Tensor, energy: float) -> int:
    """The least count of singular values s (descending) whose squares reach `energy` of the sum; at least
    2.
    """
    shares = s.square().cumsum(0) / s.square().sum().clamp_min(1e-300)
    return min(len(s), max(2, int((shares < energy - 1e-12).sum()) + 1))


def row_space(unembed: Tensor, energy: float) -> Tensor:
    """The main directions [D,k_U] that the unembedding [V,D] reads."""
    w = unembed.double()
    values, vectors = torch.linalg.eigh(w.T @ w)
    s = values.flip(0).clamp_min(0).sqrt()
    main: Tensor = vectors.flip(1)[:, : kept(s, energy)]
    return main


def _reading(spectrum: Spectrum, how: Switches, *, both: bool) -> tuple[Tensor, Tensor]:
    """Kept singular values and their detection specificity: how peaked the directions are that are read."""
    u, s, v = spectrum
    k = kept(s, how.energy)
    peaked = kurtosis(v[:, :k]).relu()
    if both:
        peaked = peaked * kurtosis(u[:, :k]).relu()
    return s[:k], torch.log1p(peaked) if how.roles else torch.ones_like(s[:k])


def _writing(spectrum: Spectrum, space: Tensor, how: Switches) -> tuple[Tensor, Tensor]:
    """Kept singular values and their writing density: how much of what is written the unembedding reads."""
    u, s, _ = spectrum
    k = kept(s, how.energy)
    density = (space.T @ u[:, :k]).norm(dim=0)
    return s[:k], density if how.roles else torch.ones_like(s[:k])


def expressiveness(s: Tensor, beta: Tensor, how: Switches) -> float:
    """Sum of sigma * beta, times or by the effective rank exp(H) of their shares; 0 where all are 0."""
    weighted = s * beta
    total = weighted.sum()
    if float(total) <= 0:
        return 0.0
    shares = weighted / total
    rank = torch.exp(-torch.special.xlogy(shares, shares).sum())
    return float(total * rank if how.expressiveness == "multiply" else total / rank)


# -- fusing --------------------------------------------------------------------------------------------------


def deviation(raw: Tensor, mad: float = 1.4826) -> Tensor:
    """Robust z of raw [L,C] over layers: (r - median) / (mad * MAD); the standard deviation where MAD is
    0.
    """
    centred = raw - middle(raw)
    spread = mad * middle(centred.abs())
    spread = torch.where(spread > 0, spread, centred.square().mean(0).sqrt())
    return torch.where(spread > 0, centred / spread.clamp_min(1e-300), torch.zeros_like(centred))


def middle(x: Tensor) -> Tensor:
    """The median over the first dimension, the mean of two middles."""
    return x.double().quantile(0.5, dim=0)


def soft_or(z: Tensor, union: str = "softplus") -> Tensor:
    """Fuse z [L,C]: with P = sigmoid(z), `product` is 1 - prod(1 - P), `geometric` 1 - exp(mean ln(1 - P)).

    Both rank layers as the sum of softplus(z) = -ln(1 - P) does, which does not saturate: the default.
    """
    total = torch.nn.functional.softplus(z.double(), threshold=700).sum(1)
    if union == "product":
        return -torch.expm1(-total)
    return -torch.expm1(-total / z.shape[1]) if union == "geometric" else total
