"""The report of a comparison: JSON for programs, HTML for people, PNG beside both."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..files import replace
from . import curves as worth
from .cascade import cross_played, enough
from .comparing import STACK, Contender, Figures, Judge, verdict
from .table import Table

_BLUE, _GREY, _INK = "#2a6f97", "#9aa5ab", "#222222"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{padding:.25em .6em;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}tr.stack{font-weight:600}"
    "p.verdict{font-size:17px;border-left:4px solid #2a6f97;padding-left:.8em}img{max-width:100%}"
)


_LAMS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # times what the dearest model costs more than the cheapest
CASCADE = ("asked first", "lam", "quality", "mean price", "went on")


class Gap(NamedTuple):
    """The stack less another router, with its interval."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True, eq=False)
class Report:
    """facts: what was compared. inside, outside: figures with rows and with whole groups left out. gaps,
    gaps_out: the stack less each other router, paired on the same resamples. singles: each model alone.
    cascades: (asked first, lam, quality, price, share that went on). judge, found: what the PNG draws.
    """

    facts: Mapping[str, Any]
    sentence: str
    sentence_out: str
    models: tuple[str, ...]
    inside: tuple[Figures, ...]
    outside: tuple[Figures, ...]
    singles: tuple[tuple[str, float], ...]
    oracle: float
    judge: Judge
    found: tuple[Contender, ...]
    gaps: tuple[Gap, ...] = ()
    gaps_out: tuple[Gap, ...] = ()
    cascades: tuple[tuple[str, float, float, float, float], ...] = ()

    @classmethod
    def of(
        cls,
        facts: Mapping[str, Any],
        judge: Judge,
        inside: Sequence[Contender],
        outside: Sequence[Contender] = (),
        cascades: Sequence[tuple[str, float, float, float, float]] = (),
    ) -> Report:
        """Judge every contender."""
        truth = judge.truth
        singles = (
            [(name, float(truth[:, i].mean())) for i, name in enumerate(judge.models)] if len(truth) else []
        )
        return cls(
            facts,
            verdict(judge, inside),
            f"With whole groups left out: {verdict(judge, outside)}" if outside else "",
            judge.models,
            tuple(judge.figures(one) for one in inside),
            tuple(judge.figures(one) for one in outside),
            tuple(singles),
            float(truth.max(1).mean()) if len(truth) else math.nan,
            judge,
            tuple(inside),
            gaps_of(judge, inside),
            gaps_of(judge, outside),
            tuple(cascades),
        )

    def json(self) -> dict[str, Any]:
        """Plain values; what could not be measured is null."""
        return {
            "facts": dict(self.facts),
            "verdict": self.sentence,
            "verdict_leaving_groups_out": self.sentence_out,
            "models": list(self.models),
            "oracle": _plain(self.oracle),
            "singles": {name: _plain(value) for name, value in self.singles},
            "rows_left_out": [_plain(asdict(one)) for one in self.inside],
            "groups_left_out": [_plain(asdict(one)) for one in self.outside],
            "stack_minus": [_plain(one._asdict()) for one in self.gaps],
            "stack_minus_groups_left_out": [_plain(one._asdict()) for one in self.gaps_out],
            "cascades": [dict(zip(CASCADE, _plain(one), strict=True)) for one in self.cascades],
        }

    def save(self, folder: Path) -> list[Path]:
        """Write report.json, report.html and, where matplotlib is installed, report.png."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        replace(folder / "report.json", text)
        picture = folder / "report.png"
        drawn = draw(self, picture)
        replace(folder / "report.html", self.html(picture if drawn else None))
        return [folder / "report.json", folder / "report.html", *([picture] if drawn else [])]

    def html(self, picture: Path | None) -> str:
        """One page that needs nothing else; every text from a table is escaped."""
        lines = [f"<p class=verdict>{html.escape(self.sentence)}</p>"]
        if self.sentence_out:
            lines.append(f"<p>{html.escape(self.sentence_out)}</p>")
        lines.append(_html_table(("", ""), [(k, str(v)) for k, v in self.facts.items()]))
        lines.append(
            "<h2>Rows left out at random</h2>" + _html_table(*figures_table(self.inside, self.models))
        )
        if self.outside:
            table = _html_table(*figures_table(self.outside, self.models))
            lines.append("<h2>Whole groups left out</h2>" + table)
        if self.gaps:
            what = "APGR" if self.judge.paired else "accuracy"
            lines.append(f"<h2>The stack less each other, {what}</h2>")
            lines.append(_html_table(("router", "rows left out", "groups left out"), _gap_rows(self)))
        if self.cascades:
            rows = [(name, *(f"{value:.3f}" for value in rest)) for name, *rest in self.cascades]
            lines.append("<h2>Cascades: look at the first answer, then ask another or not</h2>")
            lines.append(_html_table(CASCADE, rows))
        singles = [(name, f"{value:.3f}") for name, value in (*self.singles, ("oracle", self.oracle))]
        lines.append("<h2>Each model alone</h2>" + _html_table(("model", "quality"), singles))
        if picture is not None:
            data = base64.b64encode(picture.read_bytes()).decode()
            lines.append(f'<img alt="cost against quality; reliability" src="data:image/png;base64,{data}">')
        body = "\n".join(lines)
        head = f"<meta charset=utf-8><title>Routing report</title><style>{_STYLE}</style>"
        page = f"<head>{head}</head><body><h1>Routing report</h1>\n{body}\n</body>"
        return f"<!doctype html><html lang=en>{page}</html>\n"


def gaps_of(judge: Judge, found: Sequence[Contender]) -> tuple[Gap, ...]:
    """The stack less every other contender, with paired 95 % intervals."""
    stack = next((one for one in found if one.name == STACK), None)
    if stack is None or not len(judge.rows):
        return ()
    return tuple(Gap(one.name, *judge.difference(stack, one)) for one in found if one is not stack)


def cascades_of(
    table: Table, judge: Judge, found: Sequence[Contender]
) -> list[tuple[str, float, float, float, float]]:
    """Cascades that ask the cheapest model first, at several lam, where the table has signals of answers."""
    stack = next((one for one in found if one.name == STACK), None)
    if stack is None or not enough(table):
        return []
    first = table.models[int(judge.prices.argmin())]
    spread = float(judge.prices.max() - judge.prices.min()) or 1.0
    lams = [round(share / spread, 6) for share in _LAMS]
    played = cross_played(table, stack.p, first, judge.prices, lams)
    return [(first, lam, *one) for lam, one in zip(lams, played, strict=True)]


def _gap_rows(report: Report) -> list[tuple[str, str, str]]:
    outside = {one.name: str(one) for one in report.gaps_out}
    return [(one.name, str(one), outside.get(one.name, "–")) for one in report.gaps]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def figures_table(
    figures: Sequence[Figures], models: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: APGR and CPT with two models, AIQ with any; AUROC and ECE are means over models."""
    paired = any(math.isfinite(one.apgr) for one in figures)
    first = ("APGR", "95 %", "CPT20", "CPT50", "CPT80") if paired else ()
    header = ("router", *first, "AIQ", "accuracy", "95 %", "of oracle", "AUROC", "ECE", "worst ECE", "fit, s")
    rows = []
    for one in figures:
        cells = [one.name]
        if paired:
            cells += [_number(one.apgr), _between(one.apgr_interval), *(f"{100 * c:.1f} %" for c in one.cpt)]
        cells += [_number(one.aiq), _number(one.accuracy), _between(one.accuracy_interval)]
        cells += [f"{100 * one.of_oracle:.1f} %", _number(_mean(one.auroc)), _number(_mean(one.ece))]
        rows.append((*cells, _number(max(one.ece)), f"{one.seconds:.1f}"))
    return header, rows


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _between(edges: tuple[float, float]) -> str:
    return f"{edges[0]:.3f}–{edges[1]:.3f}" if math.isfinite(edges[0]) else "–"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        mark = " class=stack" if cells[0] == STACK else ""
        return f"<tr{mark}>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    top = line(header, "th") if any(header) else ""
    return "<table>" + top + "".join(line(row, "td") for row in rows) + "</table>"


