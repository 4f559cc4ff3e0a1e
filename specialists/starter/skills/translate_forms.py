"""Regular inflection for the translation grammar; irregular forms stand in the lexicon tables."""

from __future__ import annotations

import re
from typing import NamedTuple


def english_plural(noun: str) -> str:
    """Return the regular plural ("city" → "cities")."""
    if noun.endswith(("ch", "sh", "ss", "x")):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def english_s(verb: str) -> str:
    """Return the third person singular; in "look for" the first word changes."""
    first, *rest = verb.split(" ")
    form = first + "es" if first.endswith("o") else english_plural(first)
    return " ".join([form, *rest])


def english_ing(verb: str) -> str:
    """Return the progressive form; a short vowel doubles the consonant."""
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    doubles = re.search(r"^[^aeiou]*[aeiou][bdgmnpt]$", verb) is not None
    return verb + verb[-1] + "ing" if doubles else verb + "ing"


def french_plural(word: str) -> str:
    """Return the regular plural of a noun or masculine adjective."""
    if word.endswith(("s", "x", "z")):
        return word
    if word.endswith(("eau", "eu")) and word != "bleu":
        return word + "x"
    return word[:-2] + "aux" if word.endswith("al") else word + "s"


def french_feminine(adjective: str) -> str:
    """Return the regular feminine."""
    return adjective if adjective.endswith("e") else adjective + "e"


class FrenchVerb(NamedTuple):
    """Infinitive, five present forms, past participle and whether the compound tense takes être."""

    infinitive: str
    present: tuple[str, ...]
    participle: str
    be: bool


def french_verb(cell: str) -> FrenchVerb:
    """Read a French verb cell; a bare infinitive is a regular -er verb (-ger, -cer and -yer too)."""
    infinitive, present, participle, *_ = [*cell.split(":"), "", "", ""]
    be = cell.endswith("+")
    stem = infinitive[:-2]
    if present:
        forms = tuple(present.split(","))
    else:
        soft = stem[:-1] + "i" if stem.endswith("y") else stem
        we = stem + "eons" if stem.endswith("g") else re.sub("c$", "ç", stem) + "ons"
        forms = (soft + "e", soft + "es", soft + "e", we, soft + "ent")
    return FrenchVerb(infinitive, forms, participle.removesuffix("+") or stem + "é", be)


def spanish_plural(word: str) -> str:
    """Return the regular plural ("canción" → "canciones", "pez" → "peces")."""
    if word[-1] in "aeiouáéóú":
        return word + "s"
    if word.endswith("z"):
        return word[:-1] + "ces"
    plain = {"á": "a", "é": "e", "í": "i", "ó": "o", "ú": "u"}
    if len(word) > 2 and word[-2] in plain and word[-1] in "ns" and not word.endswith("ís"):
        return word[:-2] + plain[word[-2]] + word[-1] + "es"
    return {"joven": "jóvenes", "examen": "exámenes"}.get(word, word + "es")


def spanish_feminine(adjective: str) -> str:
    """Return the feminine: -o becomes -a, other endings stay."""
    if adjective.endswith("dor"):
        return adjective + "a"
    return adjective[:-1] + "a" if adjective.endswith("o") else adjective


def spanish_present(infinitive: str, given: str) -> tuple[str, ...]:
    """Return five present forms; ``given`` is empty, five forms, or the stressed stem."""
    if "," in given:
        return tuple(given.split(","))
    weak, kind = infinitive[:-2], infinitive[-2:]
    strong = given or weak
    endings = {"ar": "o as a amos an", "er": "o es e emos en", "ir": "o es e imos en"}[kind].split()
    return tuple((weak if i == 3 else strong) + ending for i, ending in enumerate(endings))


def spanish_preterite(infinitive: str, given: str) -> tuple[str, ...]:
    """Return five preterite forms; ``given`` is empty or five forms."""
    if given:
        return tuple(given.split(","))
    stem, kind = infinitive[:-2], infinitive[-2:]
    if kind != "ar":
        return tuple(stem + ending for ending in ["í", "iste", "ió", "imos", "ieron"])
    first = re.sub("z$", "c", re.sub("g$", "gu", re.sub("c$", "qu", stem)))
    return (first + "é", *(stem + ending for ending in ["aste", "ó", "amos", "aron"]))


class GermanVerb(NamedTuple):
    """Infinitive, present, participle, whether it takes sein, separable prefix and prepositional linker."""

    infinitive: str
    present: tuple[str, ...]
    participle: str
    be: bool
    prefix: str
    linker: str


MODALS = {
    "wollen": "will,willst,will,wollen,wollen",
    "können": "kann,kannst,kann,können,können",
    "müssen": "muss,musst,muss,müssen,müssen",
    "mögen": "mag,magst,mag,mögen,mögen",
}


def _german_present(base: str, changed: str) -> tuple[str, ...]:
    if base in MODALS:
        return tuple(MODALS[base].split(","))
    stem = base.removesuffix("en") if base.endswith("en") else base.removesuffix("n")
    first = stem[:-2] + "le" if stem.endswith("el") else stem + "e"
    if changed:
        you, he = changed.split(",")
    else:
        link = "e" if stem.endswith(("t", "d")) else ""
        you, he = stem + link + ("t" if stem.endswith(("s", "ß", "z", "x")) else "st"), stem + link + "t"
    return (first, you, he, base, base)


def german_verb(cell: str) -> GermanVerb:
    """Read a German verb cell; a bare infinitive is a regular weak verb."""
    head, changed, participle, *_ = [*cell.split(":"), "", "", ""]
    head, _, linker = head.partition("~")
    prefix, _, base = head.rpartition("-")
    present = _german_present(base, changed)
    if not participle.strip("+"):
        regular = present[2] if not base.endswith("ieren") else base.removesuffix("en") + "t"
        participle = (regular if base.endswith("ieren") else "ge" + regular) + participle
    return GermanVerb(
        prefix + base, present, participle.removesuffix("+"), cell.endswith("+"), prefix, linker
    )
