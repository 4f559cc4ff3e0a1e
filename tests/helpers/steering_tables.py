"""Tables with a row of every kind of steering, and what it means that bits are kept."""

from __future__ import annotations

import torch

from pilothouse.kernels.steer import SteerTables


def filled(width: int, device: str = "cpu") -> SteerTables:
    """Rows: 1 add, 2 project_out, 3 scale, 4 clamp_feature, 5 relative add, 6 add that keeps the norm."""
    generator = torch.Generator().manual_seed(width)
    v = torch.randn(6, width, generator=generator)
    tables = SteerTables.empty(8, width, device)
    tables.put(1, "add", v[0], 1.5)
    tables.put(2, "project_out", v[1], 1.0)
    tables.put(3, "scale", v[2], 3.0)
    tables.put(4, "clamp_feature", v[3], 2.0, v[4], 0.25, 0.5)
    tables.put(5, "add", v[5], 0.5, relative=True)
    tables.put(6, "add", v[0], 4.0, keep_norm=True)
    return tables


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.int32 if x.element_size() == 4 else torch.int16)
