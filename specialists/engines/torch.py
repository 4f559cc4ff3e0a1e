"""The embedded engine: plain forward passes over one trunk, on CPU (lean decoder) or GPU (Hugging Face).

A prompt is read once by the bare trunk. Every adapter goes on from a view of that key-value cache: cache
layers grow by concatenation into new tensors, so a view costs nothing and cannot be changed by what follows.
Adapters and steering are switched on only within one forward pass, under a lock, so that interleaved answers
do not meet.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from ...router.steer.runtime import Steering
from ...router.steer.vector import SteeringVector
from ...router.taps import Taps
from ...store.errors import UsageError
from ...store.records import Message
from ..adapters import AdapterBank
from ..family import Family
from ..lean import LeanCache, LeanDecoder
from ..models import empty_cache, load_decoder
from ..tokenizing import ChatCodec, Detokenizer, StopTexts
from .base import Prefill, Sampling, TokenEvent

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

    Decoder = LeanDecoder | PreTrainedModel
    Cache = LeanCache | DynamicCache

REMEMBERED = 4
SMALL = 60_000_000


@dataclass(frozen=True, eq=False)
class _Kept:
    """A prefill's cache and the logits [V] after its last token."""

    cache: Cache
    logits: Tensor


@dataclass(eq=False)
class _Run:
    """One model being decoded: which adapter acts, which vectors steer, and the cache so far."""

    model: Decoder
    adapter: str | None
    vectors: tuple[SteeringVector, ...]
    cache: Cache
    logits: Tensor
    steering: Steering | None = None
    fresh: bool = field(default=True)


