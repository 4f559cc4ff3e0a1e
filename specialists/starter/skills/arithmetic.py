"""Arithmetic rows: the four operations and word problems, answered with written-out steps and ``Answer: N``.

Rows are split by operation and operands (``add:347:586``; commuted pairs share a split), so test operands are
unseen. Surface templates are split per operation. About 6 % of the rows continue an earlier turn ("now add
5").
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from .arithmetic_more import IDIOMS, MORE_FOLLOW_UPS
from .arithmetic_steps import worked
from .arithmetic_templates import EXPRESSIONS, FOLLOW_UPS, TEMPLATES
from .asking_more import MORE_GENERIC, MORE_OPERATIONS
from .example import Example, Split, row_split, wider_pool
from .word_problems import word_problem

KINDS = ("add", "sub", "mul", "div", "word1", "word2")
WEIGHTS = (15, 16, 18, 22, 13, 16)
LESSON_WEIGHTS = (15, 25, 15, 23, 9, 13)  # in training: more of what is hardest
HARD_SHARE = 0.35  # of the differences in training: numbers that are told apart late, or borrow across zeros
HISTORY_SHARE = 0.08  # of the plain operations, which makes 6 % of all rows
FACTOR_LENGTHS = ((1, 1), (1, 2), (2, 2), (1, 3), (1, 4))
FACTOR_WEIGHTS = (12, 18, 42, 14, 14)


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return ``count`` rows, the same for the same ``(split, count, seed)``; ``data`` is not needed here."""
    rng = Random(f"arithmetic:{split}:{seed}")
    weights = LESSON_WEIGHTS if split == "train" else WEIGHTS
    return [_example(rng, rng.choices(KINDS, weights)[0], split) for _ in range(count)]


def row_key(operation: str, left: int, right: int) -> str:
    """Name a row by its operation and operands; addition and multiplication do not care about their order."""
    if operation in ("add", "mul") and left > right:
        left, right = right, left
    return f"{operation}:{left}:{right}"


def answer_text(lines: list[str], result: str) -> str:
    """Join the written-out lines and close with the result."""
    return "\n".join([*lines, f"Answer: {result}"])


def _example(rng: Random, kind: str, split: Split) -> Example:
    if kind in ("word1", "word2"):
        problem = word_problem(rng, kind, split)
        answer = answer_text(problem.lines, problem.result)
        return Example(problem.text, answer, "arithmetic", kind, problem.template, "number")
    if rng.random() < HISTORY_SHARE:
        return _follow_up(rng, kind, split)
    left, right = _operands(rng, kind, split)
    prompt, template = _prompt(rng, kind, left, right, split)
    return Example(prompt, _solved(rng, kind, left, right, split), "arithmetic", kind, template, "number")


def _solved(rng: Random, kind: str, left: int, right: int, split: Split) -> str:
    lines, result = worked(kind, left, right, rng if split in ("train", "fit") else None)
    return answer_text(lines, result)


def _operands(rng: Random, kind: str, split: Split) -> tuple[int, int]:
    hard = kind == "sub" and split == "train" and rng.random() < HARD_SHARE
    while True:
        left, right = _hard_difference(rng) if hard else SAMPLERS[kind](rng)
        if row_split(row_key(kind, left, right)) == split:
            return left, right


def _number(rng: Random, length: int) -> int:
    """Draw a number of ``length`` digits; one in six is full of zeros and nines."""
    if length == 1:
        return rng.randrange(10)
    if rng.random() < 1 / 6:
        tail = "".join(rng.choice("00099912345678") for _ in range(length - 1))
        return int(rng.choice("1123456789") + tail)
    return rng.randrange(10 ** (length - 1), 10**length)


def _add_operands(rng: Random) -> tuple[int, int]:
    left = _number(rng, rng.randint(1, 4))
    if rng.random() < 0.12:
        # columns that sum to nine, so that one carry at the right end runs through all of them
        return left, max(0, 10 ** len(str(left)) - 1 - left + rng.randint(0, 9))
    return left, _number(rng, rng.randint(1, 4))


def _sub_operands(rng: Random) -> tuple[int, int]:
    left, right = _number(rng, rng.randint(1, 4)), _number(rng, rng.randint(1, 4))
    if rng.random() < 0.2:
        right = max(0, min(9999, left + rng.randint(-120, 120)))
    if left < right and rng.random() < 0.5:
        return right, left
    return left, right


