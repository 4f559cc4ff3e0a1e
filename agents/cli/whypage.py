"""The page that `why` prints: who could have answered, who did, and what the choice is made of."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...store.printable import one_line, visible
from ...store.records import Page, Part

if TYPE_CHECKING:
    from ..causal import Effect, Why
    from .whystrip import Strip

BAR = 24  # characters of a probability of one, and of the largest contribution


def show(why: Why, strips: Sequence[Strip] = ()) -> None:
    """Print the page to stdout: with colours on a terminal that wants them, plain elsewhere."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(Group(*page_of(why, strips)))


def plain(why: Why) -> str:
    """The page as text, for the chat's pager and for tests."""
    out = io.StringIO()
    Console(file=out, width=110, highlight=False, no_color=True).print(Group(*page_of(why)))
    return out.getvalue()


def picture(why: Why, strips: Sequence[Strip] = ()) -> str:
    """The page as an SVG. It names no font to fetch, so looking at it calls nobody."""
    console = Console(record=True, width=100, file=io.StringIO(), highlight=False, force_terminal=True)
    console.print(Group(*page_of(why, strips)))
    drawn = console.export_svg(title=f"why {why.page.record.id[:8]}", font_aspect_ratio=0.61)
    return re.sub(r"@font-face\s*{[^}]*}", "", drawn)


def page_of(why: Why, strips: Sequence[Strip] = ()) -> Iterator[RenderableType]:
    """The page's pieces, every text in them made safe to print."""
    page = why.page
    yield from _head(page)
    effects = {effect.part: effect for effect in why.effects}
    for part in page.record.parts:
        yield Text()
        yield from _part(part, several=len(page.record.parts) > 1)
        if part.index in effects:
            yield from _effect(effects[part.index])
        for strip in strips:
            if strip.part == part.index:
                from .whystrip import pieces

                yield from pieces(strip)
    if page.record.error:
        yield _line("error", page.record.error, "red")
    yield Text()
    yield Text(f"row {page.record.sequence}:{page.record.row_hash}", style="dim")


def _head(page: Page) -> Iterator[RenderableType]:
    record = page.record
    state = record.status + (" (its process ended)" if page.orphaned else "")
    yield Text.assemble(("record ", "dim"), record.id, ("  " + state, _colour(record.status)))
    yield _line("asked", page.prompt if page.prompt is not None else "(text not kept)")
    yield _line("answer", page.answer if page.answer is not None else "(none, or text not kept)", keep=True)


def _colour(status: str) -> str:
    return {"completed": "green", "abstained": "yellow", "in_progress": "cyan"}.get(status, "red")


def _line(name: str, text: str, style: str = "", keep: bool = False) -> Text:
    shown = visible(text) if keep else visible(text, keep="")
    return Text.assemble((f"{name:<10} ", "dim"), (shown.replace("\n", "\n" + " " * 11), style))


def _part(part: Part, several: bool) -> Iterator[RenderableType]:
    if several:
        yield Text(f"part {part.index + 1}: {one_line(part.prompt or '(text not kept)', 90)}", style="bold")
    decision = part.decision
    if decision is not None:
        chosen = decision.chosen or "nobody"
        forced = ", forced" if decision.forced else ""
        yield _line("chosen", f"{chosen}{forced}", "bold")
        yield _line("because", decision.reason)
        yield from _candidates(part)
        yield _line(
            "rule",
            f"utility = P(correct) - {decision.lam:g} x cost; at least {decision.threshold:.2f} to answer; "
            f"propensity {decision.propensity:g}; policy {decision.policy_hash[:12]}",
        )
    yield from _readings(part)
    yield from _features(part)
    yield from _steering(part)
    yield from _checks(part)
    yield from _timings(part)


def _candidates(part: Part) -> Iterator[RenderableType]:
    decision = part.decision
    if not part.candidates or decision is None:
        return
    table = Table("candidate", "P(correct)", "", "cost", "utility", box=SIMPLE_HEAD, pad_edge=False)
    for row in sorted(part.candidates, key=lambda c: -c.utility):
        mark = "> " if row.specialist == part.specialist else "  "
        style = "bold green" if row.specialist == part.specialist else ""
        table.add_row(
            Text(mark + one_line(row.specialist, 24), style),
            f"{row.p_correct:.3f}",
            _bar(row.p_correct, decision.threshold),
            f"{row.cost:g}",
            f"{row.utility:.3f}",
        )
    yield table


