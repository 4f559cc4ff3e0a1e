"""A record as a page of plain text: what was asked, read, decided, steered, answered, and what followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...store.printable import one_line, visible
from ...store.records import Candidate, Check, FeatureContribution, Hop, Page, Part, Reading, SteeringEntry

MOST_FEATURES = 8  # contributions shown per specialist; `--json` has them all
BAR = 20  # characters of a probability of one


def page_lines(page: Page) -> Iterator[str]:
    """The page's lines, every text in it made safe to print."""
    yield from _head(page)
    yield from _texts(page)
    for part in page.record.parts:
        yield from _part(part, several=len(page.record.parts) > 1)
    yield from _outcomes(page)
    yield from _tail(page)


def _safe(text: str) -> str:
    """`text` on one line, safe to print."""
    return visible(text, keep="")


def _head(page: Page) -> Iterator[str]:
    record = page.record
    state = f"{record.status}{' (its process ended)' if page.orphaned else ''}"
    yield f"record    {record.id}  {state}"
    yield f"asked     {record.created_at}" + (f", finished {record.closed_at}" if record.closed_at else "")
    parent = f", a retry of {record.parent_id}" if record.parent_id else ""
    yield f"thread    {_safe(record.thread_id)}{parent}"
    if record.error:
        yield f"error     {_safe(record.error)}"


def _texts(page: Page) -> Iterator[str]:
    if page.erased_at is not None:
        yield f"texts     erased {page.erased_at}: {_safe(page.erased_reason or '')}"
        return
    yield from _block("prompt", page.prompt, "not kept")
    missing = "none yet" if page.record.status == "in_progress" else "none"
    if page.record.answer_sha256 is not None:
        missing = "not kept"
    yield from _block("answer", page.answer, missing)


def _block(name: str, text: str | None, missing: str) -> Iterator[str]:
    if text is None:
        return _labelled(name, [f"({missing})"])
    return _labelled(name, visible(text).split("\n") if text else ["(empty)"])


def _labelled(label: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines, with the label before the first."""
    for place, line in enumerate(lines):
        yield f"{label if place == 0 else '':<9} {line}"


def _part(part: Part, several: bool) -> Iterator[str]:
    yield ""
    if several:
        yield f"part {part.index + 1}"
        yield from _block("prompt", part.prompt, "not kept")
        yield from _block("answer", part.answer, "none")
    yield from _decision(part)
    yield from _candidates(part.candidates, part.specialist)
    yield from _readings(part.readings)
    yield from _features(part.features, part.specialist)
    yield from _steering(part.steering.entries)
    yield from _hops(part.hops)
    yield from _checks(part.checks)
    yield from _generation(part)


def _decision(part: Part) -> Iterator[str]:
    decision = part.decision
    if decision is None:
        return
    lines = [
        f"{_safe(decision.chosen or 'nobody (abstained)')}{', forced' if decision.forced else ''}",
        _safe(decision.reason),
        f"λ {decision.lam:g}, threshold {decision.threshold:g}, propensity {decision.propensity:g}, "
        f"policy {_safe(decision.policy_hash[:12])}",
    ]
    if decision.nearest:
        lines.append(f"nearest: {_safe(', '.join(decision.nearest))}")
    yield from _labelled("decision", lines)


def _candidates(candidates: Iterable[Candidate], chosen: str | None) -> Iterator[str]:
    rows = sorted(candidates, key=lambda c: -c.utility)
    if rows:
        yield f"candidates{'':<16} P(correct) {'':<{BAR}}     cost  utility"
    for row in rows:
        mark = ">" if row.specialist == chosen else " "
        bar = "█" * round(BAR * row.p_correct)
        odds = f"{row.p_correct:>5.3f} {bar:<{BAR}}"
        yield f"        {mark} {one_line(row.specialist, 22):<22} {odds} {row.cost:>9.3g} {row.utility:>8.3f}"


def _readings(readings: Iterable[Reading]) -> Iterator[str]:
    return _labelled(
        "readings",
        (
            f"{'fired' if row.fired else 'quiet'}  {one_line(row.probe, 24):<24} p {row.probability:.3f}"
            f"  threshold {row.threshold:.3f}  logit {row.score:+.3f}  at {_safe(row.site)}"
            for row in readings
        ),
    )


def _features(features: Iterable[FeatureContribution], chosen: str | None) -> Iterator[str]:
    """The largest contributions to the chosen specialist's logit; with the rest, they sum to it."""
    rows = [row for row in features if row.specialist == chosen]
    if not rows:
        return iter(())
    named = sorted((row for row in rows if row.feature is not None), key=lambda r: -abs(r.contribution))
    total = sum(row.contribution for row in rows)
    lines = [f"the logit of {_safe(chosen or '')} is {total:+.3f}, the sum of"]
    for row in [*named[:MOST_FEATURES], *(row for row in rows if row.feature is None)]:
        feature = f"#{row.feature}" if row.feature is not None else ""
        lines.append(f"{row.contribution:+8.3f}  {feature:<7} {one_line(row.label, 60)}")
    rest = named[MOST_FEATURES:]
    if rest:
        lines.append(f"{sum(row.contribution for row in rest):+8.3f}  {'':<7} {len(rest)} more features")
    return _labelled("features", lines)


def _steering(entries: Iterable[SteeringEntry]) -> Iterator[str]:
    return _labelled(
        "steering",
        (
            _safe(
                f"{row.name}: {row.kind} × {row.coefficient:g} at layer {row.layer} ({row.scope}), chosen by "
                f"{row.reading}{f', gated by {row.gate}' if row.gate else ''}"
            )
            for row in entries
        ),
    )


def _hops(hops: Iterable[Hop]) -> Iterator[str]:
    for hop in hops:
        reasons = "; ".join(check.reason for check in hop.checks) or "no reason given"
        yield f"escalated from {_safe(f'{hop.decision.chosen}: {reasons}')}"


def _checks(checks: Iterable[Check]) -> Iterator[str]:
    return _labelled("checks", (f"{row.verdict}{_score(row.score)}: {_safe(row.reason)}" for row in checks))


def _score(score: float | None) -> str:
    return f" ({score:.3f})" if score is not None else ""


def _generation(part: Part) -> Iterator[str]:
    made = part.generation
    if made is None:
        return
    certainty = f", {made.mean_logprob:.3f} nats a token" if made.mean_logprob is not None else ""
    counts = f"{made.prompt_tokens} in, {made.completion_tokens} out{certainty}"
    yield f"tokens    {counts}, ended by {made.finish_reason}"
    spent = made.timings
    yield (
        f"time      {spent.total_ms:.1f} ms: probe {spent.probe_ms:.1f}, route {spent.route_ms:.1f}, "
        f"prefill {spent.prefill_ms:.1f}, decode {spent.decode_ms:.1f}, log {spent.log_ms:.1f}"
    )


def _outcomes(page: Page) -> Iterator[str]:
    return _labelled(
        "outcomes",
        (
            _safe(f"{row.source}: {row.verdict}{_score(row.score)} {row.note}".rstrip())
            for row in page.outcomes
        ),
    )


def _tail(page: Page) -> Iterator[str]:
    record = page.record
    yield ""
    listed = (f"{row.sha256[:12]}  {_safe(f'{row.kind} {row.name}')}" for row in record.artifacts)
    yield from _labelled("artifacts", listed)
    yield f"code      {_safe(record.code_version)}"
    yield f"row       {record.sequence}:{record.row_hash}"
