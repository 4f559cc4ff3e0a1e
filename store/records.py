"""The shared vocabulary: what a request, a decision and a finished record are.

Every floor speaks these frozen models. They hold plain values only (no tensors, no live objects), so each
of them is one canonical JSON text, and so one hash. Collections are tuples; unknown fields and non-finite
numbers are refused.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]
Status = Literal["in_progress", "completed", "abstained", "failed", "aborted"]
FinishReason = Literal["stop", "length", "aborted", "error", "abstained"]
SteeringKind = Literal["add", "project_out", "clamp_feature", "scale"]
SteeringScope = Literal["prompt", "generation", "both"]
CheckVerdict = Literal["answer", "escalate"]


def new_id() -> str:
    """Return a new 32-digit hexadecimal id; ids sort by the time they were made (the layout of a UUID
    version 7).

    48 bits of milliseconds, 12 bits of the fraction of the millisecond, 62 random bits, version and variant
    marks.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return f"{milliseconds:012x}7{fraction:03x}{0x8000000000000000 | secrets.randbits(62):016x}"


def utc_now() -> str:
    """Return the present moment in the log's one time format: `2026-01-31T12:00:00.000000Z`."""
    return _in_utc(datetime.now(UTC))


def normal_time(text: str) -> str:
    """Return an ISO-8601 time in the log's one format, so that times compare as text.

    Raises ValueError when `text` is no ISO-8601 time, names no time zone, or lies outside the calendar.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} names no time zone; add one, for example {text}Z")
    try:
        return _in_utc(moment)
    except OverflowError:
        raise ValueError(f"time {text!r} lies outside the years 1 to 9999 in UTC") from None


def _in_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


Time = Annotated[str, AfterValidator(normal_time)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0)]


class Frozen(BaseModel):
    """A value: compared by its fields, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


class Request(Frozen):
    """What somebody asked: the conversation up to and including the prompt, and how to sample the answer.

    `temperature` 0 means greedy. `forced_specialist` is the caller's explicit choice, honoured and logged
    as forced. `person` is whose request it is, in the caller's own words (a user's id): it is kept apart from
    the log's rows, so that it can be forgotten.
    """

    id: str = Field(default_factory=new_id, min_length=1, max_length=64)
    thread_id: str = Field(default_factory=new_id, min_length=1, max_length=255)
    messages: tuple[Message, ...] = Field(min_length=1)
    forced_specialist: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    seed: int = 0
    person: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    created_at: Time = Field(default_factory=utc_now)

    @property
    def prompt(self) -> str:
        """The text to answer: the last user message, or the last message where no user spoke."""
        return self.messages[self.prompt_index].content

    @property
    def prompt_index(self) -> int:
        """Where in `messages` the prompt stands."""
        return prompt_index(tuple(message.role for message in self.messages))


def prompt_index(roles: tuple[Role, ...]) -> int:
    """Return the position of the last user turn, or of the last turn where no user spoke."""
    return next((i for i in reversed(range(len(roles))) if roles[i] == "user"), len(roles) - 1)


class MessageRef(Frozen):
    """A message without its text: the text lives in the content table under `sha256`, and may be erased
    there.
    """

    role: Role
    sha256: Digest


class RequestMeta(Frozen):
    """A request without its text."""

    id: str
    thread_id: str
    messages: tuple[MessageRef, ...]
    forced_specialist: str | None = None
    max_tokens: int
    temperature: float
    seed: int
    created_at: Time


class Reading(Frozen):
    """What one probe said: `score` is its logit, `probability` the calibrated one, `fired` whether it
    passed.
    """

    probe: str
    site: str
    score: float
    probability: Probability
    threshold: float
    fired: bool


class FeatureContribution(Frozen):
    """One additive share of a specialist's logit; all the rows of one specialist sum to that logit.

    `specialist` says whose logit is explained. `feature` is None in the three rows that are no feature:
    `sae bias`, `unexplained remainder` and `probe bias`. `activation` is the feature's a_j, `contribution`
    is a_j (w . d_j).
    """

    specialist: str
    feature: int | None
    label: str
    activation: float
    contribution: float


class Candidate(Frozen):
    """A specialist that could have answered: utility = p_correct - lam * cost."""

    specialist: str
    p_correct: Probability
    cost: float
    utility: float


class Decision(Frozen):
    """Which specialist was chosen, and by which rule. `chosen` is None exactly when `abstained`.

    `propensity` is the probability with which the policy chose as it did (1 without exploration). `nearest`
    names the specialists that came closest, best first, for an abstention's plain message.
    """

    chosen: str | None
    propensity: Probability = 1.0
    lam: float
    threshold: float
    reason: str
    policy_hash: str
    forced: bool = False
    abstained: bool = False
    nearest: tuple[str, ...] = ()


