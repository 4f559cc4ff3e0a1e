"""Facts: one-hop questions over 27 relations, and two-hop questions that compose two of them.

Facts come from the relation files of Hernandez et al., "Linearity of Relation Decoding in Transformer
Language Models" (2023) and the country files of Todd et al., "Function Vectors in Large Language Models"
(2023), completed and corrected by ``facts_tables``. Every fact is seen in training; a test asks for it in
words that training never used. Two-hop tests also use bridge entities that training never composes; training
only asks for their country.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from .example import Example, Split, bucket, numbered_pool, row_split, template_pool, unheard
from .facts_more import MORE_BRIDGE_ASKS, MORE_BRIDGES, MORE_FRAMES
from .facts_own_more import MORE_FOLLOW_UPS, MORE_OWN
from .facts_phrases_more import MORE_PHRASES
from .facts_tables import CORRECTIONS, EXTRA, RENAMED, WELL_KNOWN
from .facts_templates import BRIDGES, FOLLOW_UPS, FRAMES, OWN, PHRASES
from .sources import members, required

RELATIONS = "probing/relations_lre/relations_47.tar.gz"
COUNTRIES = "probing/function_vectors/function_vectors_datasets.tar.gz"
WORD_LISTS = "probing/word_lists/dariusk_corpora.tar.gz"

FILES = {
    "country_capital_city": "capital",
    "country_language": "language",
    "country_currency": "currency",
    "country_largest_city": "largest-city",
    "city_in_country": "city-country",
    "landmark_in_country": "landmark-country",
    "food_from_country": "food-country",
    "person_occupation": "occupation",
    "person_plays_pro_sport": "sport",
    "person_plays_instrument": "instrument",
    "person_native_language": "native-language",
    "person_band_lead_singer": "singer-band",
    "superhero_person": "hero-name",
    "product_by_company": "maker",
    "company_hq": "company-city",
    "star_constellation": "constellation",
    "fruit_inside_color": "inside-colour",
    "fruit_outside_color": "outside-colour",
    "object_superclass": "superclass",
    "substance_phase": "phase",
    "task_done_by_tool": "tool",
    "task_done_by_person": "worker",
    "work_location": "work-place",
    "presidents_birth_year": "president-birth",
    "presidents_election_year": "president-election",
}
CAP = 64  # subjects of one long relation: a small model needs to see each of them often
LIMITS = {"sport": 96, "maker": 96, "landmark-country": 110}
TARGETS = ("capital", "language", "currency", "largest-city", "continent")
BRIDGE_FACTS = {"landmark": "landmark-country", "food": "food-country"}
TWO_HOP_SHARE = 0.25
BRIDGE_SHARE = 0.12  # of training rows: name the country and stop there, for every entity of a bridge
FOLLOW_UP_SHARE = 0.11  # of one-hop rows: 8 % of all
LOWER_SHARE = 0.15

Facts = dict[str, dict[str, str]]


def _currency(name: str) -> str:
    """Shorten ``Albanian Lek (ALL)`` to ``lek``."""
    return re.sub(r"\s*\(.*?\)", "", name).split()[-1].lower()


def _text(value: str) -> str:
    """Trim, and decode the literal ``\\u00ed`` escapes that a few rows of the relation files hold."""
    return re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m.group(1), 16)), value).strip()


def resolve(kind: str, rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give each subject one object: subjects with clashing objects are dropped.

    Two relations keep one instead: heroes their first person, and things their last (finest) class.
    """
    seen: dict[str, list[str]] = {}
    for subject, obj in rows:
        seen.setdefault(subject, []).append(obj)
    if kind == "hero-name":
        return {s: objects[0] for s, objects in seen.items() if objects[0] != s}
    if kind == "superclass":
        return {s: objects[-1] for s, objects in seen.items()}
    return {s: objects[0] for s, objects in seen.items() if len(set(objects)) == 1}


