"""Cheap rules that find several independent asks in one prompt. They propose; the probes decide."""

from __future__ import annotations

import re

MOST = 6  # parts of one prompt
LONGEST = 2000  # characters; a longer prompt is a text to work on, not a list of asks

_ITEM = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|\(?[a-f]\)|[-*•])\s+(?P<ask>\S.*)$")
_JOINT = re.compile(
    r"(?P<end>[?!.])\s+(?=\S)"  # a sentence ends
    r"|[,;]?\s+(?:and\s+(?:then\s+)?also|and\s+then|and\s+also|then\s+also)\s*,?\s+"
    r"|;\s+(?:and|also|then)?\s*",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:and|also|then|next|finally|plus|second(?:ly)?|after that)\b[\s,:]*)+", re.IGNORECASE
)
_ASKING_WORDS = """
    what what's who who's whom whose where when which why how is are was were do does did can could will
    would translate say spell write tell give name list calculate compute add subtract multiply divide solve
    find explain describe define classify check make convert count sort reverse compare work answer show
    please"""
_ASKING = frozenset(_ASKING_WORDS.split())
# a part that leans on its neighbour means nothing alone
_LEANING = re.compile(
    r"\b(?:it|its|he|him|his|she|her|they|them|their|this|that|these|those|there|the (?:answer|result|same|"
    r"latter|former|first|second|sum|product)|again|instead|else|so)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“”«»`]|(?<!\w)'|'(?!\w)")


def split(prompt: str) -> tuple[str, ...]:
    """Return the asks that the prompt seems to hold, in order; the prompt alone when it seems to hold one.

    A prompt is left whole where a wrong cut would be likely: quoted text, text after a colon, a part that
    refers to another one, a statement that only sets the scene of a question.
    """
    if len(prompt) > LONGEST:
        return (prompt,)
    asks = _items(prompt) or _sentences(prompt)
    return asks if 2 <= len(asks) <= MOST and _independent(asks) else (prompt,)


def _items(prompt: str) -> tuple[str, ...]:
    """The items of a list that is the whole prompt, but for a line that introduces it."""
    lines = [line for line in prompt.splitlines() if line.strip()]
    found = [match["ask"].strip() if (match := _ITEM.match(line)) else None for line in lines]
    if len(found) > 2 and found[0] is None and lines[0].rstrip().endswith(":"):
        # "Translate into French:" would belong to every item; "Answer these:" belongs to none
        if not re.match(r"(?:please\s+)?(?:answer|do|solve|help|tell me|i (?:have|need))\b", lines[0], re.I):
            return ()
        found = found[1:]
    return tuple(ask for ask in found if ask) if found and None not in found else ()


def _sentences(prompt: str) -> tuple[str, ...]:
    if ":" in re.sub(r"\d:\d", "", prompt) or _QUOTED.search(prompt):
        return ()
    asks, start = [], 0
    for joint in _JOINT.finditer(prompt):
        rest = prompt[joint.end() :]
        if joint["end"] is not None and not _begins_ask(rest):
            continue
        if joint["end"] is None and not _begins_ask(_LEAD.sub("", rest)):
            continue
        asks.append(prompt[start : joint.end("end") if joint["end"] else joint.start()])
        start = joint.end()
    asks.append(prompt[start:])
    return tuple(_tidy(ask) for ask in asks)


def _begins_ask(text: str) -> bool:
    words = re.findall(r"[\w']+", _LEAD.sub("", text)[:40].lower())
    return bool(words) and words[0] in _ASKING


def _tidy(ask: str) -> str:
    bare = _LEAD.sub("", ask.strip()).strip() or ask.strip()
    return bare[:1].upper() + bare[1:]


def _independent(asks: tuple[str, ...]) -> bool:
    return all(_begins_ask(ask) for ask in asks) and not any(_LEANING.search(ask) for ask in asks[1:])
