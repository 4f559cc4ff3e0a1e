"""The recipe step ``verify``: re-fit and re-validate a family's probes, dictionaries and steering entries on
a changed model, and fit the probe by which a new specialist is routed to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from ...router.fingerprint import fingerprint
from ...router.probes.calibrate import Platt
from ...router.probes.probe import Probe
from ...router.taps import Site
from ...store.errors import UsageError
from ..adapters import AdapterBank
from ..card import Name
from ..family import Family
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from . import scoring
from .sizes import answering
from .step import Context, Estimate, Figures, Kind, Made, Plan, Preview, Settings
from .verify import (
    Finding,
    Floor,
    area,
    as_report,
    check_probe,
    check_sae,
    check_vector,
    fit_probe,
    last_states,
    pooled,
    probability,
    truth_of,
)

REPORT = "report.json"


class Verify(Settings):
    """Settings. As ``trunk``, the input takes the place of the family's trunk, and all that was fitted on
    that is re-examined on the prompts of ``data``. As ``specialist`` (the default), the trunk stays, only the
    probe ``correct:SPECIALIST`` is fitted: on whether its real answers to ``data`` are right, and on the
    prompts of ``others_data``, which count as not its own.
    """

    role: Literal["specialist", "trunk"] = "specialist"
    specialist: Name | None = None
    data: str
    others_data: str | None = None
    auroc: Annotated[float, Field(ge=0, le=1)] = 0.85
    drift: Annotated[float, Field(ge=0, le=1)] = 0.05
    missed: Annotated[float, Field(ge=0, le=1)] = 0.1
    effect: Annotated[float, Field(ge=-1, le=1)] = 0.8
    sae_steps: Annotated[int, Field(ge=1)] = 1000
    rows: Annotated[int, Field(ge=8)] = 400
    longest: Annotated[int, Field(ge=1)] = scoring.LONGEST

    @property
    def floor(self) -> Floor:
        """What still counts as holding."""
        return Floor(self.auroc, self.drift, self.missed, self.effect)


def check(settings: Verify, plan: Plan) -> None:
    """Refuse what cannot work together."""
    if plan.family is None:
        raise UsageError("verify re-examines what a family has: start the recipe from a family")
    data = plan.data[settings.data]
    if settings.role == "trunk" and plan.inputs[0] != "model":
        raise UsageError('role = "trunk" takes a model, its input is an adapter')
    if settings.role == "specialist" and settings.specialist is None:
        raise UsageError("say whose probe is fitted: specialist = NAME")
    data.require(("prompt", "answer") if settings.role == "specialist" else ("prompt",))
    if len(data.rows) < 8:
        raise UsageError(f"data {data.name!r} has {len(data.rows)} rows: verify needs 8 or more")


def estimate(settings: Verify, preview: Preview) -> Estimate:
    """Two models read every prompt; a specialist answers its own."""
    size = preview.inputs[0]
    prompts = sum(min(settings.rows, n) for n in preview.rows.values())
    cost = answering(size, preview, 2 * prompts)
    return Estimate(cost.seconds, 8 * size.parameters, 1 << 20)


@dataclass
class Desk:
    """What the step re-examines, and what it found."""

    settings: Verify
    context: Context
    family: Family
    findings: list[Finding] = field(default_factory=list)

    def prompts(self, codec: ChatCodec, name: str) -> list[tuple[int, ...]]:
        """The prompts of a data set, encoded."""
        rows = self.context.data[name].rows[: self.settings.rows]
        return [codec.encode_prompt(r["prompt"]) for r in rows]

    def save(self, artifact: Any, room: str, name: str, finding: Finding) -> None:
        """Keep a finding, and what goes on in the artifact."""
        self.findings.append(finding)
        self.context.say(f"{finding.name}: {finding.verdict} {dict(finding.measured)}")
        if artifact is not None:
            artifact.save(self.context.out / room / name)


def run(settings: Verify, context: Context) -> Figures:
    """Re-examine, write what holds, and say what is stale."""
    assert context.family is not None
    desk = Desk(settings, context, Family.open(context.family))
    made = context.inputs[0]
    if settings.role == "trunk":
        _trunk(desk, made)
        model = fingerprint(made.folder)
    else:
        _specialist(desk, made)
        model = desk.family.trunk_fingerprint
    stale = [f.name for f in desk.findings if f.verdict == "stale"]
    report = {"for": made.sha256, "role": settings.role, "trunk": model, "stale": stale}
    whole = report | {"findings": as_report(desk.findings)}
    (context.out / REPORT).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return whole


def _trunk(desk: Desk, made: Made) -> None:
    settings, family, print_ = desk.settings, desk.family, fingerprint(made.folder)
    codec = ChatCodec.load(made.folder)
    prompts = desk.prompts(codec, settings.data)
    models = [load_model_folder(f, torch.float32) for f in (family.trunk_folder, made.folder)]
    probes = tuple(family.bank.probes) if family.bank else ()
    layers = sorted({*(n for p in probes for n in p.site.layers), *(s.layer for s in family.saes.values())})
    if layers:
        _read(desk, models, prompts, probes, layers, print_)
    for name, vector in family.vectors.items():
        kept, finding = check_vector(vector, models[0], models[1], prompts[:64], print_, settings.floor)
        desk.save(kept, "vectors", name, finding)


def _read(
    desk: Desk,
    models: Sequence[PreTrainedModel],
    prompts: list[tuple[int, ...]],
    probes: Sequence[Probe],
    layers: list[int],
    print_: str,
) -> None:
    """Re-examine probes and dictionaries on both models' states."""
    settings, seed = desk.settings, desk.context.seed
    states = [last_states(model, prompts, layers) for model in models]
    rows = desk.context.data[settings.data].rows[: settings.rows]
    for probe in probes:
        old, new = (pooled(s, probe.site) for s in states)
        kept, finding = check_probe(probe, old, new, truth_of(rows, probe), print_, settings.floor, seed)
        desk.save(kept, "probes", f"{probe.kind}-{probe.name}", finding)
    for site, sae in desk.family.saes.items():
        old, new = (torch.cat([one[sae.layer] for one in s]) for s in states)
        fitted, finding = check_sae(sae, old, new, print_, settings.floor, settings.sae_steps, seed)
        desk.save(fitted, "features", site, finding)
        labels = desk.family.folder / "features" / site / "labels.jsonl"
        if finding.verdict == "holds" and labels.is_file():
            shutil.copyfile(labels, desk.context.out / "features" / site / "labels.jsonl")


