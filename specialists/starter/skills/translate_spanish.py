"""Say a clause in Spanish."""

from __future__ import annotations

import re

from .translate_clause import LANGUAGE_INDEX, Clause, Phrase, Subject
from .translate_lexicon import VERB

ES = LANGUAGE_INDEX["es"]
PRONOUNS = ("", "", "él", "ella", "", "ellos")
DATIVES = ("me", "te", "le", "le", "nos", "les")
SER = ("soy", "eres", "es", "somos", "son")
ESTAR = ("estoy", "estás", "está", "estamos", "están")
ESTABA = ("estaba", "estabas", "estaba", "estábamos", "estaban")
ERA = ("era", "eras", "era", "éramos", "eran")
OWN = {"my": "mi", "your": "tu", "his": "su", "her": "su", "their": "su"}
HELPER = {"want": VERB["want"].es, "can": VERB["can"].es, "must": VERB["must"].es}
EARLY = {"bueno": "buen", "malo": "mal"}


def join(text: str) -> str:
    """Contract "a el" and "de el"."""
    return re.sub(r"\b(a|de) el ", lambda m: m[1] + "l ", text)


def _body(np: Phrase) -> str:
    noun = np.noun.es.plural if np.plural else np.noun.es.singular
    if not np.adjective:
        return noun
    form = np.adjective.es[(np.noun.es.gender != "m") + 2 * np.plural]
    return f"{EARLY.get(form, form)} {noun}" if "a" in np.adjective.flags else f"{noun} {form}"


def phrase(np: Phrase) -> str:
    """Return the noun phrase before contraction."""
    body, gender = _body(np), np.noun.es.gender
    feminine = gender != "m"
    if np.number:
        return f"{np.number[ES]} {body}"
    if np.det == "bare":
        return body
    if np.det == "a":
        return f"{'una' if gender == 'f' else 'un'} {body}"
    if np.det == "the":
        return f"{('las' if feminine else 'los') if np.plural else 'la' if gender == 'f' else 'el'} {body}"
    if np.det == "this":
        plural = "estas" if feminine else "estos"
        return f"{plural if np.plural else 'esta' if gender == 'f' else 'este'} {body}"
    if np.det == "our":
        return f"nuestr{'a' if feminine else 'o'}{'s' if np.plural else ''} {body}"
    return f"{OWN[np.det]}{'s' if np.plural else ''} {body}"


def subject(s: Subject) -> str:
    """Return the subject; I, you and we are left out."""
    return phrase(s.phrase) if s.phrase else PRONOUNS[s.person]


def _verb_group(c: Clause) -> str:
    form = c.subject.form
    if c.verb is None:
        estar = c.spot is not None or c.place is not None or (c.predicate is not None and c.predicate.estar)
        if c.tense == "past":
            return (ESTABA if estar else ERA)[form]
        return (ESTAR if estar else SER)[form]
    if c.tense in ("present", "past"):
        return (c.verb.es.past if c.tense == "past" else c.verb.es.present)[form]
    if c.tense == "going":
        return f"{VERB['go'].es.present[form]} a {c.verb.es.infinitive}"
    return f"{HELPER[c.tense].present[form]} {c.verb.es.infinitive}"


def _liking(c: Clause) -> list[str]:
    """Return "(a él) le gusta(n) …": what is liked is the grammatical subject."""
    who = subject(c.subject)
    plural = c.object is not None and c.object.plural and c.tense == "present"
    words = [
        f"a {who}" if who else "",
        "no" if c.negative else "",
        DATIVES[c.subject.person],
        "gustan" if plural else "gusta",
    ]
    if c.tense == "like" and c.verb:
        words.append(c.verb.es.infinitive)
    return words


def _object(c: Clause, np: Phrase) -> str:
    text = phrase(np)
    if c.verb and c.verb.key == "like":
        if np.det == "bare":
            feminine = np.noun.es.gender
            article = (
                ("los" if feminine == "m" else "las") if np.plural else "la" if feminine == "f" else "el"
            )
            return f"{article} {text}"
        return text
    personal = np.noun.human and c.verb is not None and c.verb.key != "have"
    return f"a {text}" if personal else text


def adverbials(c: Clause) -> list[str]:
    """Return company, place and time in that order."""
    words = []
    if c.company:
        words += [c.company[0][ES], phrase(c.company[1])]
    if c.place:
        words.append(c.place[ES])
    if c.spot:
        words += [c.spot[0][ES], phrase(c.spot[1])]
    if c.time:
        words.append(c.time[ES])
    return words


def clause(c: Clause) -> str:
    """Return the Spanish sentence; questions keep the statement's order between ¿ and ?."""
    if c.ask:
        words = [c.ask[ES], _verb_group(c), subject(c.subject)]
    elif c.tense == "like" or (c.verb and c.verb.key == "like"):
        words = _liking(c)
    else:
        words = [
            subject(c.subject),
            c.frequency[ES] if c.frequency else "",
            "no" if c.negative else "",
            _verb_group(c),
        ]
    if c.predicate:
        form = c.predicate.es[c.subject.feminine("es") + 2 * c.subject.plural]
        words += [c.degree[ES] if c.degree else "", form]
    if c.object:
        words.append(_object(c, c.object))
    text = join(" ".join(filter(None, words + adverbials(c))))
    text = text[0].upper() + text[1:]
    return f"¿{text}?" if c.question else text + "."
