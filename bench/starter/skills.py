"""Table 1: what each specialist can do, beside the bare trunk, the majority answer and TF-IDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...specialists.starter.makers import Outcome
from ...specialists.starter.skills.example import Example, Split
from ...specialists.starter.skills.grading import chrf, correct
from .. import estimates
from ..baselines import Tfidf, majority
from ..estimates import Estimate
from ..page import Goal, Section, cell, signed
from .prompts import HELP, NeedsData, draw, per_group, tatoeba
from .stage import TRUNK, Stage

Belongs = Callable[[str], bool]


def _is(*names: str) -> Belongs:
    return lambda kind: kind in names


def _starts(*names: str) -> Belongs:
    return lambda kind: kind.startswith(names)


def _any(kind: str) -> bool:
    return True


GROUPS: dict[str, dict[str, Belongs]] = {
    "arithmetic": {"+ −": _is("add", "sub"), "× ÷": _is("mul", "div"), "word problems": _starts("word")},
    "facts": {"one hop": lambda kind: not kind.startswith("two-hop"), "two hops": _starts("two-hop")},
    "translate": {"from English": _starts("en-"), "to English": lambda kind: kind.endswith("-en")},
}
TARGETS = {
    ("arithmetic", "+ −"): 0.97,
    ("arithmetic", "× ÷"): 0.90,
    ("arithmetic", "word problems"): 0.80,
    ("facts", "one hop"): 0.95,
    ("facts", "two hops"): 0.60,
    ("translate", "from English"): 0.85,
    ("translate", "to English"): 0.85,
}
LABELS = ("emotion", "screening")
HEADER = (
    "skill",
    "n",
    "specialist",
    "bare trunk",
    "majority",
    "TF-IDF + LR",
    "specialist − best other, points (paired)",
)


@dataclass(frozen=True)
class Measured:
    """One group of a skill: which rows each of four answerers got right."""

    skill: str
    group: str
    rows: list[Example]
    own: list[Outcome]
    trunk: list[Outcome]
    majority: list[bool]
    tfidf: list[bool] | None

    def best_other(self) -> list[bool]:
        """The rows that the best of the others got right."""
        others = [[o.correct for o in self.trunk], self.majority, *([self.tfidf] if self.tfidf else [])]
        return max(others, key=sum)


def measure(stage: Stage, skill: str) -> list[Measured]:
    """Let specialist and trunk answer the test rows of a skill, group by group.

    Raises:
        NeedsData: its rows are read from a data folder that was not given.
    """
    groups = GROUPS.get(skill, {"all": _any})
    each = stage.sizes.kind if len(groups) > 1 else 2 * stage.sizes.kind
    drawn = draw(skill, "test", 10 * each * len(groups), stage.seed, stage.data)
    usual, tfidf = _baselines(stage, skill)
    grouped = {name: rows for name, rows in per_group(drawn, groups, each).items() if rows}
    everything = [row for rows in grouped.values() for row in rows]
    longest = stage.longest(skill)
    # all groups at once: prompts of one length share a batch
    stage.answers(skill, everything, longest)
    stage.answers(TRUNK, everything, longest)
    found = []
    for group, rows in grouped.items():
        guesses = tfidf.predict([row.prompt for row in rows]) if tfidf else None
        own, trunk = (stage.answers(name, rows, longest) for name in (skill, TRUNK))
        plain = [bool(usual) and correct(row, usual) for row in rows]
        labelled = [correct(r, g) for r, g in zip(rows, guesses, strict=True)] if guesses else None
        found.append(Measured(skill, group, rows, own, trunk, plain, labelled))
        stage.say(f"{skill}, {group}: {sum(o.correct for o in own)}/{len(rows)} right")
    return found


def _baselines(stage: Stage, skill: str) -> tuple[str, Tfidf | None]:
    """The most frequent training answer, and for labels a TF-IDF classifier on the same lessons."""
    count = stage.sizes.lessons if skill in LABELS else min(2000, stage.sizes.lessons)
    lessons = _labelled(stage, skill, "train", count)
    usual = majority([row.answer for row in lessons]) if lessons else ""
    if skill not in LABELS:
        return usual, None
    held = _labelled(stage, skill, "calibrate", 2000)
    texts, labels = ([getattr(r, name) for r in lessons] for name in ("prompt", "answer"))
    found = Tfidf.fit(texts, labels, [r.prompt for r in held], [r.answer for r in held])
    return usual, found


def _labelled(stage: Stage, skill: str, split: Split, count: int) -> list[Example]:
    return [row for row in draw(skill, split, count, stage.seed, stage.data) if row.answer]


def section(stage: Stage) -> Section:
    """Measure every skill that has a specialist."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    kinds: list[Outcome] = []
    for skill in (name for name in stage.specialists if name != HELP):
        try:
            measured = measure(stage, skill)
        except NeedsData as lack:
            rows.append((skill, "0", "needs --data", "", "", "", ""))
            goals += _unmeasured(skill, str(lack))
            continue
        stage.figures[skill] = {one.group: _figures(one) for one in measured}
        for one in measured:
            rows.append(_row(stage, one))
            goals += _goals(stage, one)
            kinds += one.own
    tables, more = _tatoeba(stage)
    return Section(
        "Skills",
        "Test rows: unseen rows and unseen templates, none of them trained or fitted on. Answers are greedy. "
        "The bare trunk answers the same prompts without an adapter. `majority` gives the most frequent "
        "training answer. TF-IDF + LR learns from the specialist's own lessons (word 1- and 2-grams, C "
        "chosen on the calibration split). `stories` only asks for English that does not loop; it is no "
        "judgement of a story's worth.",
        HEADER,
        (*rows, *tables),
        tuple(goals),
        notes=(_by_kind(kinds), *more),
    )


