"""The native engine and plain vLLM at the same work, in turn: eight requests, weights of the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from statistics import median_low
from typing import Any

from ...specialists.adapters import save_adapter
from ...specialists.engines.native.model import Context, NativeModel, Numbered
from ...specialists.leanconfig import LeanConfig
from ...specialists.weights import read_json
from .. import circumstances, estimates
from ..page import Goal, Section, cell
from .contenders import Contender, Native, bits_for, random_adapters
from .rounds import PROMPT, Found, measure, prompts_for, rate
from .shapes import Shape
from .vllm_plain import Vllm, lora_requests, open_vllm
from .vllm_weights import write_quantized

BATCH, TOKENS, RANK = 8, 16, 16
HEADER = (
    "engine",
    "tokens/s, 95 % interval",
    f"{BATCH} prompts of {PROMPT}",
    f"with {TOKENS + 1} tokens each",
    "token / vLLM's best",
)
TEXT = (
    "Eight requests at once, in one process; nobody steers. Both engines are timed step by step: prompts, "
    "until each request has its first token, and then the tokens after it, which the figures and the targets "
    "are about. A target compares each engine at its faster number of threads. vLLM is compiled unless a row "
    "says otherwise, with its own settings but for prefix reuse, which is off. Bits are the same in layers "
    "and head, as vLLM's kernels take them: 8 bits with activations of 8 (W8A8, one scale a row; native: one "
    "for 64 columns), 4 bits with activations in bf16 (W4A16, one scale for 64 columns; native: of 15 bits). "
    "Adapters have rank 16 on all linear maps, act on prompts too, and each request has another."
)


@dataclass(frozen=True)
class Pair:
    """Two engines at the same work, each on one thread and on all; `vllm` may be why it does not do it."""

    words: str
    goal: str
    asked: float
    native: Sequence[Native]
    vllm: Sequence[Vllm] | str

    @property
    def contenders(self) -> tuple[Native | Vllm, ...]:
        """Whoever takes part."""
        return (*self.native, *(self.vllm if not isinstance(self.vllm, str) else ()))


@dataclass
class Bench:
    """One shape in both engines."""

    shape: Shape
    folder: Path
    seed: int
    eager: bool
    say: Callable[[str], None]
    scratch: Path
    # Most threads first: oneDNN's kernels, which vLLM keeps, never take more than those that ran them first.
    counts: Sequence[int] = field(default_factory=lambda: sorted({1, circumstances.cores()}, reverse=True))

    def section(self, rounds: int) -> Section:
        """Measure all pairs, and check that both engines say the same."""
        prompts = prompts_for(self.shape, BATCH, self.seed)
        with ExitStack() as stack:
            pairs = list(self._pairs(stack))
            contenders: list[Contender] = [one for pair in pairs for one in pair.contenders]
            found = measure(contenders, prompts, TOKENS, rounds, self.seed)
            notes = [note for pair in pairs if (note := _agreement(pair, prompts)) is not None]
        rows = tuple(row for pair in pairs for row in _rows(pair, found, self.seed))
        goals = tuple(_goal(pair, found, self.seed) for pair in pairs)
        title = f"{self.shape.name}: the native engine against plain vLLM"
        return Section(title, f"{TEXT} {rounds} rounds.", HEADER, rows, goals, notes=tuple(notes))

    # -- who takes part ------------------------------------------------------------------------------------

    def _pairs(self, stack: ExitStack) -> Iterator[Pair]:
        goal = f"{self.shape.name}, batch {BATCH}, {{}}: native against vLLM's CPU build"
        dense = self._native("bf16")
        yield Pair("bf16", goal.format("bf16"), 2, dense, self._vllm("bf16", self.folder, stack))
        for bits, parts, words in ((8, 1, "8-bit, activations of 8 bits"), (4, 2, "4-bit")):
            target = self.scratch / f"{bits}"
            write_quantized(self.folder, target, bits)
            native = self._native(words, bits_for(bits), 64, parts)
            yield Pair(words, goal.format(f"{bits}-bit"), 2, native, self._vllm(words, target, stack))
        words = f"bf16, {BATCH} adapters"
        goal = f"{self.shape.name}: {BATCH} requests on {BATCH} adapters, native against vLLM's multi-LoRA"
        yield Pair(words, goal, 4, *self._adapted(words, dense, stack))

    def _native(self, words: str, *how: Any) -> list[Native]:
        found = []
        for threads in self.counts:
            model = NativeModel(Context(threads), self.folder, *how)
            found.append(Native(_name("native", words, threads), model))
        self.say(f"native, {words}: loaded")
        return found

    def _vllm(
        self, words: str, folder: Path, stack: ExitStack, adapters: Sequence[Path] = ()
    ) -> list[Vllm] | str:
        try:
            engine = open_vllm(folder, self.eager, BATCH, len(adapters), RANK)
            stack.callback(engine.engine_core.shutdown)
            loras = lora_requests(engine, adapters)
        except Exception as error:  # whatever it refuses a model with is what the page has to say
            return f"vLLM: {error}"
        words += ", not compiled" * (self.eager or bool(adapters))
        self.say(f"vLLM, {words}: loaded")
        return [Vllm(_name("vLLM", words, threads), engine, threads, loras) for threads in self.counts]

    def _adapted(
        self, words: str, dense: Sequence[Native], stack: ExitStack
    ) -> tuple[list[Native], list[Vllm] | str]:
        """Both engines with the same adapters, vLLM's from PEFT folders."""
        made = random_adapters(LeanConfig.read(read_json(self.folder / "config.json")), BATCH, RANK)
        folders = [self.scratch / adapter.name for adapter in made]
        for adapter, folder in zip(made, folders, strict=True):
            save_adapter(adapter, RANK, "random", folder)
        found = []
        for one in dense:
            held = [one.model.adapter(adapter) for adapter in made]
            acts = partial(_its_own, held)
            name = _name("native", words, one.model.runtime.threads)
            found.append(Native(name, one.model, acts, whole=True))
        return found, self._vllm(words, self.folder, stack, folders)


