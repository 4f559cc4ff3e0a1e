"""Who is measured: each reads prompts and then generates greedily, a whole batch at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ...router.steer.vector import Gate, SteeringVector
from ...specialists.adapters import Adapter, LowRank
from ...specialists.engines.base import Head
from ...specialists.engines.native.model import MAPS, Context, NativeModel, Numbered, Plan
from ...specialists.engines.native.plans import plan_of
from ...specialists.engines.native.run import Run
from ...specialists.lean import load_lean
from ...specialists.leanconfig import LeanConfig


class Clock:
    """What all contenders are timed with: the wall's time, or on a machine that is not quiet the processor's.

    Processor time of one thread says what the work costs, whoever else wants the processor.
    """

    processor = False

    @classmethod
    def now(cls) -> float:
        """Seconds since some moment."""
        return time.process_time() if cls.processor else time.perf_counter()


@dataclass(frozen=True)
class Times:
    """Seconds of reading the prompts, and of each token after them (for the whole batch)."""

    prompt: float
    token: float


class Contender(Protocol):
    """An engine with a model in it."""

    name: str

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        """Read the prompts (of one length) and generate so many tokens for each."""


# -- ours --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Native:
    """The native engine's steps, driven as its batch drives them.

    `acts` gives for each row of the batch its adapter and its plan; in the prompt they act only where
    `whole` says so. `answers` are the last round's tokens.
    """

    name: str
    model: NativeModel
    acts: Callable[[int], tuple[Numbered | None, Plan | None]] = lambda row: (None, None)
    states: int = 0
    whole: bool = False
    answers: list[list[int]] = field(default_factory=list)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        begun = Clock.now()
        rows = [self.model.sequence() for _ in prompts]
        last = [self._read(row, sequence, prompts[row]) for row, sequence in enumerate(rows)]
        drawn = [last]
        middle = Clock.now()
        taps = (0,) if self.states else ()
        for _ in range(tokens):
            runs = [
                Run(sequence, (token,), *self.acts(row), generation=True, draw=True, taps=taps)
                for row, (sequence, token) in enumerate(zip(rows, last, strict=True))
            ]
            self.model.step(runs)
            last = [run.token for run in runs]
            drawn.append(last)
        spent = Clock.now() - middle
        self.answers = [list(answer) for answer in zip(*drawn, strict=True)]
        return Times(middle - begun, spent / tokens)

    def _read(self, row: int, sequence: Any, prompt: Sequence[int]) -> int:
        acts = self.acts(row) if self.whole else (None, None)
        for start in range(0, len(prompt), self.model.rows):
            run = Run(sequence, prompt[start : start + self.model.rows], *acts, draw=True)
            self.model.step([run])
        return run.token


def bits_for(body: int, head: int | None = None) -> Callable[[str], int]:
    """The bits of each weight by its name: one number for the layers, one for embedding and head."""
    return lambda name: body if ".layers." in name else head or body


def random_adapters(config: LeanConfig, count: int, rank: int = 16) -> list[Adapter]:
    """Random adapters on every linear map."""
    draw = torch.Generator().manual_seed(1)
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    width, inner = config.hidden_size, config.intermediate_size
    shapes = {"q": (heads, width), "k": (keys, width), "v": (keys, width), "o": (width, heads)}
    shapes |= {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    made = []
    for number in range(count):
        products = {}
        for layer in range(config.num_hidden_layers):
            for name in MAPS:
                outputs, inputs = shapes[name.rpartition(".")[2].removesuffix("_proj")]
                a = torch.randn(rank, inputs, generator=draw) * 0.01
                b = torch.randn(outputs, rank, generator=draw) * 0.01
                products[f"model.layers.{layer}.{name}"] = LowRank(a, b)
        made.append(Adapter(f"a{number}", products, rank))
    return made


def adapters(model: NativeModel, count: int) -> list[Numbered]:
    """Random adapters, held by the model."""
    return [model.adapter(one) for one in random_adapters(model.config, count)]


def instruments(model: NativeModel) -> Plan:
    """Two gated vectors and sixteen probes, at two layers."""
    config, draw = model.config, torch.Generator().manual_seed(2)

    def direction() -> Tensor:
        return torch.randn(config.hidden_size, generator=draw) * 0.01

    middle = config.num_hidden_layers // 2
    vectors = [
        SteeringVector("v", "add", middle, 1.0, "both", direction(), gate=Gate(middle - 1, direction())),
        SteeringVector("w", "project_out", middle, 1.0, "both", direction()),
    ]
    heads = [Head(f"p{i}", middle + i % 2, direction()) for i in range(16)]
    plan = plan_of(model, vectors, heads)
    assert plan is not None
    return plan


def native_contenders(context: Context, folder: Path, group: int = 64) -> list[Native]:
    """The native engine at its precisions."""
    found = [Native("native, bf16", NativeModel(context, folder))]
    for bits in (8, 4):
        for parts, words in ((2, ""), (1, ", activations of 8 bits")):
            model = NativeModel(context, folder, bits_for(bits), group, parts)
            found.append(Native(f"native, {bits}-bit{words}", model))
    return found


# -- others ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Lean:
    """The torch engine's decoder, in a plain loop over one batch of equal lengths."""

    name: str
    model: Any

    @torch.inference_mode()
    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        begun, cache = Clock.now(), self.model.empty_cache()
        last = self._next(torch.tensor(prompts), cache)
        middle = Clock.now()
        for _ in range(tokens):
            last = self._next(last, cache)
        return Times(middle - begun, (Clock.now() - middle) / tokens)

    def _next(self, ids: Tensor, cache: Any) -> Tensor:
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return cast(Tensor, logits[:, -1].argmax(-1)[:, None])


@dataclass(eq=False)
class Generate:
    """Hugging Face's `generate`; a token's time is what so many more tokens add."""

    name: str
    model: Any
    options: dict[str, Any] = field(default_factory=lambda: {"do_sample": False, "pad_token_id": 0})

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        ids = torch.tensor(prompts)
        first, all_of_them = self._timed(ids, 1), self._timed(ids, tokens + 1)
        return Times(first, max(all_of_them - first, 1e-9) / tokens)

    def _timed(self, ids: Tensor, tokens: int) -> float:
        begun = Clock.now()
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            **self.options,
        )
        return Clock.now() - begun


def other_contenders(folder: Path) -> list[Contender]:
    """The lean decoder in fp32 and bf16, and Hugging Face's `generate` in bf16."""
    from transformers import AutoModelForCausalLM

    slow: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    slow.generation_config.eos_token_id = None
    return [
        Lean("torch lean, fp32", load_lean(folder, torch.float32)),
        Lean("torch lean, bf16", load_lean(folder, torch.bfloat16)),
        Generate("Hugging Face generate, bf16", slow.train(False)),
    ]
