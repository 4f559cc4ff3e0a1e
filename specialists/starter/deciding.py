"""Recipe step that sets the thresholds: of each reading, and of abstention for a stated risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...router.policy import Policy, calibrate_threshold
from ...router.probes.probe import Probe, ProbeBank
from ...router.taps import Site
from ...store.errors import UsageError
from . import makers, pack, probing
from .skills.example import Example
from .work import Work

FALSE_ALARMS = {
    "harm": 0.01,
    "injection": 0.01,
    "dialogue": 0.002,  # two vectors at once, for speech and for a language, make stories loop
    **dict.fromkeys(probing.LANGUAGE_READINGS, 0.002),
}
MARGIN = 0.02


def reading_threshold(probe: Probe, probability: Tensor, carries: Tensor) -> float:
    """The probability above which at most the allowed share of prompts without the reading lie, at least
    0.5.
    """
    if probe.name not in FALSE_ALARMS:
        return probe.threshold
    quiet = probability[~carries].double().sort(descending=True).values
    allowed = int(FALSE_ALARMS[probe.name] * len(quiet))
    # Isotonic probabilities tie: the threshold lies just above the first one that may no longer pass.
    above = float(torch.nextafter(quiet[allowed], torch.tensor(2.0, dtype=torch.float64)))
    return min(1.0, max(0.5, above))


def set_reading_thresholds(work: Work, bank: ProbeBank, x: Tensor, rows: list[Example]) -> ProbeBank:
    """Set and save the threshold of every reading probe."""
    found = bank.probabilities(x)
    kept = []
    for probe in bank.probes:
        if probe.kind == "reading":
            carries = torch.tensor([probing.reading_label(probe.name, e) for e in rows])
            p = found["reading", probe.name]
            probe = replace(probe, threshold=reading_threshold(probe, p, carries))
            fired = p >= probe.threshold
            work.say(
                f"reading {probe.name}: threshold {probe.threshold:.2f}, fires on "
                f"{float(fired[carries].float().mean()):.1%} of its prompts and "
                f"{float(fired[~carries].float().mean()):.2%} of the others"
            )
        kept.append(probe)
    bank = ProbeBank(kept)
    bank.save(work.path("probes"))
    return bank


def decided(
    policy: Policy,
    bank: ProbeBank,
    x: Tensor,
    rows: list[Example],
    work: Work,
    unseen: Sequence[Mapping[str, float]] | None = None,
) -> tuple[list[float], list[int]]:
    """The policy's favourite on every calibration prompt: its P(correct), and whether it really was right.

    `unseen` are the P(correct) of fits that had not seen the prompt, which the bank's may have.
    """
    outcomes = {name: probing.known_outcomes(work, "calibrate", name) for name in makers.COURSES}
    p_best, right = [], []
    for place, (vector, example) in enumerate(zip(x, rows, strict=True)):
        readings, p_correct = bank.evaluate(vector)
        p_correct = p_correct if unseen is None else dict(unseen[place])
        best = policy.candidates(p_correct, readings)[0]
        if any(r.fired for r in readings if r.probe == "harm"):
            continue
        known = outcomes.get(best.specialist, {}).get(probing.key(example), 0)
        p_best.append(best.p_correct)
        right.append(int(example.skill == "help") if best.specialist == "help" else known)
    return p_best, right


def make_policy(work: Work) -> None:
    """Set every threshold on the calibration split and write ``policy.json``."""
    model, codec = makers.open_trunk(work)
    site = Site.usual(probing.scout_layers(work))
    rows = probing.probe_mixture(work, "calibrate")
    x = probing.pooled_at(model, codec, rows, [site])[0]
    bank = set_reading_thresholds(work, ProbeBank.load(work.path("probes")), x, rows)
    policy = pack.make_policy(work, 0.0)
    p_best, right = decided(policy, bank, x, rows, work, probing.unseen_probabilities(work))
    risk, threshold = strictest(p_best, right)
    pack.make_policy(work, round(threshold, 4), risk).save(work.path("policy.json"))
    covered = sum(p >= threshold for p in p_best) / len(p_best)
    work.say(f"threshold {threshold:.3f} for risk {risk}: answers {covered:.1%} of the mixture")


def strictest(p_best: list[float], right: list[int]) -> tuple[float, float]:
    """The smallest stated risk whose threshold still answers enough of what could be answered rightly.

    Raises:
        UsageError: not even the largest risk can be kept.
    """
    for risk in pack.RISKS:
        try:
            threshold = calibrate_threshold(p_best, right, risk)
        except UsageError:
            if risk == pack.RISKS[-1]:
                raise
            continue
        answered = sum(p >= threshold and y for p, y in zip(p_best, right, strict=True))
        if answered >= pack.COVERAGE * max(1, sum(right)) or risk == pack.RISKS[-1]:
            return risk, threshold
    raise AssertionError("the last risk returns or raises")
