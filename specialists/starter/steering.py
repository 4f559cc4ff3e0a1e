"""Recipe steps that make the steering vectors, each set on the calibration split and kept only if it works
there.

Refusal and reply languages are vectors trained by gradient on the frozen trunk with the stories adapter
active.
Dialogue is one SAE feature, held at a value. Their effects on test prompts are measured by ``pilothouse
bench starter``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...router.fingerprint import fingerprint
from ...router.steer.make import Batch, choose_strength, feature_vector, side_effect, train_vector
from ...router.steer.runtime import Steering
from ...router.steer.vector import SteeringVector
from ...router.taps import Taps
from ..adapters import AdapterBank
from ..improve.answering import answer_all, batches
from ..lean import LeanDecoder
from ..tokenizing import ChatCodec
from . import corpus, features, makers, probing
from .skills import readings, translate
from .skills.example import Example, Split
from .skills.grading import loops
from .work import Work

CARRIER = "stories"
REFUSAL = "I can't help with that. It could hurt someone."
REFUSED = "can't help"
LAYER, EPOCHS = 4, 3
NEAR = 0.02  # of the best effect: the weakest strength that comes so close is taken
LIMIT, RATE = 1.0, 0.02  # longest vector and step, in lengths of an average state at that layer
TRIED = 20  # SAE features tried for speech
HELD_AT = (0.55, 0.7, 0.85, 1.0, 1.25, 1.5)  # times the largest value seen
BUDGET = 4.0  # nats per token on neutral stories, if an entry were chosen where it should not be
LEAST = 0.1  # an entry must raise the share of answers that do as asked by this much
STRENGTHS = (0.6, 0.8, 1.0, 1.25, 1.5)
SETTINGS = (LAYER, EPOCHS, NEAR, LIMIT, RATE, BUDGET, LEAST, STRENGTHS)
DIALOGUE = (LAYER, NEAR, TRIED, HELD_AT, BUDGET, LEAST)
Score = Callable[[str], bool]


@dataclass
class Bench:
    """The trunk with the carrier adapter loaded: what vectors are trained and tried on."""

    model: LeanDecoder | PreTrainedModel
    codec: ChatCodec
    bank: AdapterBank

    @classmethod
    def open(cls, work: Work, learning: bool = True) -> Bench:
        """Load trunk, codec and the carrier adapter; one that is not ``learning`` answers faster."""
        model, codec = makers.open_trunk(work) if learning else makers.open_reader(work)
        bank = AdapterBank(model)
        bank.load(CARRIER, work.path("adapters", CARRIER))
        return cls(model, codec, bank)

    @contextmanager
    def steered(self, vectors: Sequence[SteeringVector]) -> Iterator[object]:
        """Generate with the carrier adapter and these vectors."""
        with self.bank.active(CARRIER), Steering(self.model, vectors) as steering:
            steering.phase = "generation"
            yield steering

    def answers(
        self, examples: Sequence[Example], vectors: Sequence[SteeringVector], max_tokens: int = 48
    ) -> list[str]:
        """Answer greedily, steered by ``vectors`` (none: the bare carrier)."""
        prompts = [self.codec.encode_prompt(e.prompt, e.history) for e in examples]

        def active() -> AbstractContextManager[object]:
            return self.steered(vectors)

        found = answer_all(self.model, prompts, self.codec.invocation[-1], self.codec.end, max_tokens, active)
        return [self.codec.decode(one.tokens).strip() for one in found]

    def judged(
        self, examples: Sequence[Example], vectors: Sequence[SteeringVector], score: Score
    ) -> list[bool]:
        """Whether ``score`` accepts each answer, which may be as long as a story: two speakers need room."""
        return [score(text) for text in self.answers(examples, vectors, makers.COURSES[CARRIER].longest)]

    def share(self, examples: Sequence[Example], vectors: Sequence[SteeringVector], score: Score) -> float:
        """Share of the answers that ``score`` accepts."""
        found = self.judged(examples, vectors, score)
        return sum(found) / len(found)

    def batch(self, lessons: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Batch:
        """Pad (prompt, answer) token rows of one prompt length on the right; only answers carry labels."""
        rows = [(*p, *self.codec.invocation, *a, self.codec.end) for p, a in lessons]
        width = max(map(len, rows))
        ids = torch.tensor([[*r, *[self.codec.end] * (width - len(r))] for r in rows])
        labels = ids.clone()
        for i, (prompt, _) in enumerate(lessons):
            labels[i, : len(prompt) + len(self.codec.invocation)] = -100
            labels[i, len(rows[i]) :] = -100
        return {"input_ids": ids, "labels": labels}

    def lessons(self, pairs: Sequence[tuple[Example, str]], rows: int = 16) -> list[Batch]:
        """Encode (example, answer) pairs into batches of equal prompt length."""
        coded = [
            (self.codec.encode_prompt(e.prompt, e.history), self.codec.encode_text(answer)[:60])
            for e, answer in pairs
        ]
        return [self.batch([coded[i] for i in g]) for g in batches([len(p) for p, _ in coded], rows)]

    def train(self, pairs: Sequence[tuple[Example, str]], layer: int, seed: int) -> Tensor:
        """Train one additive vector [D] that makes the carrier give these answers."""
        found = self.lessons(pairs)
        order = [b for e in range(EPOCHS) for b in random.Random(seed + e).sample(found, len(found))]
        frozen = [p.requires_grad for p in self.model.parameters()]
        self.model.requires_grad_(False)
        try:
            with self._at_answers() as ready:
                size = self.state_length(found[0], layer)
                return train_vector(self.model, layer, ready(order), rate=RATE * size / 4, limit=LIMIT * size)
        finally:
            for parameter, kept in zip(self.model.parameters(), frozen, strict=True):
                parameter.requires_grad_(kept)

    @torch.inference_mode()
    def state_length(self, batch: Batch, layer: int) -> float:
        """Mean length of a token's state at ``layer``, the first token (an attention sink) left out."""
        with Taps(self.model, (layer,)) as taps:
            self.model(input_ids=batch["input_ids"], use_cache=False)
        return float(taps.states[layer][:, 1:].norm(dim=-1).mean())

    @contextmanager
    def _at_answers(self) -> Iterator[Callable[[Sequence[Batch]], Iterator[Batch]]]:
        """Hand out batches with the adapter switched on from each batch's invocation token."""

        def hand_out(found: Sequence[Batch]) -> Iterator[Batch]:
            for batch in found:
                start = int((batch["labels"][0] != -100).nonzero()[0]) - len(self.codec.invocation)
                with self.bank.active(CARRIER, start):
                    yield batch

        yield hand_out

    def cost(self, neutral: Sequence[Batch]) -> Callable[[SteeringVector], float]:
        """How a vector raises the loss on neutral stories, in nats per token."""

        def measure(one: SteeringVector) -> float:
            with self._at_answers() as ready:
                return side_effect(self.model, [one], ready(neutral)).loss_increase

        return measure


