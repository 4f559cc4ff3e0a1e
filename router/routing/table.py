"""A labelled table: which model answered which prompt how well, at what cost. Labels may be sparse.

`quality` is within 0 and 1 (a verdict is 0 or 1, a score anything between, NaN is no label). Rows that repeat
a prompt are merged: their labels become the mean, so verdicts that disagree become a label between 0 and 1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ...store.errors import UsageError
from ...store.hashes import digest
from ...store.records import Message

_EDGES = ".,;:!?\"'`…()[]"


def key_of(text: str) -> str:
    """What two prompts share that differ only in case, spacing, compatibility characters, or punctuation at
    the edges of words ("2 + 3" and "2 - 3" stay apart). A prompt of nothing but punctuation is its own key.
    """
    words = (word.strip(_EDGES) for word in unicodedata.normalize("NFKC", text).casefold().split())
    return " ".join(word for word in words if word) or text.strip()


def key_number(text: str) -> int:
    """A 63-bit number of a prompt's key: what a policy remembers of the prompts it was fitted on."""
    return int(digest(key_of(text))[:16], 16) >> 1


@dataclass(frozen=True, eq=False)
class Table:
    """N prompts and M models.

    turns: the conversation of each prompt, the prompt last. quality, cost, latency: [N,M] float32, NaN where
    unknown (cost and latency in the units of the table). signals: numbers that came with the answers, by
    name, [N,M] each. groups and splits: '' where the table names none.
    times: [N] or empty, whatever the table counts time in. notes: what was merged or left out while reading.
    """

    turns: tuple[tuple[Message, ...], ...]
    models: tuple[str, ...]
    quality: Tensor
    cost: Tensor
    latency: Tensor
    groups: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default=())
    signals: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.turns)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Each conversation as one text: what text heads read."""
        return tuple("\n\n".join(turn.content for turn in turns) for turns in self.turns)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of each prompt; equal keys are duplicates."""
        return tuple(map(key_of, self.texts))

    @cached_property
    def key_numbers(self) -> Tensor:
        """The key numbers [N], int64."""
        return torch.tensor([key_number(text) for text in self.texts], dtype=torch.int64)

    @property
    def labelled(self) -> Tensor:
        """Which entries have a label, [N,M] bool."""
        return ~self.quality.isnan()

    def take(self, rows: Sequence[int] | Tensor) -> Table:
        """The table of some rows, in their order."""
        index = [int(i) for i in rows]
        place = torch.tensor(index, dtype=torch.long)
        return Table(
            tuple(self.turns[i] for i in index),
            self.models,
            self.quality[place],
            self.cost[place],
            self.latency[place],
            tuple(self.groups[i] for i in index) if self.groups else (),
            tuple(self.splits[i] for i in index) if self.splits else (),
            tuple(self.times[i] for i in index) if self.times else (),
            self.notes,
            {name: one[place] for name, one in self.signals.items()},
        )

    def with_models(self, names: Sequence[str]) -> Table:
        """The table of some models, in this order. Raises UsageError for a model that it does not have."""
        missing = [name for name in names if name not in self.models]
        if missing:
            raise UsageError(
                f"the table has no model {missing[0]!r}; it has {', '.join(self.models)}; name one of these"
            )
        at = [self.models.index(name) for name in names]
        kept = Table(
            self.turns,
            tuple(names),
            self.quality[:, at],
            self.cost[:, at],
            self.latency[:, at],
            self.groups,
            self.splits,
            self.times,
            self.notes,
            {name: one[:, at] for name, one in self.signals.items()},
        )
        return kept.take(torch.nonzero(kept.labelled.any(1))[:, 0])

    def prices(self) -> dict[str, float]:
        """Mean cost of each model over the rows that state one; models without any are left out."""
        found = {}
        for name, column in zip(self.models, self.cost.T, strict=True):
            stated = column[~column.isnan()]
            if stated.numel():
                found[name] = float(stated.double().mean())
        return found

    def column(self, name: str) -> Tensor:
        """quality, cost, latency or a signal [N,M]; all NaN for a signal that the table does not have."""
        if name in ("quality", "cost", "latency"):
            found: Tensor = getattr(self, name)
            return found
        return self.signals.get(name, torch.full_like(self.quality, torch.nan))

    def require_learnable(self) -> None:
        """Raises UsageError when there is nothing to learn: no label, or all labels alike."""
        labels = self.quality[self.labelled]
        if not labels.numel():
            raise UsageError("the table has no labels; every row needs a value in 'correct' or 'score'")
        if float(labels.min()) == float(labels.max()):
            raise UsageError(
                f"all {labels.numel()} labels are {float(labels[0]):g}; both right and wrong answers must be "
                "there to learn from; add rows of the other kind"
            )
        bare = [
            name for name, some in zip(self.models, self.labelled.any(0).tolist(), strict=True) if not some
        ]
        if bare:
            raise UsageError(f"the model {bare[0]!r} has no label; add rows for it or leave it out")


