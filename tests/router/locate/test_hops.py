"""Two hops: recursive traces, the failing stage and its confirmation, on wired facts broken where we know."""

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tiny import CONFIGS, model, prompt

from pilothouse.bench.locate.entities import BREAKS, ENTITIES, VOCABULARY, Facts, untrained
from pilothouse.bench.locate.hops import failures
from pilothouse.bench.locate.planted import (
    ANSWER,
    CARRIED,
    FACTS,
    Planted,
    bridged,
    planted_hops,
)
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.case import Case, read_cases
from pilothouse.router.locate.edit import Edit
from pilothouse.router.locate.flow import flow_of
from pilothouse.router.locate.hops import HOPS, NONE
from pilothouse.router.locate.methods import locate
from pilothouse.router.locate.picture import html
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.repair import LATE, Traced, repair, traced
from pilothouse.router.locate.trace import trace
from pilothouse.store.errors import UsageError


@cache
def planted() -> Planted:
    return planted_hops(0)


@cache
def donors() -> list[Traced]:
    """Other wordings of all facts, in the model as it is."""
    return traced(Anatomy.of(planted().model), [bridged(case) for case in planted().cases(7)])


def broken(stage: str) -> tuple[Anatomy, list[Edit]]:
    """A copy whose weights are cut at one stage; readout is broken by what the last layer writes."""
    twin = copy.deepcopy(planted().model)
    layers = twin.model.layers
    if stage == HOPS[0]:
        for place in planted().query:
            layers[0].mlp.down_proj.weight[:, place.unit] = 0
    if stage == HOPS[1]:
        layers[1].self_attn.o_proj.weight[:] = 0
    if stage == HOPS[2]:
        for place in planted().value:
            layers[2].mlp.down_proj.weight[:, place.unit] = 0
    against = -20 * twin.lm_head.weight[ANSWER : ANSWER + FACTS].sum(0)
    return Anatomy.of(twin), [Edit(Place("mlp", 3, -1, 6), 1.0, against)] if stage == HOPS[3] else []


# -- the stage and its repair --------------------------------------------------------------------------------


def test_wired_facts_are_right_and_no_stage_is_named() -> None:
    assert [one.hops.stage for one in donors()] == [NONE] * FACTS
    assert all(one.hops.resolved and one.hops.carried and one.hops.retrieved for one in donors())
    for one in donors():
        assert one.case.subject is not None
        assert (one.hops.first_layer, one.hops.place[1]) == (0, one.case.subject[0])


@pytest.mark.parametrize("stage", HOPS)
def test_the_broken_stage_is_named_and_only_its_site_or_later_ones_restore(stage: str) -> None:
    anatomy, under = broken(stage)
    for one in traced(anatomy, [bridged(case) for case in planted().cases(0)], under=under):
        assert not one.hops.right
        assert one.hops.stage == stage
        found = repair(anatomy, one, donors(), under)
        assert found.confirmed
        assert found.verdict == stage
        assert found.restored[stage]
        assert not any(found.restored[name] for name in (*HOPS[: HOPS.index(stage)], LATE))


def test_a_bridge_that_comes_too_late_is_not_carried_and_its_own_later_state_restores() -> None:
    late = planted_hops(0, late=range(FACTS))
    anatomy = Anatomy.of(late.model)
    found = traced(anatomy, [bridged(case) for case in late.cases(0)])
    failing = [one for one in found if not one.hops.right]
    assert len(failing) >= FACTS // 2  # noise answers some
    for one in failing:
        assert one.hops.stage == HOPS[1]
        repaired = repair(anatomy, one, found)
        assert repaired.restored[LATE]
        assert repaired.verdict == HOPS[1]


def test_without_donors_only_own_states_can_be_tried() -> None:
    anatomy, _ = broken(HOPS[2])
    for one in traced(anatomy, [bridged(case) for case in planted().cases(0)]):
        found = repair(anatomy, one, [one])
        assert [found.restored[name] for name in HOPS[:3]] == [None] * 3
        assert not found.confirmed


def test_a_model_that_learnt_nothing_is_not_told_apart() -> None:
    unbroken, failed = failures(Anatomy.of(untrained(3)), Facts(3).prompts()[::7], 3, broken=12)
    assert sum(one.hops.stage == NONE for one in unbroken) < 0.2 * len(unbroken)
    assert {one.planted for one in failed} == set(HOPS)
    assert sum(one.planted == one.one.hops.stage for one in failed) < 0.5 * len(failed)
    assert not any(one.repaired.restored[HOPS[0]] for one in failed)


