"""Table 6: the explained contributions of a probe's logit sum to the logit."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...agents.opening import scout_of
from ...router.scout import Scout
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell, show
from .stage import Stage


def section(stage: Stage, x: Tensor) -> Section:
    """Explain every specialist's logit on prompts with pooled vectors `x` [N, F]."""
    scout = scout_of(stage.family, stage.policy)
    errors, unexplained = zip(
        *(gap(scout, name, one) for one in x for name in stage.probes.specialists), strict=True
    )
    worst = Estimate(max(errors), max(errors), max(errors), len(errors))
    rows = (
        ("largest |sum of contributions − logit|", str(len(errors)), show(worst.value, "e")),
        ("median |sum of contributions − logit|", str(len(errors)), show(float(np.median(errors)), "e")),
        (
            "share of the contributions' size that is `unexplained remainder`",
            str(len(unexplained)),
            cell(estimates.mean(unexplained, stage.seed), "%"),
        ),
    )
    return Section(
        "Explanations",
        f"{len(x)} test prompts, every specialist's probe. The rows of an explanation (features, other "
        "features, SAE bias, unexplained remainder, probe bias) are added up and compared with the logit "
        "that routed. The last row says how much of it the sparse features do not carry.",
        ("measure", "n", "value"),
        rows,
        (Goal("|sum of contributions − logit|, largest", "at most", 1e-4, "e", worst),),
    )


def gap(scout: Scout, name: str, x: Tensor) -> tuple[float, float]:
    """|sum of rows - logit|, and the share of sum |row| that is unexplained."""
    rows = scout.explain(name, x)
    error = abs(sum(row.contribution for row in rows) - scout.bank.probe(name).logit(x))
    size = sum(abs(row.contribution) for row in rows if row.label != "probe bias")
    rest = sum(abs(row.contribution) for row in rows if row.label == "unexplained remainder")
    return error, rest / size if size else 0.0
