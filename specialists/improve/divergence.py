"""Divergences between a teacher's and a student's next-token distributions, for logit distillation."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Divergence = Literal["forward", "reverse", "js"]


def divergence(
    student: Tensor, teacher: Tensor, kind: Divergence, beta: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """Return the mean divergence (nats, times T^2) of logits [N, V].

    ``forward`` KL(teacher || student) (Hinton et al., 2015), ``reverse`` KL(student || teacher) (Gu et al.,
    2024), ``js`` the generalised Jensen-Shannon divergence beta KL(t || m) + (1 - beta) KL(s || m) with
    m = beta t + (1 - beta) s (Agarwal et al., 2024); js / beta tends to forward KL as beta goes to 0, and
    js / (1 - beta) to reverse KL as it goes to 1.

    Raises:
        ValueError: ``beta`` is not strictly between 0 and 1.
    """
    p = (teacher.float() / temperature).log_softmax(-1)
    q = (student.float() / temperature).log_softmax(-1)
    scale = temperature**2
    if kind == "forward":
        return scale * _kl(p, q)
    if kind == "reverse":
        return scale * _kl(q, p)
    if not 0 < beta < 1:
        raise ValueError(f"beta {beta}: the generalised JS divergence needs one strictly between 0 and 1")
    middle = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return scale * (beta * _kl(p, middle) + (1 - beta) * _kl(q, middle))


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1).mean()
