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

from ....router.steer.vector import SteeringVector
from ....store.errors import UsageError
from ...card import Card
from ...family import Family
from ...tokenizing import ChatCodec
from ..base import Capacity, NotOffered, Prefill, Request, Sampling
from ..local import LocalEngine
from ..rowbatch import TRUNK
from ..scheduler import Scheduler
from .batch import VllmBatch
from .host import Host, Options
from .row import Reading, VllmRow
from .selftest import self_test
from .sites import Settings
from .versions import why_not


class VllmEngine(LocalEngine[Host]):
    """See `BatchEngine`."""

    _batch: VllmBatch

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
            self_test(self._batch, self.codec.encode_answer("0 1 2 3"))
        except BaseException:
            self.close()
            raise

    def _settings(self) -> Settings:
        most = self.capacity.rows * self._rounds
        return Settings(self._chosen, vectors=most, rounds=self._rounds, gates=most)

    @property
    def trunk(self) -> Host:
        """The trunk."""
        return self._batch.models[TRUNK]

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return self.trunk.context

    def close(self) -> None:
        """End what is under way with EngineClosed; give back the models."""
        self._scheduler.close()
        for host in self._batch.models.values():
            host.close()
        self._batch.recent.clear()

    # -- prompt --------------------------------------------------------------------------------------------

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk, as a request of the batch. What vLLM still has cached of it, and
        an earlier prefill's states of it, are not read again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer; or a layer does not exist.
        """
        tokens, begun = tuple(tokens), time.perf_counter()
        self._fits(tokens)
        request = Reading(tokens, "trunk", Sampling(max_tokens=1), taps=tuple(layers), bare=True)
        (stream,) = self.submit_all((request,), None)
        for _ in stream:
            pass
        spent = 1e3 * (time.perf_counter() - begun)
        prefill = Prefill(tokens, dict(stream.states), spent, stream.reused, self)
        self._batch.remember(prefill)
        return prefill

    # -- specialists ---------------------------------------------------------------------------------------

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

    def _load_specialist(self, card: Card) -> None:
        name = card.name
        with self._loading:
            if card.kind == "student" and name not in self._batch.models:
                folder = self.family.specialist_folder(name)
                self._batch.models[name] = Host(folder, {}, self.capacity, self._settings(), self._options)

    # -- given answers -------------------------------------------------------------------------------------

    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> tuple[float, dict[int, Tensor]]:
        """One plain pass over prompt, invocation and answer."""
        request = Reading(
            prefill.tokens,
            specialist,
            Sampling(max_tokens=1),
            tuple(vectors),
            tuple(layers),
            reuse=False,
            given=tuple(answer),
        )
        self._ready(specialist, vectors)
        self._fits((*prefill.tokens, *answer), repr(specialist), self._batch.model_of(request))
        (stream,) = self.submit_all((request,), None)
        logprobs = [event.logprob for event in stream][: len(answer)]
        return sum(logprobs) / len(logprobs), {layer: x[-len(answer) :] for layer, x in stream.states.items()}
