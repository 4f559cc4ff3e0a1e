"""What is learned later about an answer goes into the log beside it."""

from __future__ import annotations

from pydantic import ValidationError

from ..store.errors import UsageError
from ..store.records import Outcome


def write_outcome(
    log: object, name: str, verdict: str, score: float | None, source: str, note: str
) -> Outcome:
    """Write an outcome to the record that `name` means; it is on disk when this returns.

    Raises NotFoundError for an unknown record, UsageError for a log that keeps nothing, or a score that is no
    number.
    """
    from ..store.audit import Audit
    from ..store.ledger import Ledger

    if not isinstance(log, Ledger):
        raise UsageError("outcomes belong to a record, and nothing is logged here; open the pilot with a log")
    with Audit.open(str(log.place.path or log.place.url)) as audit:
        record_id = audit.resolve(name)
    try:
        outcome = Outcome(record_id=record_id, source=source, verdict=verdict, score=score, note=note)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"outcome {first['loc'][0]} is {first['input']!r}: {first['msg']}") from error
    log.note(outcome)
    return outcome
