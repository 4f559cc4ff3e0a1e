"""Steering stories of models that nobody here trained towards a concept: taps, a dictionary, vectors, and the
price.

The vector is the difference of the model's states before the concept's words and elsewhere, in its own
stories, or a dictionary's direction that stands for it. Layer, vector and strength are chosen on some stories
under a budget; what is told is measured on others, and on continuations that the steered model writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...router.features.evaluate import losses, quality
from ...router.features.faithful import own_texts
from ...router.features.recipe import Recipe
from ...router.features.stream import Activations
from ...router.features.trainer import train
from ...router.steer.make import difference_in_means
from ...router.steer.runtime import Steering
from ...router.steer.vector import SteeringVector
from ...router.taps import Taps
from .. import estimates
from ..page import Goal, Section
from .real import PLE, TEXTS, model_folder

BUDGET, LENGTH, SHARES = 0.08, 96, (0.15, 0.25, 0.35, 0.5, 0.7, 1.0)
CONCEPTS = {
    "dog": ("dog", "dogs", "puppy"),
    "rain": ("rain", "rained", "wet"),
    "cake": ("cake", "cakes", "bake"),
}


class Subject(NamedTuple):
    """A model with its own stories: token rows to learn from, to choose on, and to judge on."""

    name: str
    model: Any
    word: Callable[[int], str]
    encode: Callable[[str], list[int]]
    fit: list[list[int]]
    valid: list[list[int]]
    test: list[list[int]]

    def tokens(self, words: Sequence[str]) -> list[int]:
        """Tokens that are one of the words, with or without a space."""
        size = int(self.model.config.vocab_size)
        return [token for token in range(size) if self.word(token).strip().lower() in words]


def section(data: Path | None, seed: int, quick: bool) -> Section | None:
    """How much more often a concept is said, at what loss on stories about other things."""
    found = [one for one in (_ple(data, seed, quick), _small(data, seed, quick)) if one is not None]
    if not found:
        return None
    rows, goals = [], []
    for subject in found:
        sae, told = _dictionary(subject, seed, quick)
        rows.append((subject.name, "a dictionary of its states", told, "", ""))
        steered = []
        for concept, words in _concepts(subject).items():
            one = _steered(subject, sae, concept, words, seed, quick)
            if one is not None:
                steered.append(one)
                rows.append((subject.name, concept, *one.row()))
        raised = estimates.mean([one.written for one in steered] or [float("nan")], seed)
        cost = estimates.mean([one.loss for one in steered] or [float("nan")], seed)
        goals += [
            Goal(
                f"{subject.name}: steered continuations say the concept more often, by",
                "at least",
                5,
                "×",
                raised,
            ),
            Goal(f"{subject.name}: loss on stories rises by", "at most", 0.1, "%", cost),
        ]
    return Section(
        "Steering a story",
        "Models that others trained, on stories that they wrote. Raised: the concept's words in steered "
        "continuations of four openings over those in unsteered ones (at least one is counted there), and "
        "their probability in given stories. The random vector has the chosen one's length and layer. "
        "Loss: on stories held out, every token steered.",
        (
            "model",
            "concept",
            "chosen on other stories",
            "raised in continuations; in given stories",
            "loss; random vector",
        ),
        tuple(rows),
        tuple(goals),
    )


class Steered(NamedTuple):
    """What a vector does: times more often written, times more probable in given stories, share of loss
    added.
    """

    what: str
    written: float
    probable: float
    loss: float
    random: float

    def row(self) -> tuple[str, str, str]:
        """Three cells."""
        return (
            self.what,
            f"{self.written:.1f}×; {self.probable:.1f}×",
            f"{self.loss:+.1%}; random {self.random:.1f}× as probable",
        )


# -- the models ----------------------------------------------------------------------------------------------


def _ple(data: Path | None, seed: int, quick: bool) -> Subject | None:
    folder = model_folder(data, PLE)
    if folder is None:
        return None
    from ...specialists.starter.teacher import Teacher
    from .ple import load_ple

    teacher = Teacher(folder)
    texts = teacher.sample(32 if quick else 320, LENGTH, seed)
    rows = [teacher.tokenizer.encode(text).ids[:LENGTH] for text in texts]

    def word(token: int) -> str:
        return str(teacher.tokenizer.decode([token]))

    def encode(text: str) -> list[int]:
        return list(teacher.tokenizer.encode(text).ids)

    return Subject(PLE, load_ple(folder), word, encode, *_thirds([row for row in rows if len(row) > 20]))


def _small(data: Path | None, seed: int, quick: bool) -> Subject | None:
    folder = model_folder(data, "stories260K")
    if folder is None:
        return None
    from ...specialists.models import load_model_folder
    from ...specialists.tokenizing import ChatCodec

    codec, model = ChatCodec.load(folder), load_model_folder(folder, torch.float32).requires_grad_(False)
    rows = own_texts(model, 1, 32 if quick else 320, LENGTH, seed, repetition=1.0)

    def word(token: int) -> str:
        return codec.decode([token])

    return Subject("stories260K", model, word, lambda text: list(codec.encode_text(text)), *_thirds(rows))


def _thirds(rows: list[list[int]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Most to learn from, an eighth each to choose and to judge on."""
    part = max(len(rows) // 8, 1)
    return rows[2 * part :], rows[:part], rows[part : 2 * part]


def _concepts(subject: Subject) -> dict[str, list[int]]:
    """The concepts for which the model has whole words; else the three rarest words that its stories use at
    all.
    """
    known = {name: subject.tokens(words) for name, words in CONCEPTS.items()}
    known = {name: tokens for name, tokens in known.items() if tokens}
    if known:
        return known
    counts: dict[int, int] = {}
    for row in subject.fit:
        for token in row:
            counts[token] = counts.get(token, 0) + 1
    whole = [
        t
        for t, n in counts.items()
        if n >= 20 and len(subject.word(t).strip()) > 2 and subject.word(t).strip().isalpha()
    ]
    return {subject.word(t).strip(): [t] for t in sorted(whole, key=lambda t: counts[t])[:3]}


# -- measuring -----------------------------------------------------------------------------------------------


def _dictionary(subject: Subject, seed: int, quick: bool) -> tuple[Any, str]:
    layers = int(subject.model.config.num_hidden_layers)
    layer = layers // 2
    width = int(subject.model.config.hidden_size)
    recipe = Recipe(
        "topk", 4 * width, 16, steps=60 if quick else 400, batch=256, seed=seed, dead_after=20_000
    )
    sae = train(recipe, Activations(subject.model, layer, subject.fit, seed), meta={"layer": layer})
    states = torch.cat([_states(subject.model, row, layer)[1:] for row in subject.test])
    inside, found = losses(subject.model, sae, subject.test[:16]), quality(sae, states)
    told = f"layer {layer}, {sae.d_sae} latents, L0 {found.l0:.0f}: loss recovered {inside.recovered:.3f}"
    return sae, f"{told}, {found.explained:.0%} explained"


@torch.no_grad()
def _states(model: Any, row: Sequence[int], layer: int) -> Tensor:
    with Taps(model, (layer,)) as taps:
        model(torch.tensor([list(row)]))
    return taps.states[layer][0].float()


def _steered(
    subject: Subject, sae: Any, concept: str, tokens: list[int], seed: int, quick: bool
) -> Steered | None:
    """Choose layer, vector and strength on `valid` within the budget; measure on `test` and in new text."""
    candidates = _candidates(subject, sae, tokens)
    if not candidates:
        return None
    before = _told(subject, subject.valid, tokens, None)
    best: tuple[float, str, SteeringVector] | None = None
    for name, vector in candidates.items():
        for share in SHARES:
            one = _scaled(vector, share)
            chance, loss = _told(subject, subject.valid, tokens, one)
            if loss <= (1 + BUDGET) * before[1] and (best is None or chance > best[0]):
                best = chance, f"{name}, strength {share:g}", one
    if best is None:
        return None
    plain, there = (_told(subject, subject.test, tokens, one) for one in (None, best[2]))
    drawn = torch.randn(best[2].vector.shape, generator=torch.Generator().manual_seed(seed))
    random = _vector(
        f"random {concept}", best[2].layer, drawn / drawn.norm() * best[2].vector.norm(), best[2].coefficient
    )
    counts = [_written(subject, tokens, one, seed, quick) for one in (None, best[2])]
    return Steered(
        best[1],
        counts[1] / max(counts[0], 1),
        there[0] / plain[0],
        there[1] / plain[1] - 1,
        _told(subject, subject.test, tokens, random)[0] / plain[0],
    )


def _vector(name: str, layer: int, direction: Tensor, coefficient: float) -> SteeringVector:
    return SteeringVector(name, "add", layer, coefficient, "both", direction)


def _scaled(vector: SteeringVector, share: float) -> SteeringVector:
    return _vector(vector.name, vector.layer, vector.vector, share)


def _candidates(subject: Subject, sae: Any, tokens: list[int]) -> dict[str, SteeringVector]:
    """Differences of means at some layers, and the dictionary's feature that fires most before the words."""
    layers = int(subject.model.config.num_hidden_layers)
    found: dict[str, SteeringVector] = {}
    for layer in sorted({layers // 3, layers // 2, layers - 2}):
        on, off = [], []
        for row in subject.fit:
            states = _states(subject.model, row, layer)[1:-1]
            ahead = torch.tensor([token in tokens for token in row[2:]])
            on.append(states[ahead])
            off.append(states[~ahead][::4])
        here, there = torch.cat(on), torch.cat(off)
        if len(here) < 8:
            return {}
        found[f"difference of means after layer {layer}"] = _vector(
            "means", layer, difference_in_means(here, there), 1.0
        )
        if layer == sae.layer:
            gap = sae.encode(here).mean(0) - sae.encode(there).mean(0)
            feature = int(gap.argmax())
            size = float(sae.encode(here)[:, feature].max())
            found[f"feature {feature} after layer {layer}"] = _vector(
                "feature", layer, size * sae.W_dec[feature], 1.0
            )
    return found


@torch.no_grad()
def _told(
    subject: Subject, rows: Sequence[Sequence[int]], tokens: list[int], vector: SteeringVector | None
) -> tuple[float, float]:
    """Mean P(the concept's tokens) and mean loss (nats) over all next tokens, every token steered."""
    chance, loss, count = 0.0, 0.0, 0
    with Steering(subject.model, [vector] if vector else []):
        for row in rows:
            logits = subject.model(torch.tensor([list(row)])).logits[0, :-1].float()
            share = logits.log_softmax(-1)
            chance += float(share[:, tokens].exp().sum())
            loss -= float(share.gather(1, torch.tensor(list(row[1:]))[:, None]).sum())
            count += len(row) - 1
    return chance / count, loss / count


@torch.no_grad()
def _written(
    subject: Subject, tokens: list[int], vector: SteeringVector | None, seed: int, quick: bool
) -> int:
    """How many of the concept's tokens stand in sampled continuations of the openings."""
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.tensor(tokens)
    total = 0
    with Steering(subject.model, [vector] if vector else []):
        for text in TEXTS:
            ids = torch.tensor([subject.encode(text)[:8]] * (4 if quick else 16))
            start = ids.shape[1]
            for _ in range(8 if quick else 40):
                logits = subject.model(ids, use_cache=False).logits[:, -1].float() / 0.85
                ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1, generator=generator)], 1)
            total += int(torch.isin(ids[:, start:], wanted).sum())
    return total
