"""Put a fitted routing policy into a copy of a family, which the controller then loads as any other."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ..router.policy import Policy
from ..router.probes.probe import ProbeBank, load_probe
from ..specialists.family import ROUTER, Family
from ..specialists.integrity import seal
from ..store.errors import ArtifactError, UsageError

FILES = ("policy.json", "router.json", "router.safetensors")


def install_policy(policy: Path, family: str, into: Path, linear: bool = False) -> Family:
    """Copy `family` to `into`, with the policy's folder in it as it is: the controller then decides by all of
    its heads. `linear`: with its linear probes and prices in place of the family's own instead, so that
    features explain every decision exactly. Readings, rules and other specialists stay either way.

    Raises:
        UsageError: `into` exists, or a model of the policy is no specialist of the family.
        ArtifactError: the policy is damaged or has no probes, or they read another trunk or site than the
        family's readings.
    """
    opened = Family.open(family)
    if into.exists():
        raise UsageError(f"{into} exists already; remove it, or choose another folder")
    return _linear(policy, opened, family, into) if linear else _whole(policy, opened, into)


def _whole(policy: Path, opened: Family, into: Path) -> Family:
    from ..router.routing.artifact import RoutingPolicy

    _require_cards(RoutingPolicy.load(policy).models, opened)
    shutil.copytree(opened.folder, into, ignore=shutil.ignore_patterns(ROUTER))
    (into / ROUTER).mkdir()
    for name in FILES:
        shutil.copyfile(policy / name, into / ROUTER / name)
    seal(into)
    return Family.open(into)


def _linear(policy: Path, opened: Family, family: str, into: Path) -> Family:
    folders = sorted(path.parent for path in (policy / "probes").glob("*/probe.json"))
    if not folders:
        raise ArtifactError(
            f"{policy} holds no probes; fit it with --scout {family} and the head linear among --heads"
        )
    probes = [load_probe(folder) for folder in folders]
    _require_cards([probe.name for probe in probes], opened)
    own = {(probe.kind, probe.name): probe for probe in opened.bank.probes} if opened.bank is not None else {}
    bank = ProbeBank((own | {(probe.kind, probe.name): probe for probe in probes}).values())
    bank.require(opened.trunk_fingerprint)
    fresh = Policy.load(policy / "policy.json")
    old = opened.policy or Policy()
    prices = {name: price for name, price in (old.prices | fresh.prices).items() if name in opened.cards}
    rules = old.model_copy(
        update={"lam": fresh.lam, "threshold": fresh.threshold, "risk": fresh.risk, "prices": prices}
    )
    shutil.copytree(opened.folder, into, ignore=shutil.ignore_patterns(ROUTER))
    bank.save(into / "probes")
    rules.save(into / opened.settings.policy)
    seal(into)
    return Family.open(into)


def _require_cards(models: Iterable[str], opened: Family) -> None:
    unknown = [name for name in models if name not in opened.cards]
    if unknown:
        raise UsageError(
            f"the policy has the model {unknown[0]!r}, and family {opened.name!r} has the specialists "
            f"{', '.join(opened.cards)}; add it to the family first, or leave it out with --models"
        )
