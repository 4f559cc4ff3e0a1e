"""A record as the log would give it back, for tests of what is computed from records."""

from __future__ import annotations

from pilothouse.store.records import MessageRef, Outcome, Page, Part, Record, RequestMeta, new_id, utc_now

HASH = "ab" * 32


def finished(part: Part, score: float | None = None, thread: str | None = None) -> Page:
    """A completed record of one part, with an outcome where a score is given."""
    name, now = new_id(), utc_now()
    meta = RequestMeta(
        id=name,
        thread_id=thread or name,
        messages=(MessageRef(role="user", sha256=HASH),),
        max_tokens=9,
        temperature=0,
        seed=0,
        created_at=now,
    )
    record = Record(
        id=name,
        thread_id=thread or name,
        created_at=now,
        status="completed",
        request=meta,
        prompt_sha256=HASH,
        parts=(part,),
        code_version="test",
        sequence=1,
        prev_hash=HASH,
        row_hash=HASH,
    )
    outcomes = () if score is None else (Outcome(record_id=name, source="v", verdict="x", score=score),)
    return Page(record=record, outcomes=outcomes)
