"""Built-in generators: rows with a prompt and an answer, drawn by a seed, no file needed.

``arithmetic``, ``facts``, ``words`` and ``translate`` are the starter family's skills. ``symbols`` is a
synthetic language: a task word and letters, answered with letters; small enough that a model of a few hundred
thousand parameters learns it in a minute, with an exact answer to every prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from ...store.errors import UsageError
from ..starter.skills.example import Split, bucket

SKILLS = ("arithmetic", "facts", "translate", "words")
LETTERS = "abcdefghij"
LICENCE = "Apache-2.0"


def _next(letter: str, by: int) -> str:
    return LETTERS[(LETTERS.index(letter) + by) % len(LETTERS)]


TASKS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "copy": list,
    "reverse": lambda word: list(reversed(word)),
    "sort": sorted,
    "next": lambda word: [_next(c, 1) for c in word],
    "before": lambda word: [_next(c, -1) for c in word],
    "swap": lambda word: [word[-1], *word[1:-1], word[0]],
    "rotate": lambda word: [*word[1:], word[0]],
    "double": lambda word: [c for c in word for _ in range(2)],
    "first": lambda word: [word[0]] * len(word),
    "jump": lambda word: [_next(c, 3) for c in word],
    "mirror": lambda word: [LETTERS[len(LETTERS) - 1 - LETTERS.index(c)] for c in word],
}


def answer_of(task: str, word: Sequence[str]) -> str:
    """Return the right answer to a task on a word (letters), letters apart."""
    return " ".join(TASKS[task](word))


def symbols(
    split: Split, count: int, seed: int, tasks: Sequence[str], length: int = 4
) -> list[dict[str, str]]:
    """Draw different rows over ``tasks`` in turn; a word belongs to one split, whatever the task.

    Raises:
        UsageError: a task is unknown, or there are not that many different rows.
    """
    unknown = [t for t in tasks if t not in TASKS]
    if unknown or not tasks:
        raise UsageError(f"symbols have no task {unknown}: they have {', '.join(TASKS)}")
    room = len(tasks) * len(LETTERS) ** length * (0.8 if split == "train" else 0.06)
    if count > 0.8 * room:
        raise UsageError(f"{count} rows of {len(tasks)} tasks on words of {length}: at most {0.8 * room:.0f}")
    rng, seen, rows = Random(f"symbols:{split}:{seed}"), set[str](), list[dict[str, str]]()
    while len(rows) < count:
        task, word = tasks[len(rows) % len(tasks)], rng.choices(LETTERS, k=length)
        prompt = f"{task} {' '.join(word)}"
        if prompt not in seen and _split_of("".join(word)) == split:
            seen.add(prompt)
            rows.append({"prompt": prompt, "answer": answer_of(task, word), "kind": task})
    return rows


def _split_of(word: str) -> Split:
    place = bucket(word)
    return "train" if place < 82 else "fit" if place < 88 else "calibrate" if place < 94 else "test"


def generate(name: str, split: Split, count: int, seed: int) -> tuple[list[dict[str, str]], str]:
    """Return rows of a built-in generator and their licence; ``symbols:copy,sort`` draws these tasks only.

    Raises:
        UsageError: there is no such generator.
    """
    kind, _, tasks = name.partition(":")
    if kind == "symbols":
        return symbols(split, count, seed, tasks.split(",") if tasks else list(TASKS)), LICENCE
    if kind not in SKILLS or tasks:
        raise UsageError(f"there is no generator {name!r}: there are {', '.join((*SKILLS, 'symbols'))}")
    from ..starter.corpus import SKILLS as skills

    drawn = skills[kind](split, 2 * count, seed, None)
    rows = {
        e.prompt: {"prompt": e.prompt, "answer": e.answer, "kind": e.kind} for e in drawn if not e.history
    }
    return list(rows.values())[:count], LICENCE
