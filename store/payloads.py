"""What the log's rows say: from records to payloads and texts, and back.

Texts (messages, prompts, answers, error messages, notes) never enter a payload: it names them by digest.
Readings, reasons and labels do enter it, and cannot be erased later, so those who write them must not quote a
prompt in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from .hashes import canonical, digest, quick_canonical, storable
from .records import Artifact, Frozen, MessageRef, Outcome, Part, Request, Status, utc_now

_KEPT_APART = {"messages", "person"}
Redact = Callable[[str], str]
Model = TypeVar("Model", bound=Frozen)


class Event(NamedTuple):
    """A row before it has a place in the chain. `payload` is canonical JSON; `texts` maps digests to
    texts; P(correct) and milliseconds are for the list of records.
    """

    kind: str
    record_id: str
    thread_id: str
    status: str
    payload: str
    specialists: str = ""
    texts: Mapping[str, str] = {}
    p_correct: float | None = None
    total_ms: float = 0.0


class Texts(dict[str, str]):
    """The texts of one event by digest, as `redact` leaves them; `changed` names those that it changed."""

    def __init__(self, redact: Redact | None = None) -> None:
        super().__init__()
        self._redact = redact
        self.changed: tuple[str, ...] = ()

    def put(self, text: str) -> str:
        """Keep `text` and return its digest."""
        given = storable(text)
        kept = storable(self._redact(given)) if self._redact is not None else given
        name = digest(kept)
        self[name] = kept
        if kept != given:
            self.changed += (name,)
        return name

    def put_if(self, text: str | None) -> str | None:
        """Like `put`; None stays None."""
        return None if text is None else self.put(text)


def opened(
    request: Request, record_id: str, extra: Mapping[str, Any], keep_text: bool, redact: Redact | None = None
) -> Event:
    """The row that says a request arrived; `extra` is the parent's id, the code version and the process.

    `redact` changes every text before its digest is taken. Whose request it is does not enter the row.
    """
    texts = Texts(redact)
    refs = tuple(MessageRef(role=m.role, sha256=texts.put(m.content)) for m in request.messages)
    turns = [{"role": ref.role, "sha256": ref.sha256} for ref in refs]
    body = {
        "request": {**request.model_dump(mode="json", exclude=_KEPT_APART), "messages": turns},
        "prompt_sha256": refs[request.prompt_index].sha256,
        **extra,
    }
    return _event("opened", record_id, request.thread_id, "in_progress", body, texts, keep_text)


def closed(
    record_id: str,
    thread_id: str,
    status: Status,
    parts: Iterable[Part],
    answer: str | None,
    artifacts: Iterable[Artifact],
    error: str | None,
    keep_text: bool,
    redact: Redact | None = None,
) -> Event:
    """The row that says how it ended. `redact` as in `opened`. Raises ValueError for a part that a copy with
    changed fields made invalid.
    """
    texts = Texts(redact)
    parts = tuple(parts)
    body = {
        "parts": [_part(part, texts) for part in parts],
        "answer_sha256": texts.put_if(answer),
        "error_sha256": texts.put_if(error),
        "artifacts": [artifact_id(artifact) for artifact in artifacts],
    }
    names = dict.fromkeys(part.specialist for part in parts if part.specialist)
    event = _event("closed", record_id, thread_id, status, body, texts, keep_text, quick_canonical)
    return event._replace(
        specialists=f",{','.join(names)}," if names else "",
        p_correct=belief(parts),
        total_ms=sum(part.generation.timings.total_ms for part in parts if part.generation is not None),
    )


def belief(parts: Sequence[Part]) -> float | None:
    """P(correct) of the first part's specialist, as the list of records shows it."""
    beliefs = {one.specialist: one.p_correct for one in parts[0].candidates} if parts else {}
    return beliefs.get(parts[0].specialist or "") if parts else None


def outcome(given: Outcome, thread_id: str, keep_text: bool, redact: Redact | None = None) -> Event:
    """The row that says what was learned later; its note is a text."""
    texts = Texts(redact)
    body = given.model_dump(mode="json", exclude={"note"})
    body["note_sha256"] = texts.put(given.note) if given.note else None
    return _event("outcome", given.record_id, thread_id, "", body, texts, keep_text)


def outcome_from(body: Mapping[str, Any], texts: Mapping[str, str]) -> Outcome:
    """Read an outcome back, with its note as far as that is still kept."""
    fields = {name: body[name] for name in Outcome.model_fields if name in body}
    return Outcome.model_validate({"note": texts.get(body.get("note_sha256") or "", ""), **fields})


def plain(kind: str, record_id: str, thread_id: str, status: str, body: Mapping[str, Any]) -> Event:
    """A row without texts."""
    return Event(kind, record_id, thread_id, status, canonical(dict(body)))


@lru_cache(maxsize=4096)
def artifact_id(artifact: Artifact) -> str:
    """The key of the artifacts table: a digest of what the row says."""
    return digest(canonical(artifact.model_dump(mode="json")))


def row_of(event: Event, sequence: int) -> dict[str, Any]:
    """The sealed columns of `event` at its place in the chain."""
    return {
        "sequence": sequence,
        "kind": event.kind,
        "record_id": event.record_id,
        "thread_id": event.thread_id,
        "created_at": utc_now(),
        "status": event.status,
        "specialists": event.specialists,
        "payload": event.payload,
    }


def part_from(body: Mapping[str, Any], texts: Mapping[str, str]) -> Part:
    """Read a part back, with those of its texts that are still kept."""
    part = Part.model_validate(body)
    hops = tuple(_with(hop, answer=texts.get(hop.answer_sha256 or "")) for hop in part.hops)
    return _with(
        part,
        hops=hops,
        prompt=texts.get(part.prompt_sha256 or ""),
        answer=texts.get(part.answer_sha256 or ""),
    )


def _event(
    kind: str,
    record_id: str,
    thread_id: str,
    status: str,
    body: dict[str, Any],
    texts: Texts,
    keep: bool,
    write: Callable[[Any], str] = canonical,
) -> Event:
    kept = dict(texts) if keep else {}
    whole = {**body, "texts": sorted(kept)}
    if texts.changed:
        whole["redacted"] = sorted(set(texts.changed))
    return Event(kind, record_id, thread_id, status, write(whole), texts=kept)


def _part(part: Part, texts: Texts) -> dict[str, Any]:
    hops = tuple(_with(hop, answer=None, answer_sha256=texts.put_if(hop.answer)) for hop in part.hops)
    digests = {"prompt_sha256": texts.put_if(part.prompt), "answer_sha256": texts.put_if(part.answer)}
    body = _with(part, hops=hops, prompt=None, answer=None, **digests).model_dump(mode="json", warnings=False)
    try:
        Part.model_validate(body)  # a copy with changed fields was not validated when it was made
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(name) for name in first["loc"])
        raise ValueError(
            f"part {part.index} cannot be recorded: {place}: {first['msg']}; give the field a valid value"
        ) from error
    return body


def _with(value: Model, **changes: Any) -> Model:
    return value.model_copy(update=changes)
