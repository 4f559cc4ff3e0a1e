"""The picture of a choice: effect against side effect, each option a line over its strengths. Plain SVG."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from ..files import replace
from .choice import Choice, Tried

WIDTH, HEIGHT, LEFT, FOOT = 640, 320, 56, 44
COLOURS = ("#3366aa", "#bb5533", "#338855", "#8855aa", "#997711", "#117788")


def draw(choice: Choice, path: Path) -> Path:
    """Write the picture of what was tried; the budget is the dotted line, the choice the ringed point."""
    options = sorted({one.option for one in choice.tried})
    spread = [_across(one, choice.budget) for one in choice.tried]
    widest = max([*spread, _scaled(choice.budget, choice.budget), 1e-9])

    def place(one: Tried) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 16) * _across(one, choice.budget) / widest
        return x, 16 + (HEIGHT - 16 - FOOT) * (1 - one.effect)

    edge = LEFT + (WIDTH - LEFT - 16) * _scaled(choice.budget, choice.budget) / widest
    floor = HEIGHT - FOOT
    pieces = [
        _line(LEFT, floor, WIDTH - 16, floor),
        _line(LEFT, 16, LEFT, floor),
        _line(edge, 16, edge, floor, "2 3"),
        _line(
            LEFT,
            16 + (floor - 16) * (1 - choice.baseline),
            WIDTH - 16,
            16 + (floor - 16) * (1 - choice.baseline),
            "6 4",
        ),
        _text(edge + 4, 26, f"budget {choice.budget:g}"),
        _text(LEFT, HEIGHT - 10, "KL on neutral text, nats a token (log(1 + x / budget))"),
        _text(4, 12, "effect"),
    ]
    for at, option in enumerate(options):
        colour = COLOURS[at % len(COLOURS)]
        rows = [one for one in choice.tried if one.option == option]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, rows))
        pieces.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        pieces += [
            _dot(*place(one), colour, _tip(one), one.strength == choice.strength and option == choice.option)
            for one in rows
        ]
        pieces.append(_text(WIDTH - 90, 30 + 14 * at, option, colour))
    body = "\n".join(pieces)
    replace(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n",
    )
    return path


def _scaled(value: float, budget: float) -> float:
    return math.log1p(max(value, 0.0) / max(budget, 1e-12))


def _across(one: Tried, budget: float) -> float:
    return _scaled(one.side_effect, budget)


def _tip(one: Tried) -> str:
    return f"{one.option} x {one.strength:g}: effect {one.effect:.3f}, side effect {one.side_effect:.4g} nats"


def _line(x1: float, y1: float, x2: float, y2: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#555"{dashed}/>'


def _text(x: float, y: float, said: str, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(said)}</text>'


def _dot(x: float, y: float, colour: str, tip: str, chosen: bool) -> str:
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="black"/>' if chosen else ""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(tip)}</title></circle>{ring}'
    )
