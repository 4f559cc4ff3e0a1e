"""`pilothouse log replay`: decide recorded requests again, as they were or under another policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import PilothouseError, UsageError
from ...store.printable import visible
from . import console, logs
from .logs import Json, Log, Since, Specialist, StatusOption, Text, Thread, Until

if TYPE_CHECKING:
    from ...router.policy import Policy
    from ...specialists.family import Family
    from ...store.audit import Audit, Filter
    from ...store.records import Page
    from ..replay import Replay
    from ..whatif import Compared, WhatIf

MOST = 1000


class NotReproducedError(PilothouseError):
    """Some decision came out differently although nothing it rests on has changed."""


def replay(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One record: id, part of it, 'last'.")
    ] = None,
    log: Log = None,
    as_json: Json = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many that fit, newest first (1000).")
    ] = None,
    status: StatusOption = None,
    specialist: Specialist = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Decide under this policy.json instead.")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PRICE", help="Decide under another price; may repeat.")
    ] = None,
    lam: Annotated[float | None, typer.Option(min=0, help="Decide under another lambda.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Decide under another threshold.")
    ] = None,
    base: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A policy.json that records were made under; may repeat."),
    ] = None,
    family: console.FamilyOption = None,
    device: console.DeviceOption = None,
) -> None:
    """Decide recorded requests again: the same decision, or the artifact that changed.

    With --policy, --price, --lam or --threshold: what would have gone elsewhere, and what that changes in
    coverage, believed quality and cost. That reads the log alone, and loads no model. Without ID and filter:
    the newest record.
    """
    wanted = logs.filter_of(status, specialist, thread, since, until, text)
    settings = console.settings_with(family=family, device=device)
    with logs.opened(log) as audit:
        pages = _pages(audit, name, wanted, limit)
        if policy is None and not price and lam is None and threshold is None:
            _reproduce(pages, settings, as_json)
            return
        from ...specialists.family import Family

        opened = Family.open(settings.family)
        report = _compare(pages, opened, policy, price or [], lam, threshold, base or [])
    if as_json:
        logs.print_json(report.model_dump(mode="json"))
        return
    for line in report_lines(report):
        typer.echo(visible(line, keep=""))


def _pages(audit: Audit, name: str | None, wanted: Filter, limit: int | None) -> list[Page]:
    many = limit is not None or bool(wanted.model_dump(exclude_none=True))
    if name is not None and many:
        raise UsageError(f"give either the record {name!r} or a filter, not both")
    return audit.latest(wanted, limit=limit or MOST) if many else [audit.page(name or "last")]


# -- the same decisions ------------------------------------------------------------------------------------


def _reproduce(pages: list[Page], settings: Any, as_json: bool) -> None:
    """Print one verdict a record. Raises NotReproducedError where one is unexplained."""
    from ..replay import replay as replay_page

    verdicts: Counter[str] = Counter()
    with console.quick_start(), console.open_pilot(settings, no_log=True) as pilot:
        for page in pages:
            found = replay_page(page, pilot.ship)
            verdicts[found.verdict] += 1
            if as_json:
                logs.print_lines([found])
            elif len(pages) == 1 or found.verdict != "reproduced":
                for line in replay_lines(found):
                    typer.echo(visible(line, keep=""))
    if len(pages) != 1 and not as_json:
        typer.echo(f"{len(pages)} records: " + ", ".join(f"{n} {what}" for what, n in verdicts.most_common()))
    if verdicts["unexplained"]:
        raise NotReproducedError(
            f"{verdicts['unexplained']} of {len(pages)} decisions came out differently although no artifact "
            "changed; please report this"
        )


def replay_lines(found: Replay) -> Iterator[str]:
    """A replay as plain lines."""
    yield f"{found.record_id}  {found.verdict}: {found.reason}"
    for miss in found.mismatches:
        yield f"    part {miss.part + 1}  {miss.field}: {_value(miss.recorded)} → {_value(miss.now)}"
    for note in found.notes:
        yield f"    note: {note}"


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(row["name"]) for row in value) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


# -- another policy ----------------------------------------------------------------------------------------


def _compare(
    pages: list[Page],
    family: Family,
    policy: Path | None,
    prices: list[str],
    lam: float | None,
    threshold: float | None,
    bases: list[Path],
) -> WhatIf:
    from ...router.policy import Policy
    from ..whatif import changed_policy, what_if

    own = family.policy or Policy()
    known = [own, *(Policy.load(path) for path in bases)]
    new = changed_policy(_start(policy, known), prices, lam, threshold)
    if strangers := sorted(set(new.prices) - set(family.cards)):
        raise UsageError(f"there is no specialist {strangers[0]!r}; choose one of {', '.join(family.cards)}")
    return what_if(pages, new, known)


def _start(policy: Path | None, known: list[Policy]) -> Policy:
    """What the changes change: the policy given, else the last one named with --base, else the family's."""
    from ...router.policy import Policy

    return Policy.load(policy) if policy is not None else known[-1]


def report_lines(found: WhatIf) -> Iterator[str]:
    """A what-if report as plain lines."""
    yield (
        f"policy    {found.policy_hash[:12]}: {found.decisions} decisions of {found.records} records in "
        f"{found.conversations} conversations decided again"
    )
    for why, count in ({"forced by the caller, so they stay": found.forced} | found.left_out).items():
        if count:
            yield f"left out  {count}: {why}"
    yield f"moved     {found.moved} would have gone elsewhere"
    for move in found.moves:
        if move.source != move.target:
            yield f"          {move.count:>6}  {move.source} → {move.target}"
    yield from _quantities(found)
    yield from _measured(found)
    for index, text in enumerate(found.unknown):
        yield f"{'unknown' if index == 0 else '':<9} {text}"
    for index, one in enumerate(found.examples):
        chances = " → ".join(f"{p:.2f}" if p is not None else "-" for p in (one.p_was, one.p_would_be))
        part = f" part {one.part + 1}" if one.part else ""
        label = "moved" if index == 0 else ""
        yield f"{label:<9} {one.record_id}{part}  {one.was} → {one.would_be}, P {chances}"


def _quantities(found: WhatIf) -> Iterator[str]:
    rows = (
        ("coverage", "share that somebody answers", found.coverage),
        ("believed", "mean P(correct), an abstention counting 0", found.believed),
        ("", "mean P(correct) of what is answered", found.believed_answered),
        ("cost", "price a request", found.cost),
    )
    for name, what, one in rows:
        if one is not None:
            yield f"{name:<9} {_change(one)}  {what}"
    if found.repriced is not None:
        yield f"{'':<9} {found.repriced:.4f} would the old choices cost in the new prices"


def _change(one: Compared) -> str:
    return f"{one.before:.4f} → {one.after:.4f}  ({one.change:+.4f}, 95 % {one.low:+.4f} to {one.high:+.4f})"


def _measured(found: WhatIf) -> Iterator[str]:
    measured = found.measured
    if measured.mean is None:
        return
    line = f"measured  mean score {measured.mean:.3f} over {measured.kept + measured.moved} outcomes"
    if measured.lowest is not None:
        line += f"; under the new policy between {measured.lowest:.3f} and {measured.highest:.3f}"
    yield line
