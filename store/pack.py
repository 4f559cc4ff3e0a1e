"""A record pack: what the log holds of a period, laid out for whoever audits it, as one ZIP file.

Arranged along Article 12 of Regulation (EU) 2024/1689 (record-keeping of high-risk AI systems). It is
documentation for auditors; whether a system keeps the law is theirs to judge, and the pack says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Select, select

from .audit import Audit, Filter, without_texts
from .errors import StorePlaceError, UsageError
from .flat import write_csv
from .records import Frozen, Page, Time, utc_now
from .retention import NOBODY
from .tables import events
from .verify import Verification, verify
from .version import code_version

FORMAT = "pilothouse record pack 1"
README = """RECORD PACK

What this is: the automatic records of a Pilothouse installation for one period, for people who audit it.
The layout follows Article 12 of Regulation (EU) 2024/1689. It is documentation. It does not show, and nobody
should read it as showing, that a system meets that regulation: that depends on the system's purpose and on
measures that no log can see.

Where to find what Article 12 speaks of:

  12(1) automatic recording         events.jsonl: every row of the period, in the order of the chain
  12(2)(a) what may be a risk       incidents.jsonl: failures, stops, abstentions, escalations, forced
                                    choices, readings that fired, low scores, erasures
  12(2)(b) after release            uses.csv and its outcome columns; versions.json
  12(2)(c) the operation            uses.csv: every decision with its probability, threshold and reason
  12(3)(a) period of each use       uses.csv: created_at and closed_at (UTC)
  12(3)(b) to (d)                   reference databases, matching inputs, persons who verify results: this
                                    program knows none of these; keep them elsewhere if they apply to you

manifest.json gives the period, the counts, the result of verifying the whole log when the pack was made,
the tip of its hash chain, and the SHA-256 of every other file. versions.json lists everything that could
change an answer (weights, probes, policies, code) with the first and last time in the period that it was
in use.

To check a row of events.jsonl: row_hash is the SHA-256, in hexadecimal, of prev_hash followed by the row's
JSON with the keys sequence, kind, record_id, thread_id, created_at, status, specialists and payload, sorted,
without spaces, in UTF-8. Each prev_hash is the row_hash of the row before.

Texts (prompts, answers) are named by SHA-256 in the rows. They are here (texts.jsonl) only if the pack was
asked for with them. Texts that were erased are gone; the row that says so stays.
"""


class Packed(Frozen):
    """What a pack holds."""

    path: str
    since: Time | None
    until: Time | None
    records: int
    rows: int
    incidents: int
    verification: Verification


def write_pack(
    audit: Audit, target: Path, since: Time | None = None, until: Time | None = None, texts: bool = False
) -> Packed:
    """Write the pack of the records opened, and the rows written, from `since` until before `until`.

    Raises UsageError when the file exists, StorePlaceError when it cannot be written. A log that does not
    verify is packed all the same, and the manifest says so.
    """
    wanted = Filter(since=since, until=until)
    try:
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
            pack = _Pack(archive)
            pack.text("README.txt", [README])
            with audit.reading() as connection:
                verification = verify(connection)
                rows = pack.text("events.jsonl", _rows(connection, since, until))
            pages = (page if texts else without_texts(page) for page in audit.pages(wanted))
            counts = pack.records(pages, texts)
            packed = Packed(
                path=str(target), since=since, until=until, rows=rows, verification=verification, **counts
            )
            pack.manifest(packed)
    except FileExistsError as error:
        raise UsageError(f"{target} exists already; name a file that does not") from error
    except OSError as error:
        raise StorePlaceError(f"{target} cannot be written ({error.strerror}); name another file") from error
    return packed


class _Pack:
    """The archive, and the digests of what is in it."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.files: dict[str, str] = {}

    def text(self, name: str, lines: Iterable[str]) -> int:
        """Write lines into a file; return how many."""
        count, seen = 0, hashlib.sha256()
        with self.archive.open(name, "w", force_zip64=True) as out:
            for line in lines:
                seen.update(_put(out, line))
                count += 1
        self.files[name] = seen.hexdigest()
        return count

    def records(self, pages: Iterator[Page], texts: bool) -> dict[str, int]:
        """Write the files that tell of records, in one pass over them."""
        table = io.StringIO(newline="")
        incidents: list[str] = []
        told: list[str] = []
        versions = _Versions()

        def watched() -> Iterator[Page]:
            for page in pages:
                versions.add(page)
                incidents.extend(_line(one) for one in incidents_of(page))
                if texts:
                    told.append(
                        _line({"id": page.record.id, "messages": _words(page), "answer": page.answer})
                    )
                yield page

        count = write_csv(watched(), table, texts=False)
        self.text("uses.csv", [table.getvalue()])
        self.text("incidents.jsonl", incidents)
        self.text("versions.json", [json.dumps(versions.told(), indent=1, sort_keys=True) + "\n"])
        if texts:
            self.text("texts.jsonl", told)
        return {"records": count, "incidents": len(incidents)}

    def manifest(self, packed: Packed) -> None:
        """Write the manifest, last."""
        body = packed.model_dump(mode="json", exclude={"path"})
        head = {"format": FORMAT, "made_at": utc_now(), "code": code_version(), "files": dict(self.files)}
        self.text("manifest.json", [json.dumps(head | body, indent=1, sort_keys=True) + "\n"])


