"""Fact questions: one object per subject, unseen wording and unseen compositions in the test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills import facts
from pilothouse.specialists.starter.skills.example import SPLITS
from pilothouse.specialists.starter.skills.facts_more import MORE_BRIDGE_ASKS, MORE_BRIDGES, MORE_FRAMES
from pilothouse.specialists.starter.skills.facts_templates import BRIDGES, FOLLOW_UPS, FRAMES, OWN, PHRASES


def test_clashing_subjects_are_dropped_and_sources_rank(tiny_data: Path) -> None:
    table = facts.load(tiny_data)
    assert table["maker"] == {"Widget": "Acme"}  # Clang has two makers
    assert table["hero-name"] == {"Bat": "Bruce"}
    assert table["superclass"]["apple"] == "fruit"
    assert table["capital"]["France"] == "Paris"
    assert table["capital"]["Albania"] == "Tirana"
    assert table["currency"]["Albania"] == "lek"
    assert table["city-country"]["Paris"] == "France"
    assert set(table["company-city"].values()) == {"Brasília"}


def test_long_relations_are_capped(tiny_data: Path) -> None:
    assert len(facts.load(tiny_data)["company-city"]) == facts.CAP


def test_every_relation_has_varied_templates() -> None:
    assert set(OWN) == set(PHRASES)
    assert len(PHRASES) >= 14
    for kind, rows in OWN.items():
        assert len(set(rows)) + len(set(FRAMES)) >= 15, kind
        assert all(row.count("{s}") == 1 for row in rows), kind
        assert all(row.count("{s}") == 1 for row in PHRASES[kind]), kind
    assert all(frame.count("{x}") == 1 for frame in FRAMES)
    assert all(
        row.count("{s}") == 1 for row in [*FOLLOW_UPS, *(p for rows in BRIDGES.values() for p in rows)]
    )
    assert set(MORE_BRIDGES) == set(BRIDGES)
    assert all(row.count("{s}") == 1 for rows in MORE_BRIDGES.values() for row in rows)
    assert all(row.count("{x}") == 1 for row in (*MORE_FRAMES, *MORE_BRIDGE_ASKS))


def test_answers_are_the_facts(tiny_data: Path) -> None:
    table = facts.load(tiny_data)
    for row in facts.examples("train", 2000, 0, tiny_data):
        if row.kind.startswith("two-hop"):
            _, target = row.kind.removeprefix("two-hop:").split("-", 1)
            match = re.fullmatch(r".+? (?:is in|comes from) (.+)\. Answer: (.+)", row.answer)
            assert match
            country, answer = match.groups()
            assert table[target][country] == answer
            continue
        if row.kind.startswith("bridge:"):
            named = re.fullmatch(r"(.+?) (?:is in|comes from) (.+)\.", row.answer)
            assert named
            known = {s.lower(): o for s, o in facts.bridges(table)[row.kind.removeprefix("bridge:")].items()}
            assert known[named.group(1).lower()] == named.group(2)
            continue
        named = [s for s, o in table[row.kind].items() if s.lower() in row.prompt.lower() and o == row.answer]
        assert named, row


def test_splits_share_no_row_and_test_wording_is_new(tiny_data: Path) -> None:
    rows = {s: facts.examples(s, 1500, 0, tiny_data) for s in SPLITS}
    keys = {s: {(r.prompt.lower(), r.history) for r in held} for s, held in rows.items()}
    templates = {s: {r.template for r in held} for s, held in rows.items()}
    assert not keys["train"] & keys["fit"]
    for split in ("calibrate", "test"):
        for other in set(rows) - {split}:
            assert not keys[split] & keys[other]
            assert not templates[split] & templates[other]


def test_test_bridges_are_never_composed_in_training(tiny_data: Path) -> None:
    table = facts.load(tiny_data)
    used = {s: facts._Writer(table, s, 0).compositions for s in SPLITS}
    entities = {s: {(bridge, entity) for bridge, entity, _ in rows} for s, rows in used.items()}
    assert entities["train"]
    assert entities["test"]
    assert not entities["train"] & entities["test"]


def test_only_training_asks_for_bridges_alone_and_it_asks_for_all(tiny_data: Path) -> None:
    kinds = {s: [r.kind for r in facts.examples(s, 1500, 0, tiny_data)] for s in SPLITS}
    shares = {s: sum(k.startswith("bridge:") for k in held) / len(held) for s, held in kinds.items()}
    assert 0.09 < shares.pop("train") < 0.15
    assert not any(shares.values())
    writer = facts._Writer(facts.load(tiny_data), "train", 0)
    asked = {writer.first_hop().answer for _ in range(4000)}
    tested = {
        writer.bridge_line(bridge, entity)
        for bridge, entity, _ in facts._Writer(facts.load(tiny_data), "test", 0).compositions
    }
    assert tested <= asked  # so that a test composes two facts that are both known


def test_some_rows_follow_a_first_question(tiny_data: Path) -> None:
    drawn = facts.examples("train", 4000, 1, tiny_data)
    rows = [r for r in drawn if not r.kind.startswith(("two-hop", "bridge"))]
    followed = [r for r in rows if r.history]
    assert 0.08 < len(followed) / len(rows) < 0.14
    assert all(r.template.startswith("follow-up") for r in followed)


def test_rows_depend_on_seed_only(tiny_data: Path) -> None:
    assert facts.examples("train", 200, 3, tiny_data) == facts.examples("train", 200, 3, tiny_data)
    assert facts.examples("train", 200, 3, tiny_data) != facts.examples("train", 200, 4, tiny_data)


def test_missing_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data folder"):
        facts.examples("train", 1, 0, None)
    with pytest.raises(FileNotFoundError, match="relations_47"):
        facts.examples("train", 1, 0, tmp_path)
