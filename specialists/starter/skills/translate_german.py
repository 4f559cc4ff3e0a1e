"""Say a clause in German."""

from __future__ import annotations

from .translate_clause import LANGUAGE_INDEX, Clause, Phrase
from .translate_lexicon import VERB, Word

DE = LANGUAGE_INDEX["de"]
PRONOUNS = ("ich", "du", "er", "sie", "wir", "sie")
BE = ("bin", "bist", "ist", "sind", "sind")
WAS = ("war", "warst", "war", "waren", "waren")
WERDEN = ("werde", "wirst", "wird", "werden", "werden")
HELPER = {"want": VERB["want"].de, "can": VERB["can"].de, "must": VERB["must"].de}
THE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
ENDING = {
    "nom": {"m": "", "f": "e", "n": "", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
WEAK = {
    "nom": {"m": "e", "f": "e", "n": "e", "p": "en"},
    "acc": {"m": "en", "f": "e", "n": "e", "p": "en"},
    "dat": {"m": "en", "f": "en", "n": "en", "p": "en"},
}
MIXED = {
    **WEAK,
    "nom": {"m": "er", "f": "e", "n": "es", "p": "en"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "en"},
}
STRONG = {
    "nom": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
OWN = {
    "my": "mein",
    "your": "dein",
    "his": "sein",
    "her": "ihr",
    "their": "ihr",
    "our": "unser",
    "no": "kein",
}
FUSED = {
    "in dem": "im",
    "an dem": "am",
    "bei dem": "beim",
    "von dem": "vom",
    "zu dem": "zum",
    "zu der": "zur",
}


def noun_form(word: Word, case: str, plural: bool) -> str:
    """Return the noun in a case; dative plurals add n and weak nouns add (e)n."""
    if plural:
        return word.plural + "n" if case == "dat" and word.plural[-1] not in "ns" else word.plural
    if word.weak and case != "nom":
        return word.singular + ("n" if word.singular.endswith(("e", "er", "bar")) else "en")
    return word.singular


def _determiner(det: str, case: str, slot: str) -> tuple[str, dict[str, dict[str, str]]]:
    if det == "the":
        return THE[case][slot], WEAK
    if det == "this":
        return "dies" + STRONG[case][slot], WEAK
    stem = "ein" if det == "a" else OWN[det]
    ending = ENDING[case][slot]
    return stem + ending, MIXED


def phrase(np: Phrase, case: str = "nom", negated: bool = False) -> str:
    """Return the noun phrase in a case; ``negated`` turns "ein" and nothing into "kein"."""
    word = np.noun.de
    slot = "p" if np.plural else word.gender
    noun = noun_form(word, case, np.plural)
    det, adjectives = "", STRONG
    if np.number:
        det = np.number[DE]
    elif negated and np.det in ("a", "bare"):
        det, adjectives = _determiner("no", case, slot)
    elif np.det != "bare":
        det, adjectives = _determiner(np.det, case, slot)
    adjective = np.adjective.de[1] + adjectives[case][slot] if np.adjective else ""
    return " ".join(filter(None, (det, adjective, noun)))


def fuse(text: str) -> str:
    """Join preposition and article ("in dem" → "im")."""
    for apart, together in FUSED.items():
        if apart + " " in text:
            text = (" " + text).replace(f" {apart} ", f" {together} ").strip()
    return text


def _verb_group(c: Clause) -> tuple[str, str]:
    form = c.subject.form
    if c.verb is None:
        return (WAS if c.tense == "past" else BE)[form], ""
    verb = c.verb.de
    if c.tense in ("present", "like"):
        return verb.present[form], verb.prefix
    if c.tense == "past":
        return (BE if verb.be else VERB["have"].de.present)[form], verb.participle
    if c.tense == "going":
        return WERDEN[form], verb.infinitive
    return HELPER[c.tense].present[form], verb.infinitive


def _object(c: Clause, no: bool) -> str:
    if c.object is None or c.verb is None:
        return ""
    case = "dat" if c.verb.dative else "acc"
    text = phrase(c.object, case, no)
    return f"{c.verb.de.linker} {text}" if c.verb.de.linker else text


def middle(c: Clause) -> list[str]:
    """Return everything between the finite verb and the verb at the end, with "nicht" in its place."""
    open_object = c.object is not None and c.object.number is None and c.object.det in ("a", "bare")
    linked = c.verb is not None and bool(c.verb.de.linker)
    kein = c.negative and open_object and not linked and c.tense != "like"
    times = [c.time[DE] if c.time else "", c.frequency[DE] if c.frequency else ""]
    gern = "gern" if c.tense == "like" else ""
    thing, no = _object(c, kein), "nicht" if c.negative and not kein else ""
    if gern:
        words = [*times, no, gern, thing]
    elif linked:
        words = [*times, no, thing]
    elif no and thing:
        words = [thing, *times, no]
    else:
        words = [*times, no if not thing else "", thing]
    if c.company:
        where = words.index("nicht") if "nicht" in words and not thing else len(words)
        words.insert(where + 1, f"{c.company[0][DE]} {phrase(c.company[1], c.company[0][4])}")
    if c.predicate:
        words += [c.degree[DE] if c.degree else "", c.predicate.de[0]]
    if c.place:
        words.append(c.place[DE])
    if c.spot:
        words.append(fuse(f"{c.spot[0][DE]} {phrase(c.spot[1], 'dat')}"))
    return words


def clause(c: Clause) -> str:
    """Return the German sentence; a question puts the finite verb first."""
    finite, last = _verb_group(c)
    subject = phrase(c.subject.phrase) if c.subject.phrase else PRONOUNS[c.subject.person]
    words = [c.ask[DE] if c.ask else "", finite, subject] if c.question else [subject, finite]
    text = " ".join(filter(None, [*words, *middle(c), last]))
    return text[0].upper() + text[1:] + ("?" if c.question else ".")