def test_lessons_lack_the_untaught_facts() -> None:
    facts = Facts(1)
    long, short = facts.lessons()
    known = {(row[0] - VOCABULARY, row[1]) for row in long.tolist()}
    assert len(known) <= ENTITIES * 2 - len(facts.missing[0])
    assert len(short) == 36 - len(facts.missing[1])
    asked = {case.ids for case, stage in facts.prompts() if stage != NONE}
    assert asked
    assert not asked & {tuple(row[:3]) for row in long.tolist()}
    assert set(BREAKS) == {HOPS[1], HOPS[3]}


# -- tracing -------------------------------------------------------------------------------------------------


def test_a_trace_goes_through_neurons_that_the_answer_does_not_see() -> None:
    anatomy = Anatomy.of(planted().model)
    for case in planted().cases():
        assert case.subject is not None
        at = case.subject[0]
        found, near = trace(anatomy, case), flow_of(anatomy, case)
        said = float(found.mlp[2, -1])
        assert int(found.mlp[2].argmax()) == len(case.ids) - 1
        assert int(found.attention[1].argmax()) == at
        assert int(found.mlp[0].argmax()) == at
        assert float(found.mlp[0, at]) > 0.5 * said
        assert float(near.mlp[0, at]) < 0.1 * said


def test_nothing_is_traced_where_nothing_was_planted() -> None:
    twin = copy.deepcopy(planted().model)
    twin.model.layers[1].self_attn.o_proj.weight[CARRIED : CARRIED + FACTS] = 0
    case = planted().case(2)
    assert case.subject is not None
    whole, cut = (trace(Anatomy.of(m), case).mlp[0, case.subject[0]] for m in (planted().model, twin))
    assert float(cut) < 0.05 * float(whole)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_can_be_traced_and_read(kind: str) -> None:
    anatomy = Anatomy.of(model(kind))
    case = Case(tuple(prompt(9)[0].tolist()), 3, subject=(1, 3), bridge=5)
    found = trace(anatomy, case)
    assert found.attention.shape == found.mlp.shape == (anatomy.layers, 9)
    for part in (found.attention, found.mlp):
        assert bool(part.isfinite().all())
        assert float(part.min()) >= 0
    (one,) = traced(anatomy, [case])
    assert one.hops.stage in (*HOPS, NONE)
    assert float(one.hops.bridge.max()) <= 0


# -- the method ----------------------------------------------------------------------------------------------


def test_flow_diagnoses_prompts_that_name_a_bridge() -> None:
    anatomy, _ = broken(HOPS[2])
    finding = locate("flow", anatomy, [bridged(case) for case in planted().cases(0)])
    assert finding.facts["answered right"] == 0
    assert finding.facts["fail at second hop"] == f"{FACTS}, of which patching confirms 0"  # no donors
    assert all("fails at second hop" in one.note and "3 without a donor" in one.note for one in finding.found)
    assert "fails at second hop" in html(finding)
    assert [grid.values.shape for grid in finding.grids] == [(5, 7), (4, 7), (4, 7)]
    right = locate("flow", Anatomy.of(planted().model), [bridged(case) for case in planted().cases(0)])
    assert {one.note for one in right.found} == {"right"}
    assert (
        right.facts["right prompts whose bridge is read"] == f"{FACTS} resolved, {FACTS} carried, of {FACTS}"
    )


def test_flow_says_what_two_hops_need() -> None:
    anatomy = Anatomy.of(planted().model)
    case = bridged(planted().case(0))
    wrong = {
        'prompt 2 has no "bridge"': [case, replace(case, bridge=None)],
        'no "subject"': [replace(case, subject=None)],
        "is its last token": [replace(case, subject=(6, 7))],
        "begin with the same token": [replace(case, bridge=case.answer)],
    }
    for words, cases in wrong.items():
        with pytest.raises(UsageError, match=words):
            locate("flow", anatomy, cases)


def test_a_bridge_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "ab", "answer": "c", "subject": "a", "bridge": "de"}))
    (case,) = read_cases(path, lambda text: [ord(letter) for letter in text], chr)
    assert (case.bridge, case.answer, case.subject) == (ord("d"), ord("c"), (0, 1))
