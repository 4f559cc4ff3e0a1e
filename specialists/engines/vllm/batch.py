"""The vLLM engine's batch: how requests become vLLM's, and what comes of its passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from ...tokenizing import ChatCodec
from ..base import Capacity, Prefill, Request, TokenEvent
from ..prefixes import shared
from ..row import HeadSet
from ..rowbatch import TRUNK, RowBatch
from ..stream import Stream
from .host import BLOCK, Host
from .row import Note, Reading, VllmRow, mark_of

if TYPE_CHECKING:
    from ..rows import RowCache

REMEMBERED = 4
REMEMBERED_HEADS = 16


class VllmBatch(RowBatch[Host, VllmRow]):
    """The rows of one engine (`scheduler.Work`). vLLM keeps the caches of prompts; here are their states."""

    def __init__(self, codec: ChatCodec, trunk: Host, capacity: Capacity) -> None:
        super().__init__(codec, capacity)
        self.models[TRUNK] = trunk
        self.recent: list[Prefill] = []
        # requests that ask for the same heads share their stack
        self._heads = lru_cache(maxsize=REMEMBERED_HEADS)(HeadSet)

    # -- rows ----------------------------------------------------------------------------------------------

    def tokens(self, request: Request) -> list[int]:
        """What vLLM reads before it draws."""
        if not isinstance(request, Reading):
            return super().tokens(request)
        return [*request.tokens, *(() if request.bare else self.codec.invocation), *request.given]

    def room(self, request: Request, model: Host) -> int:
        """The most tokens of cache that the request may come to need, in whole blocks."""
        return -(-super().room(request, model) // BLOCK) * BLOCK

    def open(self, request: Request, stream: Stream) -> VllmRow:
        """Give a request to vLLM."""
        name = self.name_of(request)
        host = self.models[name]
        asking = tuple(head for head in request.heads if head.at == "prompt")
        answering = tuple(head for head in request.heads if head.at != "prompt")
        device = host.board.device
        row = VllmRow(
            serial=next(self._serials),
            request=request,
            stream=stream,
            codec=self.codec,
            cache=cast("RowCache", None),  # vLLM keeps it
            tokens=self.tokens(request),
            boundary=len(request.tokens),
            limit=self.limit(request, host),
            model=name,
            adapter=request.specialist if request.specialist in host.loras else None,
            answering=self._heads(answering, device) if answering else None,
            asking=self._heads(asking, device) if asking else None,
            acts=host.board.sites.take(request.vectors),
        )
        row.known, known = self._known(request)
        reusable = self._reusable(row, known)
        try:
            host.add(row, Note(row.serial, row.boundary, mark_of(request), reusable))
        except BaseException:
            host.board.sites.give(row.acts)
            raise
        return row

    def _reusable(self, row: VllmRow, known: int) -> int:
        """How many cached tokens it may go on from: none that it must read itself."""
        if not row.request.reuse:
            return 0
        most = len(row.tokens) - 1
        if row.asking is not None:
            most = min(most, row.boundary - 1)
        return min(most, known) if row.request.taps else most

    def _known(self, request: Request) -> tuple[Mapping[int, Tensor], int]:
        """States of the tapped layers, as an unsteered trunk read them before, and of how many tokens."""
        if not request.taps or request.reads_steered or self.name_of(request) != TRUNK:
            return {}, 0
        best: tuple[Mapping[int, Tensor], int] = ({}, 0)
        for one in (*self.recent, *((request.prefill,) if request.prefill is not None else ())):
            alike = shared(one.tokens, request.tokens)
            if set(request.taps) <= set(one.states) and alike > best[1]:
                best = one.states, alike
        return best

    def remember(self, prefill: Prefill) -> None:
        """Keep a prefill's states for prompts that begin alike."""
        self.recent = [prefill, *self.recent[: REMEMBERED - 1]]

    def shut(self, row: VllmRow) -> None:
        """Take a request out of vLLM, and its steering off the tables."""
        host = self.models[row.model]
        host.board.sites.give(row.acts)
        host.drop(row)

    # -- passes --------------------------------------------------------------------------------------------

    def step(self, rows: Sequence[VllmRow]) -> None:
        """Let each model that has work make one pass."""
        for name in dict.fromkeys(row.model for row in rows):
            for row, output in self.models[name].step()[0]:
                row.ended = bool(output.finished)
                try:
                    _deliver(row, output)
                except Exception as error:
                    row.stream.fail(error)


def _deliver(row: VllmRow, output: Any) -> None:
    """Hand a row the tokens that vLLM drew for it. The first column of log-probabilities is the token's."""
    if output.new_prompt_logprobs_tensors is not None:
        row.given += output.new_prompt_logprobs_tensors.logprobs[:, 0].tolist()
    if not output.new_token_ids:
        return
    if isinstance(row.request, Reading) and row.request.given:
        given = row.request.given
        for token, logprob in zip(given, row.given[-len(given) :], strict=True):
            row.stream.put(TokenEvent(token, "", logprob))
    logprobs = output.new_logprobs.logprobs[:, 0].tolist()
    for token, logprob in zip(output.new_token_ids, logprobs, strict=True):
        row.accept(token, logprob, row.pending)
