"""Keep test rows out of training: check every data set against the test sets, and for repeated rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...store import paths
from ...store.errors import UsageError
from .data import Data, Table
from .leaks import Leak, duplicates, leaks

SHOWN = 80


def prompt_of(row: Mapping[str, str]) -> str:
    """Return what identifies a row: its prompt, its text, or all of it."""
    return row.get("prompt") or row.get("text") or json.dumps(row, sort_keys=True)


def registry() -> Path:
    """Where test sets that every recipe is checked against are registered: one ``NAME.jsonl`` each."""
    return paths.data_dir() / "tests"


def registered() -> dict[str, list[str]]:
    """Return the prompts of the registered test sets by name."""
    found = {}
    for path in sorted(registry().glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[path.stem] = [str(json.loads(line)) for line in lines if line]
    return found


def register_tests(data: Mapping[str, Data], recipe: str) -> None:
    """Register a recipe's test sets, so that later recipes do not train on them."""
    for one in data.values():
        if one.test:
            path = registry() / f"{recipe}.{one.name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text("".join(json.dumps(prompt_of(r)) + "\n" for r in one.rows), encoding="utf-8")
            part.replace(path)


def guarded(data: Mapping[str, Data], tables: Mapping[str, Table]) -> tuple[dict[str, Data], tuple[str, ...]]:
    """Return the data sets without what their tables say to drop, and what was dropped.

    Raises:
        UsageError: a set repeats a row, or holds rows of a test set, and its table does not say to drop them.
    """
    tests = {name: [prompt_of(r) for r in d.rows] for name, d in data.items() if d.test}
    tests.update({f"{n} (registered)": t for n, t in registered().items()})
    out: dict[str, Data] = {}
    notes: list[str] = []
    for name, one in data.items():
        kept, said = _without_duplicates(one, tables[name])
        notes += said
        if not one.test:
            for test, prompts in tests.items():
                kept, said = _without_leaks(kept, tables[name], test, prompts)
                notes += said
        out[name] = kept
    return out, tuple(notes)


def _without_duplicates(one: Data, table: Table) -> tuple[Data, list[str]]:
    whole = [f"{prompt_of(r)}\n{r.get('answer', '')}" for r in one.rows]
    found = duplicates(whole) if table.duplicates != "keep" else []
    if found and table.duplicates == "refuse":
        first = found[0]
        raise UsageError(
            f"data {one.name!r} repeats {_count(found)}: row {first.row + 1} is row {first.other + 1} again "
            f'({_quoted(one, first.row)}); remove them, or say duplicates = "drop" (or "keep")'
        )
    return _dropped(one, found, "that repeat another")


def _without_leaks(one: Data, table: Table, test: str, prompts: Sequence[str]) -> tuple[Data, list[str]]:
    found = leaks([prompt_of(r) for r in one.rows], prompts, table.near)
    if found and table.leaks == "refuse":
        first = found[0]
        near = first.similarity < 1
        how = f"is to {first.similarity:.0%}" if near else "is"
        other = " (near = 1 where alike rows ask different things)" if near else ""
        raise UsageError(
            f"data {one.name!r} holds {_count(found)} of the test set {test}: row {first.row + 1} "
            f"({_quoted(one, first.row)}) {how} test row {first.other + 1}; remove them, or say "
            f'leaks = "drop": figures on rows that were trained on are worthless{other}'
        )
    return _dropped(one, found, f"of the test set {test}")


def _dropped(one: Data, found: Sequence[Leak], which: str) -> tuple[Data, list[str]]:
    if not found:
        return one, []
    gone = {leak.row for leak in found}
    if len(gone) == len(one.rows):
        raise UsageError(f"data {one.name!r}: every row is one {which}; nothing is left")
    kept = one.only([i for i in range(len(one.rows)) if i not in gone])
    return kept, [f"data {one.name}: left out {_count(found)} {which}"]


def _count(found: Sequence[Leak]) -> str:
    return "1 row" if len(found) == 1 else f"{len(found)} rows"


def _quoted(one: Data, row: int) -> str:
    text = prompt_of(one.rows[row])
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
