"""Tables 2 and 3: is the right specialist chosen, and how many answers does routing get right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...router.probes.fit import fit_logistic
from ...specialists.starter.skills.dress import after_other_topics
from ...specialists.starter.skills.example import Example
from .. import estimates
from ..baselines import Tfidf, by_length, majority, nearest, shuffled, uniform
from ..estimates import Array
from ..page import Goal, Section, cell, signed
from .matrix import Matrix
from .prompts import fitting
from .stage import Routed, Stage

Choice = Sequence[str | None]
OURS, SHIPPED = "probes (this router, nobody abstains)", "probes (policy as shipped, abstaining is wrong)"


def choosing(stage: Stage, test: Matrix, free: Matrix, missing: Sequence[str]) -> Section:
    """Table 2: the share of prompts whose own specialist has the highest utility."""
    rows: list[tuple[str, ...]] = []
    goals = []
    switched = [e for e in after_other_topics(test.examples, stage.seed, 1.0) if e.history]
    for name, examples, routed, bound in (
        ("unseen templates (test split)", test.examples, test.routed, 0.98),
        ("free paraphrases, written by hand", free.examples, free.routed, 0.92),
        ("test split, with an exchange before it", switched, stage.routed(stage.vectors(switched)), None),
    ):
        hits = [float(r.best.specialist == e.skill) for r, e in zip(routed, examples, strict=True)]
        found = estimates.mean(hits, stage.seed)
        if bound is not None:
            goals.append(Goal(f"right specialist: {name}", "at least", bound, "%", found))
        rows.append((name, "**all**", str(len(hits)), cell(found, "%"), _abstained(stage, routed)))
        for skill in dict.fromkeys(e.skill for e in examples):
            inside = [i for i, e in enumerate(examples) if e.skill == skill]
            found = estimates.mean([hits[i] for i in inside], stage.seed)
            quiet = _abstained(stage, [routed[i] for i in inside])
            rows.append((name, skill, str(len(inside)), cell(found, "%"), quiet))
    return Section(
        "The right specialist",
        "The specialist of highest utility against the skill that the prompt was made for; abstaining aside. "
        "The last column says how many of these (answerable) prompts the policy leaves unanswered. An "
        "exchange before a prompt is mostly another skill's, as when a conversation changes its topic.",
        ("prompts", "skill", "n", "right specialist", "abstains"),
        tuple(rows),
        tuple(goals),
        notes=(_confusions(test, "test split"), _confusions(free, "paraphrases"), *_left_out(missing)),
    )


def _abstained(stage: Stage, routed: Sequence[Routed]) -> str:
    return cell(estimates.mean([r.decision.abstained for r in routed], stage.seed), "%")


def _left_out(missing: Sequence[str]) -> tuple[str, ...]:
    return (f"Left out of the test split, which needs --data: {', '.join(missing)}.",) if missing else ()


def _confusions(matrix: Matrix, name: str, most: int = 6) -> str:
    counts: dict[str, int] = {}
    for r, e in zip(matrix.routed, matrix.examples, strict=True):
        if r.best.specialist != e.skill:
            pair = f"{e.skill} → {r.best.specialist}"
            counts[pair] = counts.get(pair, 0) + 1
    order = sorted(counts, key=lambda pair: (-counts[pair], pair))[:most]
    return f"Most frequent confusions, {name}: {', '.join(f'{p} {counts[p]}' for p in order) or 'none'}."


# -- routed answers ---------------------------------------------------------------------------------------


def routers(stage: Stage, matrix: Matrix) -> dict[str, Choice]:
    """Every router's choice on every prompt of the matrix."""
    names = matrix.names
    known = fitting(names, stage.sizes.fit, stage.seed + 1, stage.data)
    labels = [e.skill for e in known]
    held = fitting(names, max(20, stage.sizes.fit // 4), stage.seed + 2, stage.data, "calibrate")
    x = stage.vectors(known)
    stage.say(f"baselines of routing learn from {len(known)} prompts")
    prompts, count = [e.prompt for e in matrix.examples], len(matrix.examples)
    single = max(names, key=lambda name: float(matrix.right[name].sum()))
    lengths = stage.lengths(known), stage.lengths(matrix.examples)
    tfidf = Tfidf.fit([e.prompt for e in known], labels, [e.prompt for e in held], [e.skill for e in held])
    return {
        OURS: [r.best.specialist for r in matrix.routed],
        SHIPPED: [r.decision.chosen for r in matrix.routed],
        f"best single specialist ({single}, chosen on the test)": [single] * count,
        "random": uniform(names, count, stage.seed),
        "most frequent skill": [majority(labels)] * count,
        "prompt length": list(by_length(lengths[0], labels, lengths[1])),
        "TF-IDF + multinomial LR": list(tfidf.predict(prompts)),
        "kNN on states (k = 10)": list(nearest(x.numpy(), labels, matrix.x.numpy())),
        "mean log-probability of each answer": most_confident(matrix),
        "linear probe on skill labels": probe_choice(x, labels, matrix.x),
        "the same probe, labels shuffled": probe_choice(x, shuffled(labels, stage.seed), matrix.x),
    }


def most_confident(matrix: Matrix) -> list[str | None]:
    """Who answered with the highest mean log-probability; it needs everybody's answer first."""
    names = list(matrix.confidence)
    found = np.argmax(np.stack([matrix.confidence[name] for name in names]), axis=0)
    return [names[int(i)] for i in found]


def probe_choice(x: torch.Tensor, labels: Sequence[str], asked: torch.Tensor) -> list[str | None]:
    """One-against-all logistic regression on states [N, F]: the highest logit of `asked` [M, F]."""
    names = sorted(set(labels))
    logits = []
    for name in names:
        weight, bias = fit_logistic(x, [int(label == name) for label in labels], 0.1)
        logits.append(asked.double() @ weight.double() + bias)
    return [names[int(i)] for i in torch.stack(logits).argmax(0)]


def answering(stage: Stage, matrix: Matrix, title: str) -> tuple[Section, dict[str, Array]]:
    """Table 3: answers that are right, by router; and each router's score a prompt, for the picture."""
    choices = routers(stage, matrix)
    scores = {name: matrix.scored(choice) for name, choice in choices.items()}
    scores["oracle (anybody was right)"] = matrix.oracle
    oracle, ours = matrix.oracle, scores[OURS]
    rows = [
        (
            name,
            str(len(score)),
            cell(estimates.mean(score, stage.seed), "%"),
            cell(estimates.ratio(score, oracle, stage.seed), "%"),
            "–" if name == OURS else signed(estimates.difference(ours, score, stage.seed)),
        )
        for name, score in scores.items()
    ]
    goals = [
        Goal(
            f"routed accuracy, share of the oracle's: {name}",
            "at least",
            0.97,
            "%",
            _share(stage, scores, name),
        )
        for name in (OURS, SHIPPED)
    ]
    text = (
        "A balanced mixture of test prompts, equally many a skill. Every router is scored on the same matrix "
        "of real answers; a specialist's answer to others' prompts is cut at "
        f"{stage.sizes.foreign_tokens} tokens. Only the help desk is right on prompts about the family. "
        "Baselines learn from prompts of the fit split with free phrasings, as the probes did, but from "
        "skill labels; the family's own probes learnt from which answers were right."
    )
    header = ("router", "n", "answers right", "share of oracle", "this router − it, points (paired)")
    return Section(title, text, header, tuple(rows), tuple(goals), notes=(_singles(stage, matrix),)), scores


def _share(stage: Stage, scores: dict[str, Array], name: str) -> estimates.Estimate:
    return estimates.ratio(scores[name], scores["oracle (anybody was right)"], stage.seed)


def _singles(stage: Stage, matrix: Matrix) -> str:
    parts = [f"{name} {100 * float(matrix.right[name].mean()):.1f} %" for name in matrix.names]
    return f"Each specialist alone on the whole mixture: {', '.join(parts)}."


def paraphrased(stage: Stage, free: Matrix) -> Section:
    """Answers to the hand-written paraphrases: this router, the oracle, the specialist of the label."""
    own = free.scored([e.skill for e in free.examples])
    ours = free.scored([r.best.specialist for r in free.routed])
    shipped = free.scored([r.decision.chosen for r in free.routed])
    found = {
        OURS: ours,
        SHIPPED: shipped,
        "the prompt's own specialist": own,
        "oracle (anybody was right)": free.oracle,
    }
    rows = [
        (
            name,
            str(len(right)),
            cell(estimates.mean(right, stage.seed), "%"),
            cell(estimates.ratio(right, free.oracle, stage.seed), "%"),
        )
        for name, right in found.items()
    ]
    return Section(
        "Routed answers to free paraphrases",
        "Hand-written prompts with hand-written answers. They are not balanced, and were not seen in any "
        "fit.",
        ("router", "n", "answers right", "share of oracle"),
        tuple(rows),
        notes=(_by_skill(free.examples, ours),),
    )


def _by_skill(examples: Sequence[Example], right: Array) -> str:
    parts = []
    for skill in dict.fromkeys(e.skill for e in examples):
        inside = [right[i] for i, e in enumerate(examples) if e.skill == skill]
        parts.append(f"{skill} {int(sum(inside))}/{len(inside)}")
    return f"Routed answers right, by skill: {', '.join(parts)}."
