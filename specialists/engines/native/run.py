"""Runs of tokens: what a step is asked, as the C interface reads it, and what it answered.

A token of a small model takes some hundred microseconds, so whatever is done here for each row of each step
is done once for all rows: one array of integers, one of floats, one of structures.
"""

from __future__ import annotations

import ctypes as C
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from . import library as lib

if TYPE_CHECKING:
    from .model import Numbered, Plan
    from .model import Sequence as Cached

# struct ph_run: pointers to tokens, targets, logprobs, logits, tap_layers, taps and readings; taps_stride;
# sequence, count, adapter, plan, generation, draw, taps_count, taps_steered; then what comes back.
ASKED: Final = struct.Struct("@7Pq8i")
TOLD: Final = struct.Struct("@2i2f")
SIZE: Final = ASKED.size + TOLD.size
MORE: Final = struct.Struct("@2P2i")  # struct ph_more: where tokens and logprobs go; most, and how many came
FLOAT: Final = 4
TAPS: Final = struct.Struct("@P")
TAPS_AT: Final = 5 * TAPS.size  # where a run's structure says where its states go


@dataclass(eq=False, slots=True)
class Run:
    """Consecutive tokens of one sequence in one step: what acts on them, what to report, what came back.

    `targets` are the tokens whose log-probabilities are wanted, one after each token. After the step
    `logprobs` [count], `states` {layer: [count, D]} and `readings` [count, heads] hold what was asked for,
    `token`, `logprob` and `normaliser` the likeliest next token, its log-probability, and the log of the sum
    of exponentials; `logits` [V] those after the last token. `status` is `library.OK` or why it failed.

    States are written into `into` [taps, n, D] from its token `at` on, where that is given.

    With `most` above 1 the engine goes on by itself with the likeliest tokens, until there are so many or one
    ends the answer. `drawn` has what was drawn, one token or more, each with its log-probability; where
    `status` says that a later one failed, those before it are good.
    """

    sequence: Cached
    tokens: Sequence[int]
    adapter: Numbered | None = None
    plan: Plan | None = None
    generation: bool = False
    draw: bool = False
    want_logits: bool = False
    targets: Sequence[int] | None = None
    taps: Sequence[int] = ()
    taps_steered: bool = True
    into: Tensor | None = None
    at: int = 0
    most: int = 1
    status: int = 0
    drawn: Sequence[tuple[int, float]] = ()
    token: int = -1
    logprob: float = 0.0
    normaliser: float = 0.0
    logits: Tensor | None = None
    _floats: array[float] | None = None
    _first: int = 0
    _place: int = 0
    _taps: int = 0  # where in memory its states go, and how many bytes a token's take
    _state: int = 0

    @property
    def heads(self) -> int:
        """How many heads its plan has."""
        return 0 if self.plan is None else self.plan.heads

    @property
    def floats(self) -> int:
        """How many numbers it is told: readings, log-probabilities, states; in this order."""
        count, width = len(self.tokens), self.sequence.model.config.hidden_size
        states = 0 if self.into is not None else len(self.taps) * count * width
        return count * self.heads + (0 if self.targets is None else count) + states

    def _part(self, skip: int, *shape: int) -> Tensor:
        count = 1
        for size in shape:
            count *= size
        assert self._floats is not None
        flat = torch.frombuffer(
            self._floats, dtype=torch.float32, count=count, offset=FLOAT * (self._first + skip)
        )
        return flat.view(shape)

    @property
    def readings(self) -> Tensor | None:
        """What the heads read at every token, [count, heads]."""
        return self._part(0, len(self.tokens), self.heads) if self.heads else None

    def last_readings(self, skip: int = 0) -> list[float]:
        """Return what the heads from `skip` on read at the last token."""
        heads = 0 if self.plan is None else self.plan.heads
        if self._floats is None or not heads:
            return []
        end = self._first + len(self.tokens) * heads
        return self._floats[end - heads + skip : end].tolist()

    @property
    def logprobs(self) -> Tensor | None:
        """The targets' log-probabilities, [count]."""
        count = len(self.tokens)
        return None if self.targets is None else self._part(count * self.heads, count)

    @property
    def states(self) -> Mapping[int, Tensor]:
        """{layer: [count, D]} at the tapped layers."""
        if not self.taps:
            return {}
        count, model = len(self.tokens), self.sequence.model
        if self.into is not None:
            whole = self.into[:, self.at : self.at + count]
        else:
            skip = count * self.heads + (0 if self.targets is None else count)
            whole = self._part(skip, len(self.taps), count, model.config.hidden_size)
        return dict(zip(self.taps, whole, strict=True))