def incidents_of(page: Page) -> Iterator[dict[str, Any]]:
    """What in a record may deserve a look, each with the record's id and time."""
    record = page.record

    def said(what: str, why: str) -> dict[str, Any]:
        return {"id": record.id, "at": record.created_at, "what": what, "why": why}

    if record.status != "completed":
        yield said(record.status, "the record ended so" if record.closed_at else "no end is on record")
    for part in record.parts:
        if part.decision is not None and part.decision.forced:
            yield said("forced", part.decision.reason)
        if part.decision is not None and part.decision.abstained:
            yield said("abstention", part.decision.reason)
        for hop in part.hops:
            yield said("escalation", "; ".join(check.reason for check in hop.checks) or hop.decision.reason)
        for reading in part.readings:
            if reading.fired:
                yield said("reading fired", f"{reading.probe} {reading.probability:.3f}")
    for outcome in page.outcomes:
        if outcome.score is not None and outcome.score <= 0:
            yield said("low score", f"{outcome.source}: {outcome.verdict} ({outcome.score:g})")
    if page.erased_at is not None:
        yield said("texts erased", f"{page.erased_at}: {page.erased_reason}")


class _Versions:
    """Everything that could change an answer, with the first and last record of the period that used it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], list[str]] = {}

    def add(self, page: Page) -> None:
        record = page.record
        names = [(one.kind, one.name, one.sha256) for one in record.artifacts]
        names.append(("code", "pilothouse", record.code_version))
        decided = (part.decision for part in record.parts)
        names += [("policy", "decided under", one.policy_hash) for one in decided if one is not None]
        for name in names:
            self._seen.setdefault(name, [record.created_at, record.created_at])[1] = record.created_at

    def told(self) -> list[dict[str, str]]:
        keys = ("kind", "name", "version", "first_used", "last_used")
        return [dict(zip(keys, (*name, *times), strict=True)) for name, times in sorted(self._seen.items())]


def _words(page: Page) -> list[dict[str, str]]:
    return [message.model_dump() for message in page.messages]


def _rows(connection: Connection, since: Time | None, until: Time | None) -> Iterator[str]:
    query: Select[Any] = select(events).order_by(events.c.sequence)
    if since is not None:
        query = query.where(events.c.created_at >= since)
    if until is not None:
        query = query.where(events.c.created_at < until)
    with connection.execute(query.execution_options(yield_per=500)) as rows:
        for row in rows.mappings():
            yield _line({**row, "about": "the log" if row["record_id"] == NOBODY else "a record"})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n"


def _put(out: IO[bytes], line: str) -> bytes:
    data = line.encode()
    out.write(data)
    return data
