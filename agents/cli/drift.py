"""`pilothouse log drift`: has the traffic changed?"""

from __future__ import annotations

from typing import Annotated

import typer

from ...store.errors import PilothouseError
from .logs import Json, Log, moment, opened, print_json


class DriftError(PilothouseError):
    """The newest records differ from those before them."""


def drift(
    log: Log = None,
    as_json: Json = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="The newest period: from then on.")] = "7d",
    reference: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The reference: from then until --since (else all before)."),
    ] = None,
    alarm: Annotated[bool, typer.Option("--alarm", help="Exit 1 when something drifted.")] = False,
) -> None:
    """Compare the newest records with those before: readings, P(correct), shares, lengths, outcomes.

    Unfamiliar prompts show as `ood fired` and `score of ood`, where the family reads that.
    """
    from ...store.audit import Filter
    from ...store.drift import drift as compare

    start = moment(since)
    with opened(log) as audit:
        then = audit.pages(Filter(since=moment(reference), until=start))
        found = compare(then, audit.pages(Filter(since=start)))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        typer.echo(f"{found.then} conversations before, {found.now} since {start}")
        for one in found.changes:
            if one.alarm or one.p_value < 0.05:
                mark = "ALARM" if one.alarm else "small"
                numbers = f"{one.then:.3g} then, {one.now:.3g} now, distance {one.distance:.2f}"
                typer.echo(f"{mark}\t{one.quantity}\t{numbers}\tp {one.p_value:.2g}")
        typer.echo(f"{len(found.alarms)} alarms among {len(found.changes)} quantities")
    if alarm and found.alarms:
        raise DriftError("drifted: " + ", ".join(one.quantity for one in found.alarms))
