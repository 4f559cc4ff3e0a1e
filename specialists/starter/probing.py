"""Recipe steps that make the router: pooled states, probes fitted on real outcomes, calibration, policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...router.fingerprint import fingerprint
from ...router.probes.calibrate import Method, auroc, ece, fit_calibration
from ...router.probes.fit import fit_logistic
from ...router.probes.joint import Joint, fit_joint, log_odds
from ...router.probes.probe import Kind, Probe, ProbeBank
from ...router.taps import Site, Taps
from ...router.turns import last_turn
from ..improve.answering import batches
from ..tokenizing import ChatCodec
from . import makers
from .skills import dress, readings
from .skills.example import Example, Split
from .work import Work

EACH: dict[Split, int] = {"fit": 800, "calibrate": 160}
OTHERS: dict[Split, int] = {"fit": 2400, "calibrate": 600}
LANGUAGE_READINGS = tuple(f"reply-{code}" for code in readings.LANGUAGES)
STYLED = ("dialogue", *LANGUAGE_READINGS)
SPECIALISTS = (*makers.COURSES, "help")
READINGS = ("harm", "injection", "outside", *STYLED)


def pooled_states(
    model: PreTrainedModel,
    codec: ChatCodec,
    examples: Sequence[Example],
    layers: Sequence[int],
    rows: int = 64,
) -> dict[int, Tensor]:
    """Read every prompt and pool each layer's states: {layer: [N, 2 D]}, last token beside max of rolling
    means.
    """
    sites = [Site.usual((layer,)) for layer in layers]
    return dict(zip(layers, pooled_at(model, codec, examples, sites, rows), strict=True))


@torch.inference_mode()
def pooled_at(
    model: PreTrainedModel,
    codec: ChatCodec,
    examples: Sequence[Example],
    sites: Sequence[Site],
    rows: int = 64,
) -> list[Tensor]:
    """Read every prompt, after the turns before it, and pool at each site: [N, F] a site."""
    prompts = [codec.encode_prompt(e.prompt, e.history) for e in examples]
    begins = [last_turn(p, codec.encode_prompt(e.prompt)) for p, e in zip(prompts, examples, strict=True)]
    layers = sorted({layer for site in sites for layer in site.layers})
    out: list[list[Tensor]] = [[torch.empty(0)] * len(prompts) for _ in sites]
    with Taps(model, layers) as taps:
        for group in batches([len(p) for p in prompts], rows):
            model(input_ids=torch.tensor([prompts[i] for i in group]), use_cache=False, logits_to_keep=1)
            for row, index in enumerate(group):
                states = {layer: taps.states[layer][row] for layer in layers}
                for vectors, site in zip(out, sites, strict=True):
                    vectors[index] = site.vector(states, begins[index])
    return [torch.stack(vectors) for vectors in out]


def probe_mixture(work: Work, split: Split) -> list[Example]:
    """Draw the prompts that probes see: the skills' mixture and the prompts that carry each reading."""
    scale = EACH.get(split, 200)
    rows = makers.mixture(work, split, scale, OTHERS.get(split, 800))
    carried = readings.harmful(split, work.sources)
    carried += readings.harmless(split, work.sources, 2 * scale)
    carried += readings.injected(split, work.sources, scale // 2, work.seed)
    carried += readings.in_language(split, scale, work.seed)
    carried += readings.with_dialogue(split, scale // 2, work.seed)
    rows += dress.after_exchanges(carried, rows, work.seed, makers.SWITCHES)
    return [row for row in rows if row.prompt.strip()]


def reading_label(name: str, example: Example) -> bool:
    """Whether an example carries a reading."""
    kinds = {"harm": "harmful", "injection": "injected"}
    if name in kinds:
        return example.kind == kinds[name] and example.template == "bare"
    if name == "outside":
        return example.skill == "outside" and example.kind not in ("harmful", "injected")
    return example.kind == name


Key = tuple[str, tuple[tuple[str, str], ...]]


def key(example: Example) -> Key:
    """What identifies a prompt: its text and the turns before it."""
    return example.prompt, example.history


def known_outcomes(work: Work, split: Split, name: str) -> dict[Key, int]:
    """What a specialist really answered, right (1) or wrong (0); steered stories are judged on what was
    asked.
    """
    paths = [work.path("outcomes", split, f"{name}.jsonl")]
    if name == "stories":
        paths.append(work.path("outcomes", split, "styled.jsonl"))
    return {key(o.example): int(o.correct) for p in paths if p.exists() for o in makers.read_outcomes(p)}


def outcome_labels(
    work: Work, split: Split, name: str, examples: Sequence[Example]
) -> tuple[list[int], list[int]]:
    """Return the indexes of examples with an outcome of specialist ``name``, and the outcomes.

    A specialist answers for its own skill: its outcome on a prompt of that skill is whether its real answer
    was right, and on every other prompt it is wrong by definition, although the trunk under its adapter may
    know the answer. Judging others' prompts by the answer, too, was measured and routes worse: see
    docs/starter.md.
    Its own prompts without an answer are left out. The desk that answers from the cards is right on its own
    prompts and on no others.
    """
    if name == "help":
        return list(range(len(examples))), [int(e.skill == "help") for e in examples]
    known = known_outcomes(work, split, name)
    index, labels = [], []
    for i, example in enumerate(examples):
        label = known.get(key(example)) if example.skill == name else 0
        if label is not None:
            index.append(i)
            labels.append(label)
    return index, labels


class Desk:
    """Fits probes on the ``fit`` split and calibrates them on the ``calibrate`` split, at one site.

    Who a prompt is for is fitted for all specialists together; how often the one is right there is
    calibration's part, which sees real answers alone.
    """

    def __init__(
        self, work: Work, site: Site, states: dict[Split, Tensor], rows: dict[Split, list[Example]]
    ) -> None:
        self.work, self.site, self.states, self.rows = work, site, states, rows
        self.print = fingerprint(work.path("trunk"))

    @cached_property
    def joint(self) -> Joint:
        """Logits of all specialists together."""
        nobody = len(SPECIALISTS)
        place = {name: at for at, name in enumerate(SPECIALISTS)}
        member = [place.get(e.skill, nobody) for e in self.rows["fit"]]
        found = fit_joint(self.states["fit"], member, nobody, self._groups("fit"))
        self.work.say(f"who a prompt is for: ridge {found.l2:g}")
        return found

    def correct(self, name: str) -> Probe:
        """One specialist's probe, calibrated on whether its answers were right."""
        at = SPECIALISTS.index(name)
        index, y = outcome_labels(self.work, "calibrate", name, self.rows["calibrate"])
        odds = log_odds(self.joint.logits(self.states["calibrate"][index]))[:, at]
        weight, bias = self.joint.weight[at], float(self.joint.bias[at])
        return replace(self._probe(name, "correct", weight, bias, odds, y, "capped"), competes=True)

    def reading(self, name: str) -> Probe:
        """One reading's probe, fitted by itself."""
        labels = {s: [int(reading_label(name, e)) for e in rows] for s, rows in self.rows.items()}
        weight, bias = fit_logistic(self.states["fit"], labels["fit"], groups=self._groups("fit"))
        logits = self.states["calibrate"].double() @ weight.double() + bias
        return self._probe(name, "reading", weight, bias, logits, labels["calibrate"])

    def _probe(
        self,
        name: str,
        kind: Kind,
        weight: Tensor,
        bias: float,
        scores: Tensor,
        y: list[int],
        method: Method = "auto",
    ) -> Probe:
        """A calibrated probe; its ``meta`` reports AUROC and ECE on the calibration split."""
        calibration = fit_calibration(scores, y, method)
        meta = {
            "rows": len(self.rows["fit"]),
            "positives": int(sum(y)),
            "auroc": round(auroc(scores, y), 4),
            "ece": round(ece(calibration(scores), y), 4),
        }
        self.work.say(f"probe {kind} {name}: AUROC {meta['auroc']}, ECE {meta['ece']}")
        return Probe(name, kind, weight, bias, calibration, 0.5, self.site, self.print, meta)

    def _groups(self, split: Split) -> list[str]:
        """A template is one group, so that ridges are chosen for unseen ones."""
        free = ("freeform", "bare")
        return [e.prompt if e.template in free else e.template for e in self.rows[split]]


def routing_accuracy(bank: ProbeBank, x: Tensor, examples: Sequence[Example]) -> float:
    """Share of in-scope prompts whose most probable specialist is the skill's own."""
    found = bank.probabilities(x)
    names = list(bank.specialists)
    best: list[int] = torch.stack([found["correct", name] for name in names]).argmax(0).tolist()
    hits = [names[b] == e.skill for b, e in zip(best, examples, strict=True) if e.skill in names]
    return sum(hits) / max(1, len(hits))


def fit_bank(
    work: Work, site: Site, states: dict[Split, Tensor], rows: dict[Split, list[Example]]
) -> ProbeBank:
    """Fit every probe of the family at one site, whose vectors ``states`` holds."""
    desk = Desk(work, site, states, rows)
    probes = [desk.correct(name) for name in SPECIALISTS]
    return ProbeBank([*probes, *(desk.reading(name) for name in READINGS)])


def choose_layers(work: Work, choices: Sequence[Sequence[int]]) -> None:
    """Fit the probes at each choice of layers and note the one that routes the calibration split best."""
    model, codec = makers.open_trunk(work)
    rows: dict[Split, list[Example]] = {s: probe_mixture(work, s) for s in ("fit", "calibrate")}
    sites = [Site.usual(layers) for layers in choices]
    states = {s: pooled_at(model, codec, rows[s], sites) for s in rows}
    scores = []
    for i, site in enumerate(sites):
        bank = fit_bank(work, site, {s: states[s][i] for s in rows}, rows)
        scores.append(routing_accuracy(bank, states["calibrate"][i], rows["calibrate"]))
        work.say(f"{site.name} routes {scores[-1]:.2%} of the calibration split to its own specialist")
    best = choices[scores.index(max(scores))]
    named = {site.name: score for site, score in zip(sites, scores, strict=True)}
    work.path("layers.json").write_text(json.dumps({"layers": list(best), "scores": named}))


def scout_layers(work: Work) -> tuple[int, ...]:
    """The layers whose probes routed best."""
    return tuple(json.loads(work.path("layers.json").read_text())["layers"])


def make_probes(work: Work) -> None:
    """Fit the family's probes at the scout layers, steered stories included, and save them."""
    model, codec = makers.open_trunk(work)
    site = Site.usual(scout_layers(work))
    rows: dict[Split, list[Example]] = {s: probe_mixture(work, s) for s in ("fit", "calibrate")}
    states = {s: pooled_at(model, codec, rows[s], [site])[0] for s in rows}
    shutil.rmtree(work.path("probes"), ignore_errors=True)
    fit_bank(work, site, states, rows).save(work.path("probes"))
