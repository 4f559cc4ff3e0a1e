"""The lexicon of the translation grammar as records: nouns, verbs and adjectives with all their forms."""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon_nouns import NOUNS
from .lexicon_verbs import COMMANDS, OBJECT_SETS, VERBS
from .lexicon_words import ADJECTIVES
from .translate_forms import (
    english_ing,
    english_plural,
    english_s,
    french_feminine,
    french_plural,
    french_verb,
    german_verb,
    spanish_feminine,
    spanish_plural,
    spanish_present,
    spanish_preterite,
)

LANGUAGES = ("fr", "es", "de")


def rows(table: str) -> list[list[str]]:
    """Split a pipe-separated table into rows of cells; empty lines and ``#`` lines are skipped."""
    return [line.split("|") for line in table.strip().splitlines() if line and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Word:
    """A noun in one language; gender m, f, n or x (Spanish feminine with "el"), plural "" if none."""

    singular: str
    gender: str
    plural: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun in four languages with its semantic class."""

    key: str
    kind: str
    en: Word
    fr: Word
    es: Word
    de: Word

    @property
    def mass(self) -> bool:
        """Whether the noun has no plural and no indefinite article."""
        return self.kind in ("mass", "drink")

    @property
    def human(self) -> bool:
        """Whether the noun names people (Spanish then marks it with "a" as an object)."""
        return self.kind in ("person", "family")


@dataclass(frozen=True, slots=True)
class Conjugation:
    """A verb in one language: five present forms (I, you, he, we, they), five past forms or a participle."""

    infinitive: str
    present: tuple[str, ...]
    past: tuple[str, ...] = ()
    participle: str = ""
    be: bool = False
    prefix: str = ""
    linker: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in four languages with the nouns it takes as objects (empty for none)."""

    key: str
    en: Conjugation
    ing: str
    fr: Conjugation
    es: Conjugation
    de: Conjugation
    objects: tuple[Noun, ...]
    dative: bool


@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective: French and Spanish m, f, m plural, f plural; German predicate form and stem."""

    key: str
    fr: tuple[str, str, str, str]
    es: tuple[str, str, str, str]
    de: tuple[str, str]
    estar: bool
    nouns: tuple[Noun, ...]
    flags: str


def _romance(cell: str, plural: str) -> Word:
    head, _, given = cell.partition("/")
    word, gender = head.rsplit(" ", 1)
    make = french_plural if plural == "fr" else spanish_plural
    return Word(word, gender, given or make(word))


def _german(cell: str) -> Word:
    weak = cell.endswith(" w")
    cell = cell.removesuffix(" w")
    word, gender, plural = cell.rsplit(" ", 2)
    return Word(word, gender, "" if plural == "-" else plural, weak)


def _load_nouns() -> dict[str, Noun]:
    nouns, kind = {}, ""
    for line in NOUNS.strip().splitlines():
        if line.startswith("#"):
            kind = line[1:]
            continue
        en, fr, es, de = line.split("|")
        key, _, plural = en.partition("/")
        english = Word(key, "n", plural or english_plural(key))
        nouns[key] = Noun(key, kind, english, _romance(fr, "fr"), _romance(es, "es"), _german(de))
    return nouns


NOUN = _load_nouns()


def noun_set(spec: str) -> tuple[Noun, ...]:
    """Return the nouns of a comma-separated list of classes, named sets and single nouns."""
    found: dict[str, Noun] = {}
    for name in filter(None, spec.split(",")):
        members = OBJECT_SETS[name].split(",") if name in OBJECT_SETS else [name]
        for member in members:
            found.update({n.key: n for n in NOUN.values() if member in (n.kind, n.key)})
    return tuple(found.values())


def _english(cell: str) -> tuple[Conjugation, str]:
    base, past, *rest = (part.replace("_", " ") for part in cell.split(" "))
    if base == "have":
        third = "has"
    elif base in ("can", "must"):
        third = base
    else:
        third = english_s(base)
    conjugation = Conjugation(base, (base, base, third, base, base), (past,) * 5)
    return conjugation, rest[0] if rest else english_ing(base)


def _load_verbs() -> dict[str, Verb]:
    verbs = {}
    for en, fr, es, de, objects in rows(VERBS):
        english, ing = _english(en)
        infinitive, present, participle, be = french_verb(fr)
        spanish = [*es.split(":"), "", ""]
        es_present, es_past = (
            spanish_present(spanish[0], spanish[1]),
            spanish_preterite(spanish[0], spanish[2]),
        )
        german = german_verb(de)
        spec = objects.removesuffix("@dat")
        verbs[en.split(" ")[0]] = Verb(
            en.split(" ")[0].replace("_", " "),
            english,
            ing,
            Conjugation(infinitive, present, participle=participle, be=be),
            Conjugation(spanish[0], es_present, es_past),
            Conjugation(
                german.infinitive,
                german.present,
                participle=german.participle,
                be=german.be,
                prefix=german.prefix,
                linker=german.linker,
            ),
            () if spec == "." else noun_set(spec),
            objects.endswith("@dat"),
        )
    return verbs


VERB = _load_verbs()
HELPERS = ("like", "want", "can", "must")
TRANSITIVE = tuple(v for v in VERB.values() if v.objects)
PLAIN = [
    "sleep",
    "work",
    "play",
    "sing",
    "dance",
    "swim",
    "run",
    "walk",
    "travel",
    "laugh",
    "cry",
    "smile",
    "wait",
    "dream",
    "cook",
    "study",
    "think",
    "answer",
    "win",
    "jump",
    "shout",
    "cough",
    "smoke",
    "arrive",
    "come",
]
INTRANSITIVE = tuple(VERB[name] for name in PLAIN)


def _load_adjectives() -> dict[str, Adjective]:
    adjectives = {}
    for en, fr, es, de, classes, flags in rows(ADJECTIVES):
        masculine, _, feminine = fr.partition("/")
        if fr.endswith("!"):
            french = (fr[:-1],) * 4
        else:
            feminine = feminine or french_feminine(masculine)
            french = (masculine, feminine, french_plural(masculine), feminine + "s")
        spanish = es.removesuffix(" e")
        es_feminine = spanish_feminine(spanish)
        forms = (spanish, es_feminine, spanish_plural(spanish), spanish_plural(es_feminine))
        german, _, stem = de.partition("/")
        adjectives[en] = Adjective(
            en, french, forms, (german, stem or german), es.endswith(" e"), noun_set(classes), flags
        )
    return adjectives


ADJECTIVE = _load_adjectives()
ATTRIBUTES: dict[str, tuple[Adjective, ...]] = {
    key: tuple(a for a in ADJECTIVE.values() if "p" not in a.flags and any(n.key == key for n in a.nouns))
    for key in NOUN
}
PREDICATES = tuple(ADJECTIVE.values())
COMMAND = {en: (fr, es, de) for en, fr, es, de in rows(COMMANDS)}
