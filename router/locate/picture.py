"""Draw a finding: one self-contained HTML page, or a PNG where matplotlib is installed."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import torch

from ...store.errors import UsageError
from ...store.printable import one_line
from ..files import replace
from .finding import Finding, Grid

SHOWN = 40
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#222;margin:2em auto;max-width:72em;padding:0 1em}
table{border-collapse:collapse;margin:.6em 0}th{font-weight:500;text-align:right;color:#666;padding:1px 6px}
td{padding:1px 5px;text-align:center;min-width:1.6em;font-size:12px}
.wide{overflow-x:auto}.list td{text-align:left;font-size:14px;padding:2px 8px}
.bar{display:inline-block;height:.7em;background:#2a6f97;vertical-align:middle}.bar.low{background:#b23a48}
"""


def draw(finding: Finding, path: Path | str) -> Path:
    """Write the picture; the suffix says which kind: .html or .png. Raises UsageError for another suffix."""
    path = Path(path)
    if path.suffix == ".html":
        replace(path, html(finding))
    elif path.suffix == ".png":
        _png(finding, path)
    else:
        raise UsageError(f"the picture {path.name!r} has no known suffix; call it .html or .png")
    return path


def html(finding: Finding) -> str:
    """Return a page: the ranking as bars, the facts, and every grid as a heat map. It loads nothing."""
    parts = [f"<h1>{escape(finding.method)}</h1><p>Score: {escape(finding.score)}</p>"]
    facts = "".join(
        f"<tr><th>{escape(str(k))}</th><td>{escape(_number(v))}</td></tr>" for k, v in finding.facts.items()
    )
    parts += [f"<table class=list>{facts}</table>"] if facts else []
    parts.append(_bars(finding))
    parts += [_heat(grid) for grid in finding.grids]
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(finding.method)}</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value), 400)


def _bars(finding: Finding) -> str:
    most = max((abs(one.score) for one in finding.found[:SHOWN]), default=0.0) or 1.0
    rows = "".join(
        f"<tr><th>{escape(one.name)}</th><td>{one.score:.4g}</td>"
        f'<td><span class="bar{" low" if one.score < 0 else ""}" '
        f'style="width:{240 * abs(one.score) / most:.0f}px"></span></td>'
        f"<td>{escape(one_line(one.note, 200))}</td></tr>"
        for one in finding.found[:SHOWN]
    )
    return f"<table class=list>{rows}</table>" if rows else ""


def colour(value: float, most: float) -> str:
    """White at 0, blue up to `most`, red down to -`most`."""
    share = max(-1.0, min(1.0, value / most if most > 0 else 0.0))
    end = (42, 111, 151) if share >= 0 else (178, 58, 72)
    red, green, blue = (round(255 + (one - 255) * abs(share)) for one in end)
    return f"rgb({red},{green},{blue})"


def _heat(grid: Grid) -> str:
    values = grid.values.float()
    most = float(values.abs().max()) if values.numel() else 0.0
    head = "".join(f"<th>{escape(one_line(name, 16))}</th>" for name in grid.columns)
    lines = []
    for r, name in enumerate(grid.rows):
        cells = "".join(_cell(grid, r, c, float(values[r, c]), most) for c in range(len(grid.columns)))
        lines.append(f"<tr><th>{escape(one_line(name, 40))}</th>{cells}</tr>")
    return (
        f"<h2>{escape(grid.title)}</h2><div class=wide><table><tr><th></th>{head}</tr>{''.join(lines)}"
        "</table></div>"
    )


def _cell(grid: Grid, row: int, column: int, value: float, most: float) -> str:
    text = one_line(grid.texts[row][column], 16) if grid.texts else f"{value:.2g}"
    ink = "#fff" if most > 0 and abs(value) > 0.6 * most else "#222"
    return f'<td style="background:{colour(value, most)};color:{ink}" title="{value:.5g}">{escape(text)}</td>'


def _png(finding: Finding, path: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(
            "a PNG needs matplotlib (pip install 'pilothouse[bench]'); or ask for a picture called .html"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    grids = finding.grids[:4]
    figure, axes = pyplot.subplots(
        1 + len(grids), 1, figsize=(9, 3.2 + 3.2 * len(grids)), layout="constrained", squeeze=False
    )
    _png_bars(finding, axes[0, 0])
    for grid, place in zip(grids, axes[1:, 0], strict=True):
        _png_heat(grid, place, figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _plain(text: str) -> str:
    """A label that matplotlib takes as it is: no mathematics between dollars."""
    return one_line(text, 16).replace("$", r"\$")


def _png_bars(finding: Finding, axes: Any) -> None:
    some = finding.found[:15][::-1]
    axes.barh(
        [_plain(one.name) for one in some],
        [one.score for one in some],
        color=["#2a6f97" if one.score >= 0 else "#b23a48" for one in some],
    )
    axes.set(title=finding.method, xlabel=finding.score)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _png_heat(grid: Grid, axes: Any, figure: Any) -> None:
    values = grid.values.float()
    most = float(values.abs().max().clamp_min(1e-12)) if values.numel() else 1.0
    picture = axes.imshow(torch.nan_to_num(values).numpy(), cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axes.set_title(grid.title, fontsize=9)
    if len(grid.rows) <= 40:
        axes.set_yticks(range(len(grid.rows)), [_plain(name) for name in grid.rows], fontsize=6)
    if len(grid.columns) <= 60:
        axes.set_xticks(
            range(len(grid.columns)), [_plain(name) for name in grid.columns], fontsize=6, rotation=60
        )
    figure.colorbar(picture, ax=axes, shrink=0.8)
