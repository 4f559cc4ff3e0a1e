"""A concept raised in models that nobody here trained, where a data folder has them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...router.features.faithful import own_texts
from ...router.steer.admission import random_twin
from ...router.steer.choice import Choice, Score, affordable, choose, neutral, stronger
from ...router.steer.make import Batch, difference_in_means, side_effect, train_vector
from ...router.steer.task import Answer, Task, Verdict, play, right
from ...router.steer.vector import SteeringVector
from ...router.taps import Taps, decoder_layers
from ...specialists.models import load_model_folder
from ...specialists.tokenizing import ChatCodec
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section
from .story_texts import ABOUT, JUDGE, NAMES, PLAIN, PLAIN_HELD, THINGS, VALIDATE

PLE = "tinystories-ple-c3M"  # with layers of its own kind
MODELS = ("stories260K", PLE)
TOKENS = 40
LOSS = 0.10  # how much the loss may rise, as a share of it
CHOSEN_UNDER = 0.08  # the same while choosing: what is chosen at its limit lies beyond it elsewhere
OFTEN = 0.01, 0.05  # how often a thing is said before, at least and at most
CONCEPTS = 3  # for each model
STRENGTHS = (0.7, 1.0)  # of what the budget affords
PRICE = 3.0  # of a nat of divergence on neutral text, in nats of the answers' loss
STEPS, ROWS, RATE = 100, 24, 0.05
OWN, LENGTH = 48, 64  # texts of the model's own, and their tokens
Vectors = Sequence[SteeringVector]


@dataclass(frozen=True, eq=False)
class Bench:
    """A model with its tokenizer, and text of its own in thirds: to make vectors, to choose, to judge."""

    name: str
    model: Any
    codec: ChatCodec
    own: tuple[list[Batch], list[Batch], list[Batch]]

    @classmethod
    def open(cls, folder: Path, seed: int) -> Bench:
        """Load a model and let it write its texts."""
        model, codec = _model(folder), ChatCodec.load(folder)
        start = codec.start[0] if codec.start else codec.end
        texts = own_texts(model, start, 3 * OWN, LENGTH, seed, repetition=1.0)
        thirds = [neutral(texts[at : at + OWN], longest=LENGTH) for at in range(0, 3 * OWN, OWN)]
        return cls(folder.name, model, codec, (thirds[0], thirds[1], thirds[2]))

    def encode(self, text: str) -> tuple[int, ...]:
        """A text's tokens, the start token first."""
        return (*self.codec.start, *self.codec.encode_text(text))

    def task(self, word: str, openings: Sequence[str], times: int, seed: int) -> Task:
        """Go on from openings, drawing each token; right: the word is said, or its plural."""
        prompts = [self.encode(one.format(n=name)) for one in openings for name in NAMES] * times
        said = re.compile(rf"\b{word}s?\b")

        def judge(row: int, tokens: Sequence[int]) -> Verdict:
            return Verdict(bool(said.search(self.codec.decode(tokens).casefold())))

        return Task(tuple(prompts), judge, self.codec.end, TOKENS, size=384, temperature=1.0, seed=seed)

    def cost(self, own: Sequence[Batch], plain: Sequence[str]) -> Score:
        """How much the loss rises, as a share of it: the greater of own texts and plain ones."""
        texts = neutral([self.encode(text.format(n=name)) for text in plain for name in NAMES])
        kinds = [(batches, _loss(self.model, batches)) for batches in (own, texts)]

        def rise(vectors: Vectors) -> float:
            found = [side_effect(self.model, vectors, part).loss_increase / loss for part, loss in kinds]
            return max(0.0, *found)

        return rise

    # -- vectors ---------------------------------------------------------------------------------------------

    def options(self, thing: str, seed: int) -> dict[str, list[SteeringVector]]:
        """For each inner layer: the difference in means between texts about the thing and about others, and a
        vector trained to say the thing where it is said there, at a price for changing other text.
        """
        found = {}
        for layer in range(1, len(decoder_layers(self.model)) - 1):
            others = [one for one in THINGS if one != thing]
            high, low = (self._states(layer, one) for one in ([thing], others))
            pushed = difference_in_means(high, low)
            trained = train_vector(
                self.model, layer, self._lessons(thing, seed), rate=RATE, neutral=self._priced(), price=PRICE
            )
            for name, vector in (("means", pushed / pushed.norm()), ("trained", trained)):
                found[f"{name} L{layer}"] = [SteeringVector(thing, "add", layer, 1.0, "generation", vector)]
        return found

    def _texts(self, thing: str) -> list[str]:
        return [text.format(n=name, c=thing) for text in ABOUT for name in NAMES]

    def _states(self, layer: int, things: Sequence[str]) -> torch.Tensor:
        """States of every token but the first few, of texts about things in turn."""
        rows = []
        texts = [self._texts(things[i % len(things)])[i] for i in range(0, len(ABOUT) * len(NAMES), 2)]
        with torch.no_grad(), Taps(self.model, [layer]) as taps:
            for text in texts:
                self.model(input_ids=torch.tensor([self.encode(text)]))
                rows.append(taps.states[layer][0, 4:].float().clone())
        return torch.cat(rows)

    def _lessons(self, thing: str, seed: int) -> Iterator[Batch]:
        """Batches of texts about the thing, in which only its own tokens are labelled."""
        drawn, texts = random.Random(seed), self._texts(thing)
        for _ in range(STEPS):
            yield self._lesson(drawn.sample(texts, ROWS), thing)

    def _lesson(self, texts: Sequence[str], thing: str) -> Batch:
        rows = [self._marked(text, thing) for text in texts]
        longest = max(len(ids) for ids, _ in rows)
        ids, labels = (torch.full((len(rows), longest), fill) for fill in (self.codec.end, -100))
        for row, (tokens, wanted) in enumerate(rows):
            ids[row, : len(tokens)], labels[row, : len(tokens)] = torch.tensor(tokens), torch.tensor(wanted)
        return {"input_ids": ids, "labels": labels}

    def _marked(self, text: str, thing: str) -> tuple[list[int], list[int]]:
        """A text's tokens, and those of them that say the thing, the others being -100."""
        read, begun = self.codec.plain.encode(text, add_special_tokens=False), len(self.codec.start)
        spans = [found.span() for found in re.finditer(rf"\b{thing}\b", text)]
        wanted = [
            token if any(start < last and end > first for first, last in spans) else -100
            for token, (start, end) in zip(read.ids, read.offsets, strict=True)
        ]
        return [*self.codec.start, *read.ids], [*[-100] * begun, *wanted]

    def _priced(self) -> list[Batch]:
        """Small batches of own text that a vector should leave alone."""
        return [
            {name: rows[at : at + 16] for name, rows in batch.items()}
            for batch in self.own[0]
            for at in range(0, len(batch["input_ids"]), 16)
        ]


