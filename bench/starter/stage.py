"""The stage of the benchmark: one family loaded once, real answers in batches, states and decisions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...agents.opening import bound_policy
from ...router.policy import Policy
from ...router.probes.probe import ProbeBank
from ...specialists.adapters import AdapterBank
from ...specialists.family import Family
from ...specialists.lean import LeanDecoder
from ...specialists.models import load_decoder, load_model_folder
from ...specialists.starter import makers
from ...specialists.starter.makers import Outcome
from ...specialists.starter.probing import pooled_at
from ...specialists.starter.skills.example import Example
from ...specialists.tokenizing import ChatCodec
from ...store.errors import ArtifactError
from ...store.records import Candidate, Decision, Reading

TRUNK = "bare trunk"
Key = tuple[str, str, tuple[tuple[str, str], ...], int]


@dataclass(frozen=True)
class Sizes:
    """How many rows of everything."""

    kind: int  # rows of each reported kind of a skill
    route: int  # rows of each skill in the mixture that is routed
    fit: int  # rows of each skill that baselines of routing learn from
    lessons: int  # rows that TF-IDF baselines of a skill learn from
    outside: int
    steered: int
    explained: int
    tatoeba: int
    pairs: int  # of latency
    cold: int
    foreign_tokens: int = 48


FULL = Sizes(200, 120, 200, 20_000, 900, 150, 200, 120, 40, 5)
QUICK = Sizes(8, 8, 40, 800, 60, 8, 20, 3, 3, 1)


@dataclass(frozen=True)
class Routed:
    """What the policy makes of one prompt: candidates best first, readings, and the decision."""

    candidates: tuple[Candidate, ...]
    readings: tuple[Reading, ...]
    decision: Decision
    overridden: bool

    @property
    def best(self) -> Candidate:
        """The candidate of the highest utility: who would answer if nobody abstained."""
        return self.candidates[0]

    @property
    def familiar(self) -> float:
        """How sure the policy is that somebody can answer: the highest P(correct)."""
        return max(one.p_correct for one in self.candidates)


@dataclass(eq=False)
class Stage:
    """The family, its models, and everything that was answered so far.

    ``figures``: for each measured specialist and each group of its rows, the accuracy of every answerer.
    """

    family: Family
    data: Path | None
    seed: int
    sizes: Sizes
    say: Callable[[str], None]
    model: PreTrainedModel
    reader: LeanDecoder | PreTrainedModel  # answers without steering; the tested twin of `model`, and faster
    codec: ChatCodec
    adapters: AdapterBank
    policy: Policy
    probes: ProbeBank
    students: dict[str, LeanDecoder | PreTrainedModel] = field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    _answers: dict[Key, Outcome] = field(default_factory=dict)

    @classmethod
    def open(
        cls, family: Family, data: Path | None, seed: int, quick: bool, say: Callable[[str], None]
    ) -> Stage:
        """Verify and load a family.

        Raises:
            ArtifactError: it is damaged, or has no probes to route by.
        """
        family.verify()
        probes, policy = family.bank, bound_policy(family, None)
        if probes is None or policy is None:
            raise ArtifactError(f"family {family.name!r} has no probes: there is no routing to measure")
        model = load_model_folder(family.trunk_folder, dtype=torch.float32)
        reader = load_decoder(family.trunk_folder, torch.float32)
        codec, adapters = ChatCodec.load(family.trunk_folder), AdapterBank(reader)
        sizes = QUICK if quick else FULL
        return cls(family, data, seed, sizes, say, model, reader, codec, adapters, policy, probes)

    def close(self) -> None:
        """Unwrap the trunk."""
        self.adapters.close()

    # -- answers -----------------------------------------------------------------------------------------

    @property
    def specialists(self) -> tuple[str, ...]:
        """The specialists that run a model."""
        return tuple(name for name, card in self.family.cards.items() if card.kind != "cards")

    @property
    def desks(self) -> tuple[str, ...]:
        """The specialists that answer from the cards."""
        return tuple(name for name, card in self.family.cards.items() if card.kind == "cards")

    def longest(self, name: str) -> int:
        """The most tokens of a specialist's answer to its own prompts."""
        return self.family.card(name).max_tokens

    def answers(self, name: str, examples: Sequence[Example], max_tokens: int) -> list[Outcome]:
        """Let a specialist (or the bare trunk) answer greedily; nothing is asked twice."""
        keys = [(name, e.prompt, e.history, max_tokens) for e in examples]
        fresh = {k: e for k, e in zip(keys, examples, strict=True) if k not in self._answers}
        if fresh:
            rows = list(fresh.values())
            model, bank = self._player(name)
            found = makers.judge(model, self.codec, name, rows, bank, max_tokens)
            self._answers |= dict(zip(fresh, found, strict=True))
        return [self._answers[key] for key in keys]

    def _player(self, name: str) -> tuple[LeanDecoder | PreTrainedModel, AdapterBank | None]:
        if name == TRUNK or self.family.card(name).kind == "trunk":
            return self.reader, None
        folder = self.family.specialist_folder(name)
        if self.family.card(name).kind == "student":
            if name not in self.students:
                self.students[name] = load_decoder(folder, torch.float32)
            return self.students[name], None
        if name not in self.adapters.adapters:
            self.adapters.load(name, folder)
        return self.reader, self.adapters

    # -- states and decisions ----------------------------------------------------------------------------

    def vectors(self, examples: Sequence[Example]) -> Tensor:
        """Read every prompt with the bare trunk, and pool at the probes' site: [N, F]."""
        if not examples:
            return torch.empty(0, self.probes.size)
        return pooled_at(self.model, self.codec, examples, [self.probes.site])[0]

    def routed(self, x: Tensor) -> list[Routed]:
        """Let the policy decide on each pooled vector of [N, F]."""
        return [self._decided(one) for one in x]

    def _decided(self, x: Tensor) -> Routed:
        readings, p_correct = self.probes.evaluate(x)
        decision, candidates = self.policy.decide(p_correct, readings, rng=random.Random(self.seed))
        overridden = self.policy.overriding(readings) is not None
        return Routed(candidates, readings, decision, overridden)

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """Prompt lengths in tokens."""
        return [len(self.codec.encode_prompt(e.prompt, e.history)) for e in examples]
