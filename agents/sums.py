"""Re-compute the arithmetic in a prompt and in an answer's own steps, with a parser of numbers alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

LONGEST = 60  # characters of an expression
MOST_DIGITS = 18

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<sign>[-+*/×÷−x()]))")
_SIGNS = {"×": "*", "x": "*", "÷": "/", "−": "-"}
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_EXPRESSION = re.compile(rf"-?\s*{_NUMBER}(?:\s*[-+*/×÷−x]\s*{_NUMBER})+")
# a sum on a line of its own; one with a negative result may turn it round there: 12-30=-(30-12)
_HEADING = re.compile(rf"(?P<sum>{_EXPRESSION.pattern})(?:\s*=\s*[-−]\s*\({_EXPRESSION.pattern}\))?")
_EQUATION = re.compile(r"[-\d+*/×÷−().|\s=]*=[-\d+*/×÷−().|\s=]*")
_SAID_SIGN = re.compile(r"\b(?:minus|negative)\s+(?=\d)", re.IGNORECASE)
_LEADING = re.compile(r"\s*-?\s*\d+(?:\.\d+)?")
_ASKING_WORDS = """
    what whats what's is calculate compute evaluate work out find how much many please solve could can would
    you do get for the result of value tell me help with figure give answer to i need know want and does equal
    equals make a an quick sum total product difference quotient if so then hi hey hello just my"""
_ASKING = frozenset(_ASKING_WORDS.split())


class NotArithmetic(ValueError):
    """The text is no expression of numbers, + − × ÷ and brackets."""


def value(text: str) -> Fraction:
    """Return the exact value of an expression. Raises NotArithmetic, also for a division by zero."""
    if len(text) > LONGEST:
        raise NotArithmetic(f"longer than {LONGEST} characters")
    parser = _Parser(list(_tokens(text)))
    found = parser.sum()
    if parser.rest:
        raise NotArithmetic(text)
    return found


def asked(prompt: str) -> str | None:
    """The one expression that a prompt plainly asks for ("What is 3 + 4?"), or None.

    A prompt that says anything else (translate, a story, a date range) is not judged.
    """
    found = _EXPRESSION.findall(prompt)
    rest = _EXPRESSION.sub(" ", prompt)
    words = re.findall(r"[^\W\d_][\w']*", rest.lower())
    plain = re.fullmatch(r"[\w\s?.,!='’]*", rest) is not None and not re.search(r"\d", rest)
    return found[0].replace(",", "") if len(found) == 1 and plain and set(words) <= _ASKING else None


def wrong(prompt: str, answer: str) -> str | None:
    """Say which sum is wrong in the answer, or None when none is (or none can be checked)."""
    return _wrong_step(answer) or _wrong_result(prompt, answer)


def checkable(prompt: str, answer: str) -> bool:
    """Whether `wrong` had anything to check: steps, or a number that answers a plain sum."""
    expression = asked(prompt) or _stated(answer)
    given = expression is not None and _result(answer, expression) is not None
    return given or any(True for _ in _equations(answer))


def _wrong_result(prompt: str, answer: str) -> str | None:
    for expression in (asked(prompt), _stated(answer)):
        fault = _disagreement(expression, answer) if expression is not None else None
        if fault is not None:
            return fault
    return None


def _disagreement(expression: str, answer: str) -> str | None:
    try:
        right = value(expression)
    except NotArithmetic:
        return None
    given = _result(answer, expression)
    if given is None or _agree(right, given):
        return None
    return f"{expression.strip()} is {_shown(right)}, the answer says {_shown(given)}"


def _stated(answer: str) -> str | None:
    """The expression whose value should follow `Answer:`: the last on a line of its own, or the last step.

    None when the last step gives the answer: a second sum may be too short for a line of its own.
    """
    steps, found, final = answer.rpartition("Answer:")
    lines = [line.strip() for line in steps.splitlines() if line.strip()]
    if not found or not lines:
        return None
    last = next(_equations(lines[-1]), None)
    if last is not None and final.strip() == last[-1].strip():
        return None
    if len(lines) == 1 and last is not None:
        return last[0]
    headings = (_HEADING.fullmatch(line) for line in reversed(lines))
    return next((heading["sum"] for heading in headings if heading), None)


def _result(answer: str, expression: str) -> Fraction | None:
    """The number that an answer ends with; `Q remainder R` counts as Q + R / divisor."""
    final = _SAID_SIGN.sub("-", answer.rpartition("Answer:")[2])
    rest = re.search(rf"(-?{_NUMBER})\s+(?:remainder|rest|r)\s+(\d+)", final, re.IGNORECASE)
    divisor = re.fullmatch(r".*[/÷]\s*(\d+)\s*", expression)
    if rest and divisor and int(divisor[1]):
        whole, left = _number(rest[1]), _number(rest[2])
        return whole + left / int(divisor[1])
    numbers = re.findall(rf"(?<![\w.])[-−]?{_NUMBER}", final)
    return _number(numbers[-1]) if numbers else None


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace("−", "-").rstrip("."))


def _wrong_step(answer: str) -> str | None:
    for sides in _equations(answer):
        values = [value(side) for side in sides]
        for index, one in enumerate(values[1:]):
            # people, and our specialist, write running sums: in 5*9=45+7=52 the first = means the 45 alone
            running = _LEADING.match(sides[index + 1])
            meant = [one, value(running[0])] if running else [one]
            if not any(_agree(values[index], reading) for reading in meant):
                return (
                    f"{sides[index]} = {sides[index + 1]} is wrong: {sides[index]} is {_shown(values[index])}"
                )
    return None


def _equations(answer: str) -> Iterator[list[str]]:
    """Chains `a op b = c = …` in the answer; digits kept after a bar (`13|0`) are notes, not value."""
    for line in answer.splitlines():
        for run in _EQUATION.findall(line):
            sides = [side.partition("|")[0].strip().rstrip(".") for side in run.split("=")]
            if len(sides) > 1 and all(map(_readable, sides)):
                yield sides


def _readable(side: str) -> bool:
    try:
        value(side)
    except NotArithmetic:
        return False
    return True


def _agree(right: Fraction, given: Fraction) -> bool:
    """Equal, or rounded to what was given: a decimal may stand for a fraction that never ends."""
    if right == given:
        return True
    return right.denominator > 1 and given.denominator > 1 and abs(right - given) <= Fraction(1, 100)


def _shown(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.6g}"


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or len(match["number"] or "") > MOST_DIGITS:
            raise NotArithmetic(text)
        yield match["number"] or _SIGNS.get(match["sign"], match["sign"])
        place = match.end()


class _Parser:
    """sum = product ((+|-) product)*; product = signed ((*|/) signed)*; signed = -signed | number | (sum)."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def sum(self) -> Fraction:
        total = self.product()
        while self.rest and self.rest[0] in "+-":
            total = total + self.product() if self.rest.pop(0) == "+" else total - self.product()
        return total

    def product(self) -> Fraction:
        total = self.signed()
        while self.rest and self.rest[0] in "*/":
            if self.rest.pop(0) == "*":
                total *= self.signed()
                continue
            divisor = self.signed()
            if not divisor:
                raise NotArithmetic("a division by zero")
            total /= divisor
        return total

    def signed(self) -> Fraction:
        if not self.rest:
            raise NotArithmetic("it ends too early")
        token = self.rest.pop(0)
        if token == "-":
            return -self.signed()
        if token == "(":
            inner = self.sum()
            if not self.rest or self.rest.pop(0) != ")":
                raise NotArithmetic("a bracket is not closed")
            return inner
        if not token[0].isdigit():
            raise NotArithmetic(token)
        return Fraction(token)
