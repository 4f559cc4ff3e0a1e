"""Checks on tensors from outside: shape, finiteness, labels. Each error names value, rule, cure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..store.errors import UsageError

Numbers = Tensor | Sequence[float] | Sequence[int] | Sequence[bool]


def finite(name: str, x: Tensor) -> Tensor:
    """Return `x`; raises UsageError when it holds NaN or infinity."""
    # the two ends tell, in a fraction of the time that looking at each number takes
    if x.numel() and not all(map(math.isfinite, (float(end) for end in torch.aminmax(x.detach())))):
        good = torch.isfinite(x)
        where = torch.nonzero(~good)[0].tolist()
        raise UsageError(
            f"{name} holds {int((~good).sum())} numbers that are not finite (the first at {where}); all "
            "must be; look for an overflow in the forward pass that made it"
        )
    return x


def vector(name: str, x: Tensor, width: int | None = None) -> Tensor:
    """Return `x` if it is a finite vector (of `width` numbers, where given); raises UsageError."""
    if x.ndim != 1 or x.numel() == 0 or width not in (None, x.numel()):
        wanted = f"[{width}]" if width is not None else "[D] with D >= 1"
        raise UsageError(
            f"{name} has shape {list(x.shape)}; it must be a vector {wanted}; check which model, layers and "
            "poolings it was made with"
        )
    return finite(name, x)


def matrix(name: str, x: Tensor, width: int | None = None) -> Tensor:
    """Return `x` if it is a finite matrix (with `width` columns, where given); raises UsageError."""
    if x.ndim != 2 or x.numel() == 0 or width not in (None, x.shape[1]):
        wanted = f"[N, {width}]" if width is not None else "[N, D]"
        raise UsageError(
            f"{name} has shape {list(x.shape)}; it must be a matrix {wanted} with at least one row; "
            "stack one vector a row"
        )
    return finite(name, x)


def numbers(name: str, values: Numbers) -> Tensor:
    """Return `values` as a finite float64 vector [N], N >= 1; raises UsageError."""
    x = values.detach().cpu() if isinstance(values, Tensor) else torch.tensor(list(values))
    return vector(name, x.to(torch.float64))


def labels(name: str, values: Numbers, count: int) -> Tensor:
    """Return `values` as float64 zeros and ones [count]; raises UsageError for anything else."""
    y = numbers(name, values)
    if y.numel() != count:
        raise UsageError(f"{name} has {y.numel()} labels for {count} rows; give exactly one label a row")
    wrong = y[(y != 0) & (y != 1)]
    if wrong.numel():
        raise UsageError(f"{name} holds {wrong[0].item()}; labels are 0 or 1; threshold scores first")
    return y


def both_classes(name: str, y: Tensor) -> None:
    """Raises UsageError when only one class is present: nothing can be fitted or ranked then."""
    positives = int(y.sum())
    if positives in (0, y.numel()):
        raise UsageError(
            f"all {y.numel()} labels of {name} are {int(positives > 0)}; both classes must be present; "
            "add examples of the other class"
        )
