"""The routing policy: from probabilities and readings to one decision and one steering plan. Needs no torch.

utility = P(correct) - lam * price. Prices and lam live in `policy.json`, never in a checkpoint. The order of
rules: a forced specialist; an override; out of distribution; the threshold; the best utility; exploration.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, PrivateAttr, ValidationError

from ..store.errors import ArtifactError, NotFoundError, UsageError
from ..store.hashes import canonical, digest
from ..store.records import Candidate, Decision, Frozen, Probability, Reading, SteeringEntry, SteeringPlan
from .threshold import calibrate_threshold

__all__ = ["OutOfDistribution", "Override", "Policy", "Steerable", "SteeringRule", "calibrate_threshold"]

Price = Annotated[float, Field(ge=0.0)]
_NEAREST = 3
ALWAYS = "every answer"  # what a plan names in the place of a reading, where the rule has none


class Steerable(Protocol):
    """A steering vector, as far as a plan needs it."""

    def entry(self, reading: str, coefficient: float | None = None) -> SteeringEntry:
        """Return the plan's row for this vector."""


class SteeringRule(Frozen):
    """When `reading` fired (None: always), steer with `vector` (whatever answers, or only `specialists`).

    `coefficient` None keeps the vector's own. `minimum` replaces the probe's threshold on the probability.
    """

    reading: str | None
    vector: str
    specialists: tuple[str, ...] | None = None
    coefficient: float | None = None
    minimum: Probability | None = None


class Override(Frozen):
    """When `reading` fired, `specialist` answers, steered by the vector `steering`; this beats abstention."""

    reading: str
    specialist: str
    steering: str | None = None
    coefficient: float | None = None


class OutOfDistribution(Frozen):
    """What the reading of unfamiliar prompts does. `block`: abstain when it fired. `scale`: multiply every
    P(correct) by 1 - its probability.
    """

    reading: str = "ood"
    block: bool = True
    scale: bool = False


