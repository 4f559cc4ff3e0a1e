"""Encode and decode with a sparse autoencoder. Plain torch; shapes: B rows, D width, S latents.

Pre-activation: x W_enc + b_enc (any subtraction of the decoder bias is folded into b_enc by the caller).
"""

from __future__ import annotations

import torch
from torch import Tensor


def _fits(x: Tensor, w_enc: Tensor, b_enc: Tensor) -> None:
    if x.ndim != 2 or w_enc.ndim != 2 or x.shape[1] != w_enc.shape[0] or b_enc.shape != w_enc.shape[1:]:
        raise ValueError(
            f"x {list(x.shape)}, w_enc {list(w_enc.shape)}, b_enc {list(b_enc.shape)} do not fit; they are "
            "[B,D], [D,S] and [S]; transpose the weights if the file keeps them the other way"
        )


def encode_topk(x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest latents after ReLU: x [B,D] -> values [B,k], indices [B,k], largest first.

    A row with fewer than k positive latents is filled up with zeros. Raises ValueError when shapes do not
    fit or k is not within 1 and S. Gao et al., 'Scaling and evaluating sparse autoencoders' (2024), eq. 2.
    """
    _fits(x, w_enc, b_enc)
    if not 1 <= k <= w_enc.shape[1]:
        raise ValueError(f"k is {k}; it must be within 1 and the {w_enc.shape[1]} latents")
    values, indices = torch.addmm(b_enc, x, w_enc).topk(k, dim=1)
    return values.relu(), indices


def encode_jumprelu(x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor) -> Tensor:
    """Return latents [B,S]: ReLU(pre) where pre > threshold [S], else 0. Raises ValueError when shapes do
    not fit. Rajamanoharan et al., 'Jumping ahead' (2024), eq. 3.
    """
    _fits(x, w_enc, b_enc)
    pre = torch.addmm(b_enc, x, w_enc)
    return torch.where(pre > threshold, pre, torch.zeros_like(pre)).relu()


def encode_subset(x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor, features: Tensor) -> Tensor:
    """Return only the latents `features` [n] (int64): x [B,D] -> [B,n]. Costs n/S of the whole encoder."""
    _fits(x, w_enc, b_enc)
    return encode_jumprelu(x, w_enc[:, features], b_enc[features], threshold[features])


def decode(acts: Tensor, w_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return acts [B,S] W_dec [S,D] + b_dec [D]. Raises ValueError when shapes do not fit."""
    if acts.ndim != 2 or w_dec.ndim != 2 or acts.shape[1] != w_dec.shape[0] or b_dec.shape != w_dec.shape[1:]:
        raise ValueError(
            f"acts {list(acts.shape)}, w_dec {list(w_dec.shape)}, b_dec {list(b_dec.shape)} do not fit; they "
            "are [B,S], [S,D] and [D]; transpose the weights if the file keeps them the other way"
        )
    return torch.addmm(b_dec, acts, w_dec)


def decode_topk(values: Tensor, indices: Tensor, w_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return the reconstruction [B,D] from values and indices [B,k], reading only k rows of w_dec [S,D]."""
    bags = torch.nn.functional.embedding_bag(indices, w_dec, per_sample_weights=values, mode="sum")
    return bags + b_dec