def _name(engine: str, words: str, threads: int) -> str:
    return f"{engine}, {words}, {threads} thread" + "s" * (threads > 1)


def _its_own(held: Sequence[Numbered], row: int) -> tuple[Numbered, None]:
    return held[row], None


# -- what was found ----------------------------------------------------------------------------------------


def _best(contenders: Sequence[Contender], found: Mapping[str, Found]) -> list[float]:
    """What a token took the one whose median is shortest."""
    return min((found[one.name].token for one in contenders), key=median_low)


def _rows(pair: Pair, found: Mapping[str, Found], seed: int) -> Iterator[tuple[str, ...]]:
    theirs = None if isinstance(pair.vllm, str) else _best(pair.vllm, found)
    for one in pair.contenders:
        took = found[one.name]
        whole = [prompt + TOKENS * token for prompt, token in zip(took.prompt, took.token, strict=True)]
        yield (
            one.name,
            rate(took, BATCH, seed),
            cell(estimates.median(took.prompt, seed), "s"),
            cell(estimates.median(whole, seed), "s"),
            "–" if theirs is None else cell(estimates.median_ratio(took.token, theirs, seed), "×"),
        )


def _goal(pair: Pair, found: Mapping[str, Found], seed: int) -> Goal:
    if isinstance(pair.vllm, str):
        return Goal(pair.goal, "at least", pair.asked, "×", None, pair.vllm)
    ratio = estimates.median_ratio(_best(pair.vllm, found), _best(pair.native, found), seed)
    return Goal(pair.goal, "at least", pair.asked, "×", ratio)


def _agreement(pair: Pair, prompts: Sequence[Sequence[int]]) -> str | None:
    """Whether both say the same where they compute with the same weights; None where they do not."""
    if isinstance(pair.vllm, str) or not pair.words.startswith("bf16"):
        return None
    ours, theirs = pair.native[0], pair.vllm[0]
    return f"{pair.words}: " + compared(prompts, ours.answers, theirs.answers, theirs.likeliest)


def compared(
    prompts: Sequence[Sequence[int]],
    ours: Sequence[Sequence[int]],
    theirs: Sequence[Sequence[int]],
    likeliest: Callable[[int, Sequence[int]], Mapping[int, float]],
) -> str:
    """Say how far answers are the same, and how near a tie each first difference is: by `likeliest`, their
    log-probabilities after a prompt in a row.
    """
    same, gaps = 0, []
    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        at = next((i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), len(one))
        same += at
        if at < len(one):
            found = likeliest(row, [*prompts[row], *one[:at]])
            gaps.append(abs(found.get(other[at], inf) - found.get(one[at], -inf)))
    total = sum(map(len, ours))
    text = f"{len(ours) - len(gaps)} of {len(ours)} greedy answers are the same in both engines, "
    text += f"{same} of {total} tokens up to the first difference of each"
    near = f", where vLLM's log-probabilities of the two tokens lie at most {max(gaps, default=0):.3f} apart"
    return text + near * bool(gaps) + "."
