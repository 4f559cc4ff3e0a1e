"""Worked arithmetic: every line is a one-digit operation, a table fact or a copy, for a small decoder to
follow.

A column line reads ``4+8+1=13|3``: two digits, the carry that came in, their two-digit sum, and behind the
bar the digits that are already settled. The next line's carry is the tens digit, and its settled digits are
the old ones with the units digit in front, which is a copy of neighbouring tokens.
"""

from __future__ import annotations

from random import Random

SYMBOL = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
TOO_LARGE, TOO_SMALL = 0.08, 0.06  # of long division's first guesses, where lessons show corrections
LINES_OF_A_DIGIT = 8  # at most, the head line included


def worked(operation: str, left: int, right: int, rng: Random | None = None) -> tuple[list[str], str]:
    """Return the written-out lines of one operation, equation first, and its result (``"8 remainder 3"``).

    ``rng`` lets long division show a wrong first guess and its correction now and then; without it every
    guess is right.

    Raises:
        ValueError: an unknown operation, a division by zero, or a product that is neither 1xN nor 2x2 digits.
    """
    if operation == "add":
        return add_lines(left, right), str(left + right)
    if operation == "sub":
        return subtract_lines(left, right), str(left - right)
    if operation == "mul":
        return multiply_lines(left, right), str(left * right)
    if operation != "div":
        raise ValueError(f"operation {operation!r} is not one of {', '.join(SYMBOL)}")
    if right == 0:
        raise ValueError(f"{left}/0 has no result; pass a divisor of at least 1")
    quotient, rest = divmod(left, right)
    lines = divide_short(left, right) if right < 10 else divide_long(left, right, rng)
    return lines, f"{quotient} remainder {rest}" if rest else str(quotient)


def add_lines(left: int, right: int) -> list[str]:
    """Column addition from the right; both numbers are padded to the same width in the first line."""
    if left < 10 and right < 10:
        return [f"{left}+{right}={left + right}"]
    first, second = _padded(left, right)
    lines, carry, settled = [f"{first}+{second}"], 0, ""
    for place in range(len(first) - 1, -1, -1):
        total = int(first[place]) + int(second[place]) + carry
        lines.append(f"{first[place]}+{second[place]}{_flag('+', carry, settled)}={total:02d}{_bar(settled)}")
        carry, settled = total // 10, f"{total % 10}{settled}"
    return lines


def subtract_lines(left: int, right: int) -> list[str]:
    """Column subtraction; the minuend digit is written with the ten it borrowed (``13-8-1=4|7``).

    The second line says digit by digit which number is larger (``1=1,6<7``); a negative difference is then
    turned round.
    """
    if right <= left < 10:
        return [f"{left}-{right}={left - right}"]
    first, second = _padded(left, right)
    lines = [f"{first}-{second}", _compared(first, second)]
    if left < right:
        first, second = second, first
        lines.append(f"-({first}-{second})")
    return lines + _columns(first, second)


def _compared(first: str, second: str) -> str:
    """Compare two numbers of equal width from the left, up to the first digits that differ."""
    signs = ["=" if a == b else "<>"[a > b] for a, b in zip(first, second, strict=True)]
    written = next((n + 1 for n, sign in enumerate(signs) if sign != "="), len(signs))
    return ",".join(f"{first[n]}{signs[n]}{second[n]}" for n in range(written))


def _columns(first: str, second: str, columns: int | None = None) -> list[str]:
    """Subtract the last ``columns`` digits (default all), the right-most first."""
    lines, borrow, settled = [], 0, ""
    for place in range(len(first) - 1, len(first) - 1 - (columns or len(first)), -1):
        top, bottom = int(first[place]), int(second[place])
        lent = int(top - bottom - borrow < 0)
        rest = top + 10 * lent - bottom - borrow
        lines.append(f"{lent}{top}-{bottom}{_flag('-', borrow, settled)}={rest}{_bar(settled)}")
        borrow, settled = lent, f"{rest}{settled}"
    return lines


