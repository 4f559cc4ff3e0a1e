"""One- and two-step word problems over many everyday scenes, with small numbers and exact divisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from .arithmetic_steps import worked
from .example import Split, row_split, wider_pool
from .word_problem_more import MORE_SCENES
from .word_problem_more_two import MORE_TWO_STEP
from .word_problem_templates import NAMES, OBJECTS, SCENES

Numbers = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem text, its written-out lines, its result and the id of its template."""

    text: str
    lines: list[str]
    result: str
    template: str


def word_problem(rng: Random, kind: str, split: Split) -> Problem:
    """Draw a problem of ``kind`` (``word1`` or ``word2``) with a template and operands of ``split``."""
    shape = rng.choice([s for s in SCENES if SHAPES[s].kind == kind])
    numbers = _numbers(rng, shape, split)
    template = rng.choice(_pool(shape, split))
    first, second = rng.sample(NAMES, 2)
    a, b, c = numbers
    text = template.format(n=first, m=second, o=rng.choice(OBJECTS), a=a, b=b, c=c)
    lines, result = SHAPES[shape].solve(numbers)
    return Problem(text, lines, result, f"{kind}/{shape}/{template}")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the numbers of one equation shape are drawn and solved."""

    kind: str
    draw: Callable[[Random], Numbers]
    solve: Callable[[Numbers], tuple[list[str], str]]


def _numbers(rng: Random, shape: str, split: Split) -> Numbers:
    while True:
        numbers = SHAPES[shape].draw(rng)
        if row_split(_key(shape, numbers)) == split:
            return numbers


def _key(shape: str, numbers: Numbers) -> str:
    a, b, c = numbers
    if SHAPES[shape].kind == "word2":
        return f"{shape}:{a}:{b}:{c}"
    if shape in ("add", "mul"):
        a, b = min(a, b), max(a, b)
    return f"{shape}:{a}:{b}"


@cache
def _pool(shape: str, split: Split) -> list[str]:
    return wider_pool(SCENES[shape], (MORE_SCENES | MORE_TWO_STEP)[shape], split)


def _one(operation: str) -> Callable[[Numbers], tuple[list[str], str]]:
    def solve(numbers: Numbers) -> tuple[list[str], str]:
        return worked(operation, numbers[0], numbers[1])

    return solve


def _two(first: str, second: str) -> Callable[[Numbers], tuple[list[str], str]]:
    """Solve ``(a first b) second c``."""

    def solve(numbers: Numbers) -> tuple[list[str], str]:
        lines, middle = worked(first, numbers[0], numbers[1])
        more, result = worked(second, int(middle), numbers[2])
        return lines + more, result

    return solve


def _minus_product(numbers: Numbers) -> tuple[list[str], str]:
    """Solve ``a - b * c``."""
    lines, middle = worked("mul", numbers[1], numbers[2])
    more, result = worked("sub", numbers[0], int(middle))
    return lines + more, result


def _size(rng: Random, digits: int) -> int:
    """Draw a number of 1 to ``digits`` digits that makes sense in a story (at least 2)."""
    length = rng.randint(1, digits)
    return rng.randint(2, 9) if length == 1 else rng.randrange(10 ** (length - 1), 10**length)


def _draw_add(rng: Random) -> Numbers:
    return _size(rng, 3), _size(rng, 3), 0


def _draw_sub(rng: Random) -> Numbers:
    a, b = _size(rng, 3), _size(rng, 3)
    return max(a, b) + (a == b), min(a, b), 0


def _draw_mul(rng: Random) -> Numbers:
    a, b = _size(rng, 2), rng.randint(2, 12)
    return (a, b, 0) if rng.random() < 0.5 else (b, a, 0)


def _draw_div(rng: Random) -> Numbers:
    divisor = rng.randint(2, 9) if rng.random() < 0.8 else rng.randint(10, 20)
    return divisor * _size(rng, 2 if divisor < 10 else 1), divisor, 0


def _draw_sum3(rng: Random) -> Numbers:
    return _size(rng, 2), _size(rng, 2), _size(rng, 2)


def _draw_add_sub(rng: Random) -> Numbers:
    a, b = _size(rng, 2), _size(rng, 2)
    return a, b, rng.randint(2, a + b - 1)


def _draw_sub_sub(rng: Random) -> Numbers:
    b, c = _size(rng, 2), _size(rng, 2)
    return b + c + rng.randint(1, 60), b, c


def _draw_sub_add(rng: Random) -> Numbers:
    b = _size(rng, 2)
    return b + rng.randint(1, 60), b, _size(rng, 2)


def _draw_mul_add(rng: Random) -> Numbers:
    return rng.randint(2, 12), rng.randint(2, 12), _size(rng, 2)


def _draw_mul_sub(rng: Random) -> Numbers:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    return a, b, rng.randint(1, min(a * b - 1, 99))


def _draw_minus_product(rng: Random) -> Numbers:
    b, c = rng.randint(2, 12), rng.randint(2, 12)
    return b * c + rng.randint(1, 50), b, c


def _draw_add_div(rng: Random) -> Numbers:
    divisor = rng.randint(2, 9)
    total = divisor * rng.randint(2, 12)
    a = rng.randint(1, total - 1)
    return a, total - a, divisor


def _draw_sub_div(rng: Random) -> Numbers:
    divisor, b = rng.randint(2, 9), _size(rng, 2)
    return divisor * rng.randint(2, 12) + b, b, divisor


SHAPES: dict[str, Shape] = {
    "add": Shape("word1", _draw_add, _one("add")),
    "sub": Shape("word1", _draw_sub, _one("sub")),
    "mul": Shape("word1", _draw_mul, _one("mul")),
    "div": Shape("word1", _draw_div, _one("div")),
    "a+b+c": Shape("word2", _draw_sum3, _two("add", "add")),
    "a+b-c": Shape("word2", _draw_add_sub, _two("add", "sub")),
    "a-b-c": Shape("word2", _draw_sub_sub, _two("sub", "sub")),
    "a-b+c": Shape("word2", _draw_sub_add, _two("sub", "add")),
    "a*b+c": Shape("word2", _draw_mul_add, _two("mul", "add")),
    "a*b-c": Shape("word2", _draw_mul_sub, _two("mul", "sub")),
    "a-b*c": Shape("word2", _draw_minus_product, _minus_product),
    "(a+b)/c": Shape("word2", _draw_add_div, _two("add", "div")),
    "(a-b)/c": Shape("word2", _draw_sub_div, _two("sub", "div")),
}
