"""Put a fitted policy's probes and prices into a copy of a family, which the controller then loads as any
other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..router.policy import Policy
from ..router.probes.probe import Probe, ProbeBank
from ..specialists.family import Family
from ..specialists.integrity import seal
from ..store.errors import ArtifactError, UsageError


def install_policy(policy: Path, family: str, into: Path) -> Family:
    """Copy `family` to `into` with the `correct` probes and prices of the policy folder; the family's
    readings, rules and other specialists stay.

    Raises:
        UsageError: `into` exists, or a model of the policy is no specialist of the family.
        ArtifactError: the policy has no probes, or they read another trunk or site than the family's
        readings.
    """
    opened = Family.open(family)
    if into.exists():
        raise UsageError(f"{into} exists already; remove it, or choose another folder")
    folders = sorted(path.parent for path in (policy / "probes").glob("*/probe.json"))
    if not folders:
        raise ArtifactError(
            f"{policy} holds no probes; fit it with --scout {family} and the head linear among --heads"
        )
    probes = [Probe.load(folder) for folder in folders]
    unknown = [probe.name for probe in probes if probe.name not in opened.cards]
    if unknown:
        raise UsageError(
            f"the policy has the model {unknown[0]!r}, and family {opened.name!r} has the specialists "
            f"{', '.join(opened.cards)}; add it to the family first, or leave it out with --models"
        )
    own = {(probe.kind, probe.name): probe for probe in opened.bank.probes} if opened.bank is not None else {}
    bank = ProbeBank((own | {(probe.kind, probe.name): probe for probe in probes}).values())
    bank.require(opened.trunk_fingerprint)
    fresh = Policy.load(policy / "policy.json")
    old = opened.policy or Policy()
    prices = {name: price for name, price in (old.prices | fresh.prices).items() if name in opened.cards}
    rules = old.model_copy(
        update={"lam": fresh.lam, "threshold": fresh.threshold, "risk": fresh.risk, "prices": prices}
    )
    shutil.copytree(opened.folder, into)
    bank.save(into / "probes")
    rules.save(into / opened.settings.policy)
    seal(into)
    return Family.open(into)
