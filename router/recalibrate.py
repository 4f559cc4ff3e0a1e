"""Correct probabilities by what came true: one rising map a specialist, fitted on logged outcomes.

p_new = sigmoid(a * logit(p) + b), with a > 0, so that the order of prompts stays (Platt, 1999, on the logit
of what the probe said). A map works on what a log holds, and composes with the probe's own calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from ..store.errors import UsageError
from ..store.records import Frozen, Reading
from .checks import Numbers, numbers
from .policy import Policy
from .probes.calibrate import Calibration, Capped, Isotonic, Platt

_EDGE = 1e-6  # probabilities are kept so far from 0 and 1


class Map(Frozen):
    """p_new = sigmoid(a * logit(p) + b)."""

    a: float = 1.0
    b: float = 0.0

    @classmethod
    def fit(cls, p: Numbers, y: Numbers) -> Map:
        """Fit on probabilities [N] and outcomes 0/1 [N].

        Raises UsageError for a single class, and where higher probabilities came true less often: then the
        probe itself is wrong, and no rising map mends it.
        """
        kept = numbers("p", p).clamp(_EDGE, 1 - _EDGE)
        found = Platt.fit(torch.logit(kept), y)
        if found.a <= 0:
            raise UsageError(
                f"higher P(correct) came true less often (slope {found.a:.2f}); fit the probe again instead"
            )
        return cls(a=found.a, b=found.b)

    def one(self, p: float) -> float:
        """Return the corrected probability."""
        kept = min(max(p, _EDGE), 1 - _EDGE)
        return Platt(self.a, self.b).one(math.log(kept / (1 - kept)))

    def following(self, first: Map) -> Map:
        """Return the map that does `first`, then this one."""
        return Map(a=self.a * first.a, b=self.a * first.b + self.b)

    def after(self, calibration: Calibration) -> Calibration:
        """Return the calibration that does what `calibration` does, then this map.

        Exact for Platt; for an isotonic one, exact at its knots and on its levels; a capped one becomes
        isotonic, through knots so near that it is within 1e-3.
        """
        if isinstance(calibration, Platt):
            return Platt(self.a * calibration.a, self.a * calibration.b + self.b)
        if isinstance(calibration, Capped):
            calibration = _knotted(calibration)
        return Isotonic(calibration.x, tuple(self.one(level) for level in calibration.y))


def _knotted(capped: Capped) -> Isotonic:
    """A capped calibration as a line through knots, evenly from -14 to 14 of its sigmoid's argument; a
    falling one, which says that its score is worthless, as one level.
    """
    if capped.a < _EDGE:
        return Isotonic((0.0,), (capped.one(-capped.b / capped.a if capped.a else 0.0),))
    scores = tuple((place / 10 - capped.b) / capped.a for place in range(-140, 141))
    return Isotonic(scores, tuple(map(capped.one, scores)))


def apply(maps: Mapping[str, Map], p_correct: Mapping[str, float]) -> dict[str, float]:
    """Return every specialist's corrected probability; one without a map keeps its own."""
    return {name: maps[name].one(p) if name in maps else p for name, p in p_correct.items()}


def chances(
    policy: Policy, p_correct: Mapping[str, float], readings: Sequence[Reading]
) -> dict[str | None, float]:
    """Return with which chance the policy chooses each specialist; None stands for abstention.

    The distribution that `Policy.decide` draws from, by the same rules. Raises UsageError as it does.
    """
    found = policy.candidates(p_correct, readings)
    rule = policy.overriding(readings)
    if rule is not None:
        return {rule.specialist: 1.0}
    fired = {reading.probe for reading in readings if reading.fired}
    if policy.ood is not None and policy.ood.block and policy.ood.reading in fired:
        return {None: 1.0}
    eligible = [one.specialist for one in found if one.p_correct >= policy.threshold]
    if not eligible:
        return {None: 1.0}
    share: dict[str | None, float] = dict.fromkeys(eligible, policy.epsilon / len(eligible))
    share[eligible[0]] += 1 - policy.epsilon
    return share
