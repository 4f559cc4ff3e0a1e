"""The vocabulary: round trips, refusals, ids and times."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pilothouse.store.hashes import canonical, digest, quick_canonical, seal, storable
from pilothouse.store.records import (
    Candidate,
    Decision,
    Message,
    Part,
    Reading,
    Request,
    SteeringEntry,
    new_id,
    normal_time,
    prompt_index,
    utc_now,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
chance = st.floats(0, 1)
words = st.text(st.characters(codec="utf-8"), max_size=40)
readings = st.builds(
    Reading, probe=words, site=words, score=finite, probability=chance, threshold=finite, fired=st.booleans()
)
decisions = st.builds(
    Decision,
    chosen=st.none() | words,
    propensity=chance,
    lam=finite,
    threshold=finite,
    reason=words,
    policy_hash=words,
    forced=st.booleans(),
    abstained=st.booleans(),
    nearest=st.lists(words, max_size=3).map(tuple),
)
candidates = st.builds(Candidate, specialist=words, p_correct=chance, cost=finite, utility=finite)
parts = st.builds(
    Part,
    prompt=st.none() | words,
    answer=st.none() | words,
    readings=st.lists(readings, max_size=3).map(tuple),
    candidates=st.lists(candidates, max_size=3).map(tuple),
    decision=st.none() | decisions,
)


@given(parts)
@settings(max_examples=60, deadline=None)
def test_json_round_trip_is_exact(part: Part) -> None:
    assert Part.model_validate_json(part.model_dump_json()) == part
    assert Part.model_validate_json(canonical(part.model_dump(mode="json"))) == part


def test_a_full_part_survives_json(part: Part) -> None:
    assert Part.model_validate_json(part.model_dump_json()) == part


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_numbers_must_be_finite(score: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Reading(probe="p", site="s", score=score, probability=0.5, threshold=0.5, fired=True)


def test_unknown_fields_and_changes_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Message(role="user", content="hi", mood="fine")  # type: ignore[call-arg]
    message = Message(role="user", content="hi")
    with pytest.raises(ValidationError, match="frozen"):
        message.content = "bye"  # type: ignore[misc]


@pytest.mark.parametrize("chance", [-0.01, 1.01])
def test_probabilities_stay_between_zero_and_one(chance: float) -> None:
    with pytest.raises(ValidationError):
        Candidate(specialist="s", p_correct=chance, cost=1, utility=1)


def test_a_vector_needs_its_digest() -> None:
    with pytest.raises(ValidationError, match="sha256"):
        SteeringEntry(name="v", kind="add", layer=1, coefficient=1, reading="r", sha256="short")


def test_ids_sort_by_time_and_are_distinct() -> None:
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    # the last 62 bits are random: only the time in front is ordered
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)
    assert all(len(i) == 32 and i[12] == "7" and i[16] in "89ab" for i in ids)
    assert abs(int(ids[0][:12], 16) / 1000 - datetime.now(UTC).timestamp()) < 60


def test_times_have_one_format() -> None:
    assert normal_time("2026-01-31T13:00:00+01:00") == "2026-01-31T12:00:00.000000Z"
    assert normal_time("2026-01-31T12:00Z") == "2026-01-31T12:00:00.000000Z"
    assert normal_time(now := utc_now()) == now
    with pytest.raises(ValueError, match="no time zone"):
        normal_time("2026-01-31T12:00:00")


def test_the_prompt_is_the_last_user_turn() -> None:
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    assert Request(messages=(*turns, Message(role="user", content="c"))).prompt == "c"
    assert Request(messages=turns).prompt == "a"
    assert prompt_index(("system",)) == 0
    with pytest.raises(ValidationError):
        Request(messages=())


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


_words = st.text(st.characters(codec="utf-8"), max_size=20)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)


@given(_plain)
@settings(max_examples=300, deadline=None)
def test_the_quick_form_says_the_same(value: object) -> None:
    """Letter by letter, but for how the exponent of a float is spelled."""

    def spelled(text: str) -> str:
        return canonical(json.loads(text))

    quick = quick_canonical(value)
    assert spelled(quick) == canonical(value)
    if not re.search(r"\de[+-]?\d", canonical(value)):
        assert quick == canonical(value)


@pytest.mark.parametrize("value", [2**70, -(2**70), 1e-7, 1e22, 5e-324, 0.1 + 0.2])
def test_the_quick_form_keeps_every_number(value: float) -> None:
    assert json.loads(quick_canonical([value])) == [value]


def test_lone_surrogates_are_written_out() -> None:
    assert storable("ok \udc80") == "ok \\udc80"
    assert len(digest(storable("\udc80"))) == 64


def test_a_seal_covers_the_row_before() -> None:
    columns = ("sequence", "kind", "record_id", "thread_id", "created_at", "status", "specialists", "payload")
    row = {**dict.fromkeys(columns, "x"), "sequence": 1}
    assert seal("0" * 64, row) != seal("1" * 64, row)
    for name in columns:
        other = {**row, name: 2 if name == "sequence" else "y"}
        assert seal("0" * 64, other) != seal("0" * 64, row)
