"""Teachers of a distillation: whole models, or adapters over one; each counts the answers it gave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...store.errors import UsageError
from ..adapters import AdapterBank
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .answering import Answered, answer_all
from .distill import student_pass
from .finetune import Batch, Row, answer_logits
from .step import Made

NAME = "teacher"


class Teacher(Protocol):
    """Whoever answers prompts. ``generations`` counts the answers given so far."""

    name: str
    generations: int

    def answer(self, prompts: Sequence[Sequence[int]], longest: int) -> list[Answered]:
        """Answer prompts (token ids up to the end of the turn) greedily."""


@dataclass(eq=False)
class ModelTeacher:
    """A model folder, or an adapter folder over its model."""

    name: str
    model: PreTrainedModel
    codec: ChatCodec
    bank: AdapterBank | None = None
    generations: int = field(default=0)

    @classmethod
    def open(cls, made: Made) -> ModelTeacher:
        """Load an artifact in fp32.

        Raises:
            UsageError: its chat template calls for an answer with more than one token.
        """
        folder = made.folder if made.base is None else made.base
        codec = ChatCodec.load(folder)
        if len(codec.invocation) != 1:
            raise UsageError(
                f"{made.name}: its invocation has {len(codec.invocation)} tokens; only one is supported"
            )
        model, bank = load_model_folder(folder, torch.float32), None
        model.requires_grad_(False)
        if made.form == "adapter":
            bank = AdapterBank(model)
            bank.load(NAME, made.folder)
        return cls(made.name, model, codec, bank)

    def answer(self, prompts: Sequence[Sequence[int]], longest: int) -> list[Answered]:
        """Answer prompts greedily, and count them."""
        self.generations += len(prompts)

        def active() -> AbstractContextManager[object]:
            return nullcontext() if self.bank is None else self.bank.active(NAME)

        return answer_all(self.model, prompts, self.codec.invocation[0], self.codec.end, longest, active)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Next-token logits [N, V] at a batch's learned positions."""
        if self.bank is None:
            return student_pass(self.model, batch)[1]
        return answer_logits(self.model, batch, self.bank, NAME)


def same_tokenizer(made: Sequence[Made]) -> None:
    """Raise UsageError where two artifacts do not share one tokenizer."""
    folders = [m.folder if m.base is None else m.base for m in made]
    vocabularies = [ChatCodec.load(f).parser.get_vocab() for f in folders]
    for other, vocabulary in zip(made[1:], vocabularies[1:], strict=True):
        if vocabulary != vocabularies[0]:
            raise UsageError(
                f"{other.name} has another tokenizer than {made[0].name}: tokens cannot be passed on; "
                "take teachers and a student of one family"
            )


def rows_from(
    prompts: Sequence[Sequence[int]], answers: Sequence[Answered], codec: ChatCodec
) -> list[Row | None]:
    """Return answers as rows to learn, None for one that did not end."""
    return [
        Row(tuple(p), (*codec.invocation, *a.tokens, codec.end)) if a.ended else None
        for p, a in zip(prompts, answers, strict=True)
    ]


def routed(
    teachers: Sequence[Teacher],
    prompts: Sequence[Sequence[int]],
    routes: Sequence[int],
    longest: int,
    codec: ChatCodec,
) -> list[Row | None]:
    """Let each prompt be answered once, by its teacher."""
    out: list[Row | None] = [None] * len(prompts)
    for number, teacher in enumerate(teachers):
        mine = [i for i, route in enumerate(routes) if route == number]
        if mine:
            rows = rows_from(
                [prompts[i] for i in mine], teacher.answer([prompts[i] for i in mine], longest), codec
            )
            for i, row in zip(mine, rows, strict=True):
                out[i] = row
    return out


def keep_routed(path: Path, rows: Sequence[Row | None]) -> None:
    """Write rows, missing ones included, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps([None if r is None else [r.prompt, r.answer] for r in rows]))
    part.replace(path)


def kept_routed(path: Path) -> list[Row | None] | None:
    """Read such rows back, None where there are none."""
    if not path.exists():
        return None
    return [None if r is None else Row(tuple(r[0]), tuple(r[1])) for r in json.loads(path.read_text())]
