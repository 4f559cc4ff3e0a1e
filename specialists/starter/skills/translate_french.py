"""Say a clause in French."""

from __future__ import annotations

import re

from .translate_clause import LANGUAGE_INDEX, Clause, Phrase
from .translate_lexicon import VERB

FR = LANGUAGE_INDEX["fr"]
PRONOUNS = ("je", "tu", "il", "elle", "nous", "ils")
BE = ("suis", "es", "est", "sommes", "sont")
WAS = ("étais", "étais", "était", "étions", "étaient")
OWN = {
    "my": "mon ma mes",
    "your": "ton ta tes",
    "his": "son sa ses",
    "her": "son sa ses",
    "our": "notre notre nos",
    "their": "leur leur leurs",
}
HELPER = {"want": VERB["want"].fr, "can": VERB["can"].fr, "must": VERB["must"].fr, "like": VERB["like"].fr}
VOWEL = "aeiouhàâéèêëîïôöûœAEIOUÉÎ"
ASPIRED = ("hibou", "haut", "huit", "onze", "hamster")
ELIDES = re.compile(
    rf"\b(je|ne|de|le|la|que|Je|Ne|De|Le|La|Que) (?=[{VOWEL}])(?!hibou|huit|onze|haut|hamster)"
)
JOINS = (("à le ", "au "), ("à les ", "aux "), ("de le ", "du "), ("de les ", "des "))
SHORT = {"beau": "bel", "nouveau": "nouvel", "vieux": "vieil"}


def vowel(word: str) -> bool:
    """Whether a preceding word elides before ``word``."""
    return word[0] in VOWEL and not word.startswith(ASPIRED)


def join(text: str) -> str:
    """Apply elision and the contractions of "à" and "de" with the article."""
    text = ELIDES.sub(lambda m: m[1][:-1] + "'", text)
    for apart, together in JOINS:
        if apart in text:
            text = re.sub(rf"\b{apart}", together, text)
    return text


def _body(np: Phrase) -> str:
    noun = np.noun.fr.plural if np.plural else np.noun.fr.singular
    if not np.adjective:
        return noun
    form = np.adjective.fr[(np.noun.fr.gender == "f") + 2 * np.plural]
    if "b" not in np.adjective.flags:
        return f"{noun} {form}"
    return f"{SHORT[form] if form in SHORT and vowel(noun) else form} {noun}"


def phrase(np: Phrase, negated: bool = False, general: bool = False) -> str:
    """Return the noun phrase before elision.

    ``negated`` turns "un" into "de"; ``general`` is for "aimer", whose bare objects take "le".
    """
    body, feminine = _body(np), np.noun.fr.gender == "f"
    if np.number:
        return f"{np.number[FR]} {body}"
    if np.det == "a" or (np.det == "bare" and not general):
        if negated:
            return f"de {body}"
        if np.det == "a":
            return f"{'une' if feminine else 'un'} {body}"
        if np.plural:
            early = np.adjective is not None and "b" in np.adjective.flags
            return ("de " if early else "des ") + body
        return f"de {'la' if feminine else 'le'} {body}"
    if np.det in ("the", "bare"):
        return f"{'les' if np.plural else 'la' if feminine else 'le'} {body}"
    if np.det == "this":
        return f"{'ces' if np.plural else 'cette' if feminine else 'cet' if vowel(body) else 'ce'} {body}"
    masculine, fem, plural = OWN[np.det].split()
    return f"{plural if np.plural else fem if feminine and not vowel(body) else masculine} {body}"


def _agree(participle: str, c: Clause) -> str:
    return participle + ("e" if c.subject.feminine("fr") else "") + ("s" if c.subject.plural else "")


def _verb_group(c: Clause) -> tuple[str, str]:
    form = c.subject.form
    if c.verb is None:
        return (WAS if c.tense == "past" else BE)[form], ""
    if c.tense == "present":
        return c.verb.fr.present[form], ""
    if c.tense == "past":
        if c.verb.fr.be:
            return BE[form], _agree(c.verb.fr.participle, c)
        return VERB["have"].fr.present[form], c.verb.fr.participle
    if c.tense == "going":
        return VERB["go"].fr.present[form], c.verb.fr.infinitive
    return HELPER[c.tense].present[form], c.verb.fr.infinitive


def adverbials(c: Clause) -> list[str]:
    """Return company, place and time in that order."""
    words = []
    if c.company:
        words += [c.company[0][FR], phrase(c.company[1])]
    if c.place:
        words.append(c.place[FR])
    if c.spot:
        words += [c.spot[0][FR], phrase(c.spot[1])]
    if c.time:
        words.append(c.time[FR])
    return words


def clause(c: Clause) -> str:
    """Return the French sentence; a question starts with "Est-ce que"."""
    finite, rest = _verb_group(c)
    never = c.frequency is not None and c.frequency[0] == "never"
    negative = c.negative or never
    words = [c.ask[FR] if c.ask else "est-ce que"] if c.question else []
    words.append(phrase(c.subject.phrase) if c.subject.phrase else PRONOUNS[c.subject.person])
    words += ["ne", finite] if negative else [finite]
    words.append("pas" if c.negative else "")
    words += [c.frequency[FR] if c.frequency else "", rest]
    if c.predicate:
        form = c.predicate.fr[c.subject.feminine("fr") + 2 * c.subject.plural]
        words += [c.degree[FR] if c.degree else "", form]
    if c.object:
        general = c.verb is not None and c.verb.key == "like"
        words.append(phrase(c.object, negated=negative, general=general))
    text = join(" ".join(filter(None, words + adverbials(c))))
    return text[0].upper() + text[1:] + (" ?" if c.question else ".")
