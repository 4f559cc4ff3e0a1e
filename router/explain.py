"""Explain a probe's logit exactly, by named features.

A probe is linear in x and an SAE writes each block of x as sum_j a_j d_j + b + e, so
logit = sum_j a_j (w . d_j) + w . b + w . e + bias. Nothing is estimated: the rows sum to the logit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..store.errors import UsageError
from ..store.records import FeatureContribution
from .checks import vector
from .features.label import Label
from .features.sae import SAE
from .probes.probe import Probe

SaeByLayer = SAE | Mapping[int, SAE] | None
Labels = Mapping[int, Label] | Mapping[int, Mapping[int, Label]]


def by_layer(saes: SaeByLayer, layers: Sequence[int]) -> dict[int, SAE]:
    """Return {layer: SAE}. A single SAE serves the layer its metadata names, or the only layer there is."""
    if saes is None:
        return {}
    if not isinstance(saes, SAE):
        return dict(saes)
    if "layer" not in saes.meta and len(set(layers)) == 1:
        return {layers[0]: saes}
    return {saes.layer: saes}


def _labels_of(labels: Labels, layer: int) -> Mapping[int, Label]:
    first = next(iter(labels.values()), None)
    if isinstance(first, Mapping):
        return labels.get(layer, {})  # type: ignore[return-value]
    return labels  # type: ignore[return-value]


class _Block(NamedTuple):
    """One block of the pooled vector: where it lies, the probe's weights there [D] float64, what each of its
    dictionary's S features adds to the logit where it is 1 ([S] float64), and what its bias adds.
    """

    layer: int
    at: slice
    weight: Tensor
    worth: Tensor
    bias: float


class Explainer:
    """One probe with dictionaries, ready to explain: what a feature adds to its logit is worked out once.

    `saes` is one SAE or {layer: SAE}; a block without one falls to the remainder. Raises UsageError when the
    probe and an SAE differ in width.
    """

    def __init__(self, probe: Probe, saes: SaeByLayer) -> None:
        self.probe, self.saes = probe, by_layer(saes, probe.site.layers)
        width = probe.width
        for layer, one in self.saes.items():
            if one.d_in != width:
                raise UsageError(
                    f"the SAE of layer {layer} is {one.d_in} wide, the probe {width}; use one model's"
                )
        weight = probe.weight.detach().cpu().double()
        self._blocks = tuple(
            _block(layer, slice(i * width, (i + 1) * width), weight, self.saes.get(layer))
            for i, (layer, _) in enumerate(probe.site.blocks)
        )

    def rows(self, x: Tensor, labels: Labels | None = None, top: int = 8) -> tuple[FeatureContribution, ...]:
        """Return the rows that sum to `probe.logit(x)` for one pooled vector x [F]; error below 1e-4.

        A feature's shares are added up over the poolings of its layer; its activation is the largest of them.
        The rows: the `top` features by absolute share, `other features`, `sae bias`, `unexplained remainder`,
        `probe bias`. Raises UsageError when x has another width.
        """
        probe = self.probe
        values = vector("the pooled vector", x, probe.weight.numel()).detach().cpu()
        exact = values.double()
        total: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        bias = remainder = 0.0
        latents = self._latents(values)
        for block in self._blocks:
            explained = block.bias
            for feature, activation, share in _active(block, latents.get(block.at.start)):
                entry = total[block.layer, feature]
                entry[:] = max(entry[0], activation), entry[1] + share
                explained += share
            bias, remainder = bias + block.bias, remainder + float(block.weight @ exact[block.at]) - explained
        if (beyond := probe.beyond(exact[None])) is not None:
            remainder += float(beyond)
        return _rows(probe, total, bias, remainder, labels or {}, top, many=len(self.saes) > 1)

    def _latents(self, values: Tensor) -> dict[int, Tensor]:
        """The latents [S] of every block that has a dictionary, by where it begins; one pass a layer."""
        found: dict[int, Tensor] = {}
        for layer, sae in self.saes.items():
            mine = [block.at for block in self._blocks if block.layer == layer]
            if mine:
                acts = sae.encode(torch.stack([values[at] for at in mine]).float())
                found |= dict(zip((at.start for at in mine), acts, strict=True))
        return found


def _block(layer: int, at: slice, weight: Tensor, sae: SAE | None) -> _Block:
    mine = weight[at]
    if sae is None:
        return _Block(layer, at, mine, mine[:0], 0.0)
    return _Block(layer, at, mine, sae.W_dec.double() @ mine, float(sae.b_dec.double() @ mine))


def _active(block: _Block, acts: Tensor | None) -> Iterator[tuple[int, float, float]]:
    """(feature, activation, share) of the active ones among a block's latents [S]."""
    if acts is None:
        return iter(())
    active = acts.nonzero()[:, 0]
    found = acts[active].double()
    return zip(active.tolist(), found.tolist(), (found * block.worth[active]).tolist(), strict=True)


def _rows(
    probe: Probe,
    total: Mapping[tuple[int, int], Sequence[float]],
    bias: float,
    remainder: float,
    labels: Labels,
    top: int,
    *,
    many: bool,
) -> tuple[FeatureContribution, ...]:
    order = sorted(total, key=lambda key: (-abs(total[key][1]), key))
    rows = [_feature_row(probe.name, key, total[key], labels, many) for key in order[:top]]
    others = sum(total[key][1] for key in order[top:])
    ends = (
        ("other features", others),
        ("sae bias", bias),
        ("unexplained remainder", remainder),
        ("probe bias", probe.bias),
    )
    rows += [
        FeatureContribution(
            specialist=probe.name, feature=None, label=label, activation=0.0, contribution=share
        )
        for label, share in ends
    ]
    return tuple(rows)


def _feature_row(
    specialist: str, key: tuple[int, int], shares: Sequence[float], labels: Labels, many: bool
) -> FeatureContribution:
    layer, feature = key
    label = _labels_of(labels, layer).get(feature)
    text = label.text if label is not None else f"feature {feature}"
    return FeatureContribution(
        specialist=specialist,
        feature=feature,
        label=f"L{layer}: {text}" if many else text,
        activation=shares[0],
        contribution=shares[1],
    )


def without(saes: SaeByLayer, probe: Probe, x: Tensor, features: Sequence[int]) -> Tensor:
    """Return the pooled vector [F] with some features taken out of every block: x - sum_j a_j d_j.

    The causal half of an explanation: read the result again and see whether the decision stands.
    """
    found = by_layer(saes, probe.site.layers)
    out, width = x.detach().cpu().float().clone(), probe.width
    chosen = list(dict.fromkeys(features))
    for i, (layer, _) in enumerate(probe.site.blocks):
        if layer in found and chosen:
            block = out[i * width : (i + 1) * width]
            acts = found[layer].encode(block[None])[0][chosen]
            block -= acts @ found[layer].W_dec[chosen]
    return out
