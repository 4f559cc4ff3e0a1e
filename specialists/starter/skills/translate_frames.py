"""Sentence frames built differently in each language: there is, where is, I am hungry, prices, ages …"""

from __future__ import annotations

import random

from . import translate_english as en
from . import translate_french as fr
from . import translate_german as de
from . import translate_spanish as es
from .lexicon_words import COUNTRIES, LANGUAGES, NAMES, NUMBERS, PREPOSITIONS, STATES
from .translate_clause import FORM, PERSONS, Phrase
from .translate_lexicon import ATTRIBUTES, VERB, Noun, noun_set, rows

Four = tuple[str, str, str, str]
Frame = tuple[Four, tuple[str, ...]]

NUMBER = [tuple(row) for row in rows(NUMBERS)]
STATE, TONGUE, COUNTRY = rows(STATES), rows(LANGUAGES), rows(COUNTRIES)
SPOTS = [(tuple(row), noun_set(row[4])) for row in rows(PREPOSITIONS)]
NAME = NAMES.split()
THINGS = noun_set("thing,clothes,furniture,read,vehicle,open")
SEEN = noun_set("animal,thing,person,furniture,vehicle,open,room,place,nature,food")
COUNTED = tuple(n for n in SEEN if not n.mass)
THERE = noun_set("animal,person,thing,clothes,read,food")
PLACES = noun_set("place,room")
JOBS = noun_set(
    "teacher,doctor,student,farmer,cook,waiter,singer,writer,lawyer,engineer,dentist,actor,painter,"
    "soldier,baker,"
    "butcher,policeman,musician,pilot,driver"
)
FOODS = tuple(
    n
    for n in noun_set("food,mass,drink")
    if n.key not in ("oil", "pepper", "garlic", "salt", "sugar", "butter")
)
HURT = noun_set("head,back,stomach,neck,hand,foot,arm,leg,knee,ear,nose,finger,shoulder")


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


# "My woman" would be "my wife" in French: these kinds of nouns take a possessive only where it is said.
UNOWNED = ("person", "animal", "nature")
OWNED = frozenset(
    [
        "friend",
        "teacher",
        "doctor",
        "student",
        "neighbour",
        "baby",
        "child",
        "guest",
        "lawyer",
        "boss",
        "colleague",
        "dentist",
        "gardener",
        "dog",
        "cat",
        "horse",
        "cow",
        "pig",
        "bird",
        "rabbit",
        "duck",
        "goat",
        "hen",
        "donkey",
        "parrot",
        "tree",
        "island",
    ]
)


def pick_phrase(
    rng: random.Random, nouns: tuple[Noun, ...], dets: str = "the a my your his our this"
) -> Phrase:
    """Return a random noun phrase; a third are plural or counted, a quarter have an adjective."""
    noun = rng.choice(nouns)
    adjectives = ATTRIBUTES[noun.key]
    adjective = rng.choice(adjectives) if adjectives and rng.random() < 0.25 else None
    det = rng.choice(dets.split())
    if det in ("my", "your", "his", "her", "our", "their") and noun.kind in UNOWNED and noun.key not in OWNED:
        det = "the"
    if noun.kind == "family" and det in ("the", "this", "a", "bare"):
        det = "my"
    if noun.mass:
        return Phrase(noun, det if det not in ("a", "this", "bare") else "the")
    roll = rng.random()
    if roll < 0.1 and "a" in dets.split() and noun.kind != "family":
        return Phrase(noun, "bare", True, adjective, NUMBER[rng.randrange(1, 12)])  # type: ignore[arg-type]
    plural = roll < 0.32 and det != "a" and noun.kind != "family"
    if plural and det == "bare":
        adjective = None
    return Phrase(noun, det, plural, adjective)


def four(english: str, french: str, spanish: str, german: str) -> Four:
    """Apply elisions and contractions to the four texts."""
    return english, fr.join(french), es.join(spanish), de.fuse(german)