class SteeringEntry(Frozen):
    """One intervention on the residual stream at `layer`; `reading` is the one that chose it.

    `gate` names a probe that decides again inside the forward pass; None means always on. `feature` is the
    SAE feature's index for `clamp_feature`. `sha256` is the digest of the vector or dictionary used.
    """

    name: str
    kind: SteeringKind
    layer: int
    coefficient: float
    scope: SteeringScope = "both"
    reading: str
    gate: str | None = None
    feature: int | None = None
    sha256: Digest


class SteeringPlan(Frozen):
    """The interventions of one answer; empty means unsteered."""

    entries: tuple[SteeringEntry, ...] = ()


class Timings(Frozen):
    """Where the time went, in milliseconds."""

    probe_ms: Milliseconds = 0.0
    route_ms: Milliseconds = 0.0
    prefill_ms: Milliseconds = 0.0
    decode_ms: Milliseconds = 0.0
    log_ms: Milliseconds = 0.0
    total_ms: Milliseconds = 0.0


class Generation(Frozen):
    """How an answer was produced. `specialist` and `mean_logprob` (nats per token) are None when nothing
    was.
    """

    specialist: str | None
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    mean_logprob: float | None = None
    finish_reason: FinishReason
    timings: Timings = Timings()
    first_token_ms: Milliseconds | None = None


class Check(Frozen):
    """What an answer's own signals decided."""

    verdict: CheckVerdict
    reason: str
    score: float | None = None


class Hop(Frozen):
    """An attempt that a check sent on to another specialist. Its text, `answer`, is kept apart like all
    text.
    """

    decision: Decision
    steering: SteeringPlan = SteeringPlan()
    generation: Generation | None = None
    checks: tuple[Check, ...] = ()
    answer: str | None = None
    answer_sha256: Digest | None = None


class Part(Frozen):
    """One ask of a prompt: what was read, decided, steered, generated and checked.

    `decision`, `steering`, `generation` and `checks` are those of the attempt that answered; `hops` holds
    the attempts before it, in order. `prompt` and `answer` are texts: the ledger moves them to the content
    table and writes only their digests, and a reader finds them None once they are erased. Callers leave
    the digests out.
    """

    index: Count = 0
    prompt: str | None = None
    prompt_sha256: Digest | None = None
    readings: tuple[Reading, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    features: tuple[FeatureContribution, ...] = ()
    decision: Decision | None = None
    steering: SteeringPlan = SteeringPlan()
    generation: Generation | None = None
    checks: tuple[Check, ...] = ()
    hops: tuple[Hop, ...] = ()
    answer: str | None = None
    answer_sha256: Digest | None = None

    @property
    def specialist(self) -> str | None:
        """Who answered this part: the one that generated, else the one chosen, else nobody."""
        if self.generation is not None and self.generation.specialist is not None:
            return self.generation.specialist
        return self.decision.chosen if self.decision is not None else None


class Artifact(Frozen):
    """Something on disk that changes answers: weights, adapter, tokenizer, probe, SAE, vector, policy,
    prices.
    """

    kind: str
    name: str
    sha256: Digest
    path: str = ""


class Outcome(Frozen):
    """What was learned later about a record: a thumb, a verifier's word, a label. `score` is free, higher
    is better.
    """

    record_id: str
    source: str
    verdict: str
    score: float | None = None
    note: str = ""
    created_at: Time = Field(default_factory=utc_now)


class Record(Frozen):
    """One answered (or refused, or failed) request, as the log tells it.

    `sequence`, `prev_hash` and `row_hash` are those of its latest opening or closing row in the hash chain.
    """

    id: str
    thread_id: str
    parent_id: str | None = None
    created_at: Time
    closed_at: Time | None = None
    status: Status
    request: RequestMeta
    prompt_sha256: Digest
    answer_sha256: Digest | None = None
    parts: tuple[Part, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    error: str | None = None
    code_version: str
    sequence: int
    prev_hash: Digest
    row_hash: Digest

    @property
    def specialists(self) -> tuple[str, ...]:
        """Who answered, part by part, each named once."""
        return tuple(dict.fromkeys(part.specialist for part in self.parts if part.specialist is not None))

    @property
    def total_ms(self) -> float:
        """Milliseconds from prompt to answer, the parts counted one after another."""
        return sum(part.generation.timings.total_ms for part in self.parts if part.generation is not None)


class Page(Frozen):
    """A record with its texts, as far as they are still kept, and what was learned later.

    `messages` leaves erased turns out. `answer` is None where there was none, or it was erased (see
    `erased_at`). `redacted`: a hook changed a text of it before it was written.
    """

    record: Record
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    answer: str | None = None
    outcomes: tuple[Outcome, ...] = ()
    erased_at: Time | None = None
    erased_reason: str | None = None
    orphaned: bool = False
    redacted: bool = False


class Erasure(Frozen):
    """What was forgotten. Texts that other records hold too are still kept, for those records (`shared_with`
    names the first few).

    `scrubbed`: no old copy is left in the database's write-ahead log or search index.
    """

    records: tuple[str, ...]
    threads: tuple[str, ...] = ()
    texts_erased: Count
    texts_shared: Count = 0
    shared_with: tuple[str, ...] = ()
    scrubbed: bool = True
