"""From rows to records: how the audit reads pages back, a batch at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from .payloads import outcome_from, part_from
from .process import Process, is_gone
from .records import Artifact, Message, Page, Record, RequestMeta
from .retention import Expiry, expiries
from .tables import artifacts, content, events

Body = dict[str, Any]


def pages(connection: Connection, record_ids: Sequence[str]) -> list[Page]:
    """Read the pages of `record_ids`, in that order; an id without an opening row is left out."""
    rows: dict[str, list[RowMapping]] = defaultdict(list)
    query = select(events).where(events.c.record_id.in_(record_ids)).order_by(events.c.sequence)
    for row in connection.execute(query).mappings():
        rows[row["record_id"]].append(row)
    bodies = {row["sequence"]: json.loads(row["payload"]) for group in rows.values() for row in group}
    bare = max(expiries(connection), key=lambda one: one.through, default=None)
    texts = _texts(connection, bodies.values())
    listed = _artifacts(connection, bodies.values())
    return [
        _page(rows[name], bodies, texts, listed, bare)
        for name in record_ids
        if any(row["kind"] == "opened" for row in rows.get(name, ()))
    ]


def _texts(connection: Connection, bodies: Iterable[Body]) -> dict[str, str]:
    names = {name for body in bodies for name in body.get("texts", ())}
    query = select(content.c.sha256, content.c.text).where(content.c.sha256.in_(names))
    return {row.sha256: row.text for row in connection.execute(query)}


def _artifacts(connection: Connection, bodies: Iterable[Body]) -> dict[str, Artifact]:
    names = {name for body in bodies for name in body.get("artifacts", ())}
    query = select(artifacts).where(artifacts.c.id.in_(names))
    found = connection.execute(query).mappings()
    return {row["id"]: Artifact(**{key: row[key] for key in Artifact.model_fields}) for row in found}


def _page(
    rows: Sequence[RowMapping],
    bodies: Mapping[int, Body],
    texts: Mapping[str, str],
    listed: Mapping[str, Artifact],
    bare: Expiry | None,
) -> Page:
    by_kind: dict[str, list[RowMapping]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    opened = by_kind["opened"][0]
    closed = by_kind["closed"][0] if by_kind["closed"] else None
    start, end = bodies[opened["sequence"]], bodies[closed["sequence"]] if closed is not None else {}
    gone = _erased(by_kind["erased"], bodies, bare if bare and opened["sequence"] <= bare.through else None)
    # a text that another record still holds is no longer this record's to show
    own = {} if gone is not None else texts
    record = _record(opened, closed, start, end, own, listed)
    return Page(
        record=record,
        messages=tuple(
            Message(role=ref.role, content=own[ref.sha256])
            for ref in record.request.messages
            if ref.sha256 in own
        ),
        prompt=own.get(record.prompt_sha256),
        answer=own.get(record.answer_sha256 or ""),
        outcomes=tuple(outcome_from(bodies[row["sequence"]], own) for row in by_kind["outcome"]),
        erased_at=gone[0] if gone is not None else None,
        erased_reason=gone[1] if gone is not None else None,
        orphaned=closed is None and is_gone(Process.model_validate(start["process"])),
        redacted=any("redacted" in bodies[row["sequence"]] for row in rows),
    )


def _erased(
    rows: Sequence[RowMapping], bodies: Mapping[int, Body], bare: Expiry | None
) -> tuple[str, str] | None:
    """When and why the record's texts went: by a row of its own, or by retention."""
    if rows:
        return rows[-1]["created_at"], bodies[rows[-1]["sequence"]]["reason"]
    return (bare.at, bare.reason) if bare is not None else None


def _record(
    opened: RowMapping,
    closed: RowMapping | None,
    start: Body,
    end: Body,
    texts: Mapping[str, str],
    listed: Mapping[str, Artifact],
) -> Record:
    latest = closed if closed is not None else opened
    return Record(
        id=opened["record_id"],
        thread_id=opened["thread_id"],
        parent_id=start["parent_id"],
        created_at=opened["created_at"],
        closed_at=closed["created_at"] if closed is not None else None,
        status=latest["status"],
        request=RequestMeta.model_validate(start["request"]),
        prompt_sha256=start["prompt_sha256"],
        answer_sha256=end.get("answer_sha256"),
        parts=tuple(part_from(body, texts) for body in end.get("parts", ())),
        artifacts=tuple(listed[name] for name in end.get("artifacts", ()) if name in listed),
        error=texts.get(end.get("error_sha256") or ""),
        code_version=start["code_version"],
        sequence=latest["sequence"],
        prev_hash=latest["prev_hash"],
        row_hash=latest["row_hash"],
    )