class Policy(Frozen):
    """One family's routing policy. Unknown fields are refused.

    lam: utility lost per unit of price. prices: by specialist, others cost `default_price`. threshold:
    abstain below this P(correct); `risk` is the share of wrong answers it was calibrated for. epsilon: share
    of decisions drawn uniformly among the eligible specialists.
    """

    lam: Annotated[float, Field(ge=0.0)] = 0.0
    prices: dict[str, Price] = Field(default_factory=dict)
    default_price: Price = 1.0
    threshold: Probability = 0.0
    epsilon: Probability = 0.0
    risk: Probability | None = None
    steering: tuple[SteeringRule, ...] = ()
    overrides: tuple[Override, ...] = ()
    ood: OutOfDistribution | None = None

    _vectors: Mapping[str, Steerable] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> Policy:
        """Read `policy.json`. Raises ArtifactError when unreadable, UsageError naming a wrong field."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); restore the file") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(f"{path}: {where} is {first['input']!r}: {first['msg']}; correct it") from error

    def save(self, path: Path | str) -> None:
        """Write `policy.json`."""
        Path(path).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @cached_property
    def hash(self) -> str:
        """SHA-256 over every field; any change of policy or price changes it."""
        return digest(canonical(self.model_dump(mode="json")))

    def with_vectors(self, vectors: Mapping[str, Steerable]) -> Policy:
        """Return the same policy (same hash), able to write plans with these vectors. Raises UsageError
        when a rule names a vector that is not there.
        """
        bound = self.model_copy()
        bound._vectors = dict(vectors)
        for name in self._vector_names():
            bound._vector(name)
        return bound

    def require(self, specialists: Iterable[str], readings: Iterable[str]) -> None:
        """Raises UsageError when a rule or price names a specialist or a reading that does not exist."""
        have, read = set(specialists), set(readings)
        asked = set(self.prices) | {one.specialist for one in self.overrides}
        asked |= {name for rule in self.steering for name in rule.specialists or ()}
        if missing := sorted(asked - have):
            raise UsageError(
                f"the policy names the specialists {missing}; this family has {sorted(have)}; correct it"
            )
        if missing := sorted(self._reading_names() - read):
            raise UsageError(
                f"the policy names the readings {missing}; this family has {sorted(read)}; correct it"
            )

    def _reading_names(self) -> set[str]:
        names = {rule.reading for rule in self.steering if rule.reading is not None}
        names |= {one.reading for one in self.overrides}
        return names | ({self.ood.reading} if self.ood else set())

    def _vector_names(self) -> list[str]:
        return [rule.vector for rule in self.steering] + [
            one.steering for one in self.overrides if one.steering
        ]

    def _vector(self, name: str) -> Steerable:
        if name not in self._vectors:
            raise UsageError(
                f"the policy steers with {name!r}; the vectors here are {sorted(self._vectors)}; correct it"
            )
        return self._vectors[name]

    # -- deciding ----------------------------------------------------------------------------------------

    def candidates(
        self, p_correct: Mapping[str, float], readings: Sequence[Reading] = ()
    ) -> tuple[Candidate, ...]:
        """Return every specialist with its price and utility, best utility first (ties by name).

        `p_correct` there is after scaling by the out-of-distribution reading, where the policy says so.
        Raises UsageError when there is no specialist, or a value is no probability.
        """
        if not p_correct:
            raise UsageError("there is no specialist to choose from; give P(correct) for at least one")
        for name, p in p_correct.items():
            if not 0.0 <= p <= 1.0:
                raise UsageError(
                    f"P(correct) of {name!r} is {p}; it must be within 0 and 1; calibrate its probe"
                )
        known = 1.0
        if self.ood is not None and self.ood.scale:
            known = 1.0 - _named(readings, self.ood.reading).probability
        found = [self._candidate(name, p * known) for name, p in p_correct.items()]
        return tuple(sorted(found, key=lambda one: (-one.utility, one.specialist)))

    def _candidate(self, name: str, p: float) -> Candidate:
        cost = self.prices.get(name, self.default_price)
        return Candidate(specialist=name, p_correct=p, cost=cost, utility=p - self.lam * cost)

    def decide(
        self,
        p_correct: Mapping[str, float],
        readings: Sequence[Reading] = (),
        *,
        forced: str | None = None,
        rng: random.Random | None = None,
    ) -> tuple[Decision, tuple[Candidate, ...]]:
        """Choose who answers, or abstain. Returns the decision and all candidates, best utility first.

        Only specialists whose P(correct) reaches the threshold are eligible. With `epsilon` > 0 an `rng` is
        needed; the propensity is the probability with which this policy makes this choice. Raises
        NotFoundError for a forced specialist that does not exist; UsageError for a reading or specialist that
        a rule names and nobody gives, and as `candidates`.
        """
        found = self.candidates(p_correct, readings)
        if forced is not None:
            return self._forced(found, forced), found
        rule = self.overriding(readings)
        if rule is not None:
            return self._overridden(found, rule, _named(readings, rule.reading)), found
        if self.ood is not None and self.ood.block and _named(readings, self.ood.reading).fired:
            return self._abstain(found, _ood_reason(_named(readings, self.ood.reading))), found
        eligible = [one for one in found if one.p_correct >= self.threshold]
        if not eligible:
            best = max(found, key=lambda one: one.p_correct)
            return self._abstain(found, _threshold_reason(best, self.threshold)), found
        return self._chosen(eligible, rng), found

    def overriding(self, readings: Sequence[Reading]) -> Override | None:
        """The first override whose reading fired; None where there is none. Raises as `decide`."""
        return next((one for one in self.overrides if _named(readings, one.reading).fired), None)

    def _decision(self, reason: str, **fields: object) -> Decision:
        head = {"lam": self.lam, "threshold": self.threshold, "policy_hash": self.hash, "reason": reason}
        return Decision.model_validate(head | fields)

    def _forced(self, found: Sequence[Candidate], forced: str) -> Decision:
        one = _candidate_of(found, forced)
        if one is None:
            names = ", ".join(sorted(c.specialist for c in found))
            raise NotFoundError(f"there is no specialist {forced!r}; choose one of {names}")
        best = found[0]
        aside = (
            "the best choice"
            if best is one
            else f"unforced it would be {best.specialist} ({best.p_correct:.2f})"
        )
        reason = f"{forced} was asked for by name, with P(correct) {one.p_correct:.2f}; {aside}."
        return self._decision(reason, chosen=forced, forced=True)

    def _overridden(self, found: Sequence[Candidate], rule: Override, reading: Reading) -> Decision:
        if _candidate_of(found, rule.specialist) is None:
            raise UsageError(
                f"the policy's override names {rule.specialist!r}; the candidates are "
                f"{sorted(c.specialist for c in found)}; correct it"
            )
        how = f" with the steering {rule.steering}" if rule.steering else ""
        return self._decision(
            f"{_fired(reading)}, so {rule.specialist} answers{how}.", chosen=rule.specialist
        )

    def _abstain(self, found: Sequence[Candidate], reason: str) -> Decision:
        order = sorted(found, key=lambda one: (-one.p_correct, one.specialist))
        nearest = tuple(one.specialist for one in order[:_NEAREST])
        return self._decision(reason, chosen=None, abstained=True, nearest=nearest)

    def _chosen(self, eligible: Sequence[Candidate], rng: random.Random | None) -> Decision:
        best = chosen = eligible[0]
        explored = False
        if self.epsilon > 0:
            if rng is None:
                raise UsageError(
                    f"the policy explores (epsilon {self.epsilon}); give decide() a random.Random as rng"
                )
            explored = rng.random() < self.epsilon
            chosen = rng.choice(eligible) if explored else best
        propensity = self.epsilon / len(eligible) + (1 - self.epsilon if chosen is best else 0.0)
        reason = _utility_reason(chosen, eligible, self.lam)
        if explored:
            reason = f"Drawn at random (epsilon {self.epsilon:g}) among {len(eligible)} eligible: {reason}"
        return self._decision(reason, chosen=chosen.specialist, propensity=min(propensity, 1.0))

    # -- steering ----------------------------------------------------------------------------------------

    def plan(
        self, readings: Sequence[Reading], specialist: str, vectors: Mapping[str, Steerable] | None = None
    ) -> SteeringPlan:
        """Return the steering of one answer: the entries of every rule whose reading fired, each vector once.

        An override's steering applies when its specialist is the one that answers. `vectors` None takes those
        of `with_vectors`. Raises UsageError when a rule names a reading or vector that is not there.
        """
        owner = self if vectors is None else self.with_vectors(vectors)
        entries: dict[str, SteeringEntry] = {}
        for one in self.overrides:
            if one.steering and one.specialist == specialist and _named(readings, one.reading).fired:
                entries.setdefault(
                    one.steering, owner._vector(one.steering).entry(one.reading, one.coefficient)
                )
        for rule in self.steering:
            if _applies(rule, specialist, readings):
                entries.setdefault(
                    rule.vector, owner._vector(rule.vector).entry(rule.reading or ALWAYS, rule.coefficient)
                )
        return SteeringPlan(entries=tuple(entries.values()))


def _applies(rule: SteeringRule, specialist: str, readings: Sequence[Reading]) -> bool:
    if rule.specialists is not None and specialist not in rule.specialists:
        return False
    if rule.reading is None:
        return True
    reading = _named(readings, rule.reading)
    return reading.fired if rule.minimum is None else reading.probability >= rule.minimum


def _named(readings: Sequence[Reading], name: str) -> Reading:
    """A rule about a reading that nobody took must not pass silently as 'did not fire'."""
    for reading in readings:
        if reading.probe == name:
            return reading
    raise UsageError(
        f"the policy needs the reading {name!r}; the readings are {[one.probe for one in readings]}; add its "
        "probe to the family or the rule out of the policy"
    )


def _candidate_of(found: Sequence[Candidate], name: str) -> Candidate | None:
    return next((one for one in found if one.specialist == name), None)


# -- the reason, in one plain sentence ----------------------------------------------------------------------


def _fired(reading: Reading) -> str:
    return f"Reading {reading.probe} fired ({reading.probability:.2f}, at or above {reading.threshold:.2f})"


def _ood_reason(reading: Reading) -> str:
    return f"{_fired(reading)}: the prompt is unlike those the specialists were made for, so nobody answers."


def _threshold_reason(best: Candidate, threshold: float) -> str:
    return (
        f"No specialist reaches P(correct) {threshold:.2f}: the nearest is {best.specialist} with "
        f"{best.p_correct:.2f}, so nobody answers."
    )


def _utility_reason(chosen: Candidate, eligible: Sequence[Candidate], lam: float) -> str:
    text = f"{chosen.specialist} has utility {chosen.utility:.2f} (P(correct) {chosen.p_correct:.2f}"
    text += f" - {lam:g} x price {chosen.cost:g})" if lam else ")"
    other = next((one for one in eligible if one is not chosen), None)
    if other is None:
        return f"{text}, and nobody else reaches the threshold."
    word = "the next" if chosen.utility >= other.utility else "the best"
    return f"{text}; {word} is {other.specialist} with {other.utility:.2f}."