def shorten(kind: str, facts: dict[str, str]) -> dict[str, str]:
    """Keep well-known subjects, then short plain ones, up to the limit of the relation."""
    limit, known = LIMITS.get(kind, CAP), WELL_KNOWN.get(kind, frozenset()) | EXTRA.get(kind, {}).keys()
    if kind == "constellation":  # catalogue numbers are nothing a user asks for
        facts = {s: o for s, o in facts.items() if re.fullmatch(r"[A-Z][a-z]{2,}", s)}
    if len(facts) <= limit or kind in TARGETS or kind == "city-country":
        return facts
    order = sorted(
        facts, key=lambda s: (s not in known, not s.isascii(), len(s.split()) > 3, bucket(s, 1 << 30))
    )
    return {s: facts[s] for s in sorted(order[:limit])}


def _relation_rows(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, subject, object) of the source files, the relation files first."""
    for name, raw in members(required(data, RELATIONS), ".json"):
        kind = FILES.get(Path(name).stem)
        if kind is not None:
            for row in json.loads(raw)["samples"]:
                yield kind, _text(row["subject"]), _text(row["object"])
    for name, raw in members(required(data, COUNTRIES), ".json"):
        kind = {"country-capital": "capital", "country-currency": "currency"}.get(Path(name).stem)
        if kind is not None:
            for row in json.loads(raw):
                yield kind, _text(row["input"]), _text(row["output"])
    for _, raw in members(required(data, WORD_LISTS), "/us_state_capitals.json"):
        for row in json.loads(raw)["capitals"]:
            yield "state-capital", row["state"], row["capital"]


def _gathered(data: Path) -> Facts:
    """Collect each relation's facts; the country lists only add countries that the relation files lack."""
    rows: dict[str, list[tuple[str, str]]] = {}
    primary: set[tuple[str, str]] = set()
    for kind, subject, obj in _relation_rows(data):
        subject = RENAMED.get(subject, subject)
        if kind in ("capital", "currency"):
            if (kind, subject) in primary:
                continue
            primary.add((kind, subject))
        rows.setdefault(kind, []).append((subject, _currency(obj) if kind == "currency" else obj))
    return {kind: resolve(kind, pairs) for kind, pairs in rows.items()}


@lru_cache(maxsize=4)
def load(data: Path) -> Facts:
    """Return relation -> subject -> object.

    Raises:
        FileNotFoundError: an archive is missing.
    """
    facts = _gathered(data)
    for kind in PHRASES:
        table = EXTRA.get(kind, {}) | facts.get(kind, {}) | CORRECTIONS.get(kind, {})
        facts[kind] = {s: o for s, o in table.items() if o}
    facts["city-country"] |= {city: country for country, city in facts["capital"].items() if city != country}
    facts["city-country"] = {c: o for c, o in facts["city-country"].items() if c not in facts["capital"]}
    return {kind: shorten(kind, facts[kind]) for kind in PHRASES}


def bridges(facts: Facts) -> dict[str, dict[str, str]]:
    """Return bridge relation -> entity -> country, for two-hop questions."""
    capitals = {city: country for country, city in facts["capital"].items() if city in facts["city-country"]}
    cities = {c: o for c, o in facts["city-country"].items() if c not in capitals}
    own = {name: facts[kind] for name, kind in BRIDGE_FACTS.items()}
    own["landmark"] = {
        s: o for s, o in own["landmark"].items() if s.startswith("the ") or s in EXTRA["landmark-country"]
    }
    return {"city": cities, "capital": capitals, **own}


def _surface(template: str, rng: random.Random, **values: str) -> str:
    """Fill a template the way people write: at times in lower case, at times with a capital first letter."""
    prompt = template.format(**values)
    if rng.random() < LOWER_SHARE:
        return prompt.lower()
    return prompt[0].upper() + prompt[1:] if template[0] == "{" and rng.random() < 0.5 else prompt


