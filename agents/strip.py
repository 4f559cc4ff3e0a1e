"""The token strip: what a feature or a probe says at every token of a recorded request, read again.

A feature's value is its activation at the token. A probe's is its logit had the conversation ended there: the
same pooling, over the tokens up to this one (in an earlier turn: this one alone, where only the last turn is
pooled). At the last token that is the logit that decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..store.errors import NotFoundError, UsageError
from ..store.records import Frozen, Page
from .replay import read_again
from .voyage import Live, Ship

if TYPE_CHECKING:
    from ..router.probes.probe import Probe
    from ..router.scout import Scout

Kind = Literal["feature", "specialist", "reading"]
KINDS: tuple[Kind, ...] = ("feature", "specialist", "reading")


class Token(Frozen):
    """A token's text (empty within a character of several tokens) and what was read at it."""

    text: str
    value: float


class Strip(Frozen):
    """One part's tokens. `largest` is the greatest absolute value."""

    record_id: str
    part: int
    kind: Kind
    name: str
    tokens: tuple[Token, ...]
    largest: float


def strip(page: Page, ship: Ship, part: int, kind: Kind, name: str) -> Strip:
    """Read the record's part again, token by token. `name` of a feature is `LAYER:NUMBER`, or its number
    where one layer has a dictionary.

    Raises NotFoundError for a part, probe or feature that does not exist, UsageError for a record whose texts
    are gone, or a ship that cannot read.
    """
    scout, codec = ship.scout, getattr(ship.engine, "codec", None)
    if scout is None or codec is None:
        raise UsageError("this family has no probes, or its engine does not show its tokens: nothing to tint")
    live = read_again(page, ship).get(part)
    if live is None:
        raise NotFoundError(f"record {page.record.id} has no part {part}; count from 0")
    values = _feature(scout, live, name) if kind == "feature" else _probe(scout, live, kind, name)
    tokens = tuple(
        Token(text=text, value=value) for text, value in zip(texts(codec, live.tokens), values, strict=True)
    )
    largest = max((abs(value) for value in values), default=0.0)
    return Strip(record_id=page.record.id, part=part, kind=kind, name=name, tokens=tokens, largest=largest)


def texts(codec: Any, tokens: tuple[int, ...]) -> list[str]:
    """The text of each token; together they are the text of all."""
    from ..specialists.tokenizing import Detokenizer

    stream = Detokenizer(codec)
    found = [stream.push(token) for token in tokens]
    if found:
        found[-1] += stream.flush()
    return found


def _feature(scout: Scout, live: Live, name: str) -> list[float]:
    layer_text, colon, number_text = name.rpartition(":")
    layers = sorted(scout.saes)
    if not number_text.isdigit() or (colon and not layer_text.isdigit()) or (not colon and len(layers) != 1):
        raise UsageError(f"feature {name!r} is not named as LAYER:NUMBER; the dictionaries are at {layers}")
    layer, number = int(layer_text) if colon else layers[0], int(number_text)
    sae = scout.saes.get(layer)
    if sae is None or number >= sae.d_sae:
        raise NotFoundError(f"there is no feature {number} at layer {layer}; dictionaries are at {layers}")
    states = live.prefill.states[layer].float()
    return [float(value) for value in sae.encode(states.reshape(-1, sae.d_in))[:, number]]


def _probe(scout: Scout, live: Live, kind: Kind, name: str) -> list[float]:
    probe = _named(scout, kind, name)
    states = {layer: live.prefill.states[layer] for layer in scout.layers}
    return [
        probe.logit(
            scout.bank.site.vector({layer: x[: end + 1] for layer, x in states.items()}, min(live.turn, end))
        )
        for end in range(len(live.tokens))
    ]


def _named(scout: Scout, kind: Kind, name: str) -> Probe:
    wanted: Literal["correct", "reading"] = "correct" if kind == "specialist" else "reading"
    try:
        return scout.bank.probe(name, wanted)
    except UsageError as error:
        raise NotFoundError(str(error)) from None
