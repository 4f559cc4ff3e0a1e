"""Small pictures as plain inline SVG. Colours come from classes, so light and dark need no second picture.

Every text goes through `_safe` and `Markup.format`, which escapes it; numbers are written by `_n`, which
writes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from ...store.printable import visible

WIDE = 720  # the width that large pictures are drawn for; they scale to the page


class Slice(NamedTuple):
    """One piece of a stacked bar; `tone` is a class of the style sheet."""

    name: str
    value: float
    tone: str


class Point(NamedTuple):
    """One bin of a reliability picture: belief and result are shares, `low` to `high` the interval."""

    belief: float
    result: float
    low: float
    high: float
    total: int


class Span(NamedTuple):
    """Where one steering entry acts, on the axis of tokens; `gate` is the probe that decides there."""

    name: str
    start: float
    end: float
    gate: str | None


def _n(value: float) -> Markup:
    """A coordinate."""
    return Markup(f"{value:.2f}".rstrip("0").rstrip(".")) if math.isfinite(value) else Markup("0")


def _safe(text: str) -> str:
    """Control and reordering characters written out."""
    return visible(text, keep="")


def _rect(x: float, y: float, width: float, height: float, tone: str, title: str = "") -> Markup:
    said = Markup("<title>{}</title>").format(_safe(title)) if title else Markup()
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
        tone, _n(x), _n(y), _n(max(0.0, width)), _n(max(0.0, height)), said
    )


def _line(x1: float, y1: float, x2: float, y2: float, tone: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        tone, _n(x1), _n(y1), _n(x2), _n(y2)
    )


def _text(x: float, y: float, text: str, tone: str = "label", anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        tone, _n(x), _n(y), anchor, _safe(text)
    )


def _svg(width: float, height: float, tone: str, label: str, pieces: Iterable[Markup]) -> Markup:
    """A picture with its description; one without is hidden from readers, its numbers stand beside it.

    Bars stretch to their cell; pictures with text keep their proportions.
    """
    ratio = "none" if tone in ("bar", "stack") else "xMinYMid"
    named = (
        Markup('role="img" aria-label="{}"').format(_safe(label)) if label else Markup('aria-hidden="true"')
    )
    return Markup('<svg class="{}" viewBox="0 0 {} {}" {} preserveAspectRatio="{}">{}</svg>').format(
        tone, _n(width), _n(height), named, ratio, Markup().join(pieces)
    )


def _clip(share: float) -> float:
    return min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0


def bar(share: float, threshold: float | None = None, tone: str = "fill") -> Markup:
    """A probability as a bar, with a tick at its threshold."""
    pieces = [_rect(0, 2, 200, 12, "track"), _rect(0, 2, 200 * _clip(share), 12, tone)]
    if threshold is not None:
        at = 200 * _clip(threshold)
        pieces.append(_line(at, 0, at, 16, "threshold"))
    return _svg(200, 16, "bar", "", pieces)


def diverging(value: float, widest: float) -> Markup:
    """A share of a logit, to the left of the middle when it speaks against."""
    length = 100 * _clip(abs(value) / widest) if widest else 0.0
    start, tone = (100.0, "for") if value >= 0 else (100 - length, "against")
    pieces = [_rect(start, 2, length, 12, tone), _line(100, 0, 100, 16, "axis")]
    return _svg(200, 16, "bar", "", pieces)


def stacked(slices: Sequence[Slice], unit: str) -> Markup:
    """One bar cut into named pieces."""
    total, x = sum(max(0.0, one.value) for one in slices), 0.0
    pieces = []
    for one in slices:
        width = WIDE * max(0.0, one.value) / total if total else 0.0
        pieces.append(_rect(x, 0, width, 18, one.tone, f"{one.name}: {one.value:.4g} {unit}"))
        x += width
    label = ", ".join(f"{one.name} {one.value:.4g} {unit}" for one in slices)
    return _svg(WIDE, 18, "stack", label, pieces)


def timeline(spans: Sequence[Span], prompt: int, written: int) -> Markup:
    """Which steering entry acts at which tokens: the prompt's, then those of the answer."""
    total, left = max(1, prompt + written), 150.0
    scale = (WIDE - left - 10) / total
    height = 26 + 24 * len(spans)
    edge = left + prompt * scale
    pieces = [
        _rect(left, 18, prompt * scale, height - 18, "lane"),
        _rect(edge, 18, written * scale, height - 18, "lane other"),
        _text(left + 4, 12, f"prompt, {prompt} tokens"),
        _text(max(edge + 4, left + 130), 12, f"answer, {written} tokens"),
    ]
    for row, span in enumerate(spans):
        y = 24 + 24 * row
        pieces.append(_text(left - 8, y + 12, shorten(span.name, 22), "label", "end"))
        width = max(4.0, (span.end - span.start) * scale)
        said = f"{span.name}: {'gated by ' + span.gate if span.gate else 'always on'}"
        tone = "steer gated" if span.gate else "steer"
        pieces.append(_rect(left + span.start * scale, y, width, 16, tone, said))
    label = "; ".join(
        f"{one.name} acts on tokens {one.start:.0f} to {one.end:.0f}"
        + (f", gated by {one.gate}" * bool(one.gate))
        for one in spans
    )
    return _svg(WIDE, height, "wide", label, pieces)


