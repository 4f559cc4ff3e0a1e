"""Two hops: which stage of a two-hop answer fails, read from the logit flow of one run.

`subject` leads to a bridge, the bridge to the answer ("the capital of the country of the Eiffel Tower"). Yu
and Ananiadou's back-attention paper (EMNLP 2025) follows log-probability increases to where a two-hop prompt
fails; its rule is not published. This is a reconstruction (ours: the four names, who must lead, the rivals):

first hop: no state from the subject to the token before last says the bridge more surely than any says a
rival. carrying: one does, but attention adds little from there to the last token afterwards, and what it adds
raises other bridges. second hop: the bridge is fetched, and no state of the last token says the
answer. readout: one does, and the end says something else. What went right last decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy, bias_of, matrix_of, unflatten
from .attribute import channel_parts
from .case import Case, need
from .edit import Edit, record_edited
from .readout import FixedNorm, written
from .run import Run

HOPS = ("first hop", "carrying", "second hop", "readout")
NONE = "none"
SURE = 0.5  # share among its rivals from which on a bridge or an answer counts as said
ARRIVED = 0.1  # how much attention must add to the last token from where the bridge stands, by its length

RAISED = 0.1  # or how much it must raise the bridge, and more than any rival (nats of its share among them)


@dataclass(frozen=True)
class Rivals:
    """Tokens that a bridge and an answer are measured against: those of all prompts, else the vocabulary."""

    bridges: tuple[int, ...]
    answers: tuple[int, ...]

    @classmethod
    def of(cls, cases: Sequence[Case], vocabulary: int) -> Rivals:
        """Collect them; one bridge alone has no rival among bridges, and is measured against all tokens."""
        bridges = tuple(sorted({one.bridge for one in cases if one.bridge is not None}))
        answers = tuple(sorted({one.answer for one in cases} | set(bridges)))
        every = tuple(range(vocabulary))
        return cls(bridges, answers) if len(bridges) > 1 else cls(every, every)


@dataclass(frozen=True, eq=False)
class Hops:
    """What one run says of both hops.

    `bridge` [L+1,T]: log share of the bridge among its rivals in every state; `answer` [L+1]: the answer's at
    the last token. `fetched` [L]: how much the last token's attention raised the bridge's (nats). `place`:
    layer and position of the state, before the last token, that says the bridge most surely; `first_layer`:
    the first layer after which the bridge leads there (-1: none); `arrived`: the most that a later layer's
    attention adds to the last token from there, as a share of its length. The truths say what went right.
    """

    bridge: Tensor
    answer: Tensor
    fetched: Tensor
    place: tuple[int, int]
    first_layer: int
    arrived: float
    resolved: bool
    carried: bool
    retrieved: bool
    right: bool

    @property
    def stage(self) -> str:
        """The stage that fails, one of `HOPS`, or `none`."""
        if self.right:
            return NONE
        done = (self.retrieved, self.carried, self.resolved)
        return next((name for name, ok in zip(HOPS[:0:-1], done, strict=True) if ok), HOPS[0])


def check_hops(cases: Sequence[Case]) -> Sequence[Case]:
    """Return cases that can be followed over two hops. Raises UsageError for one without a subject or bridge,
    whose subject is the last token, or whose bridge begins as its answer does.
    """
    for index, one in enumerate(need(need(cases, "bridge"), "subject")):
        assert one.subject is not None
        if one.subject[0] >= len(one.ids) - 1:
            raise UsageError(
                f"the subject of prompt {index + 1} is its last token; nothing can be carried from there: "
                "let the prompt go on behind the subject"
            )
        if one.bridge == one.answer:
            raise UsageError(
                f"bridge and answer of prompt {index + 1} begin with the same token ({one.bridge}), so they "
                "cannot be told apart; leave the prompt out, or name another bridge"
            )
    return cases


def run_of(anatomy: Anatomy, case: Case, under: Sequence[Edit] = ()) -> Run:
    """Record a case while the edits `under` hold."""
    return record_edited(anatomy, case.ids, under, weights=True)


def hops_of(anatomy: Anatomy, run: Run, case: Case, rivals: Rivals) -> Hops:
    """Read both hops of a recorded case (see `check_hops` for what it must have)."""
    assert case.bridge is not None
    assert case.subject is not None
    last, start = run.tokens - 1, case.subject[0]
    tokens, mine = _among(rivals.bridges, case.bridge)
    heights = _shares(anatomy, run.stream, tokens)
    region = heights[1:, start:last]
    at = int(region[..., mine].flatten().argmax())
    place = (at // region.shape[1], start + at % region.shape[1])
    leads = (heights[1:, place[1]].argmax(-1) == mine).nonzero()
    first = int(leads[0]) if len(leads) else -1
    surest = region.flatten(0, 1).amax(0)
    resolved = bool(surest.argmax() == mine and surest[mine].exp() > SURE)
    raised = _raised(anatomy, run, tokens)
    arrived = _arrived(anatomy, run, first, place[1]) if resolved else 0.0
    ours, wanted = _among(rivals.answers, case.answer, int(run.logits[-1].argmax()))
    said = _shares(anatomy, run.stream[:, last], ours)[:, wanted]
    return Hops(
        heights[..., mine],
        said,
        raised[:, mine],
        place,
        first,
        arrived,
        resolved,
        arrived >= ARRIVED or _most(raised, mine),
        bool((said[1:].exp() > SURE).any()),
        int(run.logits[-1].argmax()) == case.answer,
    )


def _most(raised: Tensor, mine: int) -> bool:
    """Whether attention raised this token more than its rivals, over all layers [L,C]."""
    whole = raised.clamp_min(0).sum(0)
    return bool(whole[mine] >= RAISED and whole.argmax() == mine)


def _arrived(anatomy: Anatomy, run: Run, after: int, position: int) -> float:
    """The most that attention of a layer above `after` writes at the last token of what stands at `position`,
    as a share of the length of the stream it adds to.
    """
    most = 0.0
    for layer in range(after + 1, anatomy.layers):
        part = channel_parts(anatomy, run, layer)[position] @ matrix_of(anatomy.blocks[layer].mix)
        part = written(anatomy, run, layer, "attention", part, -1)
        along = run.attention[layer, -1] @ part / part.norm().clamp_min(1e-9)
        most = max(most, float(along / run.stream[layer, -1].norm().clamp_min(1e-9)))
    return most


def _among(rivals: Sequence[int], *wanted: int) -> tuple[Tensor, int]:
    """The tokens that are measured, with those wanted, and where the first wanted one is among them."""
    tokens = sorted({*rivals, *wanted})
    return torch.tensor(tokens), tokens.index(wanted[0])


def _shares(anatomy: Anatomy, states: Tensor, tokens: Tensor) -> Tensor:
    """Log share of each token [C] among all of them in states [...,D], each through the final norm: [...,C].

    Each state's own spread counts: what the last layer writes loudly must not hush the earlier ones.
    """
    flat = states.flatten(0, -2)
    norm = FixedNorm(anatomy.norm, flat)
    bias = bias_of(anatomy.head)
    tokens = tokens.to(flat.device)
    logits = (norm(flat) + norm.constant) @ anatomy.unembed[:, tokens] + (0 if bias is None else bias[tokens])
    return unflatten(logits.log_softmax(-1), 0, states.shape[:-1])


def _raised(anatomy: Anatomy, run: Run, tokens: Tensor) -> Tensor:
    """How much what attention wrote at the last token raised each token's log share: [L,C]."""
    before = run.stream[:-1, -1]
    after = before + run.attention[:, -1]
    return _shares(anatomy, after, tokens) - _shares(anatomy, before, tokens)
