"""Conditional activation steering: vectors that act only on requests whose prompt meets a condition.

Lee et al., 'Programming Refusal with Conditional Activation Steering' (2024). A condition vector c is the
first principal component of mean-centred contrast states. A prompt meets the condition where the cosine of
its state h with tanh(proj_c h), proj_c h = (c c^T / c^T c) h, is on the right side of a threshold; then the
behaviour vectors act for the rest of the request. Layer, threshold and side are the ones with the best F1 on
validation prompts.

The cosine is not linear in h, so it is no `Gate` of a table. It is decided once, from the prompt's states,
and chooses among the plain vectors of a plan: every engine that can steer can be given the result
(`Rule.resolve`), and `Conditional` does both in one forward pass, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ...store.errors import ArtifactError, UsageError
from ...store.records import SteeringEntry
from ..checks import both_classes, finite, labels, matrix, vector
from ..files import head_field, read_json, read_tensors, write_json, write_tensors
from ..fingerprint import require
from ..taps import layer_at, pool_last, pool_mean, stream
from .runtime import Steering
from .vector import SteeringVector

FORMAT = 1
Pooling = Literal["mean", "last"]
_POOL: Mapping[str, Callable[[Tensor], Tensor]] = {"mean": pool_mean, "last": pool_last}


def likeness(states: Tensor, direction: Tensor) -> Tensor:
    """Return cos(h, tanh(proj_c h)) of each state h [N,D] for c [D]: [N] in 0..1, 0 for a zero state."""
    rows, c = matrix("states", states, direction.numel()).float(), direction.float()
    projected = torch.tanh((rows @ c / c.square().sum())[:, None] * c)
    return torch.nn.functional.cosine_similarity(rows, projected, dim=1)


@dataclass(frozen=True, eq=False)
class Condition:
    """A prompt meets it where the likeness of its pooled state after `layer` to `direction` [D] is at least
    (`above`) or below `threshold`. Raises UsageError for a zero direction, another pooling, or no such layer.
    """

    name: str
    layer: int
    direction: Tensor
    threshold: float
    above: bool = True
    pooling: Pooling = "mean"
    fingerprint: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        direction = vector(f"the direction of {self.name!r}", self.direction.detach().cpu().float())
        object.__setattr__(self, "direction", direction)
        finite(f"the threshold of {self.name!r}", torch.tensor(float(self.threshold)))
        if self.layer < 0 or not bool(direction.any()) or self.pooling not in get_args(Pooling):
            raise UsageError(
                f"condition {self.name!r} reads layer {self.layer}, pooled by {self.pooling!r}, along a "
                f"vector of norm {float(direction.norm()):g}: layers count from 0, poolings are "
                f"{', '.join(_POOL)}, and the vector must not be zero"
            )

    def score(self, states: Tensor) -> float:
        """Return the likeness of a prompt's states [T,D] after the layer. Raises UsageError for another
        width, and numbers that are not finite.
        """
        pooled = _POOL[self.pooling](matrix(f"the states for {self.name!r}", states, self.direction.numel()))
        return float(likeness(pooled[None], self.direction.to(pooled.device))[0])

    def holds(self, states: Tensor) -> bool:
        """Whether a prompt with these states [T,D] meets the condition."""
        return (self.score(states) >= self.threshold) == self.above

    def save(self, folder: Path | str) -> None:
        """Write `condition.json` and `condition.safetensors` into `folder`."""
        names = ("name", "layer", "threshold", "above", "pooling", "fingerprint", "meta")
        write_tensors(Path(folder) / "condition.safetensors", {"direction": self.direction})
        head = {name: getattr(self, name) for name in names}
        write_json(Path(folder) / "condition.json", {"format": FORMAT, **head})

    @classmethod
    def load(cls, folder: Path | str) -> Condition:
        """Read a condition. Raises ArtifactError when a file is missing, damaged or of another format."""
        path = Path(folder) / "condition.json"
        head = read_json(path)
        if head.pop("format", None) != FORMAT:
            raise ArtifactError(f"{path} is of another format; this version reads {FORMAT}; make it again")
        direction = read_tensors(Path(folder) / "condition.safetensors", ("direction",))["direction"]
        head_field(head, "threshold", path)
        try:
            return cls(direction=direction, **head)
        except (UsageError, TypeError) as error:
            raise ArtifactError(f"{path} is no condition: {error}; restore the file") from error


# -- making one ----------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """How well a threshold parts two classes."""

    f1: float
    threshold: float
    above: bool


def condition_direction(pos: Tensor, neg: Tensor) -> Tensor:
    """Return the first principal component [D] of the states [N,D] and [M,D], centred at the mean of both
    class means, pointing to `pos`.
    """
    high = matrix("pos", pos).double()
    low = matrix("neg", neg, pos.shape[1]).double()
    rows = torch.cat([high, low]) - (high.mean(0) + low.mean(0)) / 2
    axis: Tensor = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return (axis if float((high.mean(0) - low.mean(0)) @ axis) >= 0 else -axis).float()


def best_split(scores: Tensor, y: Sequence[int]) -> Split:
    """Return the threshold between two neighbouring scores [N], and the side, with the best F1 for y = 1."""
    truth = labels("y", y, len(scores))
    both_classes("y", truth)
    known = scores.double().sort().values
    edges = torch.cat([known[:1], (known[1:] + known[:-1]) / 2])
    best = Split(-1.0, 0.0, True)
    for edge in edges.tolist():
        for above in (True, False):
            found = Split(f1((scores >= edge) == above, truth), edge, above)
            best = max(best, found, key=lambda one: one.f1)
    return best


def f1(said: Tensor, truth: Tensor) -> float:
    """Return 2 TP / (2 TP + FP + FN) of booleans [N] against 0/1 [N]; 0 where nothing is right."""
    right = float((said & (truth == 1)).sum())
    return 2 * right / max(float(said.sum()) + float((truth == 1).sum()), 1e-12)


def fit_condition(
    name: str,
    train: Mapping[int, tuple[Tensor, Tensor]],
    valid: Mapping[int, tuple[Tensor, Tensor]],
    *,
    pooling: Pooling = "mean",
    fingerprint: str = "",
) -> Condition:
    """Fit a condition on pooled states by layer, {layer: (those that meet it [N,D], those that do not
    [M,D])}.

    Each layer's direction comes from `train`, its threshold and side from the best F1 there; the layer, from
    the best F1 on `valid`. Raises UsageError where the two do not hold the same layers.
    """
    if not train or set(train) != set(valid):
        raise UsageError(f"train has the layers {sorted(train)}, valid {sorted(valid)}; give both the same")
    best: tuple[float, Condition] | None = None
    for layer, (pos, neg) in sorted(train.items()):
        direction = condition_direction(pos, neg)
        split = best_split(*_scored(direction, (pos, neg)))
        scores, y = _scored(direction, valid[layer])
        there = f1((scores >= split.threshold) == split.above, torch.tensor(y))
        meta = {"f1_train": split.f1, "f1_valid": there}
        made = Condition(name, layer, direction, split.threshold, split.above, pooling, fingerprint, meta)
        if best is None or there > best[0]:
            best = there, made
    assert best is not None
    return best[1]


def _scored(direction: Tensor, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, list[int]]:
    pos, neg = pair
    return likeness(torch.cat([pos, neg]), direction), [1] * len(pos) + [0] * len(neg)


# -- acting --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rule:
    """`vectors` act on a request whose prompt meets all of `conditions` (any of them, with `how` any)."""

    conditions: tuple[Condition, ...]
    vectors: tuple[SteeringVector, ...]
    how: Literal["all", "any"] = "all"

    def __post_init__(self) -> None:
        if not self.conditions or self.how not in ("all", "any"):
            raise UsageError(
                f"a rule of {len(self.conditions)} conditions, {self.how!r}: give one, all or any"
            )

    @property
    def name(self) -> str:
        """`harm & long`, `harm | injection`."""
        return (" & " if self.how == "all" else " | ").join(one.name for one in self.conditions)

    def holds(self, states: Mapping[int, Tensor]) -> bool:
        """Decide from a prompt's states {layer: [T,D]}. Raises UsageError when a layer is missing."""
        missing = sorted({one.layer for one in self.conditions} - set(states))
        if missing:
            raise UsageError(
                f"{self.name!r} reads layers {missing}; the states hold {sorted(states)}: tap them"
            )
        verdicts = [one.holds(states[one.layer]) for one in self.conditions]
        return all(verdicts) if self.how == "all" else any(verdicts)

    def resolve(self, states: Mapping[int, Tensor]) -> tuple[SteeringVector, ...]:
        """Return the plain vectors that steer this request: all of the rule's, or none."""
        return self.vectors if self.holds(states) else ()

    def entries(self) -> tuple[SteeringEntry, ...]:
        """The rows of a plan, with the condition as the reading that chose them."""
        return tuple(one.entry(self.name) for one in self.vectors)