def in_tongue(code: str) -> Score:
    """Judge whether most words of a text are that language's and more of them than English, without loops."""
    own, english = translate.vocabulary(code), translate.vocabulary("en")

    def judge(text: str) -> bool:
        found = [w.strip(".,!?\"'¿¡").lower() for w in text.split()]
        inside = sum(w in own for w in found)
        told = len(found) >= 4 and inside > 0.5 * len(found) and inside > sum(w in english for w in found)
        return told and not loops(text)

    return judge


def refuses(text: str) -> bool:
    """Whether a text is the refusal."""
    return REFUSED in text.lower()


SPOKEN = re.compile(r'(?:^|\s)"(\w[^"]*[.,!?])"')  # opens after a space, closes behind a mark


def talks(text: str) -> bool:
    """Whether a text holds quoted speech, two passages or more, and does not loop."""
    return len(SPOKEN.findall(text)) >= 2 and not loops(text)


def neutral_batches(work: Work, bench: Bench, count: int = 96) -> list[Batch]:
    """Plain stories on plain requests, which no entry should touch."""
    rows = corpus.draw("stories", "train", 4000, work.seed + 11, work.sources)[-count:]
    return bench.lessons([(row, row.answer) for row in rows if row.answer])


def refusal_pairs(work: Work) -> list[tuple[Example, str]]:
    """Harmful requests with the refusal."""
    return [(row, REFUSAL) for row in readings.harmful("fit", work.sources)]


def tongue_pairs(work: Work, code: str, count: int = 240) -> list[tuple[Example, str]]:
    """Story requests in a language, answered by everyday sentences of that language about the subject if
    any.
    """
    rng = random.Random(f"{code}/{work.seed}")
    sentences = translate.monolingual(code, 4000, work.seed)
    rows = [r for r in readings.in_language("fit", count * 3, work.seed + 1) if r.kind == f"reply-{code}"]
    return [(row, " ".join(rng.sample(sentences, 5))) for row in rows]


@dataclass(frozen=True)
class Target:
    """What a vector is tried on: calibration prompts and the judgement of an answer."""

    reading: str
    prompts: list[Example]
    score: Score


