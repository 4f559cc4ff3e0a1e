"""Bias neurons, edited while the model runs: which few to scale, and a plan that does it and can be taken
back.

After Yu and Ananiadou's gender-bias study (neuron editing), reconstructed: its thresholds are not published.
Neurons are proposed by their scores (`router/locate/contrast.py`), kept only if scaling them alone shrinks
the bias and costs nothing else, and added one by one, the best first, while factual answers and neutral text
stay within a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import ArtifactError, UsageError
from ...store.hashes import canonical
from ...store.records import SteeringEntry
from ..files import head_field, read_json, write_json
from ..fingerprint import require
from ..locate.anatomy import Anatomy
from ..locate.attribute import places
from ..locate.case import Case, need
from ..locate.contrast import contrast_scores
from ..locate.edit import Edit, edited
from ..locate.finding import ranked
from ..locate.place import Place
from ..locate.run import device_of

FORMAT = 1
LEAST = 0.005  # of the bias: a neuron that takes less is left alone


@dataclass(frozen=True)
class NeuronPlan:
    """FFN neurons whose coefficients are multiplied by `scale` (0 silences them, 1 changes nothing).

    `meta` says what the plan was judged by. Raises UsageError for a plan without neurons, for places that are
    no neurons, and a scale that is not finite.
    """

    name: str
    neurons: tuple[Place, ...]
    scale: float = 0.0
    fingerprint: str = ""
    meta: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        wrong = [
            one.name for one in self.neurons if one.kind != "neuron" or one.unit < 0 or one.position >= 0
        ]
        if not self.neurons or wrong or not abs(self.scale) < float("inf"):
            raise UsageError(
                f"neuron plan {self.name!r} scales {len(self.neurons)} places by {self.scale} "
                f"({', '.join(wrong[:3]) or 'all neurons'}); name neurons at all positions, L3.N120, and a "
                "finite scale"
            )

    def head(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "neurons": [one.name for one in self.neurons],
            "scale": self.scale,
            "fingerprint": self.fingerprint,
            "meta": self.meta,
        }

    @property
    def sha256(self) -> str:
        """Digest of what can change an answer."""
        return sha256(canonical({**self.head(), "meta": {}}).encode()).hexdigest()

    def entries(self, reading: str) -> tuple[SteeringEntry, ...]:
        """The rows of a steering plan: kind `scale`, with the neuron's number as `feature`."""
        return tuple(
            SteeringEntry(
                name=f"{self.name}/{one.name}",
                kind="scale",
                layer=one.layer,
                coefficient=self.scale,
                reading=reading,
                feature=one.unit,
                sha256=self.sha256,
            )
            for one in self.neurons
        )

    def save(self, path: Path | str) -> None:
        """Write the plan as JSON."""
        write_json(Path(path), self.head())

    @classmethod
    def load(cls, path: Path | str) -> NeuronPlan:
        """Read a plan. Raises ArtifactError when the file is missing, damaged or of another format."""
        path = Path(path)
        head = read_json(path)
        if head.get("format") != FORMAT:
            raise ArtifactError(f"{path} has format {head.get('format')!r}; this version reads {FORMAT}")
        names = ("name", "neurons", "scale", "fingerprint", "meta")
        name, neurons, scale, fingerprint, meta = (head_field(head, one, path) for one in names)
        try:
            return cls(name, tuple(Place.parse(one) for one in neurons), float(scale), fingerprint, meta)
        except (UsageError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} is no neuron plan: {error}; restore the file") from error


class Neurons:
    """Context manager: while it is open, forward passes of a model run with `plans`.

    `rows` (None: all plans for every row, or for each row of the batch the indices of its plans) lets
    requests differ. A row without a plan keeps its bits, and nothing is left behind. Raises UsageError when a
    neuron does not exist; ArtifactError when `fingerprint` is given and a plan was made for another model.
    """

    def __init__(
        self, model: nn.Module | Anatomy, plans: Sequence[NeuronPlan], *, fingerprint: str | None = None
    ) -> None:
        self.anatomy = model if isinstance(model, Anatomy) else Anatomy.of(model)
        self.plans = tuple(plans)
        self.rows: Sequence[Sequence[int]] | None = None
        self._handles: list[Any] = []
        size = self.anatomy.neurons
        for plan in self.plans:
            if fingerprint is not None:
                require(plan.fingerprint, fingerprint, f"neuron plan {plan.name!r}")
            for one in plan.neurons:
                self.anatomy.check_layer(one.layer)
                if one.unit >= size:
                    raise UsageError(f"{one.name} does not exist; layers of this model have {size} neurons")

    def _factors(self, layer: int) -> Tensor:
        """[P,F]: what each plan multiplies the neurons of a layer by."""
        table = torch.ones(len(self.plans), self.anatomy.neurons)
        for row, plan in enumerate(self.plans):
            table[row, [one.unit for one in plan.neurons if one.layer == layer]] = plan.scale
        return table

    def _hook(self, table: Tensor) -> Callable[[nn.Module, Any], Any]:
        def scale(_module: nn.Module, inputs: Any) -> Any:
            x = inputs[0]
            chosen = self.rows if self.rows is not None else [range(len(self.plans))] * x.shape[0]
            if len(chosen) != x.shape[0]:
                raise UsageError(f"{len(chosen)} rows of plans for a batch of {x.shape[0]}; give one a row")
            factors = torch.stack([table[list(some)].prod(0) for some in chosen]).to(x)
            return (x * factors[:, None], *inputs[1:])

        return scale

    def __enter__(self) -> Neurons:
        for layer in sorted({one.layer for plan in self.plans for one in plan.neurons}):
            hook = self._hook(self._factors(layer))
            self._handles.append(self.anatomy.blocks[layer].down.register_forward_pre_hook(hook))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