def joined(tables: Sequence[Table]) -> Table:
    """Several tables as one: models and prompts of all, equal prompts (of one split) merged.

    Where two tables label the same prompt and model, the mean counts.
    """
    models = tuple(dict.fromkeys(name for table in tables for name in table.models))
    rows: dict[tuple[tuple[Message, ...], str], list[tuple[Table, int]]] = {}
    for table in tables:
        for i, turns in enumerate(table.turns):
            rows.setdefault((turns, table.splits[i] if table.splits else ""), []).append((table, i))
    names = ["quality", "cost", "latency", *dict.fromkeys(name for table in tables for name in table.signals)]
    columns = {name: torch.full((len(rows), len(models)), torch.nan) for name in names}
    for number, places in enumerate(rows.values()):
        for name, whole in columns.items():
            stack = torch.stack([_spread(table.column(name)[i], table.models, models) for table, i in places])
            whole[number] = torch.nanmean(stack, 0)
    firsts = [places[0] for places in rows.values()]
    groups = tuple(table.groups[i] if table.groups else "" for table, i in firsts)
    splits = tuple(split for _, split in rows)
    notes = tuple(note for table in tables for note in table.notes)
    return Table(
        tuple(conversation for conversation, _ in rows),
        models,
        columns["quality"],
        columns["cost"],
        columns["latency"],
        groups if any(groups) else (),
        splits if any(splits) else (),
        (),
        notes,
        {name: columns[name] for name in names[3:]},
    )


def _spread(values: Tensor, own: Sequence[str], models: Sequence[str]) -> Tensor:
    """Values of some models at their places among all, NaN elsewhere."""
    found = torch.full((len(models),), torch.nan)
    found[[models.index(name) for name in own]] = values
    return found


def leaks(one: Table, other: Table) -> list[int]:
    """The rows of `other` whose prompt is also in `one`."""
    known = set(one.key_numbers.tolist())
    return [i for i, number in enumerate(other.key_numbers.tolist()) if number in known]


def require_apart(table: Table) -> None:
    """Raises UsageError when a prompt is in two splits of the table: its test would not be a test."""
    if not table.splits:
        return
    home: dict[str, str] = {}
    found = []
    for key, split, text in zip(table.keys, table.splits, table.texts, strict=True):
        if home.setdefault(key, split) != split:
            found.append((text, home[key], split))
    if found:
        text, a, b = found[0]
        raise UsageError(
            f"{len(found)} prompts are in two splits (the first, {text[:60]!r}, in {a!r} and {b!r}); a "
            "prompt "
            "belongs to one split; remove them from one, or give --drop-leaks to drop them from training"
        )


def without_leaks(table: Table, test: str = "test") -> Table:
    """Drop from the other splits the prompts that are also in split `test`."""
    held = {key for key, split in zip(table.keys, table.splits, strict=True) if split == test}
    rows = zip(table.keys, table.splits, strict=True)
    kept = table.take([i for i, (key, split) in enumerate(rows) if split == test or key not in held])
    if len(kept) == len(table):
        return kept
    said = f"{len(table) - len(kept)} prompts to learn from were in the test too and were dropped"
    return replace(kept, notes=(*kept.notes, said))
