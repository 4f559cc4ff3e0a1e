"""What kernels ask of the tensors they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INDEX: Final = (torch.int64,)


def expect(
    name: str, x: Tensor, shape: Sequence[int | str], dtypes: Sequence[torch.dtype] = FLOATS, hint: str = ""
) -> Tensor:
    """Return x when it has `shape` (a letter stands for any size) and one of `dtypes`.

    Raises ValueError that names both otherwise, with `hint` as what to do.
    """
    fits = x.ndim == len(shape) and all(
        isinstance(n, str) or n == m for n, m in zip(shape, x.shape, strict=True)
    )
    if fits and x.dtype in dtypes:
        return x
    sizes = ", ".join(map(str, shape))
    kinds = " or ".join(str(one).removeprefix("torch.") for one in dtypes)
    raise ValueError(
        f"{name} is {str(x.dtype).removeprefix('torch.')} {list(x.shape)}; it must be {kinds} [{sizes}]"
        + (f"; {hint}" if hint else "")
    )


def same_dtype(**tensors: Tensor) -> None:
    """Raises ValueError when the named tensors differ in type."""
    if len({one.dtype for one in tensors.values()}) > 1:
        kinds = ", ".join(f"{name} {str(one.dtype).removeprefix('torch.')}" for name, one in tensors.items())
        raise ValueError(f"the types differ: {kinds}; convert them to one")


def own_memory(name: str, x: Tensor) -> None:
    """Raises ValueError when rows of x [N,D] share memory (an expanded or overlapping view), as they may not
    where a kernel writes in place.
    """
    if x.stride(-1) != 1 or (x.shape[0] > 1 and x.stride(0) < x.shape[-1]):
        raise ValueError(
            f"{name} has strides {list(x.stride())} for shape {list(x.shape)}; it is written in place, so "
            "its rows must be contiguous and apart; pass x.contiguous()"
        )
