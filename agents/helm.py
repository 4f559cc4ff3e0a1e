"""A fitted routing policy at the helm: it says P(correct) in place of a family's probes.

The policy's folder lies in the family as `router/`, as `route fit` wrote it. Readings, and P(correct) of
specialists that the policy was not fitted for, still come from the family's probes where it has some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..router.scout import Scout, ScoutReading
from ..specialists.family import ROUTER, Family
from ..store.errors import UsageError
from ..store.records import FeatureContribution, Message
from .routers import Router

if TYPE_CHECKING:
    from torch import Tensor

    from ..router.policy import Policy
    from ..router.probes.probe import Kind, ProbeBank


class RoutedScout(Scout):
    """The family's instruments, with a router's P(correct). What it says is a stack's, so no list of features
    sums to it: `explain` gives none, and there is no dictionary to take features out of.
    """

    def __init__(self, router: Router, policy: Policy, bank: ProbeBank | None) -> None:
        self.router, self.policy = router, policy
        self.saes, self.labels = {}, {}
        self.probed = bank is not None
        if bank is not None:
            self.bank = bank

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder layers to tap: those of the probes and, where it reads the same trunk, the router."""
        own = self.bank.site.layers if self.probed else ()
        return tuple(sorted({*own, *self.router.shared}))

    def observe(self, turns: Sequence[Message], states: Mapping[int, Tensor], turn: int = 0) -> ScoutReading:
        """Read a conversation with the probes and the router."""
        import torch

        seen = self.router.read(turns, states, turn)
        policy = self.router.policy
        p = dict(zip(policy.models, policy.fitted.p_correct(seen)[0].tolist(), strict=True))
        readings = policy.readings(seen)
        if not self.probed:
            return ScoutReading(torch.zeros(0), readings, p)
        own = self.read(states, turn)
        return ScoutReading(own.x, (*own.readings, *readings), own.p_correct | p)

    def explain(
        self, specialist: str, x: Tensor, top: int = 8, kind: Kind = "correct"
    ) -> tuple[FeatureContribution, ...]:
        """The rows of a probe that still decides, or a reading's; none for what the router says."""
        if not self.probed or (kind == "correct" and specialist in self.router.policy.models):
            return ()
        return super().explain(specialist, x, top, kind)


def router_in(family: Family) -> Router | None:
    """The family's routing policy, if one was installed. Raises ArtifactError when it is damaged, UsageError
    when it routes to a specialist that the family does not have.
    """
    folder = family.folder / ROUTER
    if not (folder / "router.json").is_file():
        return None
    router = Router.open(folder, family)
    unknown = [name for name in router.policy.models if name not in family.cards]
    if unknown:
        raise UsageError(
            f"{folder} routes to {unknown[0]!r}, and family {family.name!r} has the specialists "
            f"{', '.join(family.cards)}; add it to the family, or fit again without it"
        )
    return router


def rules_with(router: Router, family: Family, given: Policy | None) -> Policy:
    """The policy in force: the router's prices, lam, threshold and risk with the family's own rules; `given`
    replaces both.
    """
    from ..router.routing.artifact import UNFAMILIAR

    fresh, own = router.policy.policy, family.policy
    if given is None and own is not None:
        changed = {name: getattr(fresh, name) for name in ("lam", "threshold", "risk")}
        prices = {name: price for name, price in own.prices.items() if name in family.cards} | fresh.prices
        given = own.model_copy(update=changed | {"prices": prices})
    found = given or fresh
    probes = family.bank.probes if family.bank is not None else ()
    readings = [probe.name for probe in probes if probe.kind == "reading"]
    found.require(family.cards, [*readings, UNFAMILIAR])
    return found.with_vectors(family.vectors)
