"""What stands around a question: greetings, requests, labels, thanks. They say nothing about who can answer
it, and yet move every feature of a text; so readers of text look at what is left without them.

A piece is taken off an end of the text when it is made of small words alone and one of them is a word of
courtesy. A word that is in neither list keeps its piece, and so does a prompt that is nothing but courtesy.
English, with the commonest courtesies of some other languages.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COURTEOUS = _words(
    """
    hi hello hey hiya heya greetings howdy yo dear please pls plz kindly thanks thank thx ty tysm cheers ta
    help helping assist assistance advise question questions query queries task problem prompt request
    exercise input answer answers answered answering reply respond response appreciate appreciated
    appreciation grateful gratitude obliged sorry excuse pardon apologies bye goodbye regards wishes luck
    welcome bonjour salut merci hola gracias hallo danke bitte ciao grazie ask asking wondering wondered
    wonder curious curiosity solve stuck clue advance folks everyone assistant friend sir madam namaste
    respected mate buddy bot chatbot ai q qs doubt doubts idea ideas thoughts thought topic forgive promise
    mind sec bear lol haha rush phone typos clarify enquire inquire revert needful await awaiting waiting
    forward hearing sincerely yours faithfully hopefully lifesaver care later ttyl bless safe hope
    hoping wish wishing clear bugging trouble pain silly dumb stupid ignorance
    """
)
_SMALL = _words(
    """
    a an the this that these those it its here there is are was be been being am im i me my mine you your u
    ur we us our they someone anyone anybody somebody can could cannot would will shall should may might
    must do does did have has had having need needs want wants like love try trying tried get got give gives
    given know let lets see look looking take make making bother bothering to for of on in at by with about
    from up out as so and or but if then now today tonight again one two another last next first final more
    much many very really just only quick quickly short small little simple easy hard good great nice best
    better kind lovely fine well okay ok alright right sure yes no not all any some something anything
    everything following below above whats which who how what when before after soon possible time moment
    minute second day days night week weekend lot lots bit ahead back off over through while because since
    too also still ever always never think thinking work working figure find found come comes go goes going
    say said read check into regarding concerning re way everybody ve ll d s t m put struggling interested
    able happy glad highly greatly truly ages random sense makes made asked told happen happens happened new
    rn dont didnt cant couldn didn don doesn isn wasn won doing due keeping warm pleasant evening sleep bad
    confused figured honestly completely gonna wanna gotta umm um uh hmm er basically actually obviously
    anyway anyways consider considering move forget different same other things thing stuff using used use
    round circles keep looked everywhere known knows onto upon toward god talk stay gang pal driving mad
    crazy hours awhile long enough far yet though follow follows ji ya yeah yep nope oh ah wow three
    """
)
_EARLY = _COURTEOUS | _words("tell testing")  # what is courteous at the beginning
_LATE = _COURTEOUS | _words("know think day days weekend talk best ahead wanted over anyone")  # at the end
_NEAR = 300  # characters at the end of a text where courtesies are looked for
_PIECES = 8  # taken off either end at most
# Pieces begin with no space, and repeats are bounded: no prompt makes these slow.
_PIECE = r"([^\s.!?:;…\"“”«»][^\n.!?:;…\"“”«»]{0,120}?)"
_SHORT = r"([^\s.!?:;,…\"“”«»][^\n.!?:;,…\"“”«»]{0,30}?)"
_STOP = r"(?:\s{0,4}[.!?:;…]+(?=\s|$)|[ \t]{0,4}\n|\s{1,4}[-–—]+\s|[:;]-?[)D])[)\s]*"
_OPENINGS = (re.compile(_PIECE + _STOP), re.compile(_SHORT + r"\s{0,4},\s+"))
_CLOSING = re.compile(r"(?:^|(?<=[\n.!?…]))\s*" + _PIECE + r"(?:[\s.!?…,]|[:;]-?[)D])*$")
_GREETING = re.compile(r"\bgood (?:morning|afternoon|evening|night|day)\b")
_OPTION = re.compile(r"(?:^|\s)\(?\w[.)]$")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")


def core_of(text: str) -> str:
    """The text without courtesies before and after it, and without white space at its ends; the text as it
    is where nothing would be left.
    """
    core = _from_end(_from_start(text)).strip()
    return core if any(c.isalnum() for c in core) else text


def _from_start(text: str) -> str:
    text = text.lstrip()
    for _ in range(_PIECES):
        found = next((f for o in _OPENINGS if (f := o.match(text)) and _courtesy(f[1], _EARLY)), None)
        if found is None:
            break
        text = text[found.end() :]
    return text


def _from_end(text: str) -> str:
    text = text.rstrip()
    for _ in range(_PIECES):
        found = _CLOSING.search(text, max(0, len(text) - _NEAR))
        if found is None or not _courtesy(found[1], _LATE):
            break
        rest = text[: found.start()].rstrip()
        if _OPTION.search(rest, max(0, len(rest) - 4)):  # the last of several choices
            break
        text = rest
    return text


def _courtesy(piece: str, courteous: frozenset[str]) -> bool:
    words = [re.split("['’]", word)[0] for word in _WORD.findall(_GREETING.sub("hello", piece.lower()))]
    return all(word in _SMALL or word in courteous for word in words) and any(w in courteous for w in words)
