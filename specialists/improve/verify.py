"""Whether what was fitted on one model still holds on another: probes, dictionaries, steering entries.

Each is carried over and measured first; one that no longer holds is fitted again on the new model's states
and measured on prompts that it was not fitted on; one that fails that too is stale. A probe's truth is a
column of the data (``correct:NAME`` or ``reading:NAME`` with 0 and 1) or, without one, what the old probe
said of the same prompt on the old model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...router.features.sae import SAE
from ...router.features.train import train_topk
from ...router.probes.calibrate import auroc, fit_calibration
from ...router.probes.fit import fit_logistic
from ...router.probes.probe import Probe
from ...router.steer.runtime import Steering
from ...router.steer.vector import SteeringVector
from ...router.taps import Site, Taps
from ...store.errors import UsageError
from .answering import batches

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Floor:
    """What still counts as holding: AUROC, mean change of probability, share of variance that a dictionary
    may miss beyond what it missed before, cosine between a vector's effects on the logits.
    """

    auroc: float = 0.85
    drift: float = 0.05
    missed: float = 0.1
    effect: float = 0.8


@dataclass(frozen=True)
class Finding:
    """One thing re-examined: ``holds`` as carried over, ``refitted``, or ``stale``; and what was measured."""

    name: str
    verdict: str
    measured: Mapping[str, float]


@torch.inference_mode()
def last_states(model: PreTrainedModel, prompts: Prompts, layers: Sequence[int]) -> list[dict[int, Tensor]]:
    """Return each prompt's residual stream [T, D] after each of the layers."""
    out: list[dict[int, Tensor]] = [{} for _ in prompts]
    with Taps(model, layers) as taps:
        for group in batches([len(p) for p in prompts], 32):
            tokens = torch.tensor([list(prompts[i]) for i in group])
            model(input_ids=tokens, use_cache=False, logits_to_keep=1)
            for row, index in enumerate(group):
                out[index] = {layer: taps.states[layer][row].float() for layer in layers}
    return out


def pooled(states: Sequence[Mapping[int, Tensor]], site: Site) -> Tensor:
    """Return a site's vectors [N, F]."""
    return torch.stack([site.vector({layer: one[layer] for layer in site.layers}) for one in states])


def check_probe(
    probe: Probe, old: Tensor, new: Tensor, truth: Sequence[int] | None, model: str, floor: Floor, seed: int
) -> tuple[Probe | None, Finding]:
    """Re-examine one probe on site vectors [N, F] of the old and the new model; ``model`` is the new one's
    fingerprint. Every other prompt is held out from fitting.
    """
    name = f"{probe.kind} {probe.name}"
    before, now = (probability(probe, x) for x in (old, new))
    labels = list(truth) if truth is not None else [int(p >= 0.5) for p in before.tolist()]
    drift = float((before - now).abs().mean())
    held = slice(1, None, 2)
    carried = area(now[held], labels[held])
    measured = {"drift": drift, "auroc_before": area(before[held], labels[held]), "auroc_carried": carried}
    if drift <= floor.drift and not carried < floor.auroc:
        return replace(probe, fingerprint=model), Finding(name, "holds", measured)
    if len(set(labels[::2])) < 2 or len(set(labels[held])) < 2:
        return None, Finding(name, "stale", measured | {"positives": float(sum(labels))})
    fitted = fit_probe(probe, new, labels, model, seed)
    found = area(probability(fitted, new)[held], labels[held])
    measured |= {"auroc_refitted": found, "auroc_shuffled": _shuffled(probe, new, labels, model, seed)}
    verdict = "refitted" if found >= floor.auroc else "stale"
    return (fitted if verdict == "refitted" else None), Finding(name, verdict, measured)


def fit_probe(probe: Probe, x: Tensor, labels: Sequence[int], model: str, seed: int) -> Probe:
    """Fit a probe like this one on every other row, and calibrate it on the rows between."""
    weight, bias = fit_logistic(x[::2], list(labels[::2]), seed=seed)
    logits = x[1::2].double() @ weight.double() + bias
    both = len(set(labels[1::2])) > 1
    calibration = fit_calibration(logits, list(labels[1::2])) if both else probe.calibration
    meta = {**probe.meta, "refitted_rows": len(labels)}
    return replace(
        probe,
        weight=weight,
        bias=bias,
        calibration=calibration,
        fingerprint=model,
        meta=meta,
        competes=False,  # its rivals were not asked
    )


