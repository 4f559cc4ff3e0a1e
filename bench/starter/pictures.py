"""The pictures beside the page: reliability, risk against coverage, routers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...router.probes.calibrate import reliability
from .. import estimates
from ..estimates import Array
from .scope import Scope, risk_coverage

INK, BLUE, GREY, RED = "#222222", "#2a6f97", "#9aa5ab", "#b23a48"


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def reliability_picture(scope: Scope, path: Path) -> None:
    """P(correct) against how often it came true; a bar's width of shade is its share of prompts."""
    plain = scope.plain == 1
    bins = reliability(scope.p[plain].tolist(), scope.right[plain].tolist())
    figure, axes = _figure(4.4, 4.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    total = sum(one.size for one in bins)
    axes.scatter(
        [one.mean_p for one in bins],
        [one.accuracy for one in bins],
        s=[20 + 900 * one.size / total for one in bins],
        color=BLUE,
        alpha=0.75,
    )
    axes.set(xlabel="P(correct) of who answers", ylabel="share that was right", xlim=(-0.03, 1.03))
    axes.set(ylim=(-0.03, 1.03), title="Reliability, in and out of scope")
    _save(figure, path)


def risk_picture(scope: Scope, path: Path, stated: float | None) -> None:
    """Selective risk against coverage, where the policy stands, and the best possible order."""
    figure, axes = _figure(5.2, 3.8)
    coverage, risk = risk_coverage(scope.p, scope.right)
    axes.plot(coverage, risk, color=BLUE, label="by P(correct)")
    axes.plot(
        *risk_coverage(scope.right, scope.right), color=GREY, linestyle="--", label="best possible order"
    )
    answered = scope.answered == 1
    if answered.any():
        place = float(answered.mean()), float(1 - scope.right[answered].mean())
        axes.scatter(*[[value] for value in place], color=RED, zorder=3, label="the policy as shipped")
    if stated is not None:
        axes.axhline(stated, color=RED, linewidth=0.8, linestyle=":", label=f"stated risk {stated:g}")
    axes.set(xlabel="share answered", ylabel="share wrong among the answered", title="Risk and coverage")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def router_picture(scores: Mapping[str, Array], path: Path, seed: int) -> None:
    """Bars of routed accuracy with 95 % intervals."""
    names = list(scores)
    found = [estimates.mean(scores[name], seed) for name in names]
    figure, axes = _figure(7.2, 0.38 * len(names) + 1.0)
    places = range(len(names))[::-1]
    colours = [BLUE if name.startswith("probes") else GREY for name in names]
    axes.barh(places, [100 * one.value for one in found], color=colours, height=0.7)
    spread = [[100 * (one.value - one.low) for one in found], [100 * (one.high - one.value) for one in found]]
    axes.errorbar(
        [100 * one.value for one in found], places, xerr=spread, fmt="none", ecolor=INK, elinewidth=1
    )
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(xlabel="answers right, %", xlim=(0, 100), title="Routed answers on the balanced test mixture")
    _save(figure, path)
