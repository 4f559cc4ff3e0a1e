"""What the program itself says: who it is, why nobody answers. Always from the cards and the decision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..store.records import Candidate, Decision

if TYPE_CHECKING:
    from ..specialists.card import Card

_GREETING = re.compile(
    r"\W*(?:hi|hello|hey|howdy|greetings|good (?:morning|afternoon|evening|day))"
    r"(?: (?:there|pilot|pilothouse|everyone|friend))?\W*",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"\W*(?:thanks?|thank you|thx|cheers|many thanks|great,? thanks?)\b.{0,30}", re.IGNORECASE
)
_FAREWELL = re.compile(
    r"\W*(?:bye|goodbye|good ?bye|good night|see you|take care|farewell)\b.{0,20}", re.IGNORECASE
)
_ASKS_WHAT = re.compile(r"\b(?:who|what|which|how|can|help|menu|list|show)\b", re.IGNORECASE)


def introduction(prompt: str, cards: Mapping[str, Card]) -> str:
    """Answer a greeting, thanks, or the question what this program can do, from the cards."""
    able = [card for card in cards.values() if card.kind != "cards"]
    if not _ASKS_WHAT.search(prompt):
        if _THANKS.fullmatch(prompt):
            return "You are welcome."
        if _FAREWELL.fullmatch(prompt):
            return "Goodbye."
        if _GREETING.fullmatch(prompt):
            return f"Hello! {_hint(able)}"
    lines = [
        f"I am {len(able)} small specialists behind one wheel; for each prompt, probes choose who answers:"
    ]
    lines += [f"- {card.name}: {_sentence(card.description)}{_example(card)}" for card in able]
    lines.append("When none of them is likely to be right, I say so instead of guessing.")
    return "\n".join(lines)


def _hint(able: Sequence[Card]) -> str:
    names = ", ".join(card.name for card in able)
    example = next((card.examples[0] for card in able if card.examples), None)
    shown = f' Try: "{example}"' if example else ""
    return f"My specialists do: {names}.{shown}"


def _example(card: Card) -> str:
    return f' For example: "{card.examples[0]}"' if card.examples else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def abstention(decision: Decision, candidates: Sequence[Candidate], cards: Mapping[str, Card]) -> str:
    """Say plainly that nobody answers, who came nearest with which probability, and why."""
    chances = {one.specialist: one.p_correct for one in candidates}
    lines = ["I would rather not answer: none of my specialists is likely to get this right."]
    near = [
        f"{name} (P(correct) {chances[name]:.2f}: {_does(cards[name])})"
        if name in cards
        else f"{name} (P(correct) {chances[name]:.2f})"
        for name in decision.nearest
        if name in chances
    ]
    if near:
        lines.append(f"Nearest: {'; '.join(near)}.")
    lines.append(f"Why: {decision.reason}")
    return "\n".join(lines)


def _does(card: Card) -> str:
    return card.title.strip().rstrip(".") or card.description.strip().rstrip(".")


def failed_checks(tries: Sequence[tuple[str, str]]) -> str:
    """Say plainly that what was tried failed its checks: (specialist, reason) of each try."""
    lines = ["I have no answer that I can stand behind: what I tried failed its check."]
    return "\n".join(lines + [f"- {name}: {reason}" for name, reason in tries])
