"""Decide whether an answer is correct, for every kind of check an example can ask for."""

from __future__ import annotations

import re
from collections import Counter

from .example import Example

CHRF_PASS = 0.5
OPEN_WORDS = 12
OPEN_DISTINCT = 0.6
# kinds whose whole point is the case of the letters
CASED_KINDS = frozenset(("capitalize", "uppercase"))

NUMBER = re.compile(
    r"(?<![\w.])[-\u2212]?\d[\d,]*(?:\.\d+)?(?:\s*(?:remainder|rem\.?|r)\s*\d+)?", re.IGNORECASE
)
REMAINDER = re.compile(r"\s*(?:remainder|rem\.?|r)\s*", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
COMMON_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be but by can do for from had has have he her his i if in is it its my not of
        on or our out she so that the their them then there they this to up was we were what when which
        who will with you your one said all""",
    )
)


def correct(example: Example, answer: str) -> bool:
    """Return whether ``answer`` passes ``example.check``.

    ``exact`` ignores case (except in kinds about capitals), white space and punctuation; ``number`` compares
    the last number (with its remainder); ``label`` compares the first words; ``chrf`` wants at least 0.5;
    ``open`` wants at least 12 words of English without loops that mention one of the words after the colon of
    ``example.kind`` (``about:cat+dog``), when there are any and the example has a reference text.

    Raises:
        ValueError: the check is unknown.
    """
    if example.check == "exact":
        if example.kind in CASED_KINDS:
            return " ".join(answer.split()).strip(" .\"'") == example.answer.strip()
        return normalised(answer) == normalised(example.answer)
    if example.check == "number":
        return last_number(answer) is not None and last_number(answer) == last_number(example.answer)
    if example.check == "label":
        words, label = normalised(answer).split(), normalised(example.answer).split()
        return bool(label) and words[: len(label)] == label
    if example.check == "chrf":
        return chrf(example.answer, answer) >= CHRF_PASS
    if example.check == "open":
        return reads_as_english(answer) and mentions(answer, _topics(example))
    raise ValueError(f"check {example.check!r} is not one of exact, number, label, chrf, open")


def normalised(text: str) -> str:
    """Casefold, and keep the words only, with the marks inside them (``c-a-t``, ``don't``)."""
    return " ".join(WORD.findall(text.casefold().replace("\u2019", "'")))


def last_number(text: str) -> str | None:
    """Return the last number of a text, without thousands separators, or ``"8 remainder 3"``."""
    found = NUMBER.findall(text)
    if not found:
        return None
    whole, *rest = REMAINDER.split(found[-1])
    remainder = f" remainder {int(rest[0])}" if rest and int(rest[0]) else ""
    return _plain(whole) + remainder


def _plain(number: str) -> str:
    number = number.replace(",", "").replace("\u2212", "-")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    sign = "-" if number.startswith("-") else ""
    digits = number.lstrip("-").lstrip("0")
    if not digits or digits.startswith("."):
        digits = f"0{digits}"
    return "0" if digits == "0" else sign + digits


def reads_as_english(text: str) -> bool:
    """Return whether a text has 12 words or more, enough of them common English ones, and does not loop."""
    words = [word.casefold() for word in WORD.findall(text)]
    if len(words) < OPEN_WORDS:
        return False
    return not loops(text) and sum(word in COMMON_WORDS for word in words) >= 0.15 * len(words)


SAME_MARKS = re.compile(r"(\W{1,4})\1{5,}")


def loops(text: str) -> bool:
    """Return whether a text repeats itself: 60 % or fewer of its runs of three words are different, or a few
    marks come over and over.
    """
    if SAME_MARKS.search(text):
        return True
    words = [word.casefold() for word in WORD.findall(text)]
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return bool(grams) and len(set(grams)) / len(grams) <= OPEN_DISTINCT


def mentions(text: str, topics: list[str]) -> bool:
    """Return whether a text holds a topic word (or a form that starts with it); True without topics."""
    words = [word.casefold() for word in WORD.findall(text)]
    return not topics or any(word.startswith(topic) for word in words for topic in topics)


def _topics(example: Example) -> list[str]:
    if not example.answer or ":" not in example.kind:
        return []
    return [topic.strip().casefold() for topic in example.kind.split(":", 1)[1].split("+") if topic.strip()]


def chrf(reference: str, hypothesis: str, order: int = 6, beta: float = 2.0) -> float:
    """Return the sentence chrF score in [0, 1], the F-score of character n-grams.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015, eq. 1. White
    space is removed; precision and recall are averaged over n = 1..order before they are combined, and orders
    longer than either text are left out, as sacreBLEU does.
    """
    reference, hypothesis = "".join(reference.split()), "".join(hypothesis.split())
    precisions, recalls = [], []
    for n in range(1, order + 1):
        wanted, given = _grams(reference, n), _grams(hypothesis, n)
        if not wanted or not given:
            continue
        hits = (wanted & given).total()
        precisions.append(hits / given.total())
        recalls.append(hits / wanted.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = beta * beta
    return (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
