"""Recipe steps that make the router: pooled states, probes fitted on real outcomes, calibration, policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from ...router.fingerprint import fingerprint
from ...router.probes.calibrate import Method, auroc, ece, fit_calibration
from ...router.probes.fit import fit_logistic, group_folds
from ...router.probes.joint import RIDGES, Joint, fit_joint, log_odds
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
UNSEEN, FOLDS = "unseen.safetensors", 5
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
    """Fits and calibrates probes at one site.

    Who a prompt is for is fitted for all specialists together, on both splits: the ``calibrate`` split has
    phrasings of its own. How often the one is right there is calibration's part, which sees real answers
    alone, and only logits of fits that had not seen the prompt's template. Readings are fitted on the
    ``fit`` split.
    """

    def __init__(
        self, work: Work, site: Site, states: dict[Split, Tensor], rows: dict[Split, list[Example]]
    ) -> None:
        self.work, self.site, self.states, self.rows = work, site, states, rows
        self.print = fingerprint(work.path("trunk"))

    @cached_property
    def ridge(self) -> float:
        """The ridge whose fit on the ``fit`` split has the lowest log-loss on the other, of new templates."""
        nothing = torch.zeros(len(self.rows["calibrate"])).bool()
        found = {l2: self._fitted(nothing, l2).logits(self.states["calibrate"]) for l2 in RIDGES}
        best = min(found, key=lambda l2: membership_loss(found[l2], self.rows["calibrate"]))
        self.work.say(
            f"whose prompt it is: ridge {best:g}; by a fit on the other split {self._share(found[best])}"
        )
        return best

    @cached_property
    def joint(self) -> Joint:
        """Logits of all specialists together, fitted on both splits."""
        return self._fitted(torch.ones(len(self.rows["calibrate"])).bool(), self.ridge)

    @cached_property
    def unseen(self) -> Tensor:
        """Logits [N,K] of the calibration split, each by a fit that left out the prompt's template."""
        x, fold = self.states["calibrate"], group_folds(self._groups("calibrate"), FOLDS, 0)
        logits = torch.empty(len(x), len(SPECIALISTS), dtype=torch.float64)
        for number in range(FOLDS):
            held = fold == number
            logits[held] = self._fitted(~held, self.ridge).logits(x[held])
        self.work.say(f"with the other templates of that split: {self._share(logits)}")
        return logits

    def _fitted(self, chosen: Tensor, l2: float) -> Joint:
        """Fit on the ``fit`` split and the chosen rows of the other."""
        index = chosen.nonzero()[:, 0].tolist()
        x = torch.cat([self.states["fit"], self.states["calibrate"][index]])
        more = [self.rows["calibrate"][i] for i in index]
        names = [*self._groups("fit"), *(self._groups("calibrate")[i] for i in index)]
        return fit_joint(x, membership([*self.rows["fit"], *more]), len(SPECIALISTS), names, l2)

    def _share(self, logits: Tensor) -> str:
        rows = self.rows["calibrate"]
        free = [i for i, e in enumerate(rows) if e.template == "freeform"]
        by_hand = own_share(logits[free], [rows[i] for i in free])
        return f"{own_share(logits, rows):.1%}, of it phrased by hand {by_hand:.1%}"

    def correct(self, name: str) -> Probe:
        """One specialist's probe, calibrated on whether its answers were right."""
        at = SPECIALISTS.index(name)
        index, y = outcome_labels(self.work, "calibrate", name, self.rows["calibrate"])
        odds = log_odds(self.unseen[index])[:, at]
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
        return template_groups(self.rows[split])


def template_groups(examples: Sequence[Example]) -> list[str]:
    """A template is one group, so that ridges and calibrations are chosen for unseen ones."""
    return [e.prompt if e.template in ("freeform", "bare") else e.template for e in examples]


def membership(examples: Sequence[Example]) -> list[int]:
    """Whose prompt each is, as an index into `SPECIALISTS`; their number for nobody's."""
    place = {name: at for at, name in enumerate(SPECIALISTS)}
    return [place.get(e.skill, len(SPECIALISTS)) for e in examples]


def membership_loss(logits: Tensor, examples: Sequence[Example]) -> float:
    """Mean log-loss of whose prompts they are, from logits [N,K]; nobody's logit is 0."""
    nobody = torch.zeros(len(logits), 1, dtype=logits.dtype)
    return float(cross_entropy(torch.cat([logits, nobody], 1), torch.tensor(membership(examples))))


def own_share(logits: Tensor, examples: Sequence[Example]) -> float:
    """Share of in-scope prompts for which the skill's own specialist has the highest of logits [N,K]."""
    pairs = zip(logits.argmax(1).tolist(), membership(examples), strict=True)
    hits = [best == own for best, own in pairs if own < len(SPECIALISTS)]
    return float(sum(hits) / max(1, len(hits)))


def choose_layers(work: Work, choices: Sequence[Sequence[int]]) -> None:
    """Fit whose prompt it is at each choice of layers; note which routes the calibration split best."""
    model, codec = makers.open_trunk(work)
    rows: dict[Split, list[Example]] = {s: probe_mixture(work, s) for s in ("fit", "calibrate")}
    sites = [Site.usual(layers) for layers in choices]
    states = {s: pooled_at(model, codec, rows[s], sites) for s in rows}
    scores = []
    for i, site in enumerate(sites):
        groups = template_groups(rows["fit"])
        joint = fit_joint(states["fit"][i], membership(rows["fit"]), len(SPECIALISTS), groups)
        scores.append(own_share(joint.logits(states["calibrate"][i]), rows["calibrate"]))
        work.say(f"{site.name} routes {scores[-1]:.2%} of the calibration split to its own specialist")
    best = choices[scores.index(max(scores))]
    named = {site.name: score for site, score in zip(sites, scores, strict=True)}
    work.path("layers.json").write_text(json.dumps({"layers": list(best), "scores": named}))


def scout_layers(work: Work) -> tuple[int, ...]:
    """The layers whose probes routed best."""
    return tuple(json.loads(work.path("layers.json").read_text())["layers"])


def make_probes(work: Work) -> None:
    """Fit the family's probes at the scout layers, steered stories included, and save them.

    P(correct) of the calibration split, by fits that had not seen its templates, is kept for the policy.
    """
    model, codec = makers.open_trunk(work)
    site = Site.usual(scout_layers(work))
    rows: dict[Split, list[Example]] = {s: probe_mixture(work, s) for s in ("fit", "calibrate")}
    states = {s: pooled_at(model, codec, rows[s], [site])[0] for s in rows}
    shutil.rmtree(work.path("probes"), ignore_errors=True)
    desk = Desk(work, site, states, rows)
    correct = [desk.correct(name) for name in SPECIALISTS]
    ProbeBank([*correct, *(desk.reading(name) for name in READINGS)]).save(work.path("probes"))
    odds = log_odds(desk.unseen)
    p = torch.stack([probe.calibration(odds[:, at]) for at, probe in enumerate(correct)], 1)
    save_file({"p_correct": p.contiguous()}, work.path(UNSEEN))


def unseen_probabilities(work: Work) -> list[dict[str, float]]:
    """P(correct) of each specialist for each prompt of the calibration split, as `make_probes` kept it."""
    rows: list[list[float]] = load_file(work.path(UNSEEN))["p_correct"].tolist()
    return [dict(zip(SPECIALISTS, row, strict=True)) for row in rows]
