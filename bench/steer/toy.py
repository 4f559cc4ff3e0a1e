"""A trained toy whose right answers hang on planted directions.

A prompt is `filler filler filler key ask`. The answer is an optional echo, a value, some tail words, the end.
There are 28 words for `ask`, each a sum of two of eight atoms, and as many for the echo, which repeats which
one it was. K directions are planted: each of these words comes in 1 + K forms, whose embeddings are the plain
one and the plain one + strength x direction k. The value is right if the word that it is drawn from carries
the direction of the key's class (key mod K). Otherwise it is a slip that the key has of its own: sometimes
right, sometimes a wrong value, sometimes no value at all. Layer 0 is wired to write nothing, so the stream
after it holds the planted direction exactly; the layers above it are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...router.steer.task import Task, Verdict

KEYS, FILLERS, WIDTH, LAYERS = 16, 16, 64, 4
END, TAIL, MUMBLE = 0, 1, 2
KEY = 3
FILLER = KEY + KEYS
VALUE = FILLER + FILLERS
ATOMS = 8
PAIRS = tuple(combinations(range(ATOMS), 2))
WORDS = len(PAIRS)  # for ask, and for echo
FORMS = VALUE + KEYS  # of ask, then of echo: 1 + K forms of 8 words each
LONGEST = 6
ATOM, STRENGTH = 2.0, 3.0  # lengths


@dataclass(frozen=True, eq=False)
class Toy:
    """The model; `directions` [K,D] of unit length; `atoms` [10,D] of the words for ask and echo, the last
    two telling which; `echo`: the direction must be at the answer's second token.
    """

    model: Any
    directions: Tensor
    atoms: Tensor
    slips: tuple[int, ...]
    echo: bool
    seed: int

    @property
    def kinds(self) -> int:
        """K."""
        return len(self.directions)

    def ask(self, word: int, form: int = 0) -> int:
        """One of the tokens `ask`, plain (0) or with direction form - 1."""
        return FORMS + form * WORDS + word

    def says(self, word: int, form: int = 0) -> int:
        """One of the tokens `echo`, likewise."""
        return FORMS + (1 + self.kinds + form) * WORDS + word

    def hinted(self, prompt: Sequence[int], form: int) -> tuple[int, ...]:
        """The prompt with its `ask` in another form."""
        return (*prompt[:-1], self.ask((prompt[-1] - FORMS) % WORDS, form))

    def value(self, key: int, form: int) -> int:
        """What the answer's value is."""
        return VALUE + key if form == 1 + key % self.kinds else self.slips[key]

    def draw(
        self, count: int, seed: int, forms: Sequence[int] = (0,), *, told: bool = False
    ) -> list[tuple[int, ...]]:
        """Prompts whose `ask` has one of `forms`, drawn by a seed. `told`: which word it is tells the key's
        class, so that the stream at the last token says which direction is needed.
        """
        generator = torch.Generator().manual_seed(7919 * self.seed + seed)
        fill = torch.randint(FILLERS, (count, 3), generator=generator) + FILLER
        keys = torch.randint(KEYS, (count, 1), generator=generator) + KEY
        word = torch.randint(WORDS, (count, 1), generator=generator)
        if told:
            word = word - word % self.kinds + (keys - KEY) % self.kinds
        form = torch.tensor(forms)[torch.randint(len(forms), (count, 1), generator=generator)]
        return [tuple(row) for row in torch.cat([fill, keys, FORMS + WORDS * form + word], 1).tolist()]

    def key(self, prompt: Sequence[int]) -> int:
        """The key of a prompt."""
        return prompt[3] - KEY

    def task(self, prompts: Sequence[tuple[int, ...]], size: int = 512) -> Task:
        """Ask for the keys' own values. An answer is valid if its value is any value and it ends in tails."""

        def judge(row: int, tokens: Sequence[int]) -> Verdict:
            at = int(self.echo)
            head = tokens[at] if len(tokens) > at else END
            form = VALUE <= head < VALUE + KEYS and all(t == TAIL for t in tokens[at + 1 :])
            return Verdict(head == VALUE + self.key(prompts[row]), form)

        return Task(tuple(prompts), judge, END, LONGEST, size=size)


