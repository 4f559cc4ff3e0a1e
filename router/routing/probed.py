"""The linear head as probes of a family, so that the controller loads it like any other family's.

level + deviation + base is linear in the states, so each model's P(correct) is a probe: weight . x + bias
through Platt's curve. What the other heads of the stack add is lost, and the exact explanation by features
is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...store.errors import UsageError
from ..probes.calibrate import Platt
from ..probes.probe import Probe
from ..taps import Site
from .fitting import Fitted
from .heads import Linear
from .trust import platt

LINEAR = "linear"


def probes_of(fitted: Fitted, quality: Tensor, scout: Mapping[str, Any]) -> tuple[Probe, ...]:
    """One `correct` probe a model, calibrated on the linear head's predictions of rows it had not seen.

    quality [N,M]: the labels. Raises UsageError where the policy has no linear head, or its scout is no
    decoder.
    """
    head = fitted.heads.get(LINEAR)
    if not isinstance(head, Linear) or LINEAR not in fitted.heads_out_of_fold:
        raise UsageError("the policy has no linear head, and probes are linear; fit it with --heads linear,…")
    if scout.get("kind") not in ("family", "decoder"):
        raise UsageError(
            f"the scout is of kind {scout.get('kind')!r}; probes read a decoder's residual stream"
        )
    past = fitted.heads_out_of_fold[LINEAR]
    site = Site.of(scout)
    found = []
    for number, name in enumerate(fitted.models):
        weight = (head.weight[:, 0] + head.weight[:, 1 + number]).double() * head.scale.double()
        bias = float(fitted.base[number] + head.bias[0] + head.bias[1 + number] - weight @ head.mean.double())
        curve = Platt(*platt(past[:, number], quality[:, number]))
        meta = {"made by": "pilothouse route fit", "rows": int((~quality[:, number].isnan()).sum())}
        fingerprint = str(scout["fingerprint"])
        found.append(Probe(name, "correct", weight.float(), bias, curve, 0.5, site, fingerprint, meta))
    return tuple(found)
