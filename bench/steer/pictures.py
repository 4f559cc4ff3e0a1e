"""Pictures of the steering benchmark: lines over a strength or a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def curve(path: Path, x: Sequence[float], rows: Mapping[str, Sequence[float]], across: str, up: str) -> None:
    """Draw named lines over x."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in rows.items():
        axes.plot(x[: len(values)], values, marker="o", markersize=3, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def against(
    path: Path, rows: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, limit: float
) -> None:
    """Draw named paths of points (x, y), and a limit across x."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in rows.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=name)
    axes.axvline(limit, color="black", linewidth=0.8, linestyle=":", label="budget")
    axes.set_xscale("symlog", linthresh=max(limit, 1e-6))
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