def _shuffled(probe: Probe, x: Tensor, labels: Sequence[int], model: str, seed: int) -> float:
    """The control: held-out AUROC of a probe fitted on the same labels dealt to other prompts."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    mixed = [labels[i] for i in order]
    if len(set(mixed[::2])) < 2:
        return 0.5
    fitted = fit_probe(probe, x, mixed, model, seed)
    return area(probability(fitted, x)[1::2], labels[1::2])


def probability(probe: Probe, x: Tensor) -> Tensor:
    return probe.calibration(x.double() @ probe.weight.double() + probe.bias).float()


def area(score: Tensor, labels: Sequence[int]) -> float:
    """AUROC, not a number where all labels are alike."""
    return auroc(score.double(), list(labels)) if len(set(labels)) > 1 else float("nan")


def check_sae(
    sae: SAE, old: Tensor, new: Tensor, model: str, floor: Floor, steps: int, seed: int
) -> tuple[SAE | None, Finding]:
    """Re-examine one dictionary on states [N, D] of the old and the new model; every other row is held out.

    One trained again has other features: their labels no longer mean anything and must be dropped.
    """
    name, held = f"SAE at layer {sae.layer}", slice(1, None, 2)
    measured = {"missed_before": sae.unexplained(old[held]), "missed_carried": sae.unexplained(new[held])}
    meta = {**sae.meta, "fingerprint": model}
    limit = measured["missed_before"] + floor.missed
    if measured["missed_carried"] <= limit:
        return replace(sae, meta=meta, check=new[:8].clone()), Finding(name, "holds", measured)
    active = int(sae.k or max(1.0, float((sae.encode(old[held]) > 0).sum(1).float().mean())))
    fitted = train_topk(new[::2], sae.d_sae, active, steps, seed, meta=meta)
    measured["missed_refitted"] = fitted.unexplained(new[held])
    verdict = "refitted" if measured["missed_refitted"] <= limit else "stale"
    return (fitted if verdict == "refitted" else None), Finding(name, verdict, measured)


def check_vector(
    vector: SteeringVector,
    old: PreTrainedModel,
    new: PreTrainedModel,
    prompts: Prompts,
    model: str,
    floor: Floor,
) -> tuple[SteeringVector | None, Finding]:
    """Re-examine one steering entry: does it move the new model's next-token logits as it moved the old ones?

    The effect is the change of the centred logits at each prompt's last token, all prompts together.
    """
    open_gate = replace(vector, gate=None, scope="both")
    ours, theirs = (_effect(m, open_gate, prompts) for m in (old, new))
    cosine = float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0))
    ratio = float(theirs.norm() / ours.norm().clamp(min=1e-9))
    found = Finding(
        f"vector {vector.name}",
        "holds" if cosine >= floor.effect else "stale",
        {"cosine": cosine, "ratio": ratio},
    )
    return (replace(vector, fingerprint=model) if found.verdict == "holds" else None), found


@torch.inference_mode()
def _effect(model: PreTrainedModel, vector: SteeringVector, prompts: Prompts) -> Tensor:
    """Change of the centred last-token logits [N, V]."""
    out = []
    for group in batches([len(p) for p in prompts], 32):
        tokens = torch.tensor([list(prompts[i]) for i in group])
        plain = model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        with Steering(model, [vector]):
            steered = model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        change = steered - plain
        out.append(change - change.mean(-1, keepdim=True))
    return torch.cat(out)


def truth_of(rows: Sequence[Mapping[str, str]], probe: Probe) -> list[int] | None:
    """Return a probe's labels from the data's column for it, None without one.

    Raises:
        UsageError: the column holds something else than 0 and 1.
    """
    column = f"{probe.kind}:{probe.name}"
    if not all(column in row for row in rows):
        return None
    values = [row[column].strip() for row in rows]
    wrong = [v for v in values if v not in ("0", "1")]
    if wrong:
        raise UsageError(f"the column {column!r} holds {wrong[0]!r}: give 0 or 1")
    return [int(v) for v in values]


def as_report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as plain values."""
    return {
        f.name: {"verdict": f.verdict, **{k: round(v, 4) for k, v in f.measured.items()}} for f in findings
    }
