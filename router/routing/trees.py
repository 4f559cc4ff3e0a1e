"""Gradient-boosted trees on the leading directions of the states and the surface of the text.

Friedman, 'Stochastic gradient boosting' (2002), squared loss, all targets in one tree. scikit-learn grows the
trees; kept are plain arrays, so that deciding needs no scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...store.errors import UsageError
from .heads import Standard
from .ridge import chunks, eigen
from .seen import Seen
from .wording import surface_of

TREES, DEPTH, RATE, LEAF = 160, 3, 0.05, 15
_DIRECTIONS = 24
_ROWS = 5_000  # that a table is cut to: more rows no longer change shallow trees
_AT_ONCE = 1 << 22  # values of leaves that are held at once


@dataclass(frozen=True, eq=False)
class Trees:
    """A forest: feature, left, right [K,n] int64 (a leaf points at itself), cut [K,n], value [K,n,1+M].

    mean, scale [F] and directions [F,d] make the first d features; the surface of the text makes the rest.
    """

    kind: ClassVar[str] = "trees"
    mean: Tensor
    scale: Tensor
    directions: Tensor
    feature: Tensor
    left: Tensor
    right: Tensor
    cut: Tensor
    value: Tensor
    bias: Tensor

    def predict(self, seen: Seen) -> Tensor:
        x = _features(seen, Standard(self.mean, self.scale), self.directions)
        return forest(x, self.feature, self.left, self.right, self.cut, self.value) + self.bias

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Trees:
        """Grow trees one after the other, and stop where rows outside the tree's sample gain no more.

        Raises UsageError where scikit-learn is not installed.
        """
        states = seen.states if seen.states is not None else torch.zeros(len(seen), 1)
        standard = Standard.of(states)
        z = standard(states)
        _, vectors = eigen(z.T @ z)
        directions = vectors[:, -_DIRECTIONS:].contiguous()
        some = torch.arange(0, len(seen), max(1, -(-len(seen) // _ROWS)))
        x = _features(seen.take(some), standard, directions)
        bias = torch.nanmean(values, 0).nan_to_num(0.0)
        rest = (values[some] - bias).nan_to_num(0.0)
        grown = _grow(x.numpy(), rest.double().numpy())
        return cls(standard.mean, standard.scale, directions, *grown, bias)


def _features(seen: Seen, standard: Standard, directions: Tensor) -> Tensor:
    states = seen.states if seen.states is not None else torch.zeros(len(seen), 1)
    return torch.cat([standard(states) @ directions, surface_of(seen.texts)], 1)


def forest(x: Tensor, feature: Tensor, left: Tensor, right: Tensor, cut: Tensor, value: Tensor) -> Tensor:
    """Sum of the trees' values at each row of x [N,F]: [N,T].

    All trees take a step at once: one prompt costs a few calls, not some for every tree.
    """
    most = max(1, _AT_ONCE // max(1, feature.shape[0] * value.shape[2]))
    return torch.cat([_walked(part, feature, left, right, cut, value) for part in chunks(x, most)])


def _walked(x: Tensor, feature: Tensor, left: Tensor, right: Tensor, cut: Tensor, value: Tensor) -> Tensor:
    at = torch.zeros(feature.shape[0], x.shape[0], dtype=torch.long)
    for _ in range(DEPTH):
        goes = x.T.gather(0, feature.gather(1, at)) <= cut.gather(1, at)
        at = torch.where(goes, left.gather(1, at), right.gather(1, at))
    return value.gather(1, at[:, :, None].expand(-1, -1, value.shape[2])).sum(0)


def _grow(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boost on x [N,F], y [N,T]; returns feature, left, right, cut, value."""
    try:
        from sklearn.tree import DecisionTreeRegressor
    except ImportError as error:
        raise UsageError("boosted trees need scikit-learn; pip install 'pilothouse[train]'") from error
    generator = np.random.default_rng(0)
    kept, rest, outside = [], y.copy(), []
    for number in range(TREES):
        inside = generator.random(len(x)) < 0.5
        tree = DecisionTreeRegressor(
            max_depth=DEPTH,
            min_samples_leaf=min(LEAF, max(1, len(x) // 8)),
            max_features=0.4,
            random_state=number,
        )
        tree.fit(x[inside], rest[inside])
        step = RATE * tree.predict(x).reshape(rest.shape)
        held = ~inside
        gain = (rest[held] ** 2).sum() - ((rest[held] - step[held]) ** 2).sum()
        outside.append(float(gain))
        rest -= step
        kept.append(tree.tree_)
    best = int(np.argmax(np.cumsum(outside))) + 1
    return _arrays(kept[:best], y.shape[1])


def _arrays(trees: list[object], width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    size = max(int(tree.node_count) for tree in trees)  # type: ignore[attr-defined]
    shape = len(trees), size
    feature, left, right = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    cut, value = torch.zeros(shape), torch.zeros(*shape, width)
    for k, tree in enumerate(trees):
        n = int(tree.node_count)  # type: ignore[attr-defined]
        own = torch.arange(n)
        leaf = torch.from_numpy(tree.children_left) < 0  # type: ignore[attr-defined]
        feature[k, :n] = torch.where(leaf, own * 0, torch.from_numpy(tree.feature))  # type: ignore[attr-defined]
        left[k, :n] = torch.where(leaf, own, torch.from_numpy(tree.children_left))  # type: ignore[attr-defined]
        right[k, :n] = torch.where(leaf, own, torch.from_numpy(tree.children_right))  # type: ignore[attr-defined]
        cut[k, :n] = torch.from_numpy(tree.threshold).float()  # type: ignore[attr-defined]
        value[k, :n] = RATE * torch.from_numpy(tree.value[:, :, 0]).float()  # type: ignore[attr-defined]
    return feature, left, right, cut, value
