"""Steering entries for the starter's specialists by CorrSteer and CRL, each put before the validation gate.

`python -P -m pilothouse.specialists.starter.entries FAMILY [DATA]` tries all and says what passed; with
`--enter`, what passed is entered into the family's policy, which is then sealed again. No test row is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...router.steer.admission import Admission, admit
from ...router.steer.choice import Choice, Score
from ...router.steer.making import Found, corrsteer_entry, crl_entry, usual_strengths
from ...router.steer.ppo import Recipe
from ...router.steer.task import Task, Verdict, play, right
from ...store.errors import UsageError
from ..family import Family
from ..improve.subject import Subject, enter
from . import corpus
from .skills.example import Example, Split
from .skills.grading import correct

Say = Callable[[str], None]
BUDGET = 0.05  # nats a token on text of other skills
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Trial:
    """What is tried on one specialist: longest answer, how many CRL updates (0: CorrSteer only), and whether
    its prompts need a data folder.
    """

    skill: str
    longest: int
    updates: int = 0
    needs_data: bool = False


TRIALS = (
    Trial("emotion", 6, 40, needs_data=True),
    Trial("facts", 24, 40, needs_data=True),
    Trial("words", 40),
    Trial("translate", 40),
)
FIT, VALIDATE, GATE = 300, 120, 240  # prompts: of the fitting split, more of it, of the calibration split


@dataclass(frozen=True)
class Tried:
    """An entry that was tried; `verdict` is None where nothing was worth going before the gate."""

    skill: str
    found: Found
    verdict: Admission | None
    reason: str

    @property
    def admitted(self) -> bool:
        """Whether the gate let it through."""
        return self.verdict is not None and self.verdict.admitted


@dataclass(frozen=True)
class Ground:
    """One specialist with its tasks: to make entries on, to choose strengths on, to judge on."""

    trial: Trial
    subject: Subject
    fit: Task
    validate: Task
    test: Task
    cost: Score
    seed: int

    @classmethod
    def open(cls, family: Family, trial: Trial, data: Path | None, seed: int, share: float) -> Ground:
        """Load a specialist and draw its prompts, `share` of the usual number."""
        subject = Subject.open(family, trial.skill)
        fit, validate, gate = (max(16, round(count * share)) for count in (FIT, VALIDATE, GATE))
        rows = _drawn(trial, "fit", fit + validate, data, seed)
        held = _drawn(trial, "calibrate", gate, data, seed)
        first, second, last = (_task(subject, trial, part) for part in (rows[:fit], rows[fit:], held))
        cost = subject.cost(others_text(trial.skill, data, seed))
        return cls(trial, subject, first, second, last, cost, seed)

    def found(self, method: str, share: float, say: Say) -> Found:
        """An entry by a method; none where it has nothing to go by, as when every answer is right."""
        try:
            return self.corrsteer() if method == "corrsteer" else self.crl(share, say)
        except UsageError as nothing:
            unsteered = right(play(self.subject.model, self.validate))
            return Found((), (), Choice("", 0.0, str(nothing), (), unsteered, BUDGET, ()), method)

    def corrsteer(self) -> Found:
        """An entry by CorrSteer."""
        return corrsteer_entry(
            self.subject.model,
            self.fit,
            self.validate,
            self.subject.saes(),
            self.cost,
            name=f"corrsteer-{self.trial.skill}",
            budget=BUDGET,
            strengths=STRENGTHS,
            seed=self.seed,
            fingerprint=self.subject.family.trunk_fingerprint,
        )

    def crl(self, share: float, say: Say) -> Found:
        """Entries by control reinforcement learning, at the last layer that has a dictionary."""
        saes = self.subject.saes()
        sae = saes[max(saes)]
        return crl_entry(
            self.subject.model,
            self.fit,
            self.validate,
            sae,
            usual_strengths(self.subject.model, self.fit, sae),
            self.cost,
            name=f"crl-{self.trial.skill}",
            budget=BUDGET,
            recipe=Recipe(updates=max(2, round(self.trial.updates * share)), rows=64),
            strengths=STRENGTHS,
            seed=self.seed,
            fingerprint=self.subject.family.trunk_fingerprint,
            say=say,
        )

    def judged(self, found: Found) -> Tried:
        """Put an entry before the gate."""
        if not found.vectors:
            return Tried(self.trial.skill, found, None, found.choice.reason)
        verdict = admit(
            self.subject.model,
            self.test,
            found.vectors,
            found.rivals,
            self.cost,
            budget=BUDGET,
            seed=self.seed,
            draws=3,
        )
        return Tried(self.trial.skill, found, verdict, "; ".join(verdict.reasons) or "admitted")


def _drawn(trial: Trial, split: Split, count: int, data: Path | None, seed: int) -> list[Example]:
    """Examples with different prompts, at most `count`."""
    rows = corpus.draw(trial.skill, split, 2 * count, seed + 7, data)
    return list({(row.prompt, row.history): row for row in rows}.values())[:count]


def _task(subject: Subject, trial: Trial, rows: Sequence[Example]) -> Task:
    """Examples as a task of the specialist, judged as the skill is."""

    def judge(row: int, tokens: Sequence[int]) -> Verdict:
        text = subject.codec.decode(tokens).strip()
        return Verdict(correct(rows[row], text), bool(text) and len(tokens) < trial.longest)

    prompts = [subject.codec.encode_prompt(row.prompt, row.history) for row in rows]
    return subject.task_of(prompts, judge, trial.longest)


def others_text(skill: str, data: Path | None, seed: int, each: int = 12) -> list[str]:
    """Prompts with their answers of other skills: what an entry for this one must leave alone."""
    texts: list[str] = []
    for other in possible(data):
        if other.skill != skill:
            rows = corpus.draw(other.skill, "calibrate", each, seed + 11, data)[:each]
            texts += [f"{row.prompt} {row.answer}" for row in rows]
    return texts


def possible(data: Path | None) -> list[Trial]:
    """The trials whose prompts can be had."""
    return [trial for trial in TRIALS if data is not None or not trial.needs_data]


def try_all(
    family: Family, data: Path | None, seed: int = 0, share: float = 1.0, say: Say = lambda line: None
) -> Iterator[Tried]:
    """Try every method on every specialist that is here; nothing is written."""
    for trial in possible(data):
        if trial.skill not in family.cards:
            continue
        ground = Ground.open(family, trial, data, seed, share)
        for method in ("corrsteer", "crl") if trial.updates else ("corrsteer",):
            tried = ground.judged(ground.found(method, share, say))
            say(f"{trial.skill}, {method}: {tried.reason}")
            yield tried


def main(arguments: Sequence[str]) -> int:
    """Try all on a family, and enter what passed where `--enter` says so."""
    names = [one for one in arguments if not one.startswith("--")]
    if len(names) not in (1, 2) or set(arguments) - {*names, "--enter"}:
        usage = "usage: python -P -m pilothouse.specialists.starter.entries FAMILY [DATA] [--enter]"
        print(usage, file=sys.stderr)
        return 2
    data = Path(names[1]) if len(names) == 2 else None
    for tried in try_all(Family.open(names[0]), data, say=lambda line: print(line, flush=True)):
        if tried.admitted and tried.verdict is not None and "--enter" in arguments:
            with suppress(UsageError):  # an entry of this name is there already
                enter(Family.open(names[0]), tried.found.vectors, tried.verdict, None, [tried.skill])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