# -- what an edit does ---------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """Bias: mean |log p(answer) - log p(against)|. Facts: accuracy, and the mean margin (nats) of the right
    over the wrong word. Loss: nats a token of neutral text.
    """

    bias: float
    facts: float
    margin: float
    loss: float

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return float(torch.tensor(self.loss).exp())


@dataclass(frozen=True)
class Trial:
    """What an edit is judged on: biased prompts, factual prompts (`answer` right, `against` wrong), neutral
    rows.
    """

    biased: Sequence[Case]
    factual: Sequence[Case]
    neutral: Sequence[Sequence[int]]

    def measure(self, anatomy: Anatomy, neurons: Sequence[Place] = (), scale: float = 0.0) -> Effect:
        """Run everything with `neurons` scaled."""
        plans = [NeuronPlan("trial", tuple(neurons), scale)] if neurons else []
        with Neurons(anatomy, plans):
            gaps = [_gap(anatomy, case) for case in need(self.biased, "against")]
            facts = [_gap(anatomy, case) for case in need(self.factual, "against")]
            losses = [_loss(anatomy, row) for row in self.neutral]
        return Effect(
            sum(map(abs, gaps)) / len(gaps),
            sum(gap > 0 for gap in facts) / len(facts),
            sum(facts) / len(facts),
            sum(losses) / max(len(losses), 1),
        )


@torch.no_grad()
def _gap(anatomy: Anatomy, case: Case) -> float:
    logits = anatomy.model(torch.tensor([case.ids], device=device_of(anatomy))).logits[0, -1]
    return float(logits[case.answer] - logits[case.against or 0])


@torch.no_grad()
def _loss(anatomy: Anatomy, row: Sequence[int]) -> float:
    ids = torch.tensor([list(row)], device=device_of(anatomy))
    return float(nn.functional.cross_entropy(anatomy.model(ids).logits[0, :-1].float(), ids[0, 1:]))


# -- choosing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What an edit may cost on its own prompts: accuracy on facts, share of their margin, loss (nats a
    token).
    """

    facts: float = 0.01
    margin: float = 0.5
    loss: float = 0.01


def propose(anatomy: Anatomy, cases: Sequence[Case], count: int) -> list[Place]:
    """The `count` neurons with the highest scores for the contrast: leaning + feeding from the subject."""
    scores = contrast_scores(anatomy, cases)
    return [one.place for one in ranked(places("neuron", scores.leaning.abs() + scores.subject), count)]


def general_neurons(anatomy: Anatomy, trial: Trial, count: int, tried: int = 64) -> list[Place]:
    """The `count` neurons on which everything hangs: of the `tried` with the highest general score (fed from
    other words than the subject, or speaking for both answers), those whose silence costs neutral text most.
    """
    scores = contrast_scores(anatomy, trial.biased)
    likely = [one.place for one in ranked(places("neuron", scores.general), tried)]

    def cost(one: Place) -> float:
        with Neurons(anatomy, [NeuronPlan("trial", (one,))]):
            return sum(_loss(anatomy, row) for row in trial.neutral)

    return sorted(likely, key=cost, reverse=True)[:count]


def bias_lost(anatomy: Anatomy, cases: Sequence[Case], neurons: Sequence[Place], scale: float) -> Tensor:
    """How much the bias shrinks when each of `neurons` alone is scaled: [N], nats."""
    total = torch.zeros(len(neurons))
    for case in cases:
        logits = edited(anatomy, torch.tensor(case.ids), [[], *([Edit(one, scale)] for one in neurons)]).cpu()
        gaps = (logits[:, case.answer] - logits[:, case.against or 0]).abs()
        total += gaps[0] - gaps[1:]
    return total / len(cases)


def edit_bias(
    anatomy: Anatomy,
    trial: Trial,
    *,
    goal: float = 0.5,
    tried: int = 48,
    scale: float = 0.0,
    budget: Budget | None = None,
    name: str = "bias",
) -> NeuronPlan | None:
    """Choose neurons until the bias of `trial` has shrunk by the share `goal`, never leaving the budget.

    None where no neuron passes. `meta` tells bias, facts, margin and loss before and after, what was tried,
    and `entangled`: the share of the facts' margin that went with the bias.
    """
    limits, before = budget or Budget(), trial.measure(anatomy)
    candidates = propose(anatomy, trial.biased, tried)
    lost = bias_lost(anatomy, trial.biased, candidates, scale)
    order = [candidates[i] for i in lost.argsort(descending=True).tolist() if float(lost[i]) > 0]
    chosen: list[Place] = []
    now = before
    for one in order:
        if now.bias <= (1 - goal) * before.bias:
            break
        there = trial.measure(anatomy, [*chosen, one], scale)
        if there.bias < now.bias - LEAST * before.bias and _within(there, before, limits):
            chosen.append(one)
            now = there
    if not chosen:
        return None
    meta = {
        "before": before._asdict(),
        "after": now._asdict(),
        "tried": len(candidates),
        "entangled": 1 - now.margin / before.margin if before.margin else 0.0,
    }
    return NeuronPlan(name, tuple(chosen), scale, anatomy.fingerprint, meta)


def _within(there: Effect, before: Effect, budget: Budget) -> bool:
    return (
        there.facts >= before.facts - budget.facts
        and there.margin >= (1 - budget.margin) * before.margin
        and there.loss <= before.loss + budget.loss
    )
