"""What bytes leave of a matrix, computed plainly."""

import torch
from torch import Tensor


def in_bytes(weight: Tensor, group: int) -> Tensor:
    """What 8 bits and a scale for each row and group of columns leave of a matrix."""
    width = weight.shape[1]
    parts = torch.nn.functional.pad(weight, (0, -width % group)).view(weight.shape[0], -1, group)
    scales = parts.abs().amax(2, keepdim=True).clamp_min(1e-30) / 127
    return ((parts / scales).round() * scales).view(weight.shape[0], -1)[:, :width]