def _specialist(desk: Desk, made: Made) -> None:
    """Fit the probe that says where the new specialist is right."""
    settings, context, family = desk.settings, desk.context, desk.family
    if made.form == "adapter" and fingerprint(made.base or family.trunk_folder) != family.trunk_fingerprint:
        raise UsageError(
            f"{made.name} is an adapter over another model than the trunk of {family.name}: it cannot be one "
            "of its specialists; verify and register that model as trunk first"
        )
    codec = ChatCodec.load(family.trunk_folder)
    trunk = load_model_folder(family.trunk_folder, torch.float32)
    own = context.data[settings.data]
    labels = [int(v) for v in _right(made, trunk, codec, settings, own)]
    prompts = desk.prompts(codec, settings.data)
    if settings.others_data:
        others = desk.prompts(codec, settings.others_data)
        prompts, labels = prompts + others, labels + [0] * len(others)
    desk.save(*_fitted(desk, trunk, prompts, labels))


def _right(made: Made, trunk: PreTrainedModel, codec: ChatCodec, settings: Verify, data: Any) -> list[float]:
    """Whether the new specialist answers each of its prompts exactly."""
    few = data.only(range(min(settings.rows, len(data.rows))))
    if made.form == "model":
        return scoring.exact(load_model_folder(made.folder, torch.float32), codec, few, settings.longest)
    bank = AdapterBank(trunk)
    bank.load("new", made.folder)
    found = scoring.exact(trunk, codec, few, settings.longest, lambda: bank.active("new"))
    bank.close()
    return found


def _fitted(
    desk: Desk, trunk: PreTrainedModel, prompts: list[tuple[int, ...]], labels: list[int]
) -> tuple[Probe | None, str, str, Finding]:
    settings, family = desk.settings, desk.family
    name, room = str(settings.specialist), "probes"
    folder = f"correct-{name}"
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(desk.context.seed)).tolist()
    prompts, labels = [prompts[i] for i in order], [labels[i] for i in order]
    measured = {"rows": float(len(labels)), "positives": float(sum(labels))}
    if len(set(labels[::2])) < 2 or len(set(labels[1::2])) < 2:
        return None, room, folder, Finding(f"correct {name}", "stale", measured)
    site = family.bank.site if family.bank else Site.usual(family.scout_layers[-1:])
    x = pooled(last_states(trunk, prompts, site.layers), site)
    blank = Probe(
        name, "correct", torch.zeros(x.shape[1]), 0.0, Platt(1.0, 0.0), 0.5, site, family.trunk_fingerprint
    )
    probe = fit_probe(blank, x, labels, family.trunk_fingerprint, desk.context.seed)
    measured["auroc"] = area(probability(probe, x)[1::2], labels[1::2])
    verdict = "holds" if measured["auroc"] >= settings.auroc else "stale"
    return (
        (probe if verdict == "holds" else None),
        room,
        folder,
        Finding(f"correct {name}", verdict, measured),
    )


def read_report(folder: Path) -> dict[str, Any]:
    """Read a verification's report."""
    found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return found


STEP: Kind[Verify] = Kind(
    name="verify",
    settings=Verify,
    run=run,
    estimate=estimate,
    gives=lambda settings: "readings",
    accepts=("model", "adapter"),
    check=check,
    help="re-fit and re-validate probes, SAEs and steering entries on the changed model",
)