class Conditional(Steering):
    """Context manager: while it is open, each row of a prompt pass decides its own `rules`, and the vectors
    of those that hold act, in their scope, from that pass on.

    A pass with `phase` prompt, or with a `boundary` (its tokens before it are the prompt), decides; whole
    prompts, no padding. Passes with `phase` generation follow. `decided` tells, for each row, which rules
    held. Conditions are read before any steering at their layer. Raises UsageError when a rule reads a later
    layer than one where it steers the prompt, when a layer or width does not fit, and in a generation pass
    before any prompt; ArtifactError when `fingerprint` is given and a part was made for another model.
    """

    def __init__(self, model: nn.Module, rules: Sequence[Rule], *, fingerprint: str | None = None) -> None:
        super().__init__(model, [one for rule in rules for one in rule.vectors], fingerprint=fingerprint)
        self.rules = tuple(rules)
        self.decided: list[list[bool]] = []
        self._owners = [i for i, rule in enumerate(self.rules) for _ in rule.vectors]
        self._states: dict[int, Tensor] = {}
        for rule in self.rules:
            self._check_rule(rule, fingerprint)

    def _check_rule(self, rule: Rule, fingerprint: str | None) -> None:
        for one in rule.conditions:
            layer_at(self._layers, one.layer)
            if fingerprint is not None:
                require(one.fingerprint, fingerprint, f"condition {one.name!r}")
            early = [v for v in rule.vectors if v.layer < one.layer]
            if early:
                raise UsageError(
                    f"{early[0].name!r} acts at layer {early[0].layer}, before {one.name!r} is read at layer "
                    f"{one.layer}; read the condition at that layer or an earlier one"
                )

    def _begin(self, _module: nn.Module, inputs: Any, named: Any) -> None:
        """A prompt pass forgets what the last prompt decided; nothing acts until it has decided itself."""
        x = inputs[0] if inputs else named["hidden_states"]
        if self.phase == "prompt" or self.boundary is not None:
            self._states = {}
            self._decide(x.shape[0])
        elif len(self.decided) != x.shape[0]:
            raise UsageError(
                f"{x.shape[0]} rows are generated, {len(self.decided)} prompts have decided; pass the "
                "prompts first, with phase 'prompt'"
            )

    def _watch(self, layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self.phase == "prompt" or self.boundary is not None:
                x = stream(output).detach()
                self._states[layer] = x[:, : self.boundary]
                self._decide(x.shape[0])

        return watch

    def _decide(self, rows: int) -> None:
        self.decided = [[self._holds(rule, row) for rule in self.rules] for row in range(rows)]
        self.plans = [[v for v, rule in enumerate(self._owners) if held[rule]] for held in self.decided]

    def _holds(self, rule: Rule, row: int) -> bool:
        """A rule whose layers are not all read yet does not hold."""
        layers = {one.layer for one in rule.conditions}
        return layers <= set(self._states) and rule.holds({at: self._states[at][row] for at in layers})

    def __enter__(self) -> Conditional:
        watched = sorted({one.layer for rule in self.rules for one in rule.conditions})
        handles = [self._layers[0].register_forward_pre_hook(self._begin, with_kwargs=True)]
        # before the hooks of Steering, so that a condition is read before any steering at its layer
        handles += [self._layers[at].register_forward_hook(self._watch(at)) for at in watched]
        super().__enter__()
        self._handles += handles
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._states, self.decided, self.plans = {}, [], None
