"""A routing policy on disk, and its decisions.

    FOLDER/policy.json                   prices, lam, threshold, risk, ood: what `router.policy.Policy` reads
    FOLDER/router.json, .safetensors     scout, heads, stack, calibration, what it was fitted on
    FOLDER/probes/correct-MODEL/         the linear head alone, as a family's probes: what the controller
    loads

Weights are tensors and the rest is plain JSON: nothing in the folder can run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ...store.records import Candidate, Decision, Reading
from ..files import head_field, read_json, read_tensors, sha256_of, write_json, write_tensors
from ..policy import OutOfDistribution, Policy
from .cascade import Cascade, enough, fit_cascade, going_on
from .fitting import Fitted
from .heads import facts_of, restored, tensors_of
from .recipes import KINDS
from .seen import Seen
from .stack import Stack
from .table import Table
from .trust import Curves, Familiar

FORMAT = 2
UNFAMILIAR = "unfamiliar"
_ONE_IN_A_HUNDRED = 0.99
_HEAD, _BODY = "router.json", "router.safetensors"


class Second(NamedTuple):
    """Whom to ask next (None: the answer stands), P(the answer is right), and why."""

    ask: str | None
    p_right: float
    reason: str


@dataclass(frozen=True, eq=False)
class RoutingPolicy:
    """A fitted router with its prices.

    scout: the spec of the reader that made the states. known [N] int64: key numbers of the prompts it was
    fitted on. quality [N,M]: their labels (NaN: none). facts: what the table was, for the reader. cascade:
    what an answer's own signals say, where the table had some.
    """

    fitted: Fitted
    policy: Policy
    scout: Mapping[str, Any]
    known: Tensor
    quality: Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)
    cascade: Cascade | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Who can be chosen."""
        return self.fitted.models

    @cached_property
    def prices(self) -> Tensor:
        """Prices in the order of the models [M]."""
        return torch.tensor([self.policy.prices.get(m, self.policy.default_price) for m in self.models])

    # -- deciding ----------------------------------------------------------------------------------------

    def decide(
        self,
        seen: Seen,
        *,
        previous: str | None = None,
        stickiness: float = 0.0,
        tolerance: float | None = None,
        rng: random.Random | None = None,
    ) -> tuple[Decision, tuple[Candidate, ...]]:
        """Decide on one prompt, as the controller's policy does.

        previous, stickiness: who answered last in this conversation gets this much more utility, so that a
        follow-up changes hands only for a reason. tolerance: take the cheapest model whose P(correct) is at
        most this far below the best one's, instead of the best utility.
        """
        if len(seen) != 1:
            raise UsageError(f"{len(seen)} prompts were given; one decision is about one prompt")
        p = dict(zip(self.models, self.fitted.p_correct(seen)[0].tolist(), strict=True))
        readings = self.readings(seen)
        forced = None
        if tolerance is not None:
            best = max(p.values())
            near = [name for name in p if p[name] >= best - tolerance]
            forced = min(near, key=lambda name: (self._price(name), -p[name]))
        elif previous in p and stickiness > 0:
            utility = {name: p[name] - self.policy.lam * self._price(name) for name in p}
            if utility[previous] + stickiness >= max(utility.values()):
                forced = previous
        decision, candidates = self.policy.decide(p, readings, rng=rng or random.Random(0))
        if forced is None or decision.abstained or forced == decision.chosen:
            return decision, candidates
        if p[forced] < self.policy.threshold:
            return decision, candidates
        why = (
            f"within {tolerance:g} of the best at the lowest price"
            if tolerance is not None
            else "it answered last"
        )
        reason = f"{forced} is taken before {decision.chosen}: {why} (P(correct) {p[forced]:.2f})."
        return decision.model_copy(update={"chosen": forced, "reason": reason}), candidates

    def _price(self, name: str) -> float:
        return self.policy.prices.get(name, self.policy.default_price)

    def readings(self, seen: Seen) -> tuple[Reading, ...]:
        """How unfamiliar one prompt is, where there is a scout."""
        if self.fitted.familiar is None:
            return ()
        strange = float(self.fitted.familiar.strange(seen)[0])
        fired = strange >= _ONE_IN_A_HUNDRED
        return (
            Reading(
                probe=UNFAMILIAR,
                site=str(self.scout.get("site", "states")),
                score=float(self.fitted.familiar.distance(seen.need_states(UNFAMILIAR))[0]),
                probability=strange,
                threshold=_ONE_IN_A_HUNDRED,
                fired=fired,
            ),
        )

    def after(self, seen: Seen, answered: str, signals: Mapping[str, float]) -> Second:
        """Whom to ask next, now that `answered` has answered one prompt and its signals are known: the model
        that gains more than lam times its price, if there is one. Raises UsageError where the policy has no
        cascade, or for a model or signal that it does not have.
        """
        if self.cascade is None:
            raise UsageError(
                "the policy was fitted on a table without columns 'signal_…', so it knows nothing of "
                "answers; fit it on one that has some"
            )
        at = self.cascade.place(answered)
        looked = self.cascade.look(answered, self.fitted.p_correct(seen), self.cascade.row(signals))
        who, goes = going_on(looked, at, self.prices, self.policy.lam)
        right, name = float(looked.answer[0]), self.models[int(who[0])]
        chance = float(looked.others[0, int(who[0])])
        text = f"the answer of {answered} is right with P {right:.2f}; {name} would be with P {chance:.2f}"
        text += f" for a price of {self._price(name):g} at lam {self.policy.lam:g}"
        return Second(name if bool(goes[0]) else None, right, text)

    def with_prices(self, prices: Mapping[str, float]) -> RoutingPolicy:
        """The same router under other prices; nothing is fitted again. Raises UsageError for a model that
        it does not have.
        """
        if unknown := sorted(set(prices) - set(self.models)):
            raise UsageError(f"there is no model {unknown[0]!r} to price; it has {', '.join(self.models)}")
        return self._with(prices=self.policy.prices | dict(prices))

    def with_lam(self, lam: float) -> RoutingPolicy:
        """The same router at another price of money."""
        if not (math.isfinite(lam) and lam >= 0):
            raise UsageError(f"lam is {lam}; it is 0 or more: utility lost per unit of price")
        return self._with(lam=lam)

    def with_budget(self, budget: float) -> RoutingPolicy:
        """The same router at the smallest lam whose mean price, on the prompts it was fitted on (as if
        unseen), is within `budget`. Raises UsageError below the cheapest model's price.
        """
        return self.with_lam(lam_for(self.fitted.out_of_fold, self.prices, budget))

    def _with(self, **changes: Any) -> RoutingPolicy:
        return replace(self, policy=Policy.model_validate(self.policy.model_dump() | changes))

    # -- on disk -----------------------------------------------------------------------------------------

    def head(self) -> dict[str, Any]:
        """What `router.json` holds."""
        one = self.fitted
        return {
            "format": FORMAT,
            "models": list(one.models),
            "objective": one.objective,
            "scout": dict(self.scout),
            "heads": [
                {"name": name, "kind": head.kind, "facts": facts_of(head)} for name, head in one.heads.items()
            ],
            "left_out": one.left_out,
            "cascade": list(self.cascade.names) if self.cascade is not None else None,
            "facts": dict(self.facts),
        }

    def tensors(self) -> dict[str, Tensor]:
        """What `router.safetensors` holds."""
        one = self.fitted
        found = {
            "base": one.base,
            "out_of_fold": one.out_of_fold,
            "known": self.known,
            "quality": self.quality,
        }
        found |= {f"stack.{name}": value for name, value in one.stack._asdict().items()}
        found |= {f"curves.{name}": value for name, value in one.curves._asdict().items()}
        if self.cascade is not None:
            held = {k: v for k, v in vars(self.cascade).items() if isinstance(v, Tensor)}
            found |= {f"cascade.{name}": value for name, value in held.items()}
        if one.familiar is not None:
            found |= {f"familiar.{name}": value for name, value in one.familiar.tensors().items()}
        for name, head in one.heads.items():
            found |= {f"head.{name}.{field}": value for field, value in tensors_of(head).items()}
        # safetensors refuses tensors that share memory
        return {name: value.detach().clone().contiguous() for name, value in found.items()}

    @cached_property
    def sha256(self) -> str:
        """Digest of everything that can change a decision."""
        return sha256_of(self.head() | {"policy": self.policy.hash}, self.tensors())

    def save(self, folder: Path | str) -> None:
        """Write the folder."""
        place = Path(folder)
        write_tensors(place / _BODY, self.tensors())
        write_json(place / _HEAD, self.head())
        self.policy.save(place / "policy.json")

    @classmethod
    def load(cls, folder: Path | str) -> RoutingPolicy:
        """Read a folder back. Raises ArtifactError when a file is missing, damaged or of another format."""
        place = Path(folder)
        path = place / _HEAD
        head = read_json(path)
        if head.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} has format {head.get('format')!r}; this version reads {FORMAT}; fit again"
            )
        tensors = read_tensors(place / _BODY, ("base", "out_of_fold", "known", "quality"))
        try:
            fitted = _fitted(head, tensors)
            cascade = _cascade(head, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} does not fit {place / _BODY} ({error!r}); restore both") from error
        policy = Policy.load(place / "policy.json")
        policy.require(fitted.models, [UNFAMILIAR])
        scout, facts = (head_field(head, name, path) for name in ("scout", "facts"))
        return cls(fitted, policy, scout, tensors["known"], tensors["quality"], facts, cascade)


