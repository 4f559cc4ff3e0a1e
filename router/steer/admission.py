"""The validation gate: what a new entry must beat before a family's policy may use it.

On prompts that it was not made with, an entry is compared, answer by answer, with no steering, with random
directions of equal norm at the same places, and with entries made in the same way from shuffled labels. It is
admitted when it passes every comparison, and its side effect on neutral text stays within a budget.

A comparison is two exact tests. The entry must be right where the middle one of its rivals is wrong more
often than the other way about (McNemar's test, one-sided). And none of the rivals may do as well: an entry
that is only one more of their kind comes first among 19 of them in one case of 20. Rivals from shuffled
labels are compared by what they were made from, the correlation with their labels, where the maker tells it:
what they do to answers says little of the labels, for a feature found by chance may help as well. As all
comparisons must be passed, none needs correcting for the others (Berger, 'Multiparameter hypothesis testing
and acceptance sampling', 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...store.errors import ArtifactError, UsageError
from ..files import head_field, read_json, sha256_of, write_json
from .choice import Score
from .task import Answer, Task, play, right, side_effect_ratio, valid, validity_share
from .vector import SteeringVector

Vectors = Sequence[SteeringVector]
FORMAT = 2
Z = 1.96
LEVEL = 0.025  # of McNemar's test: that of one end of a 95 % interval
CHANCE = 0.05  # of coming first among rivals of one's own kind
DRAWS = 19  # random directions: as many as CHANCE needs


@dataclass(frozen=True)
class Arm:
    """What the entry was compared with: shares right and valid of the middle one of `rivals`, by how much the
    entry is more often right, the lower end of the 95 % interval of that paired difference, and McNemar's
    exact one-sided `p`. `as_good`: how many rivals did as well.
    """

    name: str
    right: float
    valid: float
    gain: float
    low: float
    p: float
    rivals: int = 1
    as_good: int = 0

    @property
    def beaten(self) -> bool:
        """Whether the entry is better than chance would make it; with fewer rivals than 19 it must come
        first, which says less.
        """
        first = (1 + self.as_good) / (1 + self.rivals)
        return self.p <= LEVEL and first <= max(CHANCE, 1 / (1 + self.rivals))

    @property
    def said(self) -> str:
        """The comparison in words."""
        also = f", {self.as_good} of {self.rivals} as good" if self.rivals > 1 else ""
        return f"{100 * self.gain:+.1f} points, at least {100 * self.low:+.1f}, p {self.p:.2g}{also}"


@dataclass(frozen=True)
class Admission:
    """The verdict on an entry (one vector, or several that go together), and the numbers behind it.

    `harmed` is the side-effect ratio against no steering, `only_form` the share of the answers that became
    right which had no form before; None where nothing changed.
    """

    identity: str
    names: tuple[str, ...]
    prompts: int
    right: float
    valid: float
    arms: tuple[Arm, ...]
    side_effect: float
    budget: float
    harmed: float | None
    only_form: float | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused; empty where it is admitted."""
        found = [f"not better than {one.name}: {one.said}" for one in self.arms if not one.beaten]
        if not self.side_effect <= self.budget:
            found.append(f"side effect {self.side_effect:.3g} nats a token, at most {self.budget:g} allowed")
        return tuple(found)

    @property
    def admitted(self) -> bool:
        """Whether a policy may use it."""
        return not self.reasons

    def save(self, path: Path) -> None:
        """Write the verdict as JSON."""
        arms = [vars(one) for one in self.arms]
        write_json(path, {"format": FORMAT, **vars(self), "arms": arms, "admitted": self.admitted})

    @classmethod
    def load(cls, path: Path) -> Admission:
        """Read a verdict back; whether it admits is decided again from its numbers. Raises ArtifactError when
        the file is missing or damaged.
        """
        head = read_json(path)
        if head.get("format") != FORMAT:
            raise ArtifactError(f"{path} has format {head.get('format')!r}; this version reads {FORMAT}")
        names = [name for name in cls.__dataclass_fields__ if name not in ("arms", "names")]
        fields: dict[str, Any] = {name: head_field(head, name, path) for name in names}
        try:
            arms = tuple(Arm(**one) for one in head_field(head, "arms", path))
            return cls(arms=arms, names=tuple(head_field(head, "names", path)), **fields)
        except TypeError as error:
            raise ArtifactError(f"{path} is no verdict: {error}; run the gate again") from error


def identity(vectors: Vectors) -> str:
    """SHA-256 of everything in the vectors that changes an answer: all but their stories (`meta`)."""
    heads = [{**one.head(), "meta": None} for one in vectors]
    tensors = {f"{i}.{name}": t for i, one in enumerate(vectors) for name, t in one.tensors().items()}
    return sha256_of({"entries": heads}, tensors)


