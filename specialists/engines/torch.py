"""The embedded engine: one trunk, on CPU (lean decoder) or GPU (Hugging Face), many requests in one batch.

A prompt is read once by the bare trunk. Every adapter goes on from a view of that key-value cache. `probe`,
`score` and `states` are plain passes over one row, on the caller's thread; `submit` and `generate` go through
the batch. Passes take turns, and what a pass switches on is off again before the next.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ...router.steer.runtime import Phase, Steering
from ...router.steer.vector import SteeringVector
from ...router.taps import Taps, layer_at
from ...store.errors import UsageError
from ..adapters import AdapterBank
from ..card import Card
from ..family import Family
from ..lean import LeanCache, LeanDecoder
from ..models import empty_cache, load_decoder
from ..tokenizing import ChatCodec
from .base import Capacity, Prefill, Request
from .local import LocalEngine
from .row import Row
from .rowbatch import TRUNK
from .scheduler import Scheduler, Turns
from .torchbatch import Kept, Model, TorchBatch

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

    Decoder = LeanDecoder | PreTrainedModel
    Cache = LeanCache | DynamicCache

REMEMBERED = 4
SMALL = 60_000_000


@dataclass(eq=False)
class _Run:
    """One row being read by plain passes: which adapter acts, which vectors steer, and the cache so far."""

    model: Decoder
    adapter: str | None
    cache: Cache
    logits: Tensor
    steering: Steering | None = None


class TorchEngine(LocalEngine[Model]):
    """See `Engine`. Computes in fp32 on a CPU, in the weights' own precision on a GPU."""

    _batch: TorchBatch

    def __init__(
        self,
        family: Family,
        device: str = "auto",
        threads: int | None = None,
        *,
        verify: bool = True,
        lean: bool | None = None,
        capacity: Capacity | None = None,
    ) -> None:
        """Load the family's trunk; specialists are loaded when first used. `threads` is torch's,
        process-wide. `capacity` bounds the batch, its queue and its memory.

        `lean` None runs each model on the lean decoder where that is possible and the device is a CPU; False
        runs all on Hugging Face's, the reference; True runs all on the lean one, or fails.

        Raises:
            IntegrityError: a file of the family is not the one that was made (skipped with `verify=False`).
            NotLean: `lean` is True, and a model is no plain decoder.
            NotOffered: the trunk attends in a way that cannot be batched.
            UsageError: `device` is not there.

        """
        if verify:
            family.verify()
        self.family, self.device, self.lean = family, _device(device), lean
        self.codec = ChatCodec.load(family.trunk_folder)
        self.trunk = self._load(family.trunk_folder)
        # One thread decodes a small model fastest: its products are too short to share, and waiting for a
        # second core that is busy elsewhere made tokens up to four times as slow.
        if threads is None and self.device.type == "cpu" and self.trunk.num_parameters() < SMALL:
            threads = 1
        if threads is not None:
            torch.set_num_threads(threads)
        self.bank = AdapterBank(self.trunk)
        self.students: dict[str, Decoder] = {}
        self.capacity = capacity or Capacity()
        self._turns = Turns()
        self._recent: list[Prefill] = []
        self._batch = TorchBatch(self.codec, self.bank, self._turns, self.capacity)
        self._batch.models[TRUNK] = Model.of(TRUNK, self.trunk)
        self._scheduler: Scheduler[Row] = Scheduler(self._batch, self.capacity, self.family.name)

    def _load(self, folder: Path) -> Decoder:
        dtype = torch.float32 if self.device.type == "cpu" else None
        decoder = load_decoder(folder, dtype, self.device, self.lean)
        if not isinstance(decoder, LeanDecoder):
            from .huggingface import check

            check(decoder)
        return decoder

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return int(getattr(self.trunk.config, "max_position_embeddings", 1 << 20))

    def close(self) -> None:
        """End what is under way with EngineClosed; forget the models and prefills."""
        self._scheduler.close()
        with self._turns:
            for model in self._batch.models.values():
                model.instruments.close()
            self.bank.close()
            self._batch.prefixes.clear()
            self._recent, self.students = [], {}

    # -- prompt -------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk; what an earlier prefill read of it is not read again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer.
        """
        tokens, begun = tuple(tokens), time.perf_counter()
        self._fits(tokens)
        with self._turns:
            known = self._known(tokens, layers)
            cache = empty_cache(self.trunk) if known is None else view(known.handle.cache)
            done = 0 if known is None else len(known.tokens)
            with Taps(self.trunk, layers) as taps:
                logits = forward(self.trunk, tokens[done:], cache)
            states = {layer: taps.states[layer][0].cpu() for layer in layers}
            if known is not None:
                states = {layer: torch.cat((known.states[layer], new)) for layer, new in states.items()}
            spent = 1e3 * (time.perf_counter() - begun)
            prefill = Prefill(tokens, states, spent, done, Kept(cache, logits, self._batch))
            self._recent = [prefill, *self._recent[: REMEMBERED - 1]]
        self._batch.prefixes.put(self._batch.prefix(prefill))
        return prefill

    def _known(self, tokens: tuple[int, ...], layers: Sequence[int]) -> Prefill | None:
        """The longest remembered prefill that begins `tokens` and tapped these layers."""
        begins = [
            p
            for p in self._recent
            if len(p.tokens) < len(tokens)
            and tokens[: len(p.tokens)] == p.tokens
            and set(layers) <= set(p.states)
        ]
        return max(begins, key=lambda p: len(p.tokens), default=None)

    # -- specialists ---------------------------------------------------------------------------------------

    def _check(self, request: Request, model: Model) -> None:
        """Refuse layers and widths that the model does not have."""
        config: Any = model.decoder.config
        width = (config.get_text_config() if hasattr(config, "get_text_config") else config).hidden_size
        readers = [(vector.layer, vector.vector, vector.name) for vector in request.vectors]
        readers += [(head.layer, head.weight, head.name) for head in request.heads]
        for layer, weight, name in readers:
            layer_at(model.instruments.layers, layer)
            if weight.shape != (width,):
                raise UsageError(
                    f"{name!r} has shape {list(weight.shape)}, this model is {width} wide: use its "
                    "own model's"
                )
        for layer in request.taps:
            layer_at(model.instruments.layers, layer)

    def _load_specialist(self, card: Card) -> None:
        name = card.name
        with self._turns:
            if card.kind == "student" and name not in self.students:
                self.students[name] = self._load(self.family.specialist_folder(name))
                self._batch.models[name] = Model.of(name, self.students[name])
            elif card.kind == "adapter" and name not in self.bank.adapters:
                self.bank.load(name, self.family.specialist_folder(name))

    # -- given answers ------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> tuple[float, dict[int, Tensor]]:
        """One plain pass over invocation and answer."""
        card, invocation = self._ready(specialist, vectors), self.codec.invocation
        with self._turns:
            run = self._start(prefill, card, vectors)
            before = run.logits[None]
            with Taps(run.model, layers) as taps:
                after = self._forward(run, (*invocation, *answer), "generation", keep=0)
        logits = torch.cat((before, after))[len(invocation) : -1].float()
        wanted = torch.tensor(list(answer), device=logits.device)[:, None]
        mean = logits.log_softmax(-1).gather(1, wanted).mean().item()
        return mean, {layer: taps.states[layer][0, len(invocation) :].cpu() for layer in layers}

    def _start(self, prefill: Prefill, card: Card, vectors: Sequence[SteeringVector]) -> _Run:
        """Choose model, adapter and cache; read the prompt again where the shared reading does not do."""
        if card.kind == "student":
            model = self.students[card.name]
            cache = empty_cache(model)
            return _Run(model, None, cache, forward(model, prefill.tokens, cache))
        adapter = card.name if card.kind == "adapter" else None
        kept = cast(Kept, prefill.handle)
        run = _Run(self.trunk, adapter, view(kept.cache), kept.logits)
        if vectors:
            run.steering = Steering(self.trunk, vectors, fingerprint=self.family.trunk_fingerprint)
        if any(vector.scope != "generation" for vector in vectors):
            run.cache = empty_cache(self.trunk)
            self._forward(replace(run, adapter=None), prefill.tokens, "prompt")
        return run

    def _forward(self, run: _Run, tokens: Sequence[int], phase: Phase, keep: int = 1) -> Tensor:
        """Run one pass; returns logits [keep, V] (`keep` 0: all)."""
        with ExitStack() as stack:
            if run.steering is not None:
                run.steering.phase = phase
                stack.enter_context(run.steering)
            if run.adapter is not None:
                stack.enter_context(self.bank.active(run.adapter))
            return forward(run.model, tokens, run.cache, keep)


def forward(model: Decoder, tokens: Sequence[int], cache: Cache, keep: int = 1) -> Tensor:
    """Feed tokens of one row after `cache`, which grows; return logits [V] of the last, or [T, V] with `keep`
    0.
    """
    ids = torch.tensor([list(tokens)], device=model.device)
    run: Any = model
    logits = run(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=keep).logits[0]
    return cast(Tensor, logits[-1] if keep == 1 else logits)


def view(cache: Cache) -> Cache:
    """Return a cache that starts with the same tensors and grows apart."""
    twin: Any = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return cast("Cache", twin)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({error}): use cpu, cuda or auto") from error
    return device