def _inside(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: one for name, one in tensors.items() if name.startswith(prefix)}


def _cascade(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Cascade | None:
    if head["cascade"] is None:
        return None
    return Cascade(tuple(head["models"]), tuple(head["cascade"]), **_inside(tensors, "cascade."))


def _fitted(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Fitted:
    heads = {
        one["name"]: restored(KINDS[one["kind"]], one["facts"], _inside(tensors, f"head.{one['name']}."))
        for one in head["heads"]
    }
    familiar = _inside(tensors, "familiar.")
    return Fitted(
        tuple(head["models"]),
        heads,
        Stack(**_inside(tensors, "stack.")),
        tensors["base"],
        Curves(**_inside(tensors, "curves.")),
        head["objective"],
        Familiar(**familiar) if familiar else None,
        tensors["out_of_fold"],
        {},
        dict(head["left_out"]),
    )


def make(
    fitted: Fitted, table: Table, scout: Mapping[str, Any], prices: Mapping[str, float], lam: float = 0.0
) -> RoutingPolicy:
    """A policy at `lam`, with these prices (others: the table's mean costs, else 1); it never abstains."""
    ood = OutOfDistribution(reading=UNFAMILIAR, block=False) if fitted.familiar is not None else None
    policy = Policy(lam=lam, prices=table.prices() | dict(prices), ood=ood)
    facts = {"prompts": len(table), "labels": int(table.labelled.sum()), "notes": list(table.notes)}
    cascade = fit_cascade(table, fitted.out_of_fold) if enough(table) else None
    return RoutingPolicy(fitted, policy, scout, table.key_numbers, table.quality, facts, cascade)


def choices(p: Tensor, prices: Tensor, lam: float) -> Tensor:
    """Who has the best utility on each prompt, [N] (ties: the first)."""
    return (p - lam * prices).argmax(1)


def lam_for(p: Tensor, prices: Tensor, budget: float) -> float:
    """The smallest lam whose mean price over p [N,M] is within `budget`. Raises UsageError where none is."""
    cheapest = float(prices.min())
    if not budget >= cheapest:
        raise UsageError(
            f"the budget is {budget:g} a prompt and the cheapest model costs {cheapest:g}; allow more"
        )
    low, high = 0.0, 1.0
    if float(prices[choices(p, prices, 0.0)].mean()) <= budget:
        return 0.0
    while float(prices[choices(p, prices, high)].mean()) > budget and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if float(prices[choices(p, prices, middle)].mean()) > budget else (low, middle)
        )
    return high