def _model(folder: Path) -> Any:
    if folder.name == PLE:
        from ..locate.ple import load_ple

        return load_ple(folder)
    return load_model_folder(folder, torch.float32).requires_grad_(False)


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


# -- what is measured ----------------------------------------------------------------------------------------


class Raised(NamedTuple):
    """One concept in one model; `times` is how many times as often its word is said."""

    model: str
    thing: str
    choice: Choice
    before: float
    after: float
    random: float
    times: Estimate
    means: float
    cost: float


def things(bench: Bench, count: int, seed: int) -> list[tuple[str, float]]:
    """The first things that a model says neither too seldom to count nor too often to raise, and how often:
    by unsteered answers to the openings that strengths are chosen on.
    """
    told = play(bench.model, bench.task("", VALIDATE, 4, seed))
    shares = []
    for thing in THINGS:
        judge = bench.task(thing, VALIDATE, 4, seed).judge
        shares.append((thing, sum(judge(0, one.tokens).right for one in told) / len(told)))
    return [one for one in shares if OFTEN[0] <= one[1] <= OFTEN[1]][:count]


def measure(bench: Bench, thing: str, share: float, seed: int, times: int) -> Raised:
    """Choose vector, layer and strength on some openings; measure on others, and on other text."""
    validate = bench.task(thing, VALIDATE, 2, seed + 1)
    cost = bench.cost(bench.own[1], PLAIN)
    options = {
        name: stronger(vectors, affordable(vectors, cost, CHOSEN_UNDER))
        for name, vectors in bench.options(thing, seed).items()
    }
    choice = choose(
        options,
        lambda vectors: right(play(bench.model, validate, vectors)),
        cost,
        budget=CHOSEN_UNDER,
        baseline=share,
        strengths=STRENGTHS,
    )
    test = bench.task(thing, JUDGE, times, seed + 2)

    def said(vectors: Vectors) -> list[Answer]:
        return play(bench.model, test, vectors)

    before, after = said(()), said(choice.vectors)
    twins = [random_twin(choice.vectors, seed + i) for i in range(2)]
    best = max((one for one in choice.tried if one.option.startswith("means")), key=lambda one: one.effect)
    return Raised(
        bench.name,
        thing,
        choice,
        right(before),
        right(after),
        sum(right(said(twin)) for twin in twins) / len(twins),
        estimates.ratio([one.right for one in after], [one.right for one in before], seed),
        right(said(stronger(options[best.option], best.strength))) / right(before),
        bench.cost(bench.own[2], PLAIN_HELD)(choice.vectors),
    )