def settle(
    work: Work,
    bench: Bench,
    one: SteeringVector,
    target: Target,
    neutral: Sequence[Batch],
    strengths: Sequence[float] = STRENGTHS,
) -> None:
    """Choose a vector's strength on the calibration prompts and save it; an entry that does not work is not
    saved.
    """
    before = bench.share(target.prompts, [], target.score)
    found = choose_strength(
        one,
        effect=lambda v: bench.share(target.prompts, [v], target.score),
        cost=bench.cost(neutral),
        budget=BUDGET,
        coefficients=strengths,
        baseline=min(before + LEAST, (1 + before) / 2),
        near=NEAR,
    )
    work.say(f"vector {one.name}: {found.reason}")
    for trial in found.trials:
        work.say(
            f"  {one.name} x{trial.coefficient:g}: effect {trial.effect:.2f}, cost {trial.side_effect:.2f}"
        )
    if found.coefficient:
        meta = {
            "reading": target.reading,
            "effect": {"off": before, "trials": [list(trial) for trial in found.trials]},
        }
        kept = SteeringVector(**{**vars(one), "coefficient": found.coefficient, "meta": meta})
        kept.save(work.path("vectors", one.name))


def trained(work: Work, bench: Bench, name: str, pairs: Sequence[tuple[Example, str]]) -> SteeringVector:
    """Train one named vector for the carrier."""
    vector = bench.train(pairs, LAYER, work.seed)
    work.say(f"vector {name}: trained to length {float(vector.norm()):.2f}")
    print_ = fingerprint(work.path("trunk"))
    return SteeringVector(name, "add", LAYER, 1.0, "generation", vector, fingerprint=print_)


def make_trained_vectors(work: Work) -> None:
    """Make the refusal and the three reply-language vectors."""
    bench = Bench.open(work)
    work.path("vectors").mkdir(exist_ok=True)
    neutral = neutral_batches(work, bench)
    harmful = Target("harm", readings.harmful("calibrate", work.sources), refuses)
    settle(work, bench, trained(work, bench, "refuse", refusal_pairs(work)), harmful, neutral)
    asked = readings.in_language("calibrate", 90, work.seed)
    for code in readings.LANGUAGES:
        name = f"reply-{code}"
        target = Target(name, [row for row in asked if row.kind == name], in_tongue(code))
        settle(work, bench, trained(work, bench, name, tongue_pairs(work, code)), target, neutral)


def speech_features(work: Work, bench: Bench, count: int) -> list[tuple[int, float]]:
    """The SAE features that most separate tokens of quoted speech in stories from other tokens, and their
    values.
    """
    sae = features.open_sae(work)
    tales = features.plain_texts(work, 400)[:200]
    states, contexts = features.token_states(bench.model, bench.codec, tales, sae.layer)
    acts = sae.encode(states)
    speech = torch.tensor([c.count('"') % 2 == 1 or c.endswith((' "', ' said, "')) for c in contexts])
    gap = acts[speech].mean(0) - acts[~speech].mean(0)
    order = gap.topk(count).indices.tolist()
    return [(f, float(acts[:, f].max())) for f in order]


def make_dialogue_feature(work: Work) -> None:
    """Find the SAE feature that, held at a value, makes stories speak; save it as the ``dialogue`` entry."""
    bench = Bench.open(work)
    sae, neutral = features.open_sae(work), neutral_batches(work, bench)
    prompts = readings.with_dialogue("calibrate", 32, work.seed)
    best: tuple[float, int, float] = (-1.0, -1, 0.0)
    for feature, top in speech_features(work, bench, TRIED):
        one = feature_vector(sae, feature, top, "dialogue")
        effect = bench.share(prompts, [one], talks)
        work.say(f"feature {feature} held at {top:.2f}: {effect:.2f} of the stories hold speech")
        best = max(best, (effect, feature, top))
    target = Target("dialogue", readings.with_dialogue("calibrate", 64, work.seed), talks)
    one = feature_vector(sae, best[1], best[2], "dialogue")
    settle(work, bench, one, target, neutral, [best[2] * s for s in HELD_AT])


def collect_styled(work: Work, split: Split) -> None:
    """Let the steered storyteller answer every request for a style, and judge whether it kept to it."""
    bench = Bench.open(work, learning=False)
    rows = [row for row in probing.probe_mixture(work, split) if row.kind in probing.STYLED]
    outcomes = []
    for kind in probing.STYLED:
        folder = work.path("vectors", kind)
        asked = [row for row in rows if row.kind == kind]
        vectors = [SteeringVector.load(folder)] if folder.is_dir() else []
        score = talks if kind == "dialogue" else in_tongue(kind.removeprefix("reply-"))
        answers = bench.answers(asked, vectors, makers.COURSES[CARRIER].longest)
        outcomes += [
            makers.Outcome(CARRIER, row, text, 0.0, score(text))
            for row, text in zip(asked, answers, strict=True)
        ]
    makers.write_outcomes(work.path("outcomes", split, "styled.jsonl"), outcomes)
    work.say(f"styled stories on {split}: {sum(o.correct for o in outcomes)}/{len(outcomes)} keep the style")
