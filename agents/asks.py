"""Cheap rules that find several independent asks in one prompt. They propose; the probes decide."""

from __future__ import annotations

import re

MOST = 6  # parts of one prompt
LONGEST = 2000  # characters; a longer prompt is a text to work on, not a list of asks

_ITEM = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|\(?[a-f]\)|[-*•])\s+(?P<ask>\S.*)$")
_NUMBER = re.compile(r"(?:^|(?<=\s))\(?(?P<number>[1-9])[.)]\s+(?=\S)")
# Where an ask may end. After a bare "and" or a comma (`weak`) few verbs may follow, elsewhere most.
_JOINT = re.compile(
    r"(?P<end>[?!.])\s+(?=\S)|\s*\n\s*"
    r"|[,;]?\s+(?:and\s+(?:then|also|finally|lastly)|then\s+also|(?<=,\s)(?:then|also))\s*,?\s+"
    r"|;\s+(?:and|also|then)?\s*"
    r"|(?P<weak>)(?:,?\s+(?:and|plus|as well as)\s+|,\s+)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:and|also|then|next|finally|lastly|plus|first(?:ly)?|second(?:ly)?|third(?:ly)?|after that|oh|ok|"
    r"okay|one more thing|last(?: one| thing)?)\b[\s,:]*)+",
    re.IGNORECASE,
)
_ASKING_WORDS = """
    what what's whats who who's whom whose where where's when which why how how's is are was were do does did
    can could will would translate say spell write tell give name list calculate compute add subtract multiply
    divide solve find explain describe define classify check make convert count sort reverse compare work
    answer show please i'd capitalize uppercase screen label pluralize turn put change"""
_ASKING = frozenset(_ASKING_WORDS.split())
# What may go on with the ask before it: "take 5 and add 3", "is it big and does it fly".
_GOING_ON = """
    whose whom when is are was were do does did will say list calculate compute add subtract multiply divide
    solve find explain describe define classify check make convert count sort reverse compare work answer show
    screen label turn put change"""
_SURE = _ASKING - frozenset(_GOING_ON.split())
_BARE_WORDS = """spell translate capitalize uppercase pluralize reverse define calculate compute"""
_BARE = frozenset(_BARE_WORDS.split())  # these need one word behind them
# What people put before their asks, and what asks for nothing by itself.
_OPENER = re.compile(
    r"(?:hi|hey|hello|good (?:morning|evening|afternoon|day)|thanks|ok|okay|so|well|sorry|excuse me|quick|"
    r"just|two|three|four|a (?:few|couple)|some|several|both|couple|i (?:have|need|want|got)|i've got|help|"
    r"there are|here are|my (?:homework|list|questions))\b[^?]{0,60}$",
    re.IGNORECASE,
)
# A part that leans on its neighbour means nothing alone.
_LEANING = re.compile(
    r"\b(?:do you (?:think|mean|know)|it|its|he|him|his|she|her|they|them|their|those|again|instead|"
    r"the (?:answer|result|sum|product)|"
    r"(?:this|that|these)(?!\s+(?:message|text|sentence|word|phrase|mail|email|sms|note|post|review)\b)|"
    r"the (?:same|latter|former|first|second)(?=\s*(?:one\b|[?.!,]|$)))\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|«[^»]*»|`[^`]*`|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)|(?<!\d):(?!\d)(?P<told>.*)",
    re.DOTALL,
)


def split(prompt: str) -> tuple[str, ...]:
    """Return the asks that the prompt seems to hold, in order; the prompt alone when it seems to hold one.

    A prompt is left whole where a wrong cut would be likely: inside quotes, in text after a colon, at a part
    that refers to another one, after a statement that sets the scene of a question.
    """
    if len(prompt) > LONGEST:
        return (prompt,)
    asks = _items(prompt) or _numbered(prompt) or _sentences(prompt)
    return asks if 2 <= len(asks) <= MOST and _independent(asks) else (prompt,)


def _items(prompt: str) -> tuple[str, ...]:
    """The items of a list that is the whole prompt, but for a line that introduces it."""
    lines = [line for line in prompt.splitlines() if line.strip()]
    found = [match["ask"].strip() if (match := _ITEM.match(line)) else None for line in lines]
    if len(found) > 2 and found[0] is None and lines[0].rstrip().endswith(":"):
        # "Translate into French:" would belong to every item; "Answer these:" belongs to none
        if not _introduces(lines[0]):
            return ()
        found = found[1:]
    return tuple(ask for ask in found if ask) if found and None not in found else ()


