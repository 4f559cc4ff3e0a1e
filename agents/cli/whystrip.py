"""`why --tokens`: what steering did to an answer, token by token.

The recorded answer is read again under the same prompt twice, steered as recorded and unsteered. For each
token: which entries acted where it was drawn (an entry with a gate only where that was open), and by how many
nats steering raised its log-probability. On a terminal, a strip from red (steering spoke against the token)
to green (it spoke for it); tokens that no entry acted on are underlined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ...store.errors import UsageError
from ...store.printable import one_line, visible
from ...store.records import Frozen, Message, Page, Part

if TYPE_CHECKING:
    from torch import Tensor

    from ...router.steer.vector import SteeringVector
    from ...specialists.improve.subject import Subject
    from ..voyage import Ship

FULL = 2.0  # nats at which the colour is full
SAME = 0.01  # nats a token by which the answer read again may differ from the recorded one
ROWS = 12  # tokens in the table below the strip


class Touch(Frozen):
    """One token of an answer: its text, by how many nats steering raised its log-probability, KL(unsteered ||
    steered) of what could have come here in nats, and the entries that acted where it was drawn.
    """

    text: str
    raised: float
    divergence: float
    acted: tuple[str, ...]


class Strip(Frozen):
    """A part's answer, token by token; `note` says what keeps it from being the recorded one, if anything."""

    part: int
    specialist: str
    entries: tuple[str, ...]
    tokens: tuple[Touch, ...]
    note: str = ""


def strips(page: Page, ship: Ship) -> list[Strip]:
    """Read every steered part's answer again.

    Raises UsageError when nothing was steered, or the texts, the vectors or the trunk are not here.
    """
    parts = [part for part in page.record.parts if part.steering.entries and part.specialist is not None]
    if not parts:
        raise UsageError(f"record {page.record.id} was not steered; there is nothing to show token by token")
    return [_strip(page, part, ship) for part in parts]


def _strip(page: Page, part: Part, ship: Ship) -> Strip:
    from ...router.steer.runtime import planned
    from ...specialists.improve.subject import Subject

    if part.prompt is None or part.answer is None or page.erased_at is not None:
        raise UsageError(
            f"the texts of record {page.record.id} were erased or never kept; --tokens needs them"
        )
    family: Any = getattr(ship.engine, "family", None)
    if family is None:
        raise UsageError("--tokens needs the trunk's weights, which this engine does not have here")
    vectors = planned(part.steering, dict(ship.vectors))
    entries = part.steering.entries
    changed = [one.name for one in entries if ship.vectors[one.name].sha256 != one.sha256]
    subject = Subject.open(family, str(part.specialist))
    off, tokens = _reading(subject, page, part, vectors)
    note = ""
    if changed:
        note = f"the vectors {', '.join(changed)} have changed since"
    elif off > SAME:
        note = (
            f"read again, the answer is {off:.2f} nats a token from the recorded one: the conversation, the "
            "model or the answer's spaces are not what they were"
        )
    return Strip(
        part=part.index,
        specialist=str(part.specialist),
        entries=tuple(one.name for one in entries),
        tokens=tokens,
        note=note,
    )


def _reading(
    subject: Subject, page: Page, part: Part, vectors: Sequence[SteeringVector]
) -> tuple[float, tuple[Touch, ...]]:
    """The reading whose log-probability is nearest to the recorded one: of the conversation or the part's
    line alone, of the answer with or without the space that the log leaves out.
    """
    codec, line = subject.codec, Message(role="user", content=part.prompt or "")
    made = part.generation
    ended = (codec.end,) if made is None or made.finish_reason == "stop" else ()
    wanted = made.mean_logprob if made is not None else None
    turns = dict.fromkeys([(*page.messages[:-1], line), (line,)])
    answers = dict.fromkeys((*codec.encode_text(lead + (part.answer or "")), *ended) for lead in ("", " "))
    found = []
    for prompt in turns:
        for answer in answers:
            steered = _pass(subject, codec.encode_chat(prompt), answer, vectors)
            mean = sum(steered.chances[i, t].item() for i, t in enumerate(answer)) / max(len(answer), 1)
            off = abs(mean - wanted) if wanted is not None else 0.0
            found.append((off, prompt, answer, steered))
    off, prompt, answer, steered = min(found, key=lambda one: one[0])
    plain = _pass(subject, codec.encode_chat(prompt), answer, ())
    return off, _touches(subject, answer[: len(answer) - len(ended)], steered, plain)


