"""Cut: whether a prompt holds several asks. Rules propose, the probes decide."""

from __future__ import annotations

from collections.abc import Sequence

from ...store.records import Candidate, Decision
from ..asks import leans, pieces, split, tidy
from ..voyage import Live, Voyage
from .probe import decided, read_ask

SURE = 0.6  # the P(correct) by which two pieces that go to different specialists are two asks


def cut(voyage: Voyage, prompt: str) -> tuple[str, ...]:
    """Return the asks of a prompt, in order, each read already; the prompt alone, unread, where it is one.

    A cut that the rules propose stands when the policy would answer every part. Where they see none, pieces
    stand that the probes surely send to different specialists, each by itself.
    """
    if voyage.ship.scout is None or voyage.ship.policy is None:
        return (prompt,)
    desk = _Desk(voyage)
    asks = split(prompt)
    if not desk.answers_each(asks):
        asks = desk.told_apart(pieces(prompt))
    if not desk.answers_each(asks):
        return (prompt,)
    voyage.live.update((index, desk.seen[ask]) for index, ask in enumerate(asks))
    return asks


class _Desk:
    """Reads pieces of one prompt, each once, and asks the policy who would answer them."""

    def __init__(self, voyage: Voyage) -> None:
        self.voyage, self.most = voyage, voyage.ship.limits.parts
        self.seen: dict[str, Live] = {}

    def answers_each(self, asks: Sequence[str]) -> bool:
        """Whether these are several asks, not too many, and the policy would answer every one."""
        return 1 < len(asks) <= self.most and all(map(self._answered, asks))

    def _answered(self, text: str) -> bool:
        decision, _ = self._decided(text)
        return decision is None or not decision.abstained

    def told_apart(self, found: Sequence[str]) -> tuple[str, ...]:
        """Neighbouring pieces joined as long as no other specialist is sure of the next; none where what is
        joined goes elsewhere than its piece did, or where a later ask leans on an earlier one.
        """
        if not 1 < len(found) <= 2 * self.most:
            return ()
        asks: list[str] = []
        owners: list[str | None] = []
        for piece in found:
            owner = self._owner(tidy(piece))
            if owners and (owner is None or owners[-1] in (None, owner)):
                asks[-1], owners[-1] = asks[-1] + piece, owners[-1] or owner
            else:
                asks.append(piece)
                owners.append(owner)
        whole = tuple(tidy(ask) for ask in asks)
        if len(whole) < 2 or any(map(leans, whole[1:])):
            return ()
        return whole if [self._owner(ask) for ask in whole] == owners else ()

    def _owner(self, text: str) -> str | None:
        """The specialist that is sure of a text by itself; None where none is."""
        if not any(letter.isalnum() for letter in text):
            return None
        decision, candidates = self._decided(text)
        if decision is None or decision.abstained or candidates[0].p_correct < SURE:
            return None
        return candidates[0].specialist

    def _decided(self, text: str) -> tuple[Decision | None, tuple[Candidate, ...]]:
        """What the policy makes of a text by itself."""
        if text not in self.seen:
            read_ask(self.voyage, -1, text)
            self.seen[text] = self.voyage.live.pop(-1)
        return decided(self.voyage, self.seen[text])