def _there(rng: random.Random, question: bool, no: bool) -> Frame:
    spot, homes = rng.choice(SPOTS)
    np = pick_phrase(rng, THERE, "a")
    home = Phrase(rng.choice(homes), "the")
    many = np.plural
    verb = "are" if many else "is"
    english = f"{spot[0]} {en.phrase(home)}"
    thing = en.phrase(np)
    french = f"{fr.phrase(np, negated=no and not many)} {spot[1]} {fr.phrase(home)}"
    spanish = f"{es.phrase(np)} {spot[2]} {es.phrase(home)}"
    german = f"{de.phrase(np, 'acc', no and not many)} {spot[3]} {de.phrase(home, 'dat')}"
    used = (np.noun.key, home.noun.key)
    if question:
        return four(
            f"{_upper(verb)} there {thing} {english}?",
            f"Est-ce qu'il y a {french} ?",
            f"¿Hay {spanish}?",
            f"Gibt es {german}?",
        ), used
    if no and not many:
        none = thing.split(" ", 1)[1]
        return four(
            f"There is no {none} {english}.",
            f"Il n'y a pas {french}.",
            f"No hay {spanish}.".replace("hay un ", "hay ningún ").replace("hay una ", "hay ninguna "),
            f"Es gibt {german}.",
        ), used
    return four(
        f"There {verb} {thing} {english}.", f"Il y a {french}.", f"Hay {spanish}.", f"Es gibt {german}."
    ), used


def there_is(rng: random.Random) -> Frame:
    """There is a cat under the table; also as a question and denied."""
    roll = rng.random()
    return _there(rng, roll < 0.2, 0.2 <= roll < 0.35)


def where_is(rng: random.Random) -> Frame:
    """Where is my key?"""
    np = pick_phrase(rng, SEEN + PLACES, "the the my your his our")
    plural = np.plural
    return four(
        f"Where {'are' if plural else 'is'} {en.phrase(np)}?",
        f"Où {'sont' if plural else 'est'} {fr.phrase(np)} ?",
        f"¿Dónde {'están' if plural else 'está'} {es.phrase(np)}?",
        f"Wo {'sind' if plural else 'ist'} {de.phrase(np)}?",
    ), (np.noun.key,)


def cost(rng: random.Random) -> Frame:
    """How much does the car cost? and: The car costs ten euros."""
    np = pick_phrase(rng, THINGS, "the this")
    p = np.plural
    if rng.random() < 0.5:
        return four(
            f"How much {'do' if p else 'does'} {en.phrase(np)} cost?",
            f"Combien {'coûtent' if p else 'coûte'} {fr.phrase(np)} ?",
            f"¿Cuánto {'cuestan' if p else 'cuesta'} {es.phrase(np)}?",
            f"Wie viel {'kosten' if p else 'kostet'} {de.phrase(np)}?",
        ), (np.noun.key,)
    n = NUMBER[rng.randrange(1, len(NUMBER))]
    count = "one hundred" if n[0] == "hundred" else n[0]
    return four(
        f"{_upper(en.phrase(np))} {'cost' if p else 'costs'} {count} euros.",
        f"{_upper(fr.join(fr.phrase(np) + ' x')[:-2])} {'coûtent' if p else 'coûte'} {n[1]} euros.",
        f"{_upper(es.phrase(np))} {'cuestan' if p else 'cuesta'} {n[2]} euros.",
        f"{_upper(de.phrase(np))} {'kosten' if p else 'kostet'} {n[3]} Euro.",
    ), (np.noun.key,)


def colour(rng: random.Random) -> Frame:
    """What colour is your car?"""
    np = pick_phrase(
        rng,
        noun_set("car,bicycle,shirt,dress,coat,jacket,hat,skirt,door,bag,cup,chair,sofa,house,cat,dog,horse"),
        "the my your his our",
    )
    np = Phrase(np.noun, np.det)
    return four(
        f"What colour is {en.phrase(np)}?",
        f"De quelle couleur est {fr.phrase(np)} ?",
        f"¿De qué color es {es.phrase(np)}?",
        f"Welche Farbe hat {de.phrase(np)}?",
    ), (np.noun.key,)


def this_is(rng: random.Random) -> Frame:
    """This is my brother. Here is the key."""
    family = noun_set("family")
    if rng.random() < 0.5:
        np = pick_phrase(rng, THINGS + family + COUNTED, "my your his our the a")
        np = Phrase(
            np.noun,
            "my" if np.noun.kind == "family" else np.det if not np.number else "a",
            False,
            np.adjective,
        )
        return four(
            f"This is {en.phrase(np)}.",
            f"C'est {fr.phrase(np)}.",
            f"{'Esta' if np.noun.es.gender != 'm' else 'Este'} es {es.phrase(np)}.",
            f"Das ist {de.phrase(np)}.",
        ), (np.noun.key,)
    np = pick_phrase(rng, THINGS, "my your his our the")
    np = Phrase(np.noun, np.det, False, np.adjective)
    return four(
        f"Here is {en.phrase(np)}.",
        f"Voici {fr.phrase(np)}.",
        f"Aquí está {es.phrase(np)}.",
        f"Hier ist {de.phrase(np)}.",
    ), (np.noun.key,)


