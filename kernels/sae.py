"""Encode and decode with a sparse autoencoder. Shapes: B rows, D width, S latents.

Pre-activation: x W_enc + b_enc (any subtraction of the decoder bias is folded into b_enc by the caller).
`backend` chooses the implementation (see `dispatch`); all of them agree to rounding. Where latents tie, a
path may name either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import FLOATS, INDEX, expect, same_dtype
from .dispatch import Backend, choose


def _fits(x: Tensor, w_enc: Tensor, b_enc: Tensor) -> None:
    if x.ndim != 2 or w_enc.ndim != 2 or x.shape[1] != w_enc.shape[0] or b_enc.shape != w_enc.shape[1:]:
        raise ValueError(
            f"x {list(x.shape)}, w_enc {list(w_enc.shape)}, b_enc {list(b_enc.shape)} do not fit; they are "
            "[B,D], [D,S] and [S]; transpose the weights if the file keeps them the other way"
        )
    same_dtype(x=x, w_enc=w_enc, b_enc=b_enc)


# -- encode ------------------------------------------------------------------------------------------------


def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Return the k largest latents after ReLU: x [B,D] -> values [B,k], indices [B,k], largest first.

    A row with fewer than k positive latents is filled up with zeros. Raises ValueError when shapes or types
    do not fit or k is not within 1 and S. Gao et al., 'Scaling and evaluating sparse autoencoders' (2024),
    eq. 2.
    """
    _fits(x, w_enc, b_enc)
    if not 1 <= k <= w_enc.shape[1]:
        raise ValueError(f"k is {k}; it must be within 1 and the {w_enc.shape[1]} latents")
    path = choose(backend, x, w_enc, b_enc)
    if path == "triton":
        from . import sae_triton

        values, indices = sae_triton.encode_topk(x, w_enc, b_enc, k)
    elif path == "fast":
        values, indices = topk(torch.addmm(b_enc, x, w_enc), k)
    else:
        values, indices = torch.addmm(b_enc, x, w_enc).topk(k, dim=1)
    return values.relu(), indices


def topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row, x [B,S] -> values and indices [B,k], without looking at most of it.

    The columns fall into n groups. A value among the k largest lies in one of the k groups with the largest
    maxima: were k other groups ahead, each would hold a value at least as large. So only those k groups (and
    the columns left over) are searched.
    """
    rows, size = x.shape
    group = max(8, int((size / k) ** 0.5))
    n = size // group
    if n <= 2 * k:
        values, at = x.topk(k, dim=1)
        return values, at
    # Strided groups (column i*n + j is in group j): the maximum then runs along contiguous memory.
    best = x[:, : group * n].reshape(rows, group, n).amax(1).topk(k, dim=1, sorted=False).indices
    members = torch.arange(group, device=x.device)[:, None] * n + best[:, None, :]
    rest = torch.arange(group * n, size, device=x.device).expand(rows, -1)
    candidates = torch.cat([members.flatten(1), rest], dim=1)
    values, at = x.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, at)


def encode_jumprelu(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor, backend: Backend = "auto"
) -> Tensor:
    """Return latents [B,S]: ReLU(pre) where pre > threshold [S], else 0. Raises ValueError when shapes do
    not fit. Rajamanoharan et al., 'Jumping ahead' (2024), eq. 3.
    """
    _fits(x, w_enc, b_enc)
    expect("threshold", threshold, b_enc.shape, (x.dtype,), "one threshold a latent")
    path = choose(backend, x, w_enc, b_enc, threshold)
    if path == "triton":
        from . import sae_triton

        return sae_triton.encode_jumprelu(x, w_enc, b_enc, threshold)
    pre = torch.addmm(b_enc, x, w_enc)
    if path == "fast":
        return pre.masked_fill_(~(pre > threshold.clamp_min(0)), 0)
    return torch.where(pre > threshold, pre, torch.zeros_like(pre)).relu()


@dataclass(frozen=True, eq=False)
class Subset:
    """The encoder of a few latents, copied out once: weight [n,D] (contiguous rows), bias and threshold [n],
    and which latents they are, `features` [n] int64.

    Only JumpReLU has such a thing: whether a latent is among the top k, all the others decide.
    """

    weight: Tensor
    bias: Tensor
    threshold: Tensor
    features: Tensor

    @classmethod
    def of(cls, w_enc: Tensor, b_enc: Tensor, threshold: Tensor, features: Tensor) -> Subset:
        """Copy `features` [n] out of w_enc [D,S], b_enc [S], threshold [S].

        Raises ValueError when shapes do not fit, or a feature is not within 0 and S-1.
        """
        _fits(w_enc[:, 0][None], w_enc, b_enc)
        expect("threshold", threshold, b_enc.shape, (w_enc.dtype,), "one threshold a latent")
        expect("features", features, ("n",), INDEX)
        latents = w_enc.shape[1]
        if features.numel() and not 0 <= int(features.min()) <= int(features.max()) < latents:
            raise ValueError(
                f"features reach from {int(features.min())} to {int(features.max())}; this encoder has the "
                f"latents 0 to {latents - 1}"
            )
        weight = w_enc[:, features].T.contiguous()
        return cls(weight, b_enc[features], threshold[features], features)

    def encode(self, x: Tensor, backend: Backend = "auto") -> Tensor:
        """Return these latents: x [B,D] -> [B,n]. Costs n/S of the whole encoder."""
        return encode_jumprelu(x, self.weight.T, self.bias, self.threshold, backend)


def encode_subset(x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor, features: Tensor) -> Tensor:
    """Return only the latents `features` [n] (int64): x [B,D] -> [B,n].

    Copies their encoder out at every call; who asks for the same ones again keeps a `Subset`.
    """
    _fits(x, w_enc, b_enc)
    return encode_jumprelu(x, w_enc[:, features], b_enc[features], threshold[features])


# -- decode ------------------------------------------------------------------------------------------------


def decode(acts: Tensor, w_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return acts [B,S] W_dec [S,D] + b_dec [D]. Raises ValueError when shapes do not fit."""
    if acts.ndim != 2 or w_dec.ndim != 2 or acts.shape[1] != w_dec.shape[0] or b_dec.shape != w_dec.shape[1:]:
        raise ValueError(
            f"acts {list(acts.shape)}, w_dec {list(w_dec.shape)}, b_dec {list(b_dec.shape)} do not fit; they "
            "are [B,S], [S,D] and [D]; transpose the weights if the file keeps them the other way"
        )
    return torch.addmm(b_dec, acts, w_dec)


def decode_topk(
    values: Tensor, indices: Tensor, w_dec: Tensor, b_dec: Tensor, backend: Backend = "auto"
) -> Tensor:
    """Return the reconstruction [B,D] from values and indices [B,k], reading only k rows of w_dec [S,D].

    A latent named twice counts twice. Raises ValueError when shapes or types do not fit. An index that is no
    latent raises on a CPU and gives a row of NaN in the Triton kernel, which must not wait for a look at it.
    """
    expect("w_dec", w_dec, ("S", "D"), FLOATS)
    expect("values", values, ("B", "k"), (w_dec.dtype,))
    expect("indices", indices, values.shape, INDEX, "one index a value")
    expect("b_dec", b_dec, w_dec.shape[1:], (w_dec.dtype,))
    path = choose(backend, values, indices, w_dec, b_dec)
    if path == "triton":
        from . import sae_triton

        return sae_triton.decode_topk(values, indices, w_dec, b_dec)
    if path == "plain":
        dense = values.new_zeros(values.shape[0], w_dec.shape[0]).scatter_add_(1, indices, values)
        return torch.addmm(b_dec, dense, w_dec)
    bags = torch.nn.functional.embedding_bag(indices, w_dec, per_sample_weights=values, mode="sum")
    return bags + b_dec
