"""The vLLM engine: a family's models inside vLLM, probed and steered for each request in one batch.

vLLM batches, caches and computes; the plugin's board steers, gates and taps inside its forward pass. One
thread drives all of an engine's models, in this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ....router.fingerprint import require
from ....router.steer.vector import SteeringVector
from ....store.errors import UsageError
from ....store.records import Message
from ...card import Card
from ...family import Family
from ...tokenizing import ChatCodec
from ..base import Capacity, NotOffered, Prefill, Request, Sampling
from ..scheduler import Scheduler
from ..stream import Stream
from .batch import TRUNK, VllmBatch
from .host import Host, Options
from .row import Reading, VllmRow
from .selftest import self_test
from .sites import Settings
from .versions import why_not


class VllmEngine:
    """See `BatchEngine`."""

    def __init__(
        self,
        family: Family,
        threads: int | None = None,
        *,
        verify: bool = True,
        capacity: Capacity | None = None,
        layers: Sequence[int] | None = None,
        rounds: int = 4,
        options: Options | None = None,
    ) -> None:
        """Load the family's trunk and adapters into vLLM, and test that steering works; students are loaded
        when first used. `threads` is torch's, process-wide; it counts before vLLM was first used only.

        `layers` are those that vectors, gates, taps and heads may name, by default all; on a GPU each costs a
        few kernels a pass. `rounds` is how many vectors one request may have at one layer.

        Raises:
            IntegrityError: a file of the family is not the one that was made (skipped with `verify=False`).
            NotOffered: vLLM is not installed, not known, cannot run this family, or fails the self-test.
        """
        reason = why_not()
        if reason is not None:
            raise NotOffered(f"the vllm engine cannot be used: {reason}")
        if verify:
            family.verify()
        if threads is not None:
            torch.set_num_threads(threads)
        self.family, self.capacity = family, capacity or Capacity()
        self.codec = ChatCodec.load(family.trunk_folder)
        self._chosen = None if layers is None else tuple(sorted(set(layers)))
        self._rounds, self._options = rounds, options or Options()
        self._loading = threading.Lock()
        cards = family.cards.items()
        adapters = {name: family.specialist_folder(name) for name, card in cards if card.kind == "adapter"}
        trunk = Host(family.trunk_folder, adapters, self.capacity, self._settings(), self._options)
        self._batch = VllmBatch(self.codec, trunk, self.capacity)
        self._scheduler: Scheduler[VllmRow] = Scheduler(self._batch, self.capacity, family.name)
        try:
            self_test(self._batch, (*self.codec.encode_text("0 1 2 3"), self.codec.end))
        except BaseException:
            self.close()
            raise

    def _settings(self) -> Settings:
        most = self.capacity.rows * self._rounds
        return Settings(self._chosen, vectors=most, rounds=self._rounds, gates=most)

    @property
    def trunk(self) -> Host:
        """The trunk."""
        return self._batch.hosts[TRUNK]

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return self.trunk.context

    @property
    def load(self) -> tuple[int, int, int]:
        """How many requests are being answered, how many wait, and how many bytes of cache are reserved."""
        return self._scheduler.load

    def close(self) -> None:
        """End what is under way with EngineClosed; give back the models."""
        self._scheduler.close()
        for host in self._batch.hosts.values():
            host.close()
        self._batch.recent.clear()

    # -- tokens --------------------------------------------------------------------------------------------

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to its last turn's end."""
        return self.codec.encode_chat(messages)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer, end token included."""
        return (*self.codec.encode_text(text), self.codec.end)

    # -- prompt --------------------------------------------------------------------------------------------

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk, as a request of the batch. What vLLM still has cached of it, and
        an earlier prefill's states of it, are not read again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer; or a layer does not exist.
        """
        tokens, begun = tuple(tokens), time.perf_counter()
        room = self.context - len(self.codec.invocation) - 1
        if not 0 < len(tokens) <= room:
            raise UsageError(
                f"the prompt has {len(tokens)} tokens; this family reads 1 to {room}: shorten it"
            )
        request = Reading(tokens, "trunk", Sampling(max_tokens=1), taps=tuple(layers), bare=True)
        (stream,) = self._submit((request,), None)
        for _ in stream:
            pass
        spent = 1e3 * (time.perf_counter() - begun)
        prefill = Prefill(tokens, dict(stream.states), spent, stream.reused, self)
        self._batch.remember(prefill)
        return prefill

    # -- answer --------------------------------------------------------------------------------------------

    def generate(
        self,
        prefill: Prefill,
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
    ) -> Stream:
        """Answer with a specialist; closing the stream cancels, and leaves nothing behind. Waits while the
        queue is full.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run, or cannot be steered by these vectors.
        """
        request = Request(prefill.tokens, specialist, sampling, tuple(vectors), prefill=prefill)
        return self.submit(request, wait=None)

    def submit(self, request: Request, wait: float | None = 0.0) -> Stream:
        """Take a request into the batch; see `BatchEngine.submit`."""
        return self.submit_all((request,), wait)[0]

    def submit_all(self, requests: Sequence[Request], wait: float | None = 0.0) -> list[Stream]:
        """Take several requests at one moment; see `BatchEngine.submit_all`."""
        return self._submit(requests, wait)

    def _submit(self, requests: Sequence[Request], wait: float | None) -> list[Stream]:
        return self._scheduler.submit([(one, self._memory(one)) for one in requests], wait)

    def _memory(self, request: Request) -> int:
        """Bytes of cache that a request may need. Raises as `BatchEngine.submit` where it must be refused."""
        self._ready(request.specialist, request.vectors)
        host = self._batch.hosts[self._batch.name_of(request)]
        self._check(request, host)
        limit, memory = self._batch.limit(request, host), self._batch.memory(request, host)
        if limit < 1:
            room = host.context - len(self._batch.tokens(request)) + len(request.tokens) - 1
            raise UsageError(
                f"the prompt has {len(request.tokens)} tokens; {request.specialist!r} reads 1 to {room}: "
                "shorten it"
            )
        if memory > self.capacity.memory:
            raise UsageError(
                f"{len(request.tokens)} prompt and {limit} answer tokens need {memory >> 10} KiB of cache, "
                f"this engine has {self.capacity.memory >> 10} KiB: shorten them, or raise that"
            )
        return memory

    def _check(self, request: Request, host: Host) -> None:
        """Refuse tokens, layers and widths that the model does not have."""
        wrong = next((t for t in self._batch.tokens(request) if not 0 <= t < host.vocabulary), None)
        if wrong is not None:
            raise UsageError(
                f"token {wrong} is outside the vocabulary of {host.vocabulary}: encode with this family"
            )
        readers = [(vector.layer, vector.vector, vector.name) for vector in request.vectors]
        readers += [(head.layer, head.weight, head.name) for head in request.heads]
        for layer in (*request.taps, *(layer for layer, _, _ in readers)):
            if not 0 <= layer < host.layers:
                raise UsageError(
                    f"layer {layer} does not exist; this model has layers 0 to {host.layers - 1}"
                )
        for _, weight, name in readers:
            if weight.shape != (host.width,):
                raise UsageError(
                    f"{name!r} has shape {list(weight.shape)}, this model is {host.width} wide: use its own "
                    "model's"
                )
        reads = (*request.taps, *(head.layer for head in request.heads))
        host.board.sites.check(request.vectors, reads)

    def _ready(self, name: str, vectors: Sequence[SteeringVector]) -> Card:
        """Load what a specialist needs.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run here, or not be steered by these vectors.
            ArtifactError: a vector was made for another model.
        """
        card = self.family.card(name)
        if card.kind == "cards":
            raise UsageError(
                f"specialist {name!r} answers from the cards and runs no model: nothing to generate"
            )
        if card.kind == "remote":
            raise NotOffered(f"specialist {name!r} runs elsewhere: ask the remote engine for its answer")
        if card.kind == "student" and vectors:
            names = ", ".join(vector.name for vector in vectors)
            raise NotOffered(
                f"{name!r} is a student with its own weights, which {names} were not made for: unsteer it"
            )
        for vector in vectors:
            require(vector.fingerprint, self.family.trunk_fingerprint, f"steering vector {vector.name!r}")
        if card.kind == "student":
            with self._loading:
                if name not in self._batch.hosts:
                    folder = self.family.specialist_folder(name)
                    self._batch.hosts[name] = Host(folder, {}, self.capacity, self._settings(), self._options)
        return card

    # -- given answers -------------------------------------------------------------------------------------

    def score(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> float:
        """Return the mean log-probability (nats per token) that a specialist gives to an answer.

        Raises:
            UsageError: the answer is empty.
        """
        stream = self._given(prefill, specialist, answer_tokens, (), vectors)
        logprobs = [event.logprob for event in stream][: len(answer_tokens)]
        return sum(logprobs) / len(logprobs)

    def states(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> dict[int, Tensor]:
        """Return the residual stream [A, D] at each of the answer's tokens, per layer, under that specialist.

        Raises:
            UsageError: the answer is empty, or a layer does not exist.
        """
        stream = self._given(prefill, specialist, answer_tokens, layers, vectors)
        for _ in stream:
            pass
        return {layer: x[-len(answer_tokens) :] for layer, x in stream.states.items()}

    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> Stream:
        """One plain pass over prompt, invocation and answer."""
        if not answer:
            raise UsageError("the answer has no tokens: there is nothing to score")
        request = Reading(
            prefill.tokens,
            specialist,
            Sampling(max_tokens=1),
            tuple(vectors),
            tuple(layers),
            reuse=False,
            given=tuple(answer),
        )
        return self._submit((request,), None)[0]
