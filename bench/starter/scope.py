"""Tables 4 and 5: do probabilities come true, are odd prompts told apart, does abstention keep its risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...specialists.starter.skills.example import Example
from .. import estimates
from ..estimates import Array, Estimate
from ..page import Goal, Section, cell, show
from .matrix import Matrix
from .stage import Routed, Stage


@dataclass(frozen=True, eq=False)
class Scope:
    """In-scope prompts, then out-of-scope ones. `right` [N]: whether the best candidate's answer is right,
    which out of scope is never.
    """

    examples: list[Example]
    routed: list[Routed]
    right: Array
    inside: Array

    @property
    def p(self) -> Array:
        """P(correct) of the best candidate."""
        return np.array([r.best.p_correct for r in self.routed])

    @property
    def familiar(self) -> Array:
        """The highest P(correct) of any specialist."""
        return np.array([r.familiar for r in self.routed])

    @property
    def plain(self) -> Array:
        """Prompts on which no override (a refusal) decides."""
        return np.array([float(not r.overridden) for r in self.routed])

    @property
    def answered(self) -> Array:
        """Prompts that the policy lets somebody answer by P(correct)."""
        answers = [float(not r.decision.abstained and not r.overridden) for r in self.routed]
        return np.array(answers)


def gather(stage: Stage, matrix: Matrix, outside: list[Example]) -> Scope:
    """Join the routed mixture and the out-of-scope prompts."""
    routed = [*matrix.routed, *stage.routed(stage.vectors(outside))]
    right = matrix.scored([r.best.specialist for r in matrix.routed])
    right = np.concatenate([right, np.zeros(len(outside))])
    inside = np.concatenate([np.ones(len(matrix.examples)), np.zeros(len(outside))])
    return Scope([*matrix.examples, *outside], routed, right, inside)


def calibration(stage: Stage, scope: Scope, pictures: Sequence[tuple[str, str]]) -> Section:
    """Table 4: ECE of P(correct), and AUROC of in-scope against out-of-scope prompts."""
    plain = scope.plain == 1
    p, right, inside = (values[plain] for values in (scope.p, scope.right, scope.inside))
    every = estimates.ece(p, right, stage.seed)
    rows = [_ece_row("ECE of P(correct): the whole mixture", every)]
    for name, chosen in (("in scope", inside == 1), ("out of scope", inside == 0)):
        if chosen.any():
            found = estimates.ece(p[chosen], right[chosen], stage.seed)
            rows.append(_ece_row(f"ECE of P(correct): {name}", found))
    overall = separation(stage, scope, np.ones(len(scope.examples)))
    rows.append(_auroc_row("AUROC, in scope against out of scope: all sources", overall))
    for source in dict.fromkeys(e.kind for e, i in zip(scope.examples, scope.inside, strict=True) if not i):
        chosen = [
            float(bool(i) or e.kind == source) for e, i in zip(scope.examples, scope.inside, strict=True)
        ]
        found = separation(stage, scope, np.array(chosen))
        rows.append(_auroc_row(f"AUROC against {source}", found, int(sum(chosen) - scope.inside.sum())))
    rows += _reading_rows(stage, scope)
    goals = (
        Goal("in scope against out of scope, AUROC", "at least", 0.95, "", overall),
        Goal("ECE of P(correct) over the mixture", "at most", 0.05, "", every),
    )
    aside = int((1 - scope.plain).sum())
    note = f"{aside} prompts that an override answers are left out of the ECE rows; the AUROC rows have them."
    sources = "" if stage.data is not None else " Without --data only the hand-written ones are here."
    return Section(
        "Calibration, and prompts out of scope",
        "P(correct) is that of the specialist of highest utility, after the policy's scaling by the "
        "`outside` reading. An answer out of scope counts as wrong. ECE uses 15 equal-width bins. AUROC "
        "scores each prompt by the highest P(correct). The test sources, CLINC intents, scripts and kinds of "
        "gibberish were not used in fitting; `hand-written` prompts were written by hand for this "
        f"test.{sources}",
        ("measure", "n", "value"),
        tuple(rows),
        goals,
        pictures=tuple(pictures),
        notes=(note,),
    )


def separation(stage: Stage, scope: Scope, chosen: Array) -> Estimate:
    """AUROC of the highest P(correct) for in scope against out of scope, among the chosen rows."""
    mask = chosen == 1
    return estimates.auroc(scope.familiar[mask], scope.inside[mask], stage.seed)


def _ece_row(name: str, found: Estimate) -> tuple[str, ...]:
    return name, str(found.n), cell(found, "")


def _auroc_row(name: str, found: Estimate, n: int | None = None) -> tuple[str, ...]:
    return name, str(found.n if n is None else n), cell(found, "")


def _reading_rows(stage: Stage, scope: Scope) -> list[tuple[str, ...]]:
    """What the out-of-distribution reading alone tells apart."""
    rule = stage.policy.ood
    if rule is None:
        return []
    probability = [next(x.probability for x in r.readings if x.probe == rule.reading) for r in scope.routed]
    found = estimates.auroc(probability, 1 - scope.inside, stage.seed)
    return [_auroc_row(f"AUROC of the reading `{rule.reading}` alone", found)]


def abstention(stage: Stage, scope: Scope, pictures: Sequence[tuple[str, str]]) -> Section:
    """Table 5: the stated risk against the measured one, and what is still answered."""
    answered, inside = scope.answered, scope.inside
    risk = estimates.share_among(1 - scope.right, answered, stage.seed)
    rows = [
        ("stated risk of the policy", "", show(stage.policy.risk or float("nan"), "%")),
        ("threshold on P(correct)", "", show(stage.policy.threshold, "")),
        ("wrong among the answered (selective risk)", str(risk.n), cell(risk, "%")),
        ("answered, whole mixture (coverage)", str(len(answered)), _share(stage, answered)),
        ("answered, in scope", str(int(inside.sum())), _share(stage, answered[inside == 1])),
        ("answered, out of scope", str(int((1 - inside).sum())), _share(stage, answered[inside == 0])),
        ("wrong among all, were nobody to abstain", str(len(answered)), _share(stage, 1 - scope.right)),
        ("area under the risk-coverage curve", str(len(answered)), show(aurc(scope.p, scope.right), "")),
    ]
    named = stage.policy.risk
    goals = (
        (Goal("selective risk within the policy's stated risk", "at most", named, "%", risk),)
        if named
        else ()
    )
    return Section(
        "Abstention",
        "The same mixture. The threshold was set on the calibration split, for the stated risk with 90 % "
        "confidence, on a mixture of its own: other out-of-scope sources, other shares. Prompts that an "
        "override answers count as not answered here.",
        ("measure", "n", "value"),
        tuple(rows),
        goals,
        pictures=tuple(pictures),
    )


def _share(stage: Stage, values: Array) -> str:
    return cell(estimates.mean(values, stage.seed), "%") if len(values) else "–"


def risk_coverage(p: Array, right: Array) -> tuple[Array, Array]:
    """Coverage and the risk among the most confident prompts, from one prompt to all: [N], [N]."""
    order = np.argsort(-p, kind="stable")
    count = np.arange(1, len(p) + 1)
    return count / len(p), np.cumsum(1 - right[order]) / count


def aurc(p: Array, right: Array) -> float:
    """Mean selective risk over all coverages. Geifman et al. (2019)."""
    return float(risk_coverage(p, right)[1].mean())