def _person(rng: random.Random, choices: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> tuple[int, int, str]:
    person = rng.choice(choices)
    return person, FORM[person], ("am", "are", "is", "is", "are", "are")[person]


def state(rng: random.Random) -> Frame:
    """I am hungry; also as a question and denied."""
    p, form, be = _person(rng)
    row, roll = rng.choice(STATE), rng.random()
    have_fr, have_es, have_de = (getattr(VERB["have"], x).present[form] for x in ("fr", "es", "de"))
    f_subject, s_subject, g_subject = fr.PRONOUNS[p], es.PRONOUNS[p], de.PRONOUNS[p]
    who = PERSONS[p]
    spaced = f"{s_subject} " if s_subject else ""
    if roll < 0.2:
        low = who if who == "I" else who.lower()
        return (
            f"{_upper(be)} {low} {row[0]}?",
            fr.join(f"Est-ce que {f_subject} {have_fr} {row[1]} ?"),
            f"¿{_upper(f'{spaced}{have_es} {row[2]}')}?",
            f"{_upper(have_de)} {g_subject} {row[3]}?",
        ), ()
    if roll < 0.4:
        return (
            f"{_upper(who)} {be} not {row[0]}.",
            _upper(fr.join(f"{f_subject} ne {have_fr} pas {row[1].replace('de la ', 'de ')}.")),
            f"{_upper(f'{spaced}no {have_es} {row[2]}')}.",
            f"{_upper(g_subject)} {have_de} {row[4]} {row[3]}.",
        ), ()
    return (
        f"{_upper(who)} {be} {row[0]}.",
        _upper(fr.join(f"{f_subject} {have_fr} {row[1]}.")),
        f"{_upper(f'{spaced}{have_es} {row[2]}')}.",
        f"{_upper(g_subject)} {have_de} {row[3]}.",
    ), ()


def age(rng: random.Random) -> Frame:
    """I am twelve years old."""
    p, form, be = _person(rng)
    n = NUMBER[rng.randrange(1, len(NUMBER) - 1)]
    spaced = f"{es.PRONOUNS[p]} " if es.PRONOUNS[p] else ""
    return (
        f"{_upper(PERSONS[p])} {be} {n[0]} years old.",
        _upper(fr.join(f"{fr.PRONOUNS[p]} {VERB['have'].fr.present[form]} {n[1]} ans.")),
        _upper(f"{spaced}{VERB['have'].es.present[form]} {n[2]} años."),
        f"{_upper(de.PRONOUNS[p])} {de.BE[form]} {n[3]} Jahre alt.",
    ), ()


def job(rng: random.Random) -> Frame:
    """He is a teacher; also as a question."""
    p, form, be = _person(rng, (0, 1, 2))
    noun = rng.choice(JOBS)
    np = Phrase(noun, "a")
    spaced = f"{es.PRONOUNS[p]} " if es.PRONOUNS[p] else ""
    f, s, g = noun.fr.singular, noun.es.singular, noun.de.singular
    if rng.random() < 0.25:
        return (
            f"{_upper(be)} {PERSONS[p]} {en.phrase(np)}?",
            fr.join(f"Est-ce que {fr.PRONOUNS[p]} {fr.BE[form]} {f} ?"),
            f"¿{_upper(f'{spaced}{es.SER[form]} {s}')}?",
            f"{_upper(de.BE[form])} {de.PRONOUNS[p]} {g}?",
        ), (noun.key,)
    return (
        f"{_upper(PERSONS[p])} {be} {en.phrase(np)}.",
        f"{_upper(fr.PRONOUNS[p])} {fr.BE[form]} {f}.",
        f"{_upper(f'{spaced}{es.SER[form]} {s}')}.",
        f"{_upper(de.PRONOUNS[p])} {de.BE[form]} {g}.",
    ), (noun.key,)


def origin(rng: random.Random) -> Frame:
    """She comes from Spain; I speak French (well, a little, or not)."""
    p, form, _ = _person(rng)
    spaced = f"{es.PRONOUNS[p]} " if es.PRONOUNS[p] else ""
    third = p in (2, 3)
    if rng.random() < 0.4:
        country = rng.choice(COUNTRY)
        return (
            f"{_upper(PERSONS[p])} {'comes' if third else 'come'} from {country[0]}.",
            _upper(f"{fr.PRONOUNS[p]} {VERB['come'].fr.present[form]} {country[1]}."),
            _upper(f"{spaced}{VERB['come'].es.present[form]} de {country[2]}."),
            _upper(f"{de.PRONOUNS[p]} {VERB['come'].de.present[form]} aus {country[3]}."),
        ), ()
    tongue, verb = rng.choice(TONGUE), VERB[rng.choice(("speak", "learn"))]
    article = "" if verb.key == "speak" else "l'" if tongue[1][0] in "aei" else "le "
    french, spanish, german = verb.fr.present[form], verb.es.present[form], verb.de.present[form]
    roll = rng.random()
    if roll < 0.25:
        low = PERSONS[p] if p == 0 else PERSONS[p].lower()
        return (
            f"{'Does' if third else 'Do'} {low} {verb.key} {tongue[0]}?",
            fr.join(f"Est-ce que {fr.PRONOUNS[p]} {french} {article}{tongue[1]} ?"),
            f"¿{_upper(f'{spaced}{spanish} {tongue[2]}')}?",
            f"{_upper(german)} {de.PRONOUNS[p]} {tongue[3]}?",
        ), ()
    if roll < 0.5:
        return (
            f"{_upper(PERSONS[p])} {'does' if third else 'do'}n't {verb.key} {tongue[0]}.",
            _upper(fr.join(f"{fr.PRONOUNS[p]} ne {french} pas {article}{tongue[1]}.")),
            _upper(f"{spaced}no {spanish} {tongue[2]}."),
            _upper(f"{de.PRONOUNS[p]} {german} kein {tongue[3]}."),
        ), ()
    return (
        f"{_upper(PERSONS[p])} {verb.en.present[form]} {tongue[0]}.",
        _upper(fr.join(f"{fr.PRONOUNS[p]} {french} {article}{tongue[1]}.")),
        _upper(f"{spaced}{spanish} {tongue[2]}."),
        _upper(f"{de.PRONOUNS[p]} {german} {tongue[3]}."),
    ), ()


NAMED = (
    (("My name is {}.", "Je m'appelle {}.", "Me llamo {}.", "Ich heiße {}."), 0),
    (("His name is {}.", "Il s'appelle {}.", "Él se llama {}.", "Er heißt {}."), 1),
    (("Her name is {}.", "Elle s'appelle {}.", "Ella se llama {}.", "Sie heißt {}."), 2),
    (("This is {}.", "C'est {}.", "Este es {}.", "Das ist {}."), 1),
    (("Where is {}?", "Où est {} ?", "¿Dónde está {}?", "Wo ist {}?"), 0),
)
FEMALE = ("Anna", "Maria", "Laura", "Emma", "Julia", "Sara")


def name(rng: random.Random) -> Frame:
    """My name is Anna."""
    shape, sex = rng.choice(NAMED)
    choices = [n for n in NAME if sex == 0 or (n in FEMALE) == (sex == 2)]
    who = rng.choice(choices)
    return (shape[0].format(who), shape[1].format(who), shape[2].format(who), shape[3].format(who)), ()


def order(rng: random.Random) -> Frame:
    """I would like a coffee, please."""
    np = pick_phrase(rng, FOODS, "a")
    if np.noun.mass:
        np = Phrase(np.noun, "bare")
    return four(
        f"I would like {en.phrase(np)}, please.",
        f"Je voudrais {fr.phrase(np)}, s'il vous plaît.",
        f"Quisiera {es.phrase(np)}, por favor.",
        f"Ich möchte bitte {de.phrase(np, 'acc')}.",
    ), (np.noun.key,)


def pain(rng: random.Random) -> Frame:
    """My head hurts."""
    noun = rng.choice(HURT)
    the = Phrase(noun, "the")
    return four(
        f"My {noun.key} hurts.",
        f"J'ai mal à {fr.phrase(the)}.",
        f"Me duele {es.phrase(the)}.",
        f"{_upper(de.phrase(Phrase(noun, 'my')))} tut weh.",
    ), (noun.key,)


FRAMES = (
    (there_is, 5),
    (where_is, 3),
    (cost, 2),
    (colour, 1),
    (this_is, 3),
    (state, 1),
    (age, 1),
    (job, 1),
    (origin, 2),
    (name, 1),
    (order, 2),
    (pain, 0.3),
)