def section(data: Path | None, seed: int, quick: bool, say: Callable[[str], None]) -> Section | None:
    """Concepts raised by one added vector; None where no model is there."""
    folders = [data / "models" / name for name in MODELS] if data is not None else []
    found: list[Raised] = []
    for folder in folders:
        if not (folder / "config.json").is_file():
            continue
        bench = Bench.open(folder, seed)
        for thing, share in things(bench, 1 if quick else CONCEPTS, seed):
            found.append(measure(bench, thing, share, seed, 2 if quick else 8))
            say(f"{folder.name}: {thing} {found[-1].times.value:.1f} times as often")
    return _section(found, seed, 2 if quick else 8) if found else None


def _section(found: Sequence[Raised], seed: int, times: int) -> Section:
    dearest = max(one.cost for one in found)
    low, high = (f"{100 * share:g}" for share in OFTEN)
    return Section(
        "Models that nobody here trained",
        f"How often a word (or its plural) is said in {TOKENS}-token continuations, drawn at temperature 1, "
        f"of {len(JUDGE)} story openings with {len(NAMES)} names, {times} times each. Words: of a list of "
        f"{len(THINGS)} things, the first {CONCEPTS} that a model says in {low} to {high} % of its "
        "continuations of other openings. "
        "One vector is added after one inner layer: a difference in means between texts about the thing and "
        "about others, or one trained to say the thing in those texts, at a price for changing the model's "
        f"own text. Which, where and how strongly is chosen on those other openings, at "
        f"{100 * CHOSEN_UNDER:g} % more loss at most; the loss below is that on held-out text, the greater "
        "rise of the model's own and hand-written.",
        ("model", "word", "chosen", "before", "after", "random", "times", "by means", "more loss"),
        tuple(map(_row, found)),
        (
            Goal(
                "a concept is said more often (median over concepts and models)",
                "at least",
                5.0,
                "×",
                estimates.median([one.times.value for one in found], seed),
            ),
            Goal(
                "its price: more loss on plain text (largest)",
                "at most",
                LOSS,
                "%",
                Estimate(dearest, min(one.cost for one in found), dearest, len(found)),
            ),
        ),
        notes=(
            "`random`: the mean of two random directions of equal norm. `by means`: the best difference in "
            "means within the budget, times as often.",
        ),
    )


def _row(one: Raised) -> tuple[str, ...]:
    chosen = (
        f"{one.choice.option}, {one.choice.strength:g} of the budget" if one.choice.vectors else "nothing"
    )
    return (
        one.model,
        one.thing,
        chosen if one.choice.vectors else "nothing",
        f"{100 * one.before:.1f} %",
        f"{100 * one.after:.1f} %",
        f"{100 * one.random:.1f} %",
        f"{one.times.value:.1f} [{one.times.low:.1f}, {one.times.high:.1f}]",
        f"{one.means:.1f}",
        f"{100 * one.cost:.1f} %",
    )
