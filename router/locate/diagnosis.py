"""Name the failing stage of two-hop prompts, and confirm it by patching: `flow` for prompts with a bridge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...store.errors import UsageError
from .anatomy import Anatomy
from .case import Case
from .finding import Finding, Found, Grid, layer_names
from .hops import HOPS, NONE
from .repair import LATE, Repairs, Traced, repairs, traced
from .trace import trace

Facts = dict[str, float | int | str]


def diagnose(anatomy: Anatomy, cases: Sequence[Case], top: int | None = None) -> Finding:
    """Rank prompts by what their answer lacks, each with the stage that fails and the sites whose patching
    restores it; draw the worst. Donors are prompts of the same bridge (or answer) that are answered right.

    Raises UsageError for prompts without a bridge among those with one, and as `check_hops` does.
    """
    if len(without := [i for i, one in enumerate(cases, 1) if one.bridge is None]) > 0:
        raise UsageError(
            f'prompt {without[0]} has no "bridge" and others have one; give each prompt one, or none'
        )
    found = traced(anatomy, cases)
    failing = [i for i, one in enumerate(found) if one.hops.stage != NONE]
    patched = dict(zip(failing, repairs(anatomy, found), strict=True))
    lacks = [-float(one.hops.answer[-1]) for one in found]
    order = sorted(range(len(found)), key=lambda i: (-lacks[i], i))
    return Finding(
        "flow",
        "-log P(answer) among answers and bridges (nats)",
        tuple(Found(f"prompt {i + 1}", lacks[i], _note(found[i], patched.get(i))) for i in order[:top]),
        _facts(found, list(patched.values())),
        _grids(anatomy, found[order[0]], order[0] + 1),
        fingerprint=anatomy.fingerprint,
    )


def _note(one: Traced, repaired: Repairs | None) -> str:
    if repaired is None:
        return "right"
    sites = [name for name in (*HOPS, LATE) if repaired.restored[name]]
    missing = sum(repaired.restored[name] is None for name in HOPS)
    said = f"fails at {one.hops.stage}; restored at {', '.join(sites) or 'no site'}"
    return said + (f"; {missing} without a donor" if missing else "")


def _facts(found: Sequence[Traced], patched: Sequence[Repairs]) -> Facts:
    right = [one.hops for one in found if one.hops.right]
    named, agreed = (
        Counter(one.named for one in patched),
        Counter(one.named for one in patched if one.confirmed),
    )
    facts: Facts = {"prompts": len(found), "answered right": len(right)}
    for name in HOPS:
        facts[f"fail at {name}"] = f"{named[name]}, of which patching confirms {agreed[name]}"
    if right:  # readings that fail where all went right cannot be trusted where it did not
        held = (sum(one.resolved for one in right), sum(one.carried for one in right))
        facts["right prompts whose bridge is read"] = (
            f"{held[0]} resolved, {held[1]} carried, of {len(right)}"
        )
    return facts


def _grids(anatomy: Anatomy, one: Traced, number: int) -> tuple[Grid, ...]:
    rows = layer_names(anatomy.layers)
    columns = tuple(f"{i} {text}" for i, text in enumerate(one.case.words()))
    flow = trace(anatomy, one.case)
    return (
        Grid(
            f"P(bridge) among its rivals (prompt {number})", ("embed", *rows), columns, one.hops.bridge.exp()
        ),
        Grid(f"Fetched by attention, at any distance (prompt {number})", rows, columns, flow.attention),
        Grid(f"Written by MLPs, at any distance (prompt {number})", rows, columns, flow.mlp),
    )
