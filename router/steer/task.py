"""Prompts with a verifier, and answers to them: what entries are found on, tuned on and admitted by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..taps import Taps
from .runtime import Phase, Steering
from .vector import SteeringVector

Switch = Callable[[], AbstractContextManager[object]]


class Verdict(NamedTuple):
    """What a verifier says of an answer. `valid`: it has the form of an answer, right or wrong."""

    right: bool
    valid: bool = True


Judge = Callable[[int, Sequence[int]], Verdict]  # (row of the task, answer tokens without the end token)


@dataclass(frozen=True, eq=False)
class Task:
    """N prompts and the verifier of their answers.

    A prompt's answer is drawn from its last token on, or, with an `invocation`, from the last token of that.
    Those are the first tokens of generation; they run inside `acting()`, which may switch an adapter on.
    `end` ends an answer and is no part of it; `size` rows run at once. Answers are greedy, or drawn at a
    `temperature` above 0, the same ones again for the same `seed` and rows.
    """

    prompts: tuple[tuple[int, ...], ...]
    judge: Judge
    end: int
    max_tokens: int
    invocation: tuple[int, ...] = ()
    acting: Switch = nullcontext
    size: int = 256
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts or not all(self.prompts) or self.max_tokens < 1:
            raise UsageError(
                f"a task of {len(self.prompts)} prompts and answers of {self.max_tokens} tokens: give at "
                "least one prompt, none empty, and at least one token"
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def part(self, rows: Sequence[int]) -> Task:
        """The task of these rows only, numbered anew."""
        kept = tuple(rows)
        judge = self.judge
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in kept),
            judge=lambda row, tokens: judge(kept[row], tokens),
        )


class Answer(NamedTuple):
    """One answer: its tokens, how many draws were made (the end token counted), and the verdict."""

    tokens: tuple[int, ...]
    draws: int
    right: bool
    valid: bool


class Hand(Protocol):
    """What acts in the forward passes of `play` beside vectors; see `crl.Control`."""

    phase: Phase

    def begin(self, rows: Sequence[int]) -> None:
        """A new batch begins, of these rows of the task."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *reason: Any) -> None: ...


# What looks on: the batch's rows, and the stream {layer: [B,D]} that each next token is drawn from. Rows that
# have ended stay in the batch; `alive` [B] says which have not.
Watch = Callable[[Sequence[int], dict[int, Tensor], Tensor], None]


@torch.no_grad()
def play(
    model: nn.Module,
    task: Task,
    vectors: Sequence[SteeringVector] = (),
    *,
    hand: Hand | None = None,
    taps: Sequence[int] = (),
    watch: Watch | None = None,
) -> list[Answer]:
    """Answer every prompt, steered by `vectors` and `hand`; `watch` sees the tapped layers at every
    draw.
    """
    answers: list[Answer | None] = [None] * len(task)
    draw = _drawing(task)
    for group in _groups([len(prompt) for prompt in task.prompts], task.size):
        with ExitStack() as stack:
            moved = [stack.enter_context(Steering(model, vectors))]
            others = [stack.enter_context(hand)] if hand is not None else []
            seen = stack.enter_context(Taps(model, taps))
            if hand is not None:
                hand.begin(group)
            drawn = _answers(model, task, group, [*moved, *others], seen, watch, draw)
        for row, (tokens, draws) in zip(group, drawn, strict=True):
            answers[row] = Answer(tokens, draws, *task.judge(row, tokens))
    return [one for one in answers if one is not None]


def _groups(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows of equal length, at most `size` together: no padding, so a batch equals one row alone."""
    alike: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        alike[length].append(row)
    for _, rows in sorted(alike.items()):
        yield from (rows[at : at + size] for at in range(0, len(rows), size))


def _drawing(task: Task) -> Callable[[Tensor], Tensor]:
    """How the next tokens [B] are drawn from logits [B,V]."""
    if task.temperature <= 0:
        return lambda logits: logits.argmax(-1).cpu()
    generator = torch.Generator().manual_seed(task.seed)

    def draw(logits: Tensor) -> Tensor:
        chances = (logits.float().cpu() / task.temperature).softmax(-1)
        return torch.multinomial(chances, 1, generator=generator)[:, 0]

    return draw


def _answers(
    model: Any,
    task: Task,
    group: Sequence[int],
    moved: Sequence[Any],
    seen: Taps,
    watch: Watch | None,
    draw: Callable[[Tensor], Tensor],
) -> list[tuple[tuple[int, ...], int]]:
    ids = torch.tensor([[*task.prompts[row], *task.invocation] for row in group])
    ids = ids.to(next(model.parameters()).device)
    begun = len(task.invocation) or 1
    cache = None
    _enter(moved, "prompt")
    if ids.shape[1] > begun:
        cache = model(input_ids=ids[:, :-begun], use_cache=True).past_key_values
    _enter(moved, "generation")
    tokens: list[list[int]] = [[] for _ in group]
    alive, current = torch.ones(len(group), dtype=torch.bool), ids[:, -begun:]
    draws = torch.zeros(len(group), dtype=torch.long)
    with task.acting():
        for _ in range(task.max_tokens + 1):
            out = model(input_ids=current, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            if watch is not None:
                watch(group, {layer: x[:, -1].float().cpu() for layer, x in seen.states.items()}, alive)
            draws += alive
            best = draw(out.logits[:, -1])
            alive &= best != task.end
            for row in alive.nonzero()[:, 0].tolist():
                tokens[row].append(int(best[row]))
            alive &= draws < task.max_tokens
            if not bool(alive.any()):
                break
            current = best[:, None].to(ids.device)
    return [(tuple(row), int(count)) for row, count in zip(tokens, draws, strict=True)]


def _enter(moved: Sequence[Any], phase: Phase) -> None:
    for one in moved:
        one.phase = phase


# -- what came out -----------------------------------------------------------------------------------------


def right(answers: Sequence[Answer]) -> float:
    """Share of right answers."""
    return sum(one.right for one in answers) / len(answers)


def valid(answers: Sequence[Answer]) -> float:
    """Share of answers with the form of an answer."""
    return sum(one.valid for one in answers) / len(answers)


def side_effect_ratio(before: Sequence[Answer], after: Sequence[Answer]) -> float:
    """Of the answers whose verdict changed, the share that went from right to wrong: 0 only repairs, 1 only
    harm, NaN where none changed (Cho et al., 'CorrSteer', 2025).
    """
    harmed = sum(a.right and not b.right for a, b in zip(before, after, strict=True))
    mended = sum(b.right and not a.right for a, b in zip(before, after, strict=True))
    return harmed / (harmed + mended) if harmed + mended else float("nan")


def validity_share(before: Sequence[Answer], after: Sequence[Answer]) -> float:
    """Of the answers that became right, the share that had no form before: what is not a gain in knowing.

    NaN where none became right.
    """
    mended = [a for a, b in zip(before, after, strict=True) if b.right and not a.right]
    return sum(not a.valid for a in mended) / len(mended) if mended else float("nan")
