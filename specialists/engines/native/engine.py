"""The native engine: our own decoder in C++ on the CPU, for families whose models are plain decoders.

`probe`, `score` and `states` run on the caller's thread; `submit` and `generate` go through the batch. One
step serves all open requests, each with its own specialist, steering, gates, taps and heads. What a token
gets does not depend on its neighbours, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ....router.steer.vector import SteeringVector
from ....store.errors import UsageError
from ...adapters import read_adapter
from ...card import Card
from ...family import Family
from ...tokenizing import ChatCodec
from ..base import Capacity, Prefill, Request, RequestFailed
from ..local import LocalEngine
from ..prefixes import Prefix, key_of
from ..row import overflow
from ..rowbatch import TRUNK
from ..rows import RowCache
from ..scheduler import Scheduler, Turns
from . import library as lib
from .batch import Held, NativeBatch, NativeRow
from .model import Context, NativeModel, Numbered, Plan
from .model import Sequence as Cached
from .plans import plan_of
from .run import Run
from .weights import Precision

# Prefills that callers hold and prompts that are kept lie beside what requests reserve.
SLACK = 64 << 20
# A step over so few bytes of weights is too short to share: a second thread that loses its processor to
# somebody else holds up every one of its forty meetings.
SMALL = 32 << 20


class NativeEngine(LocalEngine[NativeModel]):
    """See `BatchEngine`. Weights are kept as they are stored (fp32, bf16, f16, int8 or int4), or rounded when
    loaded; activations are fp32, and 15 bits where they meet quantized weights.
    """

    _batch: NativeBatch

    def __init__(
        self,
        family: Family,
        threads: int | None = None,
        *,
        verify: bool = True,
        capacity: Capacity | None = None,
        bits: int | Precision | None = None,
        kernels: str = "auto",
    ) -> None:
        """Load the family's trunk; specialists are loaded when first used.

        `threads` None: as many as the process may use, but one for a small trunk. `bits` rounds the weights
        of linear maps, all alike or each as a function of its name says.

        Raises:
            IntegrityError: a file of the family is not the one that was made (skipped with `verify=False`).
            NotLean: the trunk is no plain decoder; the torch engine runs it.
            NativeUnavailable: the library is not compiled and cannot be.
        """
        lib.library()
        if verify:
            family.verify()
        self.family, self.capacity = family, capacity or Capacity()
        self.codec = ChatCodec.load(family.trunk_folder)
        if threads is None and _size(family.trunk_folder) < SMALL:
            threads = 1
        self.runtime = Context(threads, kernels)
        self._precision = _precision(bits)
        self._batch = NativeBatch(self.codec, self._load(family.trunk_folder), self.capacity)
        self._loading = Turns()
        self._scheduler: Scheduler[NativeRow] = Scheduler(self._batch, self.capacity, family.name)

    def _load(self, folder: Path) -> NativeModel:
        memory = 2 * self.capacity.memory + SLACK
        rows = min(self.capacity.chunk, 256) + self.capacity.rows
        return NativeModel(self.runtime, folder, self._precision, cache_bytes=memory, rows=rows)

    @property
    def trunk(self) -> NativeModel:
        """The trunk."""
        return self._batch.models[TRUNK]

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return self.trunk.context

    def close(self) -> None:
        """End what is under way with EngineClosed; forget specialists and prompts."""
        self._scheduler.close()
        self._batch.forget()

    # -- prompt --------------------------------------------------------------------------------------------

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk; what was read before of it is not read again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer; or a layer does not exist.
            RequestFailed: numbers overflowed, or the cache's memory is used up.
        """
        tokens, begun = tuple(tokens), time.perf_counter()
        self._fits(tokens)
        self._check_layers(layers)
        known, done = self._batch.prefixes.find(key_of(TRUNK, ()), tokens, layers) or (None, 0)
        if known is None or known.tokens != tokens:
            known = self._further(known, done, tokens, layers)
        self._batch.prefixes.put(known)
        states = {layer: known.states[layer] for layer in layers}
        handle = Held(cast(Cached, known.cache), self._batch)
        return Prefill(tokens, states, 1e3 * (time.perf_counter() - begun), done, handle)

    def _further(
        self, known: Prefix | None, done: int, tokens: tuple[int, ...], layers: Sequence[int]
    ) -> Prefix:
        """Read a prompt after its first `done` tokens, which are those of a known one."""
        sequence = self.trunk.sequence() if known is None else _fork(cast(Cached, known.cache), done)
        states, _ = self._read(Run(sequence, tokens[done:], taps=tuple(layers)))
        if known is not None:
            states = {layer: torch.cat((known.states[layer][:done], x)) for layer, x in states.items()}
        return Prefix(key_of(TRUNK, ()), tokens, cast(RowCache, sequence), states)

    def _read(self, run: Run) -> tuple[dict[int, Tensor], float]:
        """Read a run of any length, in pieces; return tapped states and its targets' log-probability."""
        model, total, count = run.sequence.model, 0.0, len(run.tokens)
        states = torch.empty(len(run.taps), count, model.config.hidden_size)
        for start in range(0, count, model.rows):
            piece = Run(
                run.sequence,
                run.tokens[start : start + model.rows],
                adapter=run.adapter,
                plan=run.plan,
                generation=run.generation,
                targets=None if run.targets is None else run.targets[start : start + model.rows],
                taps=run.taps,
                taps_steered=run.taps_steered,
                into=states,
                at=start,
            )
            model.step([piece])
            if piece.status == lib.NOT_FINITE:
                raise overflow(f"a state before token {run.sequence.length} is not finite")
            if piece.status == lib.OUT_OF_CACHE:
                raise RequestFailed("the cache's memory is used up: close other requests and prefills")
            if piece.status != lib.OK:
                raise RequestFailed(f"reading failed at token {run.sequence.length} (code {piece.status})")
            if piece.logprobs is not None:
                total += float(piece.logprobs.sum())
        return dict(zip(run.taps, states, strict=True)), total

    def _fits(
        self, tokens: Sequence[int], who: str = "this family", model: NativeModel | None = None
    ) -> None:
        super()._fits(tokens, who, model)
        vocabulary = self.trunk.config.vocab_size
        wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise UsageError(
                f"token {wrong} is outside the vocabulary of {vocabulary}: encode with this family"
            )

    def _check_layers(self, layers: Sequence[int], model: NativeModel | None = None) -> None:
        count = (model or self.trunk).config.num_hidden_layers
        for layer in layers:
            if not 0 <= layer < count:
                raise UsageError(f"layer {layer} does not exist; this model has layers 0 to {count - 1}")

    # -- specialists ---------------------------------------------------------------------------------------

    def _check(self, request: Request, model: NativeModel) -> None:
        self._check_layers(request.taps, model)
        self._batch.plan(request, model)

    def _load_specialist(self, card: Card) -> None:
        name = card.name
        with self._loading:
            if card.kind == "student" and name not in self._batch.models:
                self._batch.models[name] = self._load(self.family.specialist_folder(name))
            elif card.kind == "adapter" and name not in self._batch.adapters:
                folder = self.family.specialist_folder(name)
                adapter = read_adapter(name, folder, torch.float32, torch.device("cpu"))
                self._batch.adapters[name] = self.trunk.adapter(adapter)

    # -- given answers -------------------------------------------------------------------------------------

    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> tuple[float, dict[int, Tensor]]:
        """Read the rest of the prompt, then invocation and answer."""
        card = self._ready(specialist, vectors)
        model = self._batch.models[specialist if card.kind == "student" else TRUNK]
        self._fits((*prefill.tokens, *answer), repr(specialist), model)
        self._check_layers(layers, model)
        plan = plan_of(model, vectors)
        sequence = self._read_again(prefill, card, vectors, model, plan)
        invocation, first = self.codec.invocation, sequence.length
        said = (*invocation, *answer)
        # The token before the answer is the invocation's last, or the prompt's where nothing is invoked.
        rest = Run(sequence, prefill.tokens[first:], plan=plan, targets=[-1] * (len(prefill.tokens) - first))
        if not invocation:
            rest.targets = [*([-1] * (len(rest.tokens) - 1)), answer[0]]
        _, before = self._read(rest)
        targets = [*([-1] * (len(invocation) - 1)), *(answer if invocation else answer[1:]), -1]
        run = Run(
            sequence, said, self._acting(card), plan, generation=True, targets=targets, taps=tuple(layers),
            taps_steered=False,
        )  # fmt: skip
        states, after = self._read(run)
        return (before + after) / len(answer), {layer: x[len(invocation) :] for layer, x in states.items()}

    def _acting(self, card: Card) -> Numbered | None:
        return self._batch.adapters[card.name] if card.kind == "adapter" else None

    def _read_again(
        self,
        prefill: Prefill,
        card: Card,
        vectors: Sequence[SteeringVector],
        model: NativeModel,
        plan: Plan | None,
    ) -> Cached:
        """A sequence with what was read of the prompt as this answer needs it read; the caller reads the
        rest.
        """
        held = self._batch.held(prefill)
        alike = card.kind != "student" and all(vector.scope == "generation" for vector in vectors)
        if held is None or not alike:
            return model.sequence()
        return _fork(held, len(prefill.tokens) - (not self.codec.invocation))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _fork(sequence: Cached, tokens: int) -> Cached:
    try:
        return sequence.fork(tokens)
    except MemoryError as error:
        raise RequestFailed(f"{error}: close other requests and prefills") from error


def _precision(bits: int | Precision | None) -> Precision:
    """Bits by the weight's name; the embedding and the head are rounded like the rest."""
    if callable(bits):
        return bits
    if bits not in (None, 2, 3, 4, 8):
        raise UsageError(f"weights of {bits} bits: give 8, 4, 3, 2, or none for as they are stored")
    return cast(Callable[[str], int | None], lambda name: bits)
