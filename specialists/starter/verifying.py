"""Recipe step that re-examines what was fitted before it is packed; nothing stale is shipped.

The trunk was quantized before anything was fitted on it. What is asked here is whether everything fits the
trunk that ships, on prompts of the calibration split, and how far it would hold on the unquantized trunk.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...router.features.sae import SAE
from ...router.fingerprint import fingerprint
from ...router.probes.probe import Probe, ProbeBank
from ...router.steer.vector import SteeringVector
from ...router.taps import Site
from ...store.errors import ArtifactError
from ..improve.verify import Finding, Floor, area, as_report, check_sae, check_vector
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from . import features, makers, probing
from .language import FULL
from .skills.example import Example
from .work import Work

FLOOR = Floor(auroc=0.85, drift=0.05, missed=0.1, effect=0.8)
TEXTS, SHOWN = 240, 64
REFIT = 1  # steps: nothing is made again here, what does not hold is told


def verify(work: Work) -> None:
    """Re-examine probes, dictionaries and steering entries, and write `verify.json`.

    Raises:
        ArtifactError: one of them is stale; its figures are named.
    """
    full = load_model_folder(work.path(FULL), torch.float32)
    small, codec = makers.open_trunk(work)
    rows = probing.probe_mixture(work, "calibrate")
    site = Site.usual(probing.scout_layers(work))
    before, now = (probing.pooled_at(model, codec, rows, [site])[0] for model in (full, small))
    print_ = fingerprint(work.path("trunk"))
    found = _probes(work, before, now, rows)
    found += _dictionaries(work, codec, full, small, print_)
    prompts = [codec.encode_prompt(e.prompt, e.history) for e in rows[:SHOWN]]
    for folder in sorted(work.path("vectors").iterdir()):
        vector = SteeringVector.load(folder)
        found.append(check_vector(vector, full, small, prompts, print_, FLOOR)[1])
    report(work, found)


def _probes(work: Work, before: Tensor, now: Tensor, rows: list[Example]) -> list[Finding]:
    """Probabilities as the policy sees them, from site vectors [N, F] of both trunks.

    P(correct) is ranked by fits that had not seen the prompt's template.
    """
    bank, found = ProbeBank.load(work.path("probes")), []
    full, small = bank.probabilities(before), bank.probabilities(now)
    unseen = probing.unseen_probabilities(work)
    for probe in bank.probes:
        was, is_ = full[probe.kind, probe.name], small[probe.kind, probe.name]
        labels = truth(work, probe, rows)
        judged = torch.tensor([row[probe.name] for row in unseen]) if probe.kind == "correct" else is_
        drift, rank = float((was - is_).abs().mean()), area(judged, labels)
        holds = drift <= FLOOR.drift and rank >= FLOOR.auroc
        measured = {"drift": drift, "auroc": rank}
        found.append(Finding(f"{probe.kind} {probe.name}", "holds" if holds else "stale", measured))
    return found


def truth(work: Work, probe: Probe, rows: list[Example]) -> list[int]:
    """What a probe should say of each row: a reading that it carries, or a specialist's right answer."""
    if probe.kind == "reading":
        return [int(probing.reading_label(probe.name, e)) for e in rows]
    index, labels = probing.outcome_labels(work, "calibrate", probe.name, rows)
    known = dict(zip(index, labels, strict=True))
    return [known.get(i, 0) for i in range(len(rows))]


def _dictionaries(
    work: Work, codec: ChatCodec, full: PreTrainedModel, small: PreTrainedModel, print_: str
) -> list[Finding]:
    texts = features.plain_texts(work, TEXTS)
    found = []
    for layer in probing.scout_layers(work):
        old, new = (features.token_states(m, codec, texts, layer)[0] for m in (full, small))
        sae = SAE.load(work.path("features", f"L{layer}"))
        found.append(check_sae(sae, old, new, print_, FLOOR, REFIT, work.seed)[1])
    return found


def report(work: Work, found: list[Finding]) -> None:
    """Write the findings.

    Raises:
        ArtifactError: something does not hold.
    """
    work.path("verify.json").write_text(json.dumps(as_report(found), indent=1) + "\n")
    for one in found:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in one.measured.items())
        work.say(f"{one.name}: {one.verdict}, {figures}")
    stale = [one for one in found if one.verdict != "holds"]
    if stale:
        raise ArtifactError(
            "not packed: "
            + "; ".join(f"{one.name} {one.verdict} ({dict(one.measured)})" for one in stale)
            + ": make it anew on the trunk that ships"
        )