def shorten(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def columns(names: Sequence[str], stacks: Sequence[Sequence[Slice]], label: str) -> Markup:
    """Counts over time, one stacked column a bucket."""
    top = max((sum(one.value for one in stack) for stack in stacks), default=0.0) or 1.0
    step = min(60.0, (WIDE - 50) / max(1, len(stacks)))
    pieces = [
        _line(45, 140, WIDE, 140, "axis"),
        _text(40, 16, f"{top:,.0f}", "label", "end"),
        _text(40, 142, "0", "label", "end"),
    ]
    for place, (name, stack) in enumerate(zip(names, stacks, strict=True)):
        y = 140.0
        for one in stack:
            height = 130 * one.value / top
            y -= height
            pieces.append(
                _rect(
                    48 + place * step,
                    y,
                    max(1.0, step - 2),
                    height,
                    one.tone,
                    f"{name}: {one.name} {one.value:.0f}",
                )
            )
    pieces += _ends(names, 156)
    return _svg(WIDE, 164, "wide", label, pieces)


def _ends(names: Sequence[str], y: float) -> list[Markup]:
    """The first and the last name below an axis."""
    if not names:
        return []
    last = [_text(WIDE, y, names[-1], "label", "end")] if len(names) > 1 else []
    return [_text(48, y, names[0]), *last]


def histogram(values: Sequence[float], label: str, bins: int = 24) -> Markup:
    """How often values of some size occur."""
    if not values:
        return Markup()
    low, high = min(0.0, *values), max(0.0, *values)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    top, step = max(counts), (WIDE - 50) / bins
    pieces = [_line(45, 140, WIDE, 140, "axis"), _text(40, 16, f"{top:,}", "label", "end")]
    for place, count in enumerate(counts):
        said = f"{low + place * width:.3g} to {low + (place + 1) * width:.3g}: {count}"
        height = 130 * count / top
        pieces.append(_rect(48 + place * step, 140 - height, step - 2, height, "fill", said))
    pieces += _ends([f"{low:.3g}", f"{high:.3g}"], 156)
    return _svg(WIDE, 164, "wide", label, pieces)


def reliability(points: Sequence[Point], label: str) -> Markup:
    """Results against beliefs: a calibrated probe stays on the diagonal."""
    side, left = 260.0, 40.0
    pieces = [
        _rect(left, 10, side, side, "lane"),
        _line(left, 10 + side, left + side, 10, "threshold"),
        _text(left + side / 2, side + 34, "P(correct) believed", "label", "middle"),
        _text(left - 6, 18, "1", "label", "end"),
        _text(left - 6, 10 + side, "0", "label", "end"),
    ]
    for one in points:
        x = left + side * _clip(one.belief)
        y, low, high = (10 + side * (1 - _clip(share)) for share in (one.result, one.low, one.high))
        pieces.append(_line(x, low, x, high, "whisker"))
        said = f"believed {one.belief:.2f}, right {one.result:.2f}, of {one.total}"
        pieces.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                _n(x), _n(y), _n(3 + min(5.0, math.log10(one.total + 1) * 2)), said
            )
        )
    return _svg(left + side + 10, side + 44, "square", label, pieces)


def lines(
    names: Sequence[str], series: Sequence[tuple[str, str, Sequence[float | None]]], label: str
) -> Markup:
    """Several values over time: (name, class, one value a bucket, None where there is none)."""
    top = max((value for _, _, row in series for value in row if value is not None), default=0.0) or 1.0
    step = (WIDE - 60) / max(1, len(names) - 1)
    pieces = [
        _line(45, 140, WIDE, 140, "axis"),
        _text(40, 16, f"{top:,.0f}", "label", "end"),
        _text(40, 142, "0", "label", "end"),
    ]
    for name, tone, row in series:
        spots = [(50 + i * step, 140 - 130 * v / top, v) for i, v in enumerate(row) if v is not None]
        path = Markup(" ").join(Markup("{},{}").format(_n(x), _n(y)) for x, y, _ in spots)
        pieces.append(Markup('<polyline class="line {}" points="{}"/>').format(tone, path))
        pieces += [
            Markup('<circle class="spot {}" cx="{}" cy="{}" r="2.5"><title>{}</title></circle>').format(
                tone, _n(x), _n(y), f"{name}: {value:,.1f}"
            )
            for x, y, value in spots
        ]
    pieces += _ends(names, 156)
    return _svg(WIDE, 164, "wide", label, pieces)