def _numbered(prompt: str) -> tuple[str, ...]:
    """The items of a list in one line, numbered from 1."""
    marks = list(_NUMBER.finditer(prompt))
    counted = [int(mark["number"]) for mark in marks] == list(range(1, len(marks) + 1))
    if len(marks) < 2 or not counted or not _introduces(prompt[: marks[0].start()]):
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(prompt)]
    return tuple(tidy(prompt[mark.end() : end]) for mark, end in zip(marks, ends, strict=True))


def _introduces(line: str) -> bool:
    """Whether what stands before a list asks for nothing itself."""
    known = r"\s*(?:please\s+)?(?:answer|do|solve|help|tell me|i (?:have|need))\b"
    return not line.strip() or bool(re.match(known, line, re.IGNORECASE) or _OPENER.match(line.strip()))


def _sentences(prompt: str) -> tuple[str, ...]:
    """The prompt cut where another ask begins; what only opens it stays with the first."""
    closed = [match.span() for match in _QUOTED.finditer(prompt)]
    asks: list[str] = []
    start = 0
    for joint in _JOINT.finditer(prompt):
        inside = any(a < joint.end() and joint.start() < b for a, b in closed)
        rest = prompt[joint.end() :]
        if inside or not _begins_ask(rest, _SURE if joint["weak"] is not None else _ASKING):
            continue
        part = prompt[start : _end(joint)]
        if not asks and _OPENER.match(part.strip(" .!,")):
            continue
        asks.append(part)
        start = joint.end()
    return tuple(tidy(ask) for ask in (*asks, prompt[start:]))


def pieces(prompt: str) -> tuple[str, ...]:
    """The prompt cut wherever an ask might end, whatever follows: together they are the prompt again.

    Text in quotes stays in one piece, and so does what follows a colon up to the end of its line, or to a
    sentence that opens with "and", "also" or the like.
    """
    if len(prompt) > LONGEST:
        return (prompt,)
    closed = [_told(match) for match in _QUOTED.finditer(prompt)]
    ends = [
        _end(joint)
        for joint in _JOINT.finditer(prompt)
        if (joint["weak"] is None or _begins_ask(prompt[joint.end() :], _SURE))
        and not any(a < _end(joint) < b for a, b in closed)
    ]
    return tuple(prompt[a:b] for a, b in zip([0, *ends], [*ends, len(prompt)], strict=True))


def _end(joint: re.Match[str]) -> int:
    """Where the ask before a joint ends: its full stop is its own."""
    return joint.end("end") if joint["end"] else joint.start()


def _told(match: re.Match[str]) -> tuple[int, int]:
    """Where a quote, or the text that a colon announces, begins and ends."""
    if match["told"] is None:
        return match.span()
    over = re.search(r"\n|[.?!]\s+(?=(?:and|also|then|next|finally|plus)\b)", match["told"], re.IGNORECASE)
    return match.start(), match.start("told") + over.start() if over else match.end()


def leans(ask: str) -> bool:
    """Whether an ask means nothing alone: it refers to what stands before it, or only quotes."""
    own = _QUOTED.sub("", ask)
    return _LEANING.search(own) is not None or not any(letter.isalnum() for letter in own)


def tidy(ask: str) -> str:
    """An ask without the words that joined it to another."""
    bare = _LEAD.sub("", ask.strip(" ,;\n")).strip(" ,;\n") or ask.strip()
    return bare[:1].upper() + bare[1:]


def _begins_ask(text: str, words: frozenset[str] = _ASKING) -> bool:
    """Whether a text opens with one of the words that ask, and goes on: "tell us!" only urges."""
    bare = _LEAD.sub("", text)
    found = re.findall(r"[\w'’]+", bare[:80].lower())
    first = found[0].replace("’", "'") if found and bare[0].isalnum() else ""
    return first in words and len(found) > (1 if first in _BARE else 2)


def _independent(asks: tuple[str, ...]) -> bool:
    return _begins_ask(_unopened(asks[0])) and all(_begins_ask(ask) and not leans(ask) for ask in asks[1:])


def _unopened(ask: str) -> str:
    """The first ask without the sentences that only open the prompt."""
    for end in () if _begins_ask(ask) else re.finditer(r"[.!:,]\s+", ask):
        if _OPENER.match(ask[: end.start()].strip()) and _begins_ask(ask[end.end() :]):
            return ask[end.end() :]
    return ask