def _hard_difference(rng: Random) -> tuple[int, int]:
    """Draw two numbers with the same first digits, the smaller first half the time, or ones that borrow."""
    length = rng.randint(2, 4)
    if rng.random() < 0.4:
        return _borrowing(rng, length)
    shared = rng.randint(1, length - 1)
    head = _number(rng, shared) * 10 ** (length - shared)
    tails = sorted(rng.randrange(10 ** (length - shared)) for _ in range(2))
    left, right = (head + tail for tail in tails)
    return (left, right) if rng.random() < 0.5 else (right, left)


def _borrowing(rng: Random, length: int) -> tuple[int, int]:
    """Draw a larger number full of zeros and a smaller one, so that a loan runs through several columns."""
    left = rng.randint(1, 9) * 10 ** (length - 1) + int("".join(rng.choices("00012", k=length - 1)))
    return left, rng.randrange(left)


def _mul_operands(rng: Random) -> tuple[int, int]:
    lengths = rng.choices(FACTOR_LENGTHS, FACTOR_WEIGHTS)[0]
    left, right = _number(rng, lengths[0]), _number(rng, lengths[1])
    return (left, right) if rng.random() < 0.5 else (right, left)


def _div_operands(rng: Random) -> tuple[int, int]:
    divisor = rng.randint(2, 9) if rng.random() < 0.5 else rng.randint(10, 99)
    if rng.random() < 0.02:
        divisor = 1
    quotient = _number(rng, rng.choice((1, 1, 2, 2, 2)))
    rest = rng.randrange(divisor) if rng.random() < 0.45 else 0
    return divisor * quotient + rest, divisor


SAMPLERS = {"add": _add_operands, "sub": _sub_operands, "mul": _mul_operands, "div": _div_operands}


@cache
def _pool(kind: str, split: Split) -> list[str]:
    return wider_pool(TEMPLATES[kind], (*MORE_GENERIC, *MORE_OPERATIONS[kind], *IDIOMS[kind]), split)


@cache
def _follow_pool(kind: str, split: Split) -> list[str]:
    return wider_pool(FOLLOW_UPS[kind], MORE_FOLLOW_UPS[kind], split)


def _prompt(rng: Random, kind: str, left: int, right: int, split: Split) -> tuple[str, str]:
    # the bare expression is what people type most, so the first template of the pool comes up more often
    pool = _pool(kind, split)
    template = pool[0] if rng.random() < 0.15 else rng.choice(pool)
    shown_left, shown_right = _shown(rng, left), _shown(rng, right)
    expression = ""
    if "{e}" in template:
        expression = rng.choice(EXPRESSIONS[kind]).format(a=shown_left, b=shown_right)
    text = template.format(e=expression, a=shown_left, b=shown_right)
    return _roughened(rng, text), f"{kind}/{template}"


def _shown(rng: Random, number: int) -> str:
    return f"{number:,}" if number >= 1000 and rng.random() < 0.12 else str(number)


def _roughened(rng: Random, text: str) -> str:
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    return text.rstrip("?.") if rng.random() < 0.15 else text


def _follow_up(rng: Random, kind: str, split: Split) -> Example:
    """Continue an earlier calculation; both rows belong to ``split``."""
    while True:
        before = rng.choice(("add", "sub", "mul"))
        first = _operands(rng, before, split)
        lines, result = worked(before, *first)
        left, right = int(result), _second_operand(rng, kind, int(result))
        if not 0 <= left <= (99 if kind in ("mul", "div") else 9999):
            continue
        if right is not None and row_split(row_key(kind, left, right)) == split:
            break
    template = rng.choice(_follow_pool(kind, split))
    history = ((_prompt(rng, before, *first, split)[0], answer_text(lines, result)),)
    prompt, name = _roughened(rng, template.format(b=right)), f"{kind}/then/{template}"
    answer = _solved(rng, kind, left, right, split)
    return Example(prompt, answer, "arithmetic", kind, name, "number", history)


def _second_operand(rng: Random, kind: str, left: int) -> int | None:
    """Draw the number that a follow-up applies to ``left``; None when ``left`` does not suit it."""
    if kind == "div":
        divisors = [d for d in range(2, 10) if left > 0 and left % d == 0]
        return rng.choice(divisors) if divisors else None
    if kind == "mul":
        return rng.randint(2, 9)
    return _number(rng, rng.randint(1, 3))
