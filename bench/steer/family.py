"""CorrSteer and CRL on the shipped family's own specialists, each entry before the gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...specialists.family import Family
from ...specialists.starter.entries import BUDGET, FIT, GATE, VALIDATE, Tried, try_all
from ..page import Section


def section(
    family: Family, data: Path | None, seed: int, quick: bool, say: Callable[[str], None]
) -> Section | None:
    """What was found, chosen and let through; None for a family that has none of the starter's skills."""
    found = list(try_all(family, data, seed, 0.1 if quick else 1.0, say))
    if not found:
        return None
    passed = [one for one in found if one.admitted]
    return Section(
        "The family's specialists",
        f"Features of the family's dictionary under each specialist's adapter: {FIT} prompts to "
        f"find them, {VALIDATE} to choose the strength under {BUDGET} nats a token on others' "
        f"text, {GATE} for the gate. {len(passed)} of {len(found)} entries were admitted; where "
        "none was, the policy has none.",
        (
            "specialist",
            "method",
            "chosen",
            "unsteered",
            "with it",
            "gain, at least",
            "valid",
            "side effect",
            "gate",
        ),
        tuple(map(_row, found)),
    )


def _row(tried: Tried) -> tuple[str, ...]:
    choice, verdict = tried.found.choice, tried.verdict
    if verdict is None:
        return (
            tried.skill,
            tried.found.method,
            "nothing",
            f"{100 * choice.baseline:.1f} % (validation)",
            *["–"] * 4,
            tried.reason,
        )
    plain = verdict.arms[0]
    return (
        tried.skill,
        tried.found.method,
        f"{choice.option} × {choice.strength:g}",
        f"{100 * plain.right:.1f} %",
        f"{100 * verdict.right:.1f} %",
        f"{100 * plain.gain:+.1f}, {100 * plain.low:+.1f}",
        f"{100 * plain.valid:.1f} → {100 * verdict.valid:.1f} %",
        f"{verdict.side_effect:.3f} nats",
        tried.reason,
    )
