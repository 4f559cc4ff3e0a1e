"""A concept raised in models that nobody here trained, where a data folder has them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...router.steer.admission import random_twin
from ...router.steer.choice import Choice, Score, choose, neutral
from ...router.steer.make import Batch, difference_in_means, side_effect
from ...router.steer.task import Task, Verdict, play, right
from ...router.steer.vector import SteeringVector
from ...router.taps import decoder_layers
from ...specialists.models import load_model_folder
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section

MODELS = ("stories260K",)
NAMES = ("Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Tim", "Sue", "Max", "Lucy", "Jack", "Ella")
OPENINGS = (
    "Once upon a time, there was a child named {n}. {n} liked to",
    "One day, {n} went to the park with mom. They saw a",
    "{n} was sad. {n} could not find a",
    "It was a sunny day. {n} wanted to play with a",
    "{n} and dad went to the store. They wanted to buy a",
    "Every morning {n} looked out of the window. Today {n} saw a",
    "{n} had a big box. In the box there was a",
    "In the night {n} heard a noise. It was a",
)
CONCEPTS = {
    "dog": ("{n} had a dog named Spot. The dog liked to run and bark at the other dogs in the park.", "dog"),
    "water": ("{n} saw the water. The water was blue, and fish swam in the water of the big sea.", "water"),
    "bird": ("{n} saw a bird. The bird sang a song, and more birds flew to the bird in the tree.", "bird"),
}
PLAIN = (
    "{n} went to the store with mom. They bought bread and milk and then they walked home to eat.",
    "{n} was happy. It was time for bed, so {n} put on a hat and said good night to everyone.",
    "{n} had a red car. The car was fast and {n} liked to push it on the floor of the room.",
)
TOKENS = 40
LOSS = 0.10  # how much the loss on plain text may rise, as a share of it
LENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # in mean state lengths


@dataclass(frozen=True)
class Bench:
    """A model with its tokenizer, and the loss of plain text."""

    name: str
    model: Any
    codec: ChatCodec
    plain: list[Batch]
    loss: float

    @classmethod
    def open(cls, folder: Path) -> Bench:
        """Load a model and measure its loss on plain text."""
        model: Any = load_model_folder(folder, torch.float32).requires_grad_(False)
        codec = ChatCodec.load(folder)
        texts = [text.format(n=name) for text in PLAIN for name in NAMES]
        plain = neutral([codec.encode_text(text) for text in texts])
        return cls(folder.name, model, codec, plain, _loss(model, plain))

    def task(self, word: str, names: Sequence[str]) -> Task:
        """Go on from neutral openings; right: the word is said."""
        prompts = [self.codec.encode_text(one.format(n=name)) for one in OPENINGS for name in names]

        def judge(row: int, tokens: Sequence[int]) -> Verdict:
            return Verdict(word in self.codec.decode(tokens).casefold())

        return Task(tuple(map(tuple, prompts)), judge, self.codec.end, TOKENS)

    def cost(self) -> Score:
        """The rise of the loss on plain text, as a share of it."""
        return lambda vectors: (
            max(side_effect(self.model, vectors, self.plain).loss_increase, 0.0) / self.loss
        )

    def options(self, concept: str) -> dict[str, list[SteeringVector]]:
        """A difference in means for each inner layer: texts about the concept against plain ones."""
        about = [CONCEPTS[concept][0].format(n=name) for name in NAMES]
        plain = [text.format(n=name) for text in PLAIN for name in NAMES]
        found = {}
        for layer in range(1, len(decoder_layers(self.model)) - 1):
            high, low = (self._states(texts, layer) for texts in (about, plain))
            vector = difference_in_means(high, low)
            vector *= low.norm(dim=1).mean() / vector.norm()
            found[f"L{layer}"] = [
                SteeringVector(f"{concept}-L{layer}", "add", layer, 1.0, "generation", vector)
            ]
        return found

    def _states(self, texts: Sequence[str], layer: int) -> torch.Tensor:
        """States of every token but the first few."""
        from ...router.taps import Taps

        rows = []
        with torch.no_grad(), Taps(self.model, [layer]) as taps:
            for text in texts:
                self.model(input_ids=torch.tensor([list(self.codec.encode_text(text))]))
                rows.append(taps.states[layer][0, 4:].float().clone())
        return torch.cat(rows)


def _loss(model: Any, batches: Sequence[Batch]) -> float:
    """Mean cross-entropy of the labelled tokens, nats."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            chances = model(input_ids=batch["input_ids"]).logits[:, :-1].float().log_softmax(-1)
            wanted = batch["labels"][:, 1:]
            kept = wanted != -100
            total -= float(chances[kept].gather(1, wanted[kept][:, None]).sum())
            count += int(kept.sum())
    return total / count


