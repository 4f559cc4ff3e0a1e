"""A family's specialist as what steering entries are made for, and an entry's way into its policy."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from ...router.features.sae import SAE
from ...router.policy import Policy, SteeringRule
from ...router.steer.admission import Admission, identity
from ...router.steer.choice import Score, divergence, neutral
from ...router.steer.task import Switch, Task, Verdict
from ...router.steer.vector import SteeringVector
from ...store.errors import UsageError
from .. import integrity
from ..adapters import AdapterBank
from ..family import Family
from ..models import load_model_folder
from ..tokenizing import ChatCodec

Rule = Literal["exact", "contains", "number"]
Part = Literal["fit", "validate", "test"]
STEERABLE = ("adapter", "trunk")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
WORD = re.compile(r"\w+")


class Exercise(NamedTuple):
    """A prompt, the reference answer, and how an answer is compared with it: the same words (`exact`), the
    reference's words somewhere in it (`contains`), the same last number (`number`).
    """

    prompt: str
    answer: str
    check: Rule = "exact"

    @property
    def part(self) -> Part:
        """Which part it belongs to, for ever: half fits, a fifth validates, the rest tests."""
        place = int(integrity.combined({"prompt": self.prompt})[:8], 16) % 10
        return "fit" if place < 5 else "validate" if place < 7 else "test"

    def judge(self, text: str, ended: bool) -> Verdict:
        """Judge an answer; it is valid if it ended and says something (a number, where one is asked for)."""
        if self.check == "number":
            said, wanted = NUMBER.findall(text), NUMBER.findall(self.answer)
            return Verdict(bool(said) and said[-1:] == wanted[-1:], ended and bool(said))
        said, wanted = WORD.findall(text.casefold()), WORD.findall(self.answer.casefold())
        if self.check == "exact":
            return Verdict(said == wanted, ended and bool(said))
        return Verdict(f" {' '.join(wanted)} " in f" {' '.join(said)} ", ended and bool(said))


def read_exercises(path: Path) -> list[Exercise]:
    """Read JSON lines with prompt, answer and, where not `exact`, check.

    Raises UsageError when the file cannot be read, a line is no such object, or a part gets none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give a file of JSON lines") from error
    found = [_exercise(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for part in ("fit", "validate", "test"):
        if not any(one.part == part for one in found):
            raise UsageError(
                f"{path} has {len(found)} exercises, none of them in the part {part!r}; a hash of the prompt "
                "draws the parts: give some dozens, better hundreds"
            )
    return found


def _exercise(path: Path, number: int, line: str) -> Exercise:
    try:
        row = json.loads(line)
        made = Exercise(str(row["prompt"]), str(row["answer"]), row.get("check", "exact"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}, line {number}: {line[:60]!r} is no object with prompt and answer ({error}); correct it"
        ) from error
    if made.check not in ("exact", "contains", "number") or not made.prompt.strip():
        raise UsageError(
            f"{path}, line {number}: check is {made.check!r}; use exact, contains or number, and a prompt"
        )
    return made


@dataclass(frozen=True)
class Subject:
    """A family's trunk in float32 on the CPU, with one specialist's adapter loaded."""

    family: Family
    name: str
    model: nn.Module
    codec: ChatCodec
    bank: AdapterBank

    @classmethod
    def open(cls, family: Family, name: str) -> Subject:
        """Load trunk and adapter.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be steered.
        """
        card = family.card(name)
        if card.kind not in STEERABLE:
            raise UsageError(
                f"{name!r} is a {card.kind}, which cannot be steered; name an adapter or the trunk"
            )
        model = load_model_folder(family.trunk_folder, torch.float32).requires_grad_(False)
        bank = AdapterBank(model)
        if card.kind == "adapter":
            bank.load(name, family.specialist_folder(name))
        return cls(family, name, model, ChatCodec.load(family.trunk_folder), bank)

    @property
    def acting(self) -> Switch:
        """Switches the adapter on, where there is one."""
        from contextlib import nullcontext

        return (lambda: self.bank.active(self.name)) if self.name in self.bank.adapters else nullcontext

    def task(self, exercises: Sequence[Exercise], part: Part, max_tokens: int, most: int = 1000) -> Task:
        """The exercises of one part as a task of this specialist, at most so many."""
        rows = [one for one in exercises if one.part == part][:most]

        def judge(row: int, tokens: Sequence[int]) -> Verdict:
            return rows[row].judge(self.codec.decode(tokens), len(tokens) < max_tokens)

        return self.task_of([self.codec.encode_prompt(one.prompt) for one in rows], judge, max_tokens)

    def task_of(self, prompts: Sequence[Sequence[int]], judge: object, max_tokens: int) -> Task:
        """A task of this specialist from token prompts and a verifier of answer tokens."""
        return Task(
            tuple(map(tuple, prompts)),
            judge,  # type: ignore[arg-type]
            self.codec.end,
            max_tokens,
            self.codec.invocation,
            self.acting,
            size=64,
        )

    def cost(self, texts: Sequence[str]) -> Score:
        """The side effect of vectors on neutral texts, read by the bare trunk."""
        return divergence(self.model, neutral([self.codec.encode_text(text) for text in texts]))

    def saes(self) -> dict[int, SAE]:
        """The family's dictionaries by layer. Raises UsageError when it has none."""
        found = {sae.layer: sae for sae in self.family.saes.values()}
        if not found:
            raise UsageError(f"family {self.family.name!r} has no dictionaries under features/; train some")
        return found


# -- into the policy ---------------------------------------------------------------------------------------


def require_admitted(vectors: Sequence[SteeringVector], verdict: Admission) -> None:
    """Raises UsageError unless the verdict is about exactly these vectors, and admits them."""
    if verdict.identity != identity(vectors):
        raise UsageError(f"the gate judged {', '.join(verdict.names)} as they were then; run the gate again")
    if not verdict.admitted:
        raise UsageError(f"the gate refused {', '.join(verdict.names)}: {'; '.join(verdict.reasons)}")


def rules(
    vectors: Sequence[SteeringVector], reading: str | None, specialists: Sequence[str]
) -> tuple[SteeringRule, ...]:
    """The policy's rules for an entry: all of its vectors together."""
    return tuple(
        SteeringRule(reading=reading, vector=one.name, specialists=tuple(specialists)) for one in vectors
    )


def enter(
    family: Family,
    vectors: Sequence[SteeringVector],
    verdict: Admission,
    reading: str | None,
    specialists: Sequence[str],
) -> Policy:
    """Write an admitted entry into a family's folder and policy, and seal it.

    Raises:
        UsageError: the gate did not admit exactly these vectors, a name is taken, or there is no policy.
        IntegrityError: the family's files are not the ones that were made.
    """
    require_admitted(vectors, verdict)
    family.verify()
    if family.policy is None:
        raise UsageError(f"family {family.name!r} has no policy; fit one first")
    taken = sorted({one.name for one in vectors} & set(family.vectors))
    if taken:
        raise UsageError(f"family {family.name!r} has vectors named {taken} already; give the entry a name")
    probes = family.bank.probes if family.bank else ()
    readings = [probe.name for probe in probes if probe.kind == "reading"]
    policy = family.policy.model_copy(
        update={"steering": (*family.policy.steering, *rules(vectors, reading, specialists))}
    )
    policy.require(family.cards, readings)
    made = [family.folder / "vectors" / one.name for one in vectors]
    try:
        for one, folder in zip(vectors, made, strict=True):
            told = {"admission": {"prompts": verdict.prompts, "right": verdict.right, "arms": _arms(verdict)}}
            replace(one, fingerprint=family.trunk_fingerprint, meta=one.meta | told).save(folder)
        policy.with_vectors({**family.vectors, **{one.name: one for one in vectors}})
        policy.save(family.folder / family.settings.policy)
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    integrity.seal(family.folder)
    return policy


def _arms(verdict: Admission) -> list[dict[str, float | str]]:
    return [{"name": one.name, "right": one.right, "gain": one.gain, "low": one.low} for one in verdict.arms]