# -- picture -----------------------------------------------------------------------------------------------


def draw(report: Report, path: Path) -> bool:
    """Cost against quality with a band, and reliability by model. False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    stack = next((one for one in report.found if one.name == STACK), None)
    if stack is not None and len(report.judge.rows):
        _draw_costs(left, report, stack)
        _draw_reliability(right, report, stack)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _draw_costs(axes: Any, report: Report, stack: Contender) -> None:
    judge = report.judge
    truth, price = judge.truth, judge.prices.double().numpy()
    for one in report.found:
        if one.baseline and one.name != "random":
            swept = worth.sweep(one.p[judge.rows].numpy(), truth, price)
            axes.plot(swept.cost, swept.quality, color=_GREY, linewidth=0.8)
    swept = worth.sweep(stack.p[judge.rows].numpy(), truth, price)
    band = _band(stack.p[judge.rows], judge, swept.lam)
    order = np.argsort(swept.cost, kind="stable")
    axes.fill_between(swept.cost[order], band[0][order], band[1][order], color=_BLUE, alpha=0.18, linewidth=0)
    axes.plot(swept.cost[order], swept.quality[order], color=_BLUE, linewidth=1.8, label="stack, 95 % band")
    axes.scatter(price, truth.mean(0), color=_INK, s=18, zorder=3)
    for name, x, y in zip(judge.models, price, truth.mean(0), strict=True):
        axes.annotate(name[:24], (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set(xlabel="mean price a prompt", ylabel="quality", title="Quality against cost (grey: baselines)")
    axes.legend(frameon=False, fontsize=8)


def _band(p: Tensor, judge: Judge, lams: Any) -> tuple[Any, Any]:
    truth, price, rows = judge.truth, judge.prices.double().numpy(), np.arange(len(judge.rows))
    chosen = np.stack([truth[rows, np.argmax(p.numpy() - lam * price, axis=1)] for lam in lams], 1)
    some = judge.draws[:200]
    resampled = some @ chosen / some.sum(1, keepdims=True)
    return np.percentile(resampled, 2.5, axis=0), np.percentile(resampled, 97.5, axis=0)


def _draw_reliability(axes: Any, report: Report, stack: Contender) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    for number, name in enumerate(report.models[:12]):
        y = report.judge.quality[:, number]
        known = ~y.isnan()
        p, right = stack.p[known, number].numpy(), y[known].numpy()
        place = np.clip(np.ceil(p * 15).astype(int) - 1, 0, 14)
        bins = [place == i for i in range(15) if (place == i).sum() >= 5]
        axes.plot(
            [p[b].mean() for b in bins],
            [right[b].mean() for b in bins],
            marker="o",
            markersize=3,
            label=name[:24],
        )
    axes.set(xlabel="P(correct), stack", ylabel="share right", title="Reliability by model")
    axes.legend(frameon=False, fontsize=7)