def tails(key: int) -> int:
    """How many tail words follow a key's value: answers are of unequal length."""
    return key % 4


@lru_cache(maxsize=16)
def make(kinds: int, echo: bool, seed: int, steps: int = 250, rows: int = 192) -> Toy:
    """Train a toy; deterministic in the seed for one machine and thread count."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.linalg.qr(torch.randn(WIDTH, kinds + ATOMS + 2, generator=generator)).Q.T
    directions, atoms = drawn[:kinds].contiguous(), drawn[kinds:].contiguous()
    toy = Toy(_blank(kinds), directions, atoms, _slips(generator), echo, seed)
    _plant(toy)
    trained = [p for name, p in toy.model.named_parameters() if not name.startswith("model.layers.0.")]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)
        ids, labels = _lessons(toy, rows, step)
        loss = cross_entropy(
            toy.model(input_ids=ids[:, :-1]).logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _plant(toy)
    toy.model.eval().requires_grad_(False)
    return toy


def _blank(kinds: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=FORMS + 2 * WORDS * (1 + kinds),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
    )
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=0.35)
    return model


def _slips(generator: torch.Generator) -> tuple[int, ...]:
    """What each key is answered by without its direction: 4 keys right, 4 mumbled, 8 wrong."""
    order = torch.randperm(KEYS, generator=generator).tolist()
    slips = [VALUE + (key + 5) % KEYS for key in range(KEYS)]
    for key in order[:4]:
        slips[key] = VALUE + key
    for key in order[4:8]:
        slips[key] = MUMBLE
    return tuple(slips)


@torch.no_grad()
def _plant(toy: Toy) -> None:
    """Keep layer 0 silent, and the forms where they were planted."""
    silent = toy.model.model.layers[0]
    silent.self_attn.o_proj.weight.zero_()
    silent.mlp.down_proj.weight.zero_()
    table = toy.model.model.embed_tokens.weight
    words = ATOM * torch.stack([toy.atoms[a] + toy.atoms[b] for a, b in PAIRS])
    for which, plain in enumerate((toy.ask(0), toy.says(0))):
        table[plain : plain + WORDS] = words + ATOM * toy.atoms[ATOMS + which]
        for k, direction in enumerate(toy.directions, 1):
            first = plain + k * WORDS
            table[first : first + WORDS] = table[plain : plain + WORDS] + STRENGTH * direction


def _lessons(toy: Toy, rows: int, step: int) -> tuple[Tensor, Tensor]:
    """Token rows and labels [B,T]; the echo is shown in any form and always predicted plain."""
    generator = torch.Generator().manual_seed(104729 * toy.seed + step)
    forms = range(1 + toy.kinds)
    prompts = toy.draw(rows, 10_000 + step, forms)
    second = torch.randint(1 + toy.kinds, (rows,), generator=generator).tolist()
    ids, labels = [], []
    for prompt, form in zip(prompts, second, strict=True):
        key, word = toy.key(prompt), (prompt[-1] - FORMS) % WORDS
        counts = form if toy.echo else (prompt[-1] - FORMS) // WORDS
        rest = [toy.value(key, counts), *[TAIL] * tails(key)]
        shown, said = ([toy.says(word, form)], [toy.says(word)]) if toy.echo else ([], [])
        pad = [END] * (2 + LONGEST + len(shown) - len(rest))
        ids.append([*prompt, *shown, *rest, *pad])
        labels.append([*[-100] * len(prompt), *said, *rest, END, *[-100] * (len(pad) - 1)])
    return torch.tensor(ids), torch.tensor(labels)
