"""More sentence frames: telling, comparing, giving, the clock, the calendar and the weather."""

from __future__ import annotations

import random

from . import translate_english as en
from . import translate_french as fr
from . import translate_german as de
from . import translate_spanish as es
from .lexicon_words import TIMES
from .translate_clause import FORM, PERSONS, Phrase
from .translate_frames import NUMBER, Frame, four, pick_phrase
from .translate_lexicon import ADJECTIVE, COMMAND, VERB, noun_set, rows

# English adjective|English comparative|German comparative|what is compared
COMPARED = rows("""
big|bigger|größer|animal,furniture,vehicle,room
small|smaller|kleiner|animal,furniture,vehicle,room
old|older|älter|person,family
young|younger|jünger|person,family
strong|stronger|stärker|animal,person,family
fast|faster|schneller|animal,vehicle
slow|slower|langsamer|animal,vehicle
rich|richer|reicher|person,family
long|longer|länger|book,letter,story,text,river,street,sentence
heavy|heavier|schwerer|thing,furniture
expensive|more expensive|teurer|clothes,thing,vehicle,furniture
cheap|cheaper|billiger|clothes,thing,vehicle,furniture
beautiful|more beautiful|schöner|place,clothes,nature
intelligent|more intelligent|intelligenter|animal,person,family
interesting|more interesting|interessanter|read,abstract
difficult|more difficult|schwieriger|lesson,exercise,question,problem,text,game
easy|easier|einfacher|lesson,exercise,question,text,game
famous|more famous|berühmter|actor,singer,writer,painter,museum,castle,tower
""")
GIFTS = noun_set("thing,read,clothes,food")
GIVE = (
    ("donne", "donnes", "donne", "donnons", "donnent"),
    ("doy", "das", "da", "damos", "dan"),
    ("gebe", "gibst", "gibt", "geben", "geben"),
)
WEATHER = rows("""
It rains|Il pleut|Llueve|Es regnet {}
It snows|Il neige|Nieva|Es schneit {}
It is cold|Il fait froid|Hace frío|Es ist {} kalt
It is hot|Il fait chaud|Hace calor|Es ist {} heiß
It is windy|Il y a du vent|Hace viento|Es ist {} windig
It is sunny|Il y a du soleil|Hace sol|Es ist {} sonnig
""")
DAYS = rows("""
Monday|lundi|lunes|Montag
Tuesday|mardi|martes|Dienstag
Wednesday|mercredi|miércoles|Mittwoch
Thursday|jeudi|jueves|Donnerstag
Friday|vendredi|viernes|Freitag
Saturday|samedi|sábado|Samstag
Sunday|dimanche|domingo|Sonntag
""")
NOW = [row[1:] for row in rows(TIMES) if row[0] == "=" and row[1] != "on Sundays"]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def compare(rng: random.Random) -> Frame:
    """The train is faster than the bus."""
    key, english, german, kinds = rng.choice(COMPARED)
    nouns = noun_set(kinds)
    first = rng.choice(nouns)
    others = [n for n in nouns if n is not first]
    second = rng.choice([n for n in others if n.kind == first.kind] or others)
    dets = (
        ["the", "my", "your", "our"] if first.kind == "family" or second.kind == "family" else ["the", "this"]
    )
    a, b = Phrase(first, rng.choice(dets)), Phrase(second, dets[0])
    if second.kind == "family":
        b = Phrase(second, rng.choice(dets))
    feminine = (first.fr.gender == "f", first.es.gender != "m")
    adjective = ADJECTIVE[key]
    return (
        f"{_upper(en.phrase(a))} is {english} than {en.phrase(b)}.",
        _upper(fr.join(f"{fr.phrase(a)} est plus {adjective.fr[feminine[0]]} que {fr.phrase(b)}.")),
        _upper(f"{es.phrase(a)} es más {adjective.es[feminine[1]]} que {es.phrase(b)}."),
        _upper(f"{de.phrase(a)} ist {german} als {de.phrase(b)}."),
    ), (first.key, second.key, key)


def give(rng: random.Random) -> Frame:
    """I give the book to my brother."""
    person = rng.randrange(6)
    form = FORM[person]
    gift = pick_phrase(rng, GIFTS, "the a this")
    friend = pick_phrase(
        rng, noun_set("family,friend,teacher,neighbour,child,boss,colleague"), "my your our the"
    )
    friend = Phrase(
        friend.noun, friend.det if not friend.number else "the", friend.plural and not friend.number
    )
    spanish = f"{es.PRONOUNS[person]} {'les' if friend.plural else 'le'} {GIVE[1][form]}".strip()
    english = "gives" if form == 2 else "give"
    return (
        f"{_upper(PERSONS[person])} {english} {en.phrase(gift)} to {en.phrase(friend)}.",
        _upper(fr.join(f"{fr.PRONOUNS[person]} {GIVE[0][form]} {fr.phrase(gift)} à {fr.phrase(friend)}.")),
        _upper(es.join(f"{spanish} {es.phrase(gift)} a {es.phrase(friend)}.")),
        _upper(f"{de.PRONOUNS[person]} {GIVE[2][form]} {de.phrase(friend, 'dat')} {de.phrase(gift, 'acc')}."),
    ), (gift.noun.key, friend.noun.key, gift.adjective.key if gift.adjective else "")


def clock(rng: random.Random) -> Frame:
    """It is three o'clock; today is Monday."""
    if rng.random() < 0.4:
        day = rng.choice(DAYS)
        return (
            f"Today is {day[0]}.",
            f"Aujourd'hui, c'est {day[1]}.",
            f"Hoy es {day[2]}.",
            f"Heute ist {day[3]}.",
        ), ()
    n = NUMBER[rng.randrange(1, 12)]
    return (f"It is {n[0]} o'clock.", f"Il est {n[1]} heures.", f"Son las {n[2]}.", f"Es ist {n[3]} Uhr."), ()


def weather(rng: random.Random) -> Frame:
    """It is cold today."""
    row, time = rng.choice(WEATHER), rng.choice(NOW)
    return (
        f"{row[0]} {time[0]}.",
        f"{row[1]} {time[1]}.",
        f"{row[2]} {time[2]}.",
        row[3].format(time[3]) + ".",
    ), ()


def command(rng: random.Random) -> Frame:
    """Open the door!"""
    key = rng.choice(list(COMMAND))
    verb, (f, s, g) = VERB[key], COMMAND[key]
    np = pick_phrase(rng, verb.objects, "the the my our this")
    stem, _, prefix = g.partition(",")
    linker = f" {verb.de.linker}" if verb.de.linker else ""
    thing = de.phrase(np, "dat" if verb.dative else "acc")
    german = f"{_upper(stem)}{linker} {thing}{' ' + prefix if prefix else ''}!"
    return four(
        f"{_upper(verb.key)} {en.phrase(np)}!",
        f"{_upper(f)} {fr.phrase(np)} !",
        f"¡{_upper(s)} {'a ' if np.noun.human else ''}{es.phrase(np)}!",
        german,
    ), (np.noun.key, key)


MORE_FRAMES = ((command, 3), (compare, 3), (give, 3), (clock, 0.6), (weather, 1))
