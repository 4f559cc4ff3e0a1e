"""Steering entries for the starter's specialists by CorrSteer and CRL, each put before the validation gate.

`python -P -m pilothouse.specialists.starter.entries FAMILY` tries all and says what passed; with `--enter`,
what passed is entered into the family's policy, which is then sealed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...router.steer.admission import Admission, admit
from ...router.steer.choice import Score
from ...router.steer.making import Found, corrsteer_entry, crl_entry, usual_strengths
from ...router.steer.ppo import Recipe
from ...router.steer.task import Task, Verdict
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
    """What is tried on one specialist: longest answer, and how many CRL updates (0: CorrSteer only)."""

    skill: str
    longest: int
    updates: int = 0


TRIALS = (Trial("emotion", 6, 40), Trial("facts", 24, 40), Trial("words", 40), Trial("translate", 40))
SIZES: dict[Split, int] = {"fit": 300, "calibrate": 120, "test": 240}


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
    def open(cls, family: Family, trial: Trial, seed: int, share: float) -> Ground:
        """Load a specialist and draw its prompts, `share` of the usual number."""
        subject = Subject.open(family, trial.skill)
        fit, validate, test = (_task(subject, trial, split, share, seed) for split in SIZES)
        cost = subject.cost(others_text(trial.skill, seed))
        return cls(trial, subject, fit, validate, test, cost, seed)

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


def _task(subject: Subject, trial: Trial, split: Split, share: float, seed: int) -> Task:
    """A split's prompts as a task of the specialist, judged as the skill is."""
    count = max(16, round(SIZES[split] * share))
    rows: list[Example] = corpus.draw(trial.skill, split, count, seed + 7, None)[:count]

    def judge(row: int, tokens: Sequence[int]) -> Verdict:
        text = subject.codec.decode(tokens).strip()
        return Verdict(correct(rows[row], text), bool(text) and len(tokens) < trial.longest)

    prompts = [subject.codec.encode_prompt(row.prompt, row.history) for row in rows]
    return subject.task_of(prompts, judge, trial.longest)


def others_text(skill: str, seed: int, each: int = 12) -> list[str]:
    """Prompts with their answers of other skills: what an entry for this one must leave alone."""
    texts: list[str] = []
    for other in TRIALS:
        if other.skill != skill:
            rows = corpus.draw(other.skill, "calibrate", each, seed + 11, None)[:each]
            texts += [f"{row.prompt} {row.answer}" for row in rows]
    return texts


def try_all(
    family: Family, seed: int = 0, share: float = 1.0, say: Say = lambda line: None
) -> Iterator[Tried]:
    """Try every method on every specialist that is here; nothing is written."""
    for trial in TRIALS:
        if trial.skill not in family.cards:
            continue
        ground = Ground.open(family, trial, seed, share)
        for method in ("corrsteer", "crl") if trial.updates else ("corrsteer",):
            found = ground.corrsteer() if method == "corrsteer" else ground.crl(share, say)
            tried = ground.judged(found)
            say(f"{trial.skill}, {method}: {tried.reason}")
            yield tried


def main(arguments: Sequence[str]) -> int:
    """Try all on a family, and enter what passed where `--enter` says so."""
    names = [one for one in arguments if not one.startswith("--")]
    if len(names) != 1 or set(arguments) - {*names, "--enter"}:
        print("usage: python -P -m pilothouse.specialists.starter.entries FAMILY [--enter]", file=sys.stderr)
        return 2
    for tried in try_all(Family.open(names[0]), say=lambda line: print(line, flush=True)):
        if tried.admitted and tried.verdict is not None and "--enter" in arguments:
            with suppress(UsageError):  # an entry of this name is there already
                enter(Family.open(names[0]), tried.found.vectors, tried.verdict, None, [tried.skill])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