def _subject(kind: str, subject: str, rng: random.Random) -> str:
    return subject.lower() if kind in ("food-country", "food") and rng.random() < 0.6 else subject


def framed(frames: Iterable[str], phrases: Iterable[str]) -> list[str]:
    """Return each phrase in each frame, also without its article, which a question may leave out."""
    worded = {worded for phrase in phrases for worded in (phrase, phrase.removeprefix("the "))}
    return [frame.replace("{x}", phrase) for frame in frames for phrase in sorted(worded)]


@cache
def unasked(kind: str) -> tuple[list[str], list[str]]:
    """Return the new questions and noun phrases of ``kind`` that make no question another template makes: one
    question by two templates could be a row of two splits.
    """
    known = [*OWN[kind], *framed(FRAMES, PHRASES[kind])]
    heard = [*template_pool(FRAMES, "train"), *MORE_FRAMES]
    fresh = [p for p in MORE_PHRASES[kind] if _all_unheard(known, framed(heard, [p]))]
    return unheard([*known, *framed(heard, [*PHRASES[kind], *fresh])], MORE_OWN[kind]), fresh


def _all_unheard(known: list[str], questions: list[str]) -> bool:
    return len(unheard(known, questions)) == len(questions)


class _Writer:
    """Draws questions of one split from its own template pools."""

    def __init__(self, facts: Facts, split: Split, seed: int) -> None:
        self.facts, self.split = facts, split
        self.rng = random.Random(f"facts/{split}/{seed}")
        self.frames = numbered_pool(FRAMES, MORE_FRAMES, split)
        self.own = {kind: numbered_pool(rows, unasked(kind)[0], split) for kind, rows in OWN.items()}
        heard = split in ("train", "fit")
        self.phrases = {k: [*rows, *(unasked(k)[1] if heard else ())] for k, rows in PHRASES.items()}
        self.follow_ups = numbered_pool(FOLLOW_UPS, MORE_FOLLOW_UPS, split)
        self.bridge_phrases = {b: numbered_pool(rows, MORE_BRIDGES[b], split) for b, rows in BRIDGES.items()}
        self.subjects = {kind: sorted(table) for kind, table in facts.items() if table}
        self.kinds = sorted(self.subjects)
        self.weights = [len(self.subjects[kind]) ** 0.75 for kind in self.kinds]
        self.bridges = bridges(facts)
        self.compositions = sorted(self._compositions())

    def _compositions(self) -> Iterator[tuple[str, str, str]]:
        """Yield this split's (bridge, entity, target); the entity decides the split."""
        for bridge, table in self.bridges.items():
            for entity, country in table.items():
                if row_split(f"two-hop/{bridge}/{entity}") != self.split:
                    continue
                for target in TARGETS:
                    if target != bridge and country in self.facts[target]:
                        yield bridge, entity, target

    def _ask(self, kind: str, subject: str) -> tuple[str, str]:
        """Return (prompt, template id) of a one-hop question."""
        rng = self.rng
        if rng.random() < 0.5:
            i, frame = rng.choice(self.frames)
            phrase = rng.choice(self.phrases[kind])
            shown = phrase.format(s=_subject(kind, subject, rng))
            shown = shown.removeprefix("the ") if frame.startswith("{x}") and rng.random() < 0.6 else shown
            return _surface(frame, rng, x=shown), f"{kind}/frame-{i}"
        place, template = rng.choice(self.own[kind])
        return _surface(template, rng, s=_subject(kind, subject, rng)), f"{kind}/own-{place}"

    def _mine(self, subject: str, template: str) -> bool:
        """Tell whether a row is this split's: train and fit share templates but no (subject, template)."""
        if self.split in ("test", "calibrate"):
            return True
        return (row_split(f"{template}/{subject}") == "fit") == (self.split == "fit")

    def one_hop(self) -> Example:
        """Draw a question about one fact; some follow a question about another subject."""
        rng = self.rng
        while True:
            kind = rng.choices(self.kinds, self.weights)[0]
            subject = rng.choice(self.subjects[kind])
            prompt, template = self._ask(kind, subject)
            history: tuple[tuple[str, str], ...] = ()
            if rng.random() < FOLLOW_UP_SHARE:
                before = rng.choice(self.subjects[kind])
                history = ((self._ask(kind, before)[0], self.facts[kind][before]),)
                i, follow_up = rng.choice(self.follow_ups)
                prompt = _surface(follow_up, rng, s=_subject(kind, subject, rng))
                template = f"follow-up-{i}"
            if self._mine(f"{kind}/{subject}", template):
                answer = self.facts[kind][subject]
                return Example(prompt, answer, "facts", kind, template, "exact", history)

    def two_hop(self) -> Example:
        """Draw a question whose answer needs a bridge country; the answer writes the bridge first."""
        rng = self.rng
        bridge, entity, target = rng.choice(self.compositions)
        j, phrase = rng.choice(self.bridge_phrases[bridge])
        country = phrase.format(s=_subject(bridge, entity, rng))
        ending = [(i, t) for i, t in self.own[target] if re.search(r"\{s\}[?.!]?$", t)]
        if ending and rng.random() < 0.5:
            place, template = rng.choice(ending)
            prompt, name = _surface(template, rng, s=country), f"own-{place}"
        else:
            i, frame = rng.choice(self.frames)
            phrase = rng.choice(self.phrases[target]).format(s=country)
            prompt, name = _surface(frame, rng, x=phrase), f"frame-{i}"
        name_of = self.bridges[bridge][entity]
        answer = f"{self.bridge_line(bridge, entity)} Answer: {self.facts[target][name_of]}"
        return Example(
            prompt,
            answer,
            "facts",
            f"two-hop:{bridge}-{target}",
            f"two-hop/{target}/{name}/{bridge}-{j}",
            "exact",
        )

    def bridge_line(self, bridge: str, entity: str) -> str:
        """Write the first hop: naming the entity again lets the country be recalled right behind it."""
        verb = "comes from" if bridge == "food" else "is in"
        return f"{entity[0].upper()}{entity[1:]} {verb} {self.bridges[bridge][entity]}."

    def first_hop(self) -> Example:
        """Draw a question for the bridge country alone, answered as two-hop answers begin."""
        rng = self.rng
        bridge = rng.choice(sorted(self.bridges))
        entity = rng.choice(sorted(self.bridges[bridge]))
        j, phrase = rng.choice(self.bridge_phrases[bridge])
        ask = rng.choice(MORE_BRIDGE_ASKS)
        prompt = _surface(ask, rng, x=phrase.format(s=_subject(bridge, entity, rng)))
        answer = self.bridge_line(bridge, entity)
        return Example(prompt, answer, "facts", f"bridge:{bridge}", f"bridge/{bridge}-{j}", "exact")

    def draw(self) -> Example:
        """Draw one row."""
        if self.split == "train" and self.rng.random() < BRIDGE_SHARE:
            return self.first_hop()
        return self.two_hop() if self.compositions and self.rng.random() < TWO_HOP_SHARE else self.one_hop()


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return ``count`` fact questions of a split (fewer outside train when distinct ones run out).

    Train rows may repeat, since a fact is learnt by seeing it often; the rows of other splits are distinct.

    Raises:
        ValueError: no data folder was given.
        FileNotFoundError: the data folder lacks an archive.
    """
    if data is None:
        raise ValueError("the facts skill reads its relations from a data folder: pass data=<folder>")
    writer = _Writer(load(data), split, seed)
    if split == "train":
        return [writer.draw() for _ in range(count)]
    found: dict[tuple[object, ...], Example] = {}
    for _ in range(4 * count + 100):
        if len(found) == count:
            break
        row = writer.draw()
        found.setdefault((row.prompt.lower(), row.history), row)
    return list(found.values())