class TorchEngine:
    """See `Engine`. Computes in fp32 on a CPU, in the weights' own precision on a GPU."""

    def __init__(
        self,
        family: Family,
        device: str = "auto",
        threads: int | None = None,
        *,
        verify: bool = True,
        lean: bool | None = None,
    ) -> None:
        """Load the family's trunk; specialists are loaded when first used. `threads` is torch's,
        process-wide.

        `lean` None runs each model on the lean decoder where that is possible and the device is a CPU; False
        runs all on Hugging Face's, the reference; True runs all on the lean one, or fails.

        Raises:
            IntegrityError: a file of the family is not the one that was made (skipped with `verify=False`).
            NotLean: `lean` is True, and a model is no plain decoder.
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
        self._lock = threading.RLock()
        self._recent: list[Prefill] = []

    def _load(self, folder: Path) -> Decoder:
        dtype = torch.float32 if self.device.type == "cpu" else None
        return load_decoder(folder, dtype, self.device, self.lean)

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return int(getattr(self.trunk.config, "max_position_embeddings", 1 << 20))

    def close(self) -> None:
        """Forget the models and prefills."""
        with self._lock:
            self.bank.close()
            self._recent, self.students = [], {}

    # -- tokens -------------------------------------------------------------------------------------------

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to its last turn's end."""
        return self.codec.encode_chat(messages)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer, end token included."""
        return (*self.codec.encode_text(text), self.codec.end)

    # -- prompt -------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk; what an earlier prefill read of it is not read again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer.
        """
        tokens, begun = tuple(tokens), time.perf_counter()
        room = self.context - len(self.codec.invocation) - 1
        if not 0 < len(tokens) <= room:
            raise UsageError(
                f"the prompt has {len(tokens)} tokens; this family reads 1 to {room}: shorten it"
            )
        with self._lock:
            known = self._known(tokens, layers)
            cache = empty_cache(self.trunk) if known is None else view(known.handle.cache)
            done = 0 if known is None else len(known.tokens)
            with Taps(self.trunk, layers) as taps:
                logits = forward(self.trunk, tokens[done:], cache)
            states = {layer: taps.states[layer][0].cpu() for layer in layers}
            if known is not None:
                states = {layer: torch.cat((known.states[layer], new)) for layer, new in states.items()}
            spent = 1e3 * (time.perf_counter() - begun)
            prefill = Prefill(tokens, states, spent, done, _Kept(cache, logits))
            self._recent = [prefill, *self._recent[: REMEMBERED - 1]]
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

    # -- answer -------------------------------------------------------------------------------------------

    def generate(
        self,
        prefill: Prefill,
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
    ) -> Iterator[TokenEvent]:
        """Answer with a specialist; closing the iterator cancels, and leaves nothing behind.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run, or cannot be steered by these vectors.
        """
        run = self._start(prefill, specialist, vectors)
        return self._events(run, prefill, sampling)

    def _events(self, run: _Run, prefill: Prefill, sampling: Sampling) -> Iterator[TokenEvent]:
        generator = torch.Generator().manual_seed(sampling.seed)
        text, stops = Detokenizer(self.codec), StopTexts((*sampling.stop, *self.codec.stop_texts))
        invocation = self.codec.invocation
        limit = min(sampling.max_tokens, self.context - len(prefill.tokens) - len(invocation))
        if invocation:
            self._step(run, invocation)
        for count in range(1, limit + 1):
            token, logprob = draw(run.logits, sampling.temperature, generator)
            if token in self.codec.stops:
                yield TokenEvent(token, stops.push(text.flush()) + stops.flush(), logprob, "stop")
                return
            piece = stops.push(text.push(token))
            if count == limit and not stops.stopped:
                piece += stops.push(text.flush())
                yield TokenEvent(token, piece + stops.flush(), logprob, "stop" if stops.stopped else "length")
                return
            yield TokenEvent(token, piece, logprob, "stop" if stops.stopped else None)
            if stops.stopped:
                return
            self._step(run, (token,))

    @torch.inference_mode()
    def _start(self, prefill: Prefill, specialist: str, vectors: Sequence[SteeringVector]) -> _Run:
        """Choose model, adapter and cache for an answer; read the prompt again where the shared reading does
        not do.
        """
        card = self.family.card(specialist)
        if card.kind == "cards":
            raise UsageError(
                f"specialist {specialist!r} answers from the cards and runs no model: nothing to generate"
            )
        with self._lock:
            if card.kind == "student":
                return self._start_student(prefill, specialist, vectors)
            if card.kind == "adapter" and specialist not in self.bank.adapters:
                self.bank.load(specialist, self.family.specialist_folder(specialist))
            adapter = specialist if card.kind == "adapter" else None
            steering = self._steering(vectors)
            kept = cast(_Kept, prefill.handle)
            run = _Run(self.trunk, adapter, tuple(vectors), view(kept.cache), kept.logits, steering)
            if any(v.scope != "generation" for v in vectors):
                run.cache = empty_cache(self.trunk)
                self._forward(run, prefill.tokens, "prompt", None)
            return run

    def _steering(self, vectors: Sequence[SteeringVector]) -> Steering | None:
        return Steering(self.trunk, vectors, fingerprint=self.family.trunk_fingerprint) if vectors else None

    def _start_student(self, prefill: Prefill, name: str, vectors: Sequence[SteeringVector]) -> _Run:
        if vectors:
            names = ", ".join(v.name for v in vectors)
            raise UsageError(
                f"{name!r} is a student with its own weights, which {names} were not made for: unsteer it"
            )
        if name not in self.students:
            self.students[name] = self._load(self.family.specialist_folder(name))
        model = self.students[name]
        cache = empty_cache(model)
        return _Run(model, None, (), cache, forward(model, prefill.tokens, cache))

    def _step(self, run: _Run, tokens: Sequence[int]) -> None:
        with self._lock:
            self._forward(run, tokens, "generation", run.adapter)

    @torch.inference_mode()
    def _forward(
        self,
        run: _Run,
        tokens: Sequence[int],
        phase: Literal["prompt", "generation"],
        adapter: str | None,
        keep: int = 1,
    ) -> Tensor:
        """Run one pass; returns logits [keep, V] (`keep` 0: all) and leaves the last row in `run.logits`."""
        with ExitStack() as stack:
            if run.steering is not None:
                run.steering.phase = phase
                stack.enter_context(run.steering)
            if adapter is not None:
                stack.enter_context(self.bank.active(adapter))
            logits = forward(run.model, tokens, run.cache, keep)
        run.logits = logits[-1] if logits.ndim == 2 else logits
        return logits

    # -- given answers ------------------------------------------------------------------------------------

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
        return self._given(prefill, specialist, answer_tokens, (), vectors)[0]

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
        return self._given(prefill, specialist, answer_tokens, layers, vectors)[1]

    @torch.inference_mode()
    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> tuple[float, dict[int, Tensor]]:
        """One pass over invocation and answer."""
        if not answer:
            raise UsageError("the answer has no tokens: there is nothing to score")
        run, invocation = self._start(prefill, specialist, vectors), self.codec.invocation
        before = run.logits[None]
        with self._lock, Taps(run.model, layers) as taps:
            after = self._forward(run, (*invocation, *answer), "generation", run.adapter, keep=0)
        logits = torch.cat((before, after))[len(invocation) : -1].float()
        wanted = torch.tensor(list(answer), device=logits.device)[:, None]
        mean = logits.log_softmax(-1).gather(1, wanted).mean().item()
        return mean, {layer: taps.states[layer][0, len(invocation) :].cpu() for layer in layers}


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


def draw(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[int, float]:
    """Draw a token from logits [V]; its log-probability is the model's own (at temperature 1)."""
    logprobs = logits.float().log_softmax(-1).cpu()
    if temperature == 0.0:
        token = int(logprobs.argmax())
    else:
        token = int(torch.multinomial((logprobs / temperature).softmax(-1), 1, generator=generator))
    return token, float(logprobs[token])


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({error}): use cpu, cuda or auto") from error
    return device