def random_twin(vectors: Vectors, seed: int) -> tuple[SteeringVector, ...]:
    """Random directions of equal norm in the place of the vectors: same layers, gates, scopes, strengths.

    A clamped feature, whose push depends on the token, becomes the addition of its whole value.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for one in vectors:
        drawn = torch.randn(one.vector.shape, generator=generator)
        vector = drawn * (one.vector.norm() / drawn.norm())
        kind = "add" if one.kind == "clamp_feature" else one.kind
        made.append(replace(one, vector=vector, kind=kind, encoder=None, feature=None))
    return tuple(made)


def of_equal_push(vectors: Vectors, like: Vectors) -> tuple[SteeringVector, ...]:
    """Additive vectors with their coefficients set so that all of them push as far as those of `like`, in the
    root of summed squares: an equal budget for a rival of another making.
    """
    push = sum((one.coefficient * float(one.vector.norm())) ** 2 for one in vectors) ** 0.5
    wanted = sum((one.coefficient * float(one.vector.norm())) ** 2 for one in like) ** 0.5
    if not push:
        raise UsageError("a rival entry pushes nowhere: its coefficients are 0; make it again")
    return tuple(replace(one, coefficient=one.coefficient * wanted / push) for one in vectors)


def admit(
    model: nn.Module,
    task: Task,
    vectors: Vectors,
    shuffled: Sequence[Vectors],
    cost: Score,
    *,
    budget: float,
    seed: int = 0,
    draws: int = DRAWS,
) -> Admission:
    """Judge an entry on prompts that nothing was made or tuned with.

    `shuffled` are entries made in the same way from shuffled labels; an empty one stands for a maker that
    found nothing there, which is no steering. Raises UsageError when there is no entry, or no such rival.
    """
    if not vectors or not shuffled:
        raise UsageError(
            f"{len(vectors)} vectors with {len(shuffled)} rivals from shuffled labels: the gate needs at "
            "least one of each; make the entry again, its maker leaves them beside it"
        )
    entry, plain = play(model, task, vectors), play(model, task)
    random = [play(model, task, random_twin(vectors, seed + i)) for i in range(draws)]
    rivals = [play(model, task, one) if one else plain for one in shuffled]
    return Admission(
        identity=identity(vectors),
        names=tuple(one.name for one in vectors),
        prompts=len(task),
        right=right(entry),
        valid=valid(entry),
        arms=(
            arm("no steering", entry, [plain]),
            arm("random directions", entry, random),
            arm("shuffled labels", entry, rivals, evidence([vectors, *shuffled])),
        ),
        side_effect=cost(vectors),
        budget=budget,
        harmed=_known(side_effect_ratio(plain, entry)),
        only_form=_known(validity_share(plain, entry)),
    )


def arm(
    name: str,
    entry: Sequence[Answer],
    others: Sequence[Sequence[Answer]],
    evidence: Sequence[float] | None = None,
) -> Arm:
    """Compare an entry's answers with several rivals' answers to the same prompts. `evidence`: what to count
    rivals as good by, the entry's own first; else by right answers.
    """
    middle = sorted(others, key=right)[len(others) // 2]
    own, theirs = (torch.tensor([one.right for one in answers]) for answers in (entry, middle))
    gains = own.double() - theirs.double()
    error = float(gains.std(correction=0)) / max(len(gains) - 1, 1) ** 0.5
    gain = float(gains.mean())
    scores = [right(one) for one in (entry, *others)] if evidence is None else evidence
    return Arm(
        name,
        right=right(middle),
        valid=valid(middle),
        gain=gain,
        low=gain - Z * error,
        p=mcnemar(int((own & ~theirs).sum()), int((theirs & ~own).sum())),
        rivals=len(others),
        as_good=sum(score >= scores[0] for score in scores[1:]),
    )


def mcnemar(won: int, lost: int) -> float:
    """The chance of winning at least `won` of the prompts on which two differ, were they equally good: exact,
    one-sided (McNemar, 1947).
    """
    total = won + lost
    return sum(comb(total, k) for k in range(won, total + 1)) / (1 << total)


def evidence(entries: Sequence[Vectors]) -> list[float] | None:
    """How strongly what each entry was made from goes with its labels: the greatest |correlation| of its
    vectors, 0 for no entry; None where their maker does not tell.
    """
    if not all("correlation" in one.meta for vectors in entries for one in vectors):
        return None
    return [max((abs(one.meta["correlation"]) for one in vectors), default=0.0) for vectors in entries]


def _known(value: float) -> float | None:
    return None if value != value else value