class Steps:
    """Runs laid out as the engine reads them, and the steps over them.

    What a request asks stays the same from token to token, so it is laid out once and then moved on.
    """

    def __init__(self, handle: int, runs: Sequence[Run], vocabulary: int) -> None:
        """Lay out runs of the model with this handle and so large a vocabulary."""
        self.runs, self._handle = runs, handle
        self._ints, told = array("i"), 0
        for run in runs:
            run._place = len(self._ints)
            self._ints.extend(run.tokens)
            if run.targets is not None:
                self._ints.extend(run.targets)
            self._ints.extend(run.taps)
            run._first = told
            told += run.floats
        floats = array("f", bytes(FLOAT * told))
        self._structures = C.create_string_buffer(SIZE * len(runs))
        place, memory = self._ints.buffer_info()[0], floats.buffer_info()[0]
        for index, run in enumerate(runs):
            run._floats = floats
            asked = _asked(run, place + 4 * run._place, memory + FLOAT * run._first, vocabulary)
            ASKED.pack_into(self._structures, SIZE * index, *asked)

    def make(self, stops: array[int] | None = None) -> None:
        """Advance every run's sequence by its tokens, further where it draws several (`NativeModel.step`)."""
        if any(run.most > 1 for run in self.runs):
            _go_on(self._handle, self._structures, self.runs, stops or array("i"))
            return
        lib.check(lib.library().ph_step(self._handle, self._structures, len(self.runs)))
        for index, run in enumerate(self.runs):
            answer = TOLD.unpack_from(self._structures, SIZE * index + ASKED.size)
            run.status, run.token, run.logprob, run.normaliser = answer
            if run.draw and run.status == lib.OK:
                run.drawn = ((run.token, run.logprob),)
            if run.status in (lib.OK, lib.NOT_FINITE):
                run.sequence.length += len(run.tokens)

    def onward(self, tokens: Sequence[int]) -> None:
        """Let each run, of one token so far, read one more next: `tokens` names it for every run.

        What the engine tells is written over what it told, but for states that go `into` memory given: those
        of the next token come behind.
        """
        for index, (run, token) in enumerate(zip(self.runs, tokens, strict=True)):
            run.tokens, run.drawn = (token,), ()
            self._ints[run._place] = token
            if run.into is not None and run.taps:
                run.at += 1
                run._taps += run._state
                TAPS.pack_into(self._structures, SIZE * index + TAPS_AT, run._taps)


def _go_on(handle: int, structures: Any, runs: Sequence[Run], stops: array[int]) -> None:
    """Make steps until every run has what it draws. One call: Python is not needed between two tokens."""
    total = sum(run.most for run in runs)
    tokens, logprobs = array("i", bytes(4 * total)), array("f", bytes(FLOAT * total))
    more, first, begins = C.create_string_buffer(MORE.size * len(runs)), 0, []
    for index, run in enumerate(runs):
        begins.append(first)
        token, logprob = tokens.buffer_info()[0] + 4 * first, logprobs.buffer_info()[0] + FLOAT * first
        MORE.pack_into(more, MORE.size * index, token, logprob, run.most, 0)
        first += run.most
    place, count = stops.buffer_info()
    lib.check(lib.library().ph_steps(handle, structures, more, len(runs), place, count))
    for index, (run, first) in enumerate(zip(runs, begins, strict=True)):
        run.status = TOLD.unpack_from(structures, SIZE * index + ASKED.size)[0]
        end = first + MORE.unpack_from(more, MORE.size * index)[3]
        run.drawn = tuple(zip(tokens[first:end], logprobs[first:end], strict=True))
        if run.status in (lib.OK, lib.NOT_FINITE) or run.drawn:
            run.sequence.length += len(run.tokens) + max(0, end - first - 1)


def _asked(run: Run, place: int, told: int, vocabulary: int) -> tuple[int, ...]:
    """A run's structure; `place` is where its integers lie, `told` where its floats will."""
    count, heads = len(run.tokens), run.heads
    after = place + 4 * count
    targets = logprobs = logits = layers = taps = stride = 0
    readings = told if heads else 0
    told += FLOAT * count * heads
    if run.targets is not None:
        targets, logprobs = after, told
        after, told = after + 4 * count, told + FLOAT * count
    if run.want_logits:
        run.logits = torch.empty(vocabulary)
        logits = run.logits.data_ptr()
    if run.taps:
        width = run.sequence.model.config.hidden_size
        layers, taps, stride = after, told, count * width
        if run.into is not None:
            run._state = FLOAT * width
            run._taps = taps = run.into.data_ptr() + run._state * run.at
            stride = run.into.stride(0)
    return (
        place, targets, logprobs, logits, layers, taps, readings, stride, run.sequence.number, count,
        -1 if run.adapter is None else run.adapter.number, -1 if run.plan is None else run.plan.number,
        run.generation, run.draw, len(run.taps), run.taps_steered,
    )  # fmt: skip