def multiply_lines(left: int, right: int) -> list[str]:
    """One-digit products with their carries; two partial products are then added column by column."""
    if left < 10 and right < 10:
        return [f"{left}*{right}={left * right}"]
    long, short = (right, left) if left < 10 else (left, right)
    if short < 10:
        return [f"{long}*{short}", *_times_digit(str(long), short)]
    if long >= 100 or short >= 100:
        raise ValueError(f"{left}*{right} is neither 1xN nor 2x2 digits; write it with smaller factors")
    tens, units = divmod(short, 10)
    low, high = f"{long * units:03d}", f"{long * tens:03d}"
    lines = [f"{long}*{short}", *_times_digit(str(long), units), *_times_digit(str(long), tens)]
    first = int(low[1]) + int(high[2])
    lines.append(f"{low[1]}+{high[2]}={first:02d}|{low[2]}")
    settled = f"{first % 10}{low[2]}"
    second = int(low[0]) + int(high[1]) + first // 10
    lines.append(f"{low[0]}+{high[1]}+{first // 10}={second:02d}|{settled}")
    third = int(high[0]) + second // 10
    return [*lines, f"{high[0]}+{second // 10}={third}|{second % 10}{settled}"]


def divide_short(dividend: int, divisor: int) -> list[str]:
    """Long division by one digit: each line splits what is left as ``divisor*digit+rest``, and ends in the
    quotient so far.
    """
    lines, settled = [f"{dividend}/{divisor}"], ""
    for part in _parts(dividend, divisor):
        settled += str(part // divisor)
        lines.append(f"{part}={divisor}*{part // divisor}+{part % divisor}{_bar(settled)}")
    return lines


def divide_long(dividend: int, divisor: int, rng: Random | None = None) -> list[str]:
    """Long division by two digits: guess a digit, multiply it out, compare, subtract two columns.

    ``288>=268`` says that the guess is not too large, ``20<67|4`` that it is not too small, and ends in the
    quotient so far. A wrong guess is seen there, and guessed again.
    """
    lines, settled = [f"{dividend}/{divisor}"], ""
    for part in _parts(dividend, divisor):
        digit = part // divisor
        settled += str(digit)
        # one correction at most, so that the answer stays short
        draw = rng.random() if rng and len(lines) <= LINES_OF_A_DIGIT else 1.0
        if draw < TOO_LARGE and digit < 9:
            lines += _trial(part, divisor, digit + 1)
        elif draw < TOO_LARGE + TOO_SMALL and digit > 1 and part - divisor * (digit - 1) < 100:
            lines += _trial(part, divisor, digit - 1)
        lines += _trial(part, divisor, digit)
        lines[-1] += _bar(settled)
    return lines


def _trial(part: int, divisor: int, digit: int) -> list[str]:
    """One guess, up to the comparison that accepts it or shows it wrong; a rest has two digits."""
    lines, taken = [f"{part}/{divisor}~{digit}"], divisor * digit
    if digit:
        first, second = _padded(part, taken)
        lines += [*_times_digit(str(divisor), digit), f"{first}{'<' if part < taken else '>='}{second}"]
        if part < taken:
            return lines
        lines += _columns(first, second, 2)
    return [*lines, f"{part - taken:02d}{'<' if part - taken < divisor else '>='}{divisor}"]


def _parts(dividend: int, divisor: int) -> list[int]:
    """Return what is divided at each step: the leading digits, then each rest with the next digit."""
    digits = str(dividend)
    taken = next((n for n in range(1, len(digits) + 1) if int(digits[:n]) >= divisor), len(digits))
    parts = [int(digits[:taken])]
    for digit in digits[taken:]:
        parts.append(parts[-1] % divisor * 10 + int(digit))
    return parts


def _times_digit(number: str, digit: int) -> list[str]:
    lines, carry, settled = [], 0, ""
    for place in range(len(number) - 1, -1, -1):
        product = int(number[place]) * digit
        total = product + carry
        line = f"{number[place]}*{digit}={product:02d}"
        lines.append(line if place == len(number) - 1 else f"{line}+{carry}={total:02d}{_bar(settled)}")
        carry, settled = total // 10, f"{total % 10}{settled}"
    return lines


def _padded(left: int, right: int) -> tuple[str, str]:
    width = max(len(str(left)), len(str(right)))
    return f"{left:0{width}d}", f"{right:0{width}d}"


def _flag(sign: str, carry: int, settled: str) -> str:
    return f"{sign}{carry}" if settled else ""


def _bar(settled: str) -> str:
    return f"|{settled}" if settled else ""