def _row(stage: Stage, one: Measured) -> tuple[str, ...]:
    right = [o.correct for o in one.own]
    return (
        f"{one.skill}: {one.group}" if one.group != "all" else one.skill,
        str(len(right)),
        cell(estimates.mean(right, stage.seed), "%"),
        cell(estimates.mean([o.correct for o in one.trunk], stage.seed), "%"),
        cell(estimates.mean(one.majority, stage.seed), "%"),
        cell(estimates.mean(one.tfidf, stage.seed), "%") if one.tfidf else "–",
        signed(estimates.difference(right, one.best_other(), stage.seed)),
    )


def _figures(one: Measured) -> dict[str, float]:
    """Shares of right answers, as a card holds them."""
    trunk = [o.correct for o in one.trunk]
    found = {"specialist": [o.correct for o in one.own], "trunk": trunk, "majority": one.majority}
    found |= {"tf-idf": one.tfidf} if one.tfidf else {}
    return {name: round(sum(right) / len(right), 4) for name, right in found.items()} | {
        "rows": len(one.rows)
    }


def _goals(stage: Stage, one: Measured) -> list[Goal]:
    right = [o.correct for o in one.own]
    bound = TARGETS.get((one.skill, one.group))
    if bound is not None:
        name = f"{one.skill}: {one.group}"
        return [Goal(name, "at least", bound, "%", estimates.mean(right, stage.seed))]
    if one.tfidf is None:
        return []
    gap = estimates.difference(right, one.tfidf, stage.seed)
    return [Goal(f"{one.skill}: accuracy − TF-IDF + LR", "at least", 0.0, "%", gap)]


def _unmeasured(skill: str, why: str) -> list[Goal]:
    named = [
        Goal(f"{s}: {g}", "at least", bound, "%", None, "needs --data")
        for (s, g), bound in TARGETS.items()
        if s == skill
    ]
    if skill in LABELS:
        named.append(Goal(f"{skill}: accuracy − TF-IDF + LR", "at least", 0.0, "%", None, "needs --data"))
    return named


def _by_kind(outcomes: Sequence[Outcome]) -> str:
    """One line with the accuracy of each kind of at least five rows."""
    groups: dict[str, list[bool]] = {}
    for one in outcomes:
        kind = one.example.kind.split(":")[0]
        groups.setdefault(f"{one.specialist} {kind}", []).append(one.correct)
    parts = [f"{name} {sum(r)}/{len(r)}" for name, r in sorted(groups.items()) if len(r) >= 5]
    return f"By kind (right/asked, kinds with at least 5 rows): {'; '.join(parts)}."


def _tatoeba(stage: Stage) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows for Tatoeba sentences within the vocabulary: chrF of specialist and trunk."""
    if stage.data is None:
        return [], ["Tatoeba: needs --data."]
    try:
        examples = list(tatoeba(stage.sizes.tatoeba, stage.data))
    except FileNotFoundError as error:
        return [], [f"Tatoeba: needs --data ({error})."]
    table: list[tuple[str, ...]] = []
    notes = []
    for kind in dict.fromkeys(e.kind for e in examples):
        rows = [e for e in examples if e.kind == kind]
        own = stage.answers("translate", rows, stage.longest("translate"))
        trunk = stage.answers(TRUNK, rows, stage.longest("translate"))
        ours, theirs = (_chrf(stage, found) for found in (own, trunk))
        gap = estimates.difference(_scores(own), _scores(trunk), stage.seed)
        table.append(
            (f"translate: Tatoeba {kind}, chrF", str(len(rows)), ours, theirs, "–", "–", signed(gap))
        )
        notes.append(f"{kind} {sum(o.correct for o in own)}/{len(rows)}")
    exact = (
        f"Tatoeba sentences equal to the one reference, word by word: {', '.join(notes)}. chrF is the mean "
    )
    exact += "over sentences, in per cent; other right translations than the reference count as wrong."
    return table, [exact]


def _scores(outcomes: Sequence[Outcome]) -> list[float]:
    return [chrf(o.example.answer, o.answer) for o in outcomes]


def _chrf(stage: Stage, outcomes: Sequence[Outcome]) -> str:
    found: Estimate = estimates.mean(_scores(outcomes), stage.seed)
    return cell(found, "%")
