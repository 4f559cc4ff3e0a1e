"""The scout's instruments in one place: pooled vector, readings, P(correct), and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..store.records import FeatureContribution, Message, Reading
from .explain import Explainer, Labels, SaeByLayer, by_layer, without
from .policy import Policy
from .probes.probe import Kind, ProbeBank


@dataclass(frozen=True, eq=False)
class ScoutReading:
    """What one prompt's states say: x [F] float32, the readings, {specialist: calibrated P(correct)}."""

    x: Tensor
    readings: tuple[Reading, ...]
    p_correct: dict[str, float]


class Scout:
    """Reads the trunk's states with a family's probes and dictionaries.

    `saes` is one SAE, {layer: SAE}, or None; `labels` is {feature: Label}, or {layer: {feature: Label}}.
    """

    def __init__(
        self,
        bank: ProbeBank,
        policy: Policy,
        saes: SaeByLayer = None,
        labels: Labels | None = None,
    ) -> None:
        self.bank = bank
        self.policy = policy
        self.saes = by_layer(saes, bank.site.layers)
        self.labels: Labels = labels or {}

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder layers to tap."""
        return self.bank.site.layers

    def read(self, states: Mapping[int, Tensor], turn: int = 0) -> ScoutReading:
        """Pool one prompt's states ({layer: [T,D]}), whose last turn begins at token `turn`, and read every
        probe. Raises as `Site.vector`.
        """
        return self.read_vector(self.bank.site.vector(states, turn))

    def observe(self, turns: Sequence[Message], states: Mapping[int, Tensor], turn: int = 0) -> ScoutReading:
        """Read a conversation whose states [T,D] by layer the engine left; these probes need those alone."""
        return self.read(states, turn)

    def read_vector(self, x: Tensor) -> ScoutReading:
        """Read every probe on a pooled vector [F]."""
        readings, p_correct = self.bank.evaluate(x)
        return ScoutReading(x, readings, p_correct)

    def explain(
        self, specialist: str, x: Tensor, top: int = 8, kind: Kind = "correct"
    ) -> tuple[FeatureContribution, ...]:
        """Return the rows that sum to the logit of a specialist's probe (or of a reading's) at x [F].

        Raises UsageError when there is no such probe.
        """
        made = self._explainers.get((specialist, kind))
        if made is None:  # two threads may make it twice, which harms nobody
            made = self._explainers[specialist, kind] = Explainer(
                self.bank.probe(specialist, kind), self.saes
            )
        return made.rows(x, self.labels, top)

    @cached_property
    def _explainers(self) -> dict[tuple[str, Kind], Explainer]:
        """Those that were asked for so far."""
        return {}

    def ablate(self, x: Tensor, features: Sequence[int]) -> ScoutReading:
        """Take features out of x [F] (every block with an SAE) and read again: does the decision stand?"""
        return self.read_vector(without(self.saes, self.bank.probes[0], x, features))
