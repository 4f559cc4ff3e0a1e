"""A small Llama whose one-hop fact recall is wired by hand, so that every place that matters is known.

`filler … SUBJECT … filler RELATION` is answered with the subject's own answer token, in three steps: a neuron
of layer 0 at the subject writes the attribute, one head of layer 1 carries it from the subject to the last
token, where it already hints at the answer, and a neuron of layer 2 says it. All else is small noise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...router.locate.case import Case
from ...router.locate.place import Place
from .toy import untaught

FACTS, WIDTH, NEURONS, HEADS, LAYERS = 8, 64, 40, 4, 3
SUBJECT, ANSWER, FILLER, RELATION = 3, 3 + FACTS, 3 + 2 * FACTS, 2
VOCABULARY = FILLER + 16
BRIDGE = FILLER + FACTS  # the fillers that name an attribute, where one is asked for
# axes of the stream: who, is a subject, is the relation, attribute, carried attribute, answer, then fillers
WHO, IS_SUBJECT, IS_RELATION, ATTRIBUTE, CARRIED, SAID, REST = 0, 8, 9, 10, 18, 26, 34


@dataclass(frozen=True, eq=False)
class Planted:
    """The model, and where fact i lives: `query[i]` (layer 0), `head` (layer 1), `value[i]` (layer 2)."""

    model: Any
    query: tuple[Place, ...]
    head: Place
    value: tuple[Place, ...]

    def case(self, fact: int, seed: int = 0, length: int = 7) -> Case:
        """A prompt for a fact, with fillers drawn by `seed`; the corrupt twin names the next subject."""
        generator = torch.Generator().manual_seed(1000 * seed + fact)
        ids = torch.randint(FILLER, VOCABULARY, (length,), generator=generator).tolist()
        at = int(torch.randint(1, length - 2, (1,), generator=generator))
        other = (fact + 1) % FACTS
        corrupt = list(ids)
        ids[at], corrupt[at] = SUBJECT + fact, SUBJECT + other
        ids[-1] = corrupt[-1] = RELATION
        return Case(
            tuple(ids), ANSWER + fact, ANSWER + other, tuple(corrupt), label=fact % 2, subject=(at, at + 1)
        )

    def cases(self, seed: int = 0, length: int = 7) -> list[Case]:
        """One prompt for each fact."""
        return [self.case(fact, seed, length) for fact in range(FACTS)]


def empty_model(seed: int, noise: float = 0.01, layers: int = LAYERS) -> Any:
    """The same architecture with nothing but noise in it."""
    model = untaught(
        seed,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=NEURONS,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=0,
    ).requires_grad_(False)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.copy_(noise * torch.randn(weight.shape))
    return model


def planted_model(
    seed: int = 0, noise: float = 0.01, layers: int = LAYERS, late: Collection[int] = ()
) -> Planted:
    """Wire the facts into places drawn by `seed`; attributes of `late` facts come one layer too high."""
    model = empty_model(seed, noise, layers)
    generator = torch.Generator().manual_seed(seed)
    head = int(torch.randint(HEADS, (1,), generator=generator))
    first, last = (torch.randperm(NEURONS, generator=generator)[:FACTS].tolist() for _ in range(2))
    _embed(model, generator)
    blocks = model.model.layers
    for fact in range(FACTS):
        _neuron(blocks[int(fact in late)].mlp, first[fact], WHO + fact, ATTRIBUTE + fact, 2 / 32)
        _neuron(blocks[2].mlp, last[fact], CARRIED + fact, SAID + fact, 4 / 42)
    _carry(blocks[1].self_attn, head)
    return Planted(
        model,
        tuple(Place("neuron", int(fact in late), unit) for fact, unit in enumerate(first)),
        Place("head", 1, head),
        tuple(Place("neuron", 2, unit) for unit in last),
    )


def planted_hops(seed: int = 0, late: Collection[int] = ()) -> Planted:
    """The same with a word for each attribute, so that it is a bridge, without the head's hint at the answer,
    and with a last layer in which nothing happens. Of `late` facts the head comes too early.
    """
    found = planted_model(seed, layers=LAYERS + 1, late=late)
    found.model.model.layers[1].self_attn.o_proj.weight[SAID : SAID + FACTS] = 0
    for fact in range(FACTS):
        found.model.lm_head.weight[BRIDGE + fact, ATTRIBUTE + fact] += 1
    return found


def bridged(case: Case) -> Case:
    """A prompt of `planted_model` with its bridge."""
    return replace(case, bridge=BRIDGE + case.answer - ANSWER)


def _embed(model: Any, generator: torch.Generator) -> None:
    table, head = model.model.embed_tokens.weight, model.lm_head.weight
    size = 2.0**0.5
    fillers = torch.randn(VOCABULARY, WIDTH - REST, generator=generator)
    table[:, REST:] += size * torch.nn.functional.normalize(fillers, dim=1)
    table[RELATION, REST:] = 0
    table[RELATION, IS_RELATION] += size
    for fact in range(FACTS):
        table[SUBJECT + fact, REST:] = 0
        table[SUBJECT + fact, WHO + fact] += 1
        table[SUBJECT + fact, IS_SUBJECT] += 1
        head[ANSWER + fact, SAID + fact] += 1


def _neuron(mlp: Any, unit: int, reads: int, writes: int, strength: float) -> None:
    mlp.gate_proj.weight[unit, reads] += 1
    mlp.up_proj.weight[unit, reads] += 1
    mlp.down_proj.weight[writes, unit] += strength


def _carry(attention: Any, head: int) -> None:
    """The head looks for a subject where the relation stands; its slowest rotary pair hardly turns."""
    size = WIDTH // HEADS
    start = head * size
    slow = start + size // 2 - 1
    attention.q_proj.weight[slow, IS_RELATION] += 3
    attention.k_proj.weight[slow, IS_SUBJECT] += 3
    for fact in range(FACTS):
        attention.v_proj.weight[start + fact, ATTRIBUTE + fact] += 1
        attention.o_proj.weight[CARRIED + fact, start + fact] += 2 / 6.5
        attention.o_proj.weight[SAID + fact, start + fact] += 0.5 / 6.5


def accuracy(model: Any, cases: list[Case]) -> float:
    """Share of cases whose answer is the model's first choice."""
    with torch.no_grad():
        said = [int(model(torch.tensor([one.ids])).logits[0, -1].argmax()) for one in cases]
    return sum(a == one.answer for a, one in zip(said, cases, strict=True)) / len(cases)


def parts_sum(logits: Tensor, true: Tensor) -> float:
    """Largest difference between summed and true logits."""
    return float((logits - true).abs().max())
