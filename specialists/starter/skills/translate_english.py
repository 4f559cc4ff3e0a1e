"""Say a clause in English."""

from __future__ import annotations

from .translate_clause import LANGUAGE_INDEX, PERSONS, Clause, Phrase

EN = LANGUAGE_INDEX["en"]
BE = ("am", "are", "is", "is", "are", "are")
WAS = ("was", "were", "was", "was", "were", "were")


def phrase(np: Phrase) -> str:
    """Return the noun phrase ("a red car", "two cats", "bread")."""
    word = np.noun.en.plural if np.plural else np.noun.en.singular
    body = f"{np.adjective.key} {word}" if np.adjective else word
    if np.number:
        return f"{np.number[EN]} {body}"
    if np.det == "bare":
        return body
    if np.det == "a":
        an = body.startswith(("a", "e", "i", "o", "u", "honest")) and not body.startswith(("uni", "use"))
        return ("an " if an else "a ") + body
    det = "these" if np.det == "this" and np.plural else np.det
    return f"{det} {body}"


def _verb_group(clause: Clause) -> tuple[str, str]:
    """Return the part before the subject in questions ("do") and the rest ("not eat")."""
    person, verb, no = clause.subject.person, clause.verb, clause.negative
    third = person in (2, 3)
    if verb is None:
        return (WAS if clause.tense == "past" else BE)[person], "not" if no else ""
    base = verb.en.infinitive
    if clause.tense in ("can", "must"):
        return clause.tense + ("'t" if no else ""), base
    if clause.tense == "going":
        return BE[person], ("not " if no else "") + "going to " + base
    helper = clause.tense in ("want", "like")
    plain = f"{clause.tense} to {base}" if helper else base
    do = "did" if clause.tense == "past" else "does" if third else "do"
    if no or clause.question:
        return do + ("n't" if no else ""), plain
    if helper:
        return "", f"{clause.tense}{'s' if third else ''} to {base}"
    return "", (verb.en.past if clause.tense == "past" else verb.en.present)[clause.subject.form]


def clause(c: Clause, progressive: bool = False) -> str:
    """Return the English sentence; ``progressive`` says "I am eating" for "I eat"."""
    subject = phrase(c.subject.phrase) if c.subject.phrase else PERSONS[c.subject.person]
    first, rest = _verb_group(c)
    if progressive and c.verb:
        first, rest = BE[c.subject.person], ("not " if c.negative else "") + c.verb.ing
    if c.question and subject != "I":
        subject = subject[0].lower() + subject[1:]
    words = [c.ask[EN] if c.ask else "", first, subject, rest] if c.question else [subject, first, rest]
    if c.frequency:
        words.insert(1 if c.verb else 2, c.frequency[EN])
    if c.predicate:
        words += [c.degree[EN] if c.degree else "", c.predicate.key]
    if c.object:
        words.append(phrase(c.object))
    if c.company:
        words += [c.company[0][EN], phrase(c.company[1])]
    if c.place:
        words.append(c.place[EN])
    if c.spot:
        words += [c.spot[0][EN], phrase(c.spot[1])]
    if c.time:
        words.append(c.time[EN])
    text = " ".join(filter(None, words))
    return text[0].upper() + text[1:] + ("?" if c.question else ".")