class Raised(NamedTuple):
    """One concept in one model."""

    model: str
    concept: str
    choice: Choice
    before: float
    after: float
    random: float
    cost: float

    @property
    def times(self) -> float:
        """How many times as often the word is said; a word never said counts as said once."""
        return self.after / self.before


def measure(bench: Bench, concept: str, seed: int) -> Raised:
    """Choose layer and strength on some openings; measure on openings with other names."""
    names = random.Random(seed).sample(NAMES, len(NAMES))
    word = CONCEPTS[concept][1]
    validate, test = bench.task(word, names[:6]), bench.task(word, names[6:])
    cost = bench.cost()
    choice = choose(
        bench.options(concept),
        lambda vectors: right(play(bench.model, validate, vectors)),
        cost,
        budget=LOSS,
        baseline=right(play(bench.model, validate)),
        strengths=LENGTHS,
    )
    least = 1 / len(test)
    after = play(bench.model, test, choice.vectors)
    random_ = [right(play(bench.model, test, random_twin(choice.vectors, i))) for i in range(5)]
    return Raised(
        bench.name,
        concept,
        choice,
        max(right(play(bench.model, test)), least),
        right(after),
        sum(random_) / len(random_),
        cost(choice.vectors) if choice.vectors else 0.0,
    )


def section(data: Path | None, seed: int, quick: bool, say: Callable[[str], None]) -> Section | None:
    """Concepts raised by a difference in means; None where no model is there."""
    folders = [data / "models" / name for name in MODELS] if data is not None else []
    found: list[Raised] = []
    for folder in folders:
        if (folder / "config.json").is_file():
            bench = Bench.open(folder)
            say(f"{folder.name}: loss on plain text {bench.loss:.2f}")
            found += [measure(bench, concept, seed) for concept in list(CONCEPTS)[: 1 if quick else None]]
    if not found:
        return None
    times = [one.times for one in found]
    dearest = max(one.cost for one in found)
    return Section(
        "Models that nobody here trained",
        f"A word's share of {TOKENS}-token continuations of {len(OPENINGS) * 6} neutral story openings. The "
        "vector is a difference in means between a few sentences about the concept and plain ones; layer and "
        f"strength are chosen on openings with other names, within {100 * LOSS:.0f} % more loss on plain "
        "text.",
        ("model", "word", "chosen", "said before", "said after", "random direction", "times", "more loss"),
        tuple(map(_row, found)),
        (
            Goal(
                "a concept is said more often (median over concepts and models)",
                "at least",
                5.0,
                "×",
                estimates.median(times, seed),
            ),
            Goal(
                "its price: more loss on plain text (largest)",
                "at most",
                LOSS,
                "%",
                Estimate(dearest, min(one.cost for one in found), dearest, len(found)),
            ),
        ),
    )


def _row(one: Raised) -> tuple[str, ...]:
    chosen = f"{one.choice.option} × {one.choice.strength:g}" if one.choice.vectors else "nothing"
    return (
        one.model,
        one.concept,
        chosen,
        f"{100 * one.before:.1f} %",
        f"{100 * one.after:.1f} %",
        f"{100 * one.random:.1f} %",
        f"{one.times:.1f}",
        f"{100 * one.cost:.1f} %",
    )