class _Pass(NamedTuple):
    """Log-probabilities [A,V] where each answer token was drawn, and which vectors acted there [A] each."""

    chances: Tensor
    acted: dict[str, list[bool]]


def _pass(
    subject: Subject, prompt: Sequence[int], answer: Sequence[int], vectors: Sequence[SteeringVector]
) -> _Pass:
    """One forward pass over a given answer. A tap opened before the steering sees what gates see."""
    import torch

    from ...router.steer.runtime import Steering
    from ...router.taps import Taps

    model: Any = subject.model
    invocation = subject.codec.invocation
    begun = list(prompt) if invocation else list(prompt[:-1])
    rest = [*(invocation or prompt[-1:]), *answer]
    gates = {one.gate.layer for one in vectors if one.gate is not None}
    with torch.inference_mode(), ExitStack() as stack:
        taps = stack.enter_context(Taps(model, sorted(gates)))
        steering = stack.enter_context(Steering(model, vectors))
        cache = model(input_ids=torch.tensor([begun]), use_cache=True).past_key_values if begun else None
        steering.phase = "generation"
        stack.enter_context(subject.acting())
        logits = model(input_ids=torch.tensor([rest]), past_key_values=cache, use_cache=True).logits[0]
    first = len(rest) - len(answer) - 1
    places = slice(first, len(rest) - 1)
    acted = {one.name: _acted(one, taps.states, places, len(answer)) for one in vectors}
    return _Pass(logits[places].float().log_softmax(-1), acted)


def _acted(one: SteeringVector, states: dict[int, Tensor], places: slice, count: int) -> list[bool]:
    if one.scope == "prompt":
        return [False] * count
    if one.gate is None:
        return [True] * count
    x = states[one.gate.layer][0, places].float()
    return [bool(v) for v in x @ one.gate.weight + one.gate.bias >= one.gate.threshold]


def _touches(subject: Subject, answer: Sequence[int], steered: _Pass, plain: _Pass) -> tuple[Touch, ...]:
    found, before = [], ""
    for at, token in enumerate(answer):
        text = subject.codec.decode(answer[: at + 1])
        divergence = (plain.chances[at].exp() * (plain.chances[at] - steered.chances[at])).sum().item()
        found.append(
            Touch(
                text=text[len(before) :],
                raised=(steered.chances[at, token] - plain.chances[at, token]).item(),
                divergence=max(divergence, 0.0),
                acted=tuple(name for name, acted in steered.acted.items() if acted[at]),
            )
        )
        before = text
    return tuple(found)


# -- on the page ---------------------------------------------------------------------------------------------


def pieces(strip: Strip) -> Iterator[RenderableType]:
    """The strip, what its colours mean, and the tokens that steering moved most."""
    yield Text()
    yield Text(
        f"steering, token by token: {', '.join(visible(name, keep='') for name in strip.entries)}", "bold"
    )
    yield Text.assemble(*[(visible(one.text, keep="\n"), style(one)) for one in strip.tokens])
    mean = sum(one.raised for one in strip.tokens) / max(len(strip.tokens), 1)
    idle = sum(not one.acted for one in strip.tokens)
    yield Text(
        f"green: likelier through steering, red: less likely, full at {FULL:g} nats; underlined: nothing "
        f"acted. Mean {mean:+.3f} nats a token, {idle} of {len(strip.tokens)} tokens untouched.",
        "dim",
    )
    yield _table(strip)
    if strip.note:
        yield Text(visible(strip.note, keep=""), "yellow")


def style(one: Touch) -> str:
    """The colour of a token, and a line under it where nothing acted."""
    share = min(abs(one.raised) / FULL, 1.0)
    if share < 0.05:
        return "" if one.acted else "underline"
    tint = 255 - round(175 * share)
    red, green = (tint, 255) if one.raised > 0 else (255, tint)
    return f"black on rgb({red},{green},{tint}){'' if one.acted else ' underline'}"


def _table(strip: Strip) -> Table:
    """The tokens with the largest change, in their order."""
    order = sorted(range(len(strip.tokens)), key=lambda i: -abs(strip.tokens[i].raised))[:ROWS]
    table = Table("token", "", "raised by, nats", "KL here", "acted", box=SIMPLE_HEAD, pad_edge=False)
    for at in sorted(order):
        one = strip.tokens[at]
        table.add_row(
            str(at + 1),
            Text(one_line(repr(one.text)[1:-1], 24)),
            f"{one.raised:+.3f}",
            f"{one.divergence:.3f}",
            ", ".join(visible(name, keep="") for name in one.acted) or "nothing",
        )
    return table