def _bar(p: float, threshold: float) -> Text:
    """A probability as a bar; the mark is the threshold."""
    cells = ["█" if at < round(BAR * p) else "·" for at in range(BAR)]
    at = min(BAR - 1, round(BAR * threshold))
    cells[at] = "┃" if at < round(BAR * p) else "│"
    return Text("".join(cells), "green" if p >= threshold else "yellow")


def _readings(part: Part) -> Iterator[RenderableType]:
    if not part.readings:
        return
    table = Table("reading", "P", "threshold", "logit", "at", box=SIMPLE_HEAD, pad_edge=False)
    for row in part.readings:
        name = Text(("* " if row.fired else "  ") + one_line(row.probe, 24), "bold" if row.fired else "")
        table.add_row(
            name,
            f"{row.probability:.3f}",
            f"{row.threshold:.2f}",
            f"{row.score:+.2f}",
            visible(row.site, keep=""),
        )
    yield table


def _features(part: Part) -> Iterator[RenderableType]:
    """The contributions in the order of the record, and their sum: the logit."""
    if not part.features:
        return
    name = part.features[0].specialist
    rows = [row for row in part.features if row.specialist == name]
    total = sum(row.contribution for row in rows)
    largest = max(abs(row.contribution) for row in rows) or 1.0
    table = Table("share", "", "feature", "label (from top examples)", box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        width = round(BAR / 2 * abs(row.contribution) / largest)
        bar = Text("█" * width, "green" if row.contribution > 0 else "red")
        table.add_row(
            f"{row.contribution:+.3f}",
            bar,
            f"#{row.feature}" if row.feature is not None else "",
            one_line(row.label, 60),
        )
    table.add_row(f"{total:+.3f}", "", "", f"= the logit of {one_line(name, 24)}, exactly", style="bold")
    yield table


def _steering(part: Part) -> Iterator[RenderableType]:
    for row in part.steering.entries:
        gate = f", gated by {row.gate}" if row.gate else ""
        yield _line(
            "steered",
            f"{row.name}: {row.kind} x {row.coefficient:g} at layer {row.layer} ({row.scope}), chosen by "
            f"{row.reading}{gate}",
        )


def _checks(part: Part) -> Iterator[RenderableType]:
    for hop in part.hops:
        reasons = "; ".join(check.reason for check in hop.checks if check.verdict == "escalate")
        yield _line("escalated", f"from {hop.decision.chosen}: {reasons}", "yellow")
    for check in part.checks:
        yield _line("check", f"{check.verdict}: {check.reason}")


def _timings(part: Part) -> Iterator[RenderableType]:
    made = part.generation
    if made is None:
        return
    spent = made.timings
    first = f", first token after {made.first_token_ms:.0f} ms" if made.first_token_ms is not None else ""
    yield _line(
        "tokens", f"{made.prompt_tokens} in, {made.completion_tokens} out, {made.finish_reason}{first}"
    )
    yield _line(
        "time",
        f"{spent.total_ms:.1f} ms: probe {spent.probe_ms:.1f}, route {spent.route_ms:.1f}, prefill "
        f"{spent.prefill_ms:.1f}, decode {spent.decode_ms:.1f}, log {spent.log_ms:.1f}",
    )


def _effect(effect: Effect) -> Iterator[RenderableType]:
    verdict = "the decision flips" if effect.flips else "the decision stands"
    control = "flips too" if effect.control.chosen != effect.before.chosen else "stands"
    yield Text()
    yield _line("causal", f"without its top {len(effect.ablated.features)} features {verdict}", "bold")
    table = Table(
        "scout with",
        f"P({one_line(effect.specialist, 20)})",
        "logit",
        "chosen",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    arms = (
        ("everything", effect.before),
        (f"{_names(effect.ablated.features)} held at 0", effect.ablated),
        (f"control: {_names(effect.control.features)} held at 0", effect.control),
    )
    for name, arm in arms:
        table.add_row(name, f"{arm.p_correct:.3f}", f"{arm.logit:+.2f}", arm.chosen or "nobody")
    yield table
    yield _line("ablated", "; ".join(effect.labels))
    yield _line("control", f"as many other active features, drawn at random: the decision {control}")
    if effect.note:
        yield _line("note", effect.note, "yellow")


def _names(features: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"L{layer}#{feature}" for layer, feature in features) or "nothing"
