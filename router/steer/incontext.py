"""Corrections of in-context learning while it runs: the pull of the commoner label, and of the later one.

After Yu and Ananiadou, 'How do Large Language Models Learn In-Context?' (EMNLP 2024), for the heads that
`router/locate/incontext.py` finds. Majority: what the heads fetch from the rarer label is added to the last
state, `strength` * (majority / minority) times. Recency: the part of their attention scores that only the
label's place explains is taken off again. The source trains a small adapter for that; here the part is
measured, on prompts in drawn order, where content averages out (a reconstruction).

Both are edits of a forward pass and leave nothing behind; strength 0 gives the very bits of an unsteered
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..checks import finite
from ..locate.anatomy import Anatomy, hooks
from ..locate.case import Case, need
from ..locate.edit import ROWS, Edit, edited
from ..locate.incontext import label_positions, majority_edit
from ..locate.place import Place
from ..locate.run import record

Choose = Callable[[float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Places:
    """What the place of a label adds to the log-attention it gets from the last token, `effect` [H,R] for
    `heads`: column r is the r-th label of a prompt; rows have mean 0.
    """

    heads: tuple[Place, ...]
    effect: Tensor

    @classmethod
    def fit(cls, anatomy: Anatomy, cases: Sequence[Case], heads: Sequence[Place]) -> Places:
        """Measure on prompts whose demonstrations stand in drawn order, all with as many labels.

        Raises UsageError for prompts with other numbers of labels, or none, and for no heads.
        """
        at = [label_positions(case) for case in need(cases, "against")]
        if not heads or not at[0] or any(len(one) != len(at[0]) for one in at):
            raise UsageError(
                f"{len(heads)} heads, prompts with {sorted({len(one) for one in at})} labels; give at least "
                "one head, and prompts that all have as many labels"
            )
        total = torch.zeros(len(heads), len(at[0]))
        for case, places in zip(cases, at, strict=True):
            weights = record(anatomy, case.ids, weights=True).weights
            assert weights is not None
            seen = torch.stack([weights[head.layer, head.unit, -1, places] for head in heads])
            log = seen.cpu().clamp_min(1e-9).log()
            total += log - log.mean(1, keepdim=True)
        return cls(tuple(heads), finite("the effect of places", total / len(cases)))

    def bias(self, anatomy: Anatomy, cases: Sequence[Case], strength: float) -> dict[int, Tensor]:
        """Return what to add to the last token's attention scores, by layer: [N,H,T]; cases of one length."""
        found: dict[int, Tensor] = {}
        for row, case in enumerate(cases):
            at = label_positions(case)
            if len(at) != self.effect.shape[1]:
                raise UsageError(
                    f"prompt {row + 1} shows {len(at)} labels, the correction was measured on "
                    f"{self.effect.shape[1]}; measure it on prompts of that length"
                )
            for head, effect in zip(self.heads, self.effect, strict=True):
                empty = torch.zeros(len(cases), anatomy.heads, len(case.ids))
                found.setdefault(head.layer, empty)[row, head.unit, at] = -strength * effect
        return found


@contextmanager
def scores_edited(anatomy: Anatomy, added: dict[int, Tensor]) -> Iterator[None]:
    """While open, add `added[layer]` [N,H,T] to the last token's attention scores, before the softmax.

    For whole prompts of one length, N rows of T tokens, without padding. Raises UsageError for a layer that
    does not exist, and in a pass of another shape.
    """
    handles = []
    for layer, values in added.items():
        module = anatomy.blocks[anatomy.check_layer(layer)].attention
        handles.append(module.register_forward_pre_hook(_mask(values), with_kwargs=True))
    with hooks(*handles):
        yield


def _mask(values: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
    """Attention takes an additive mask [N,H,T,T] as well as its own: the causal one, plus ours in the last
    row.
    """

    def hook(module: nn.Module, inputs: Any, named: Any) -> Any:
        if "attention_mask" not in named:
            raise UsageError(f"{type(module).__name__} takes no attention mask; its scores cannot be edited")
        x = inputs[0] if inputs else named["hidden_states"]
        rows, tokens = x.shape[:2]
        if values.shape[0] not in (1, rows) or values.shape[2] != tokens:
            raise UsageError(
                f"scores are edited for {list(values.shape)} (rows, heads, tokens), the pass has {rows} "
                f"rows of {tokens} tokens; open one edit a batch"
            )
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
        mask = torch.zeros(rows, values.shape[1], tokens, tokens, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(later, torch.finfo(x.dtype).min)
        mask[:, :, -1] += values.to(mask)
        return inputs, {**named, "attention_mask": mask}

    return hook


@dataclass(frozen=True, eq=False)
class Corrected:
    """How to answer prompts with demonstrations: `majority` is the strength for `heads`, `recency` that of
    `places`.

    0 leaves a correction out.
    """

    heads: tuple[Place, ...] = ()
    majority: float = 0.0
    places: Places | None = None
    recency: float = 0.0

    def logits(self, anatomy: Anatomy, cases: Sequence[Case]) -> Tensor:
        """Return the logits [N,V] of the last tokens of cases of one length (each with `answer` and
        `against`; only the two as a set are used: which of them is right changes nothing).
        """
        need(cases, "against")
        added = self.places.bias(anatomy, cases, self.recency) if self.places and self.recency else {}
        ids = torch.tensor([case.ids for case in cases])
        rows = []
        with torch.no_grad():
            for start in range(0, len(cases), ROWS):
                some = slice(start, start + ROWS)
                # what heads fetch is measured before any score is changed
                edits: list[list[Edit]] = [
                    [majority_edit(anatomy, case, self.heads, self.majority)] if self.majority else []
                    for case in cases[some]
                ]
                with scores_edited(anatomy, {layer: one[some] for layer, one in added.items()}):
                    rows.append(edited(anatomy, ids[some], edits))
        return torch.cat(rows)


def majority_bias(logits: Tensor, cases: Sequence[Case]) -> float:
    """Return mean P(commoner label) - P(rarer label) of logits [N,V], on prompts that ask for both equally
    often.

    Which label is commoner is counted in each prompt. Raises UsageError where they are even.
    """
    total = 0.0
    for row, case in zip(logits.softmax(-1), cases, strict=True):
        shown = [case.ids[at] for at in label_positions(case)]
        gap = shown.count(case.answer) - shown.count(case.against or 0)
        if gap == 0:
            raise UsageError("a prompt shows both labels equally often; there is no majority to lean to")
        lean = float(row[case.answer] - row[case.against or 0])
        total += lean if gap > 0 else -lean
    return total / len(cases)


def choose(values: Sequence[float], measure: Choose, allowed: float) -> float:
    """Return the strength with the least bias among those that cost at most `allowed` accuracy against
    strength 0.

    `measure(strength)` gives (bias, accuracy) on validation prompts; 0 is returned where nothing helps.
    """
    bias, accuracy = measure(0.0)
    best = (abs(bias), 0.0)
    for value in values:
        there, right = measure(value)
        if right >= accuracy - allowed:
            best = min(best, (abs(there), value))
    return best[1]
