"""The plain twin of every engine: one Hugging Face model, one row, one uncached pass over all its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...router.steer.runtime import Steering
from ...router.taps import Taps, decoder_layers
from ..adapters import AdapterBank
from ..family import Family
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from .base import Head, Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Truth:
    """What an answer should have been drawn from: logits [A, V] before each of its tokens, and the residual
    stream {layer: [T, D]} at the T tokens read: prompt, invocation, and answer but for its last token.
    """

    logits: Tensor
    states: Mapping[int, Tensor]
    prompt: int

    def readings(self, head: Head) -> list[float]:
        """What a head should have read."""
        x, answer = self.states[head.layer], self.logits.shape[0]
        rows = {"prompt": x[self.prompt - 1 : self.prompt], "token": x[-answer:], "end": x[-1:]}[head.at]
        found: list[float] = (rows.float() @ head.weight.float() + head.bias).tolist()
        return found


class Reference:
    """A family on Hugging Face's models in float32, with the hooks of the router. Slow, and plainly right."""

    def __init__(self, family: Family) -> None:
        self.family, self.codec = family, ChatCodec.load(family.trunk_folder)
        self.trunk: PreTrainedModel = load_model_folder(family.trunk_folder, torch.float32)
        self.bank = AdapterBank(self.trunk)
        self.students: dict[str, PreTrainedModel] = {}
        for name, card in family.cards.items():
            if card.kind == "adapter":
                self.bank.load(name, family.specialist_folder(name))
            elif card.kind == "student":
                self.students[name] = load_model_folder(family.specialist_folder(name), torch.float32)

    @property
    def width(self) -> int:
        """The trunk's width D."""
        config: Any = self.trunk.config
        return int(config.get_text_config().hidden_size)

    @property
    def layers(self) -> int:
        """How many decoder layers the trunk has."""
        return len(decoder_layers(self.trunk))

    @torch.inference_mode()
    def read(self, request: Request, answer: Sequence[int]) -> Truth:
        """Read prompt, invocation and answer as the request asks, in one pass."""
        boundary = len(request.tokens)
        tokens = [*request.tokens, *self.codec.invocation, *answer[:-1]]
        model: Any = self.students.get(request.specialist, self.trunk)
        with ExitStack() as stack:
            steering = stack.enter_context(Steering(model, request.vectors))
            steering.boundary = boundary
            if request.specialist in self.bank.adapters:
                stack.enter_context(self.bank.active(request.specialist, boundary))
            taps = stack.enter_context(Taps(model, range(self.layers)))
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
        states = {layer: x[0] for layer, x in taps.states.items()}
        return Truth(logits[len(tokens) - len(answer) :].float(), states, boundary)
