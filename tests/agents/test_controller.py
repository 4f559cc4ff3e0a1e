"""The controller's logic: real probes, policy, log and threads; a scripted engine where answers matter."""

from __future__ import annotations

import threading

import pytest
from asked import LOST, SUM, WORD, Make, page
from toy_family import ANSWERS, Tiny

from pilothouse.agents.answer import Answer, Restart
from pilothouse.agents.asks import split
from pilothouse.agents.controller import build_graph
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Ask, Limits, Steer, Voyage
from pilothouse.router.policy import Override, Policy
from pilothouse.store.errors import NotFoundError
from pilothouse.store.records import Message


def test_one_ask_walks_through_every_step(pilot: Pilot) -> None:
    answer = pilot.ask(SUM)
    assert (answer.status, answer.specialist, answer.text) == ("completed", "sums", ANSWERS["sums"])
    assert answer.p_correct is not None
    assert answer.p_correct > 0.5
    record = page(answer.record_id or "").record
    assert (record.status, record.thread_id, record.closed_at is not None) == (
        "completed",
        answer.thread_id,
        True,
    )
    part = record.parts[0]
    assert part.decision is not None
    assert part.generation is not None
    assert (part.decision.chosen, part.generation.finish_reason) == ("sums", "stop")
    assert {c.specialist for c in part.candidates} == {"sums", "words", "about"}
    assert [r.probe for r in part.readings] == ["outside"]
    assert {a.kind for a in record.artifacts} >= {"trunk", "adapter", "probe", "policy", "vector", "sae"}
    assert part.generation.timings.decode_ms > 0
    assert part.generation.timings.prefill_ms > 0


def test_json_has_exactly_the_agreed_keys(pilot: Pilot) -> None:
    keys = "record_id thread_id text status specialist p_correct abstained candidates readings features"
    assert list(pilot.ask(SUM).model_dump()) == [*keys.split(), "steering", "usage", "timings"]


def test_contributions_sum_to_the_logit(pilot: Pilot) -> None:
    answer = pilot.ask(SUM)
    scout = pilot.ship.scout
    assert scout is not None
    tokens = pilot.ship.engine.encode_chat([Message(role="user", content=SUM)])
    x = scout.read(pilot.ship.engine.probe(tokens, scout.layers).states).x
    total = sum(row["contribution"] for row in answer.features)
    assert total == pytest.approx(scout.bank.probe("sums").logit(x), abs=1e-4)


def test_the_first_row_is_on_disk_before_anything_is_generated(scripted: Make) -> None:
    seen: list[str] = []
    pilot, engine = scripted({"sums": "seven it is"})
    engine.before = lambda name, count: seen.append(page().record.status)
    pilot.ask(SUM)
    assert seen == ["in_progress"] * 3
    assert page().record.status == "completed"


def test_the_last_piece_waits_for_the_closing_row(scripted: Make) -> None:
    pilot, _ = scripted({"sums": "seven it is"})
    pieces: list[str] = []
    for item in pilot.stream(SUM):
        if isinstance(item, str):
            pieces.append(item)
            whole = "".join(pieces) == "seven it is"
            assert (page().record.status == "completed") or not whole
    assert "".join(pieces) == "seven it is"
    assert page().answer == "seven it is"


def test_text_streams_before_the_answer_is_whole(scripted: Make) -> None:
    gate = threading.Event()
    pilot, engine = scripted({"sums": "one two three"})
    engine.before = lambda name, count: gate.wait(10) and None if count == 2 else None
    stream = pilot.stream(SUM)
    assert next(stream) == "one "
    gate.set()
    rest = list(stream)
    assert rest[:-1] == ["two ", "three"]
    assert isinstance(rest[-1], Answer)


def test_an_abstention_says_who_was_nearest_and_why(pilot: Pilot) -> None:
    answer = pilot.ask(LOST)
    assert (answer.status, answer.abstained, answer.specialist) == ("abstained", True, None)
    assert "Nearest:" in answer.text
    assert "P(correct) 0." in answer.text
    assert "outside" in answer.text
    part = page().record.parts[0]
    assert part.generation is not None
    assert part.generation.finish_reason == "abstained"
    assert part.features, "the nearest specialist's logit is explained"


def test_a_forced_specialist_is_honoured_and_logged(scripted: Make) -> None:
    pilot, engine = scripted({"words": "whatever"})
    answer = pilot.ask(SUM, specialist="words")
    assert answer.specialist == "words"
    assert [name for name, _ in engine.calls] == ["words"]
    record = page().record
    assert record.request.forced_specialist == "words"
    assert record.parts[0].decision is not None
    assert record.parts[0].decision.forced


def test_an_unknown_specialist_is_named_with_the_nearest(pilot: Pilot) -> None:
    with pytest.raises(NotFoundError, match=r"did you mean sums\? the family has sums, words, about"):
        pilot.ask(SUM, specialist="sum")


def test_what_can_you_do_is_answered_from_the_cards(scripted: Make) -> None:
    pilot, engine = scripted({})
    text = pilot.ask("What can you do?").text
    assert "sums: Answers sums" in text
    assert 'For example: "What is the plural of dog?"' in text
    assert pilot.ask("Hello").text.startswith("Hello!")
    assert engine.calls == []


# -- several asks -------------------------------------------------------------------------------------------


def test_two_asks_go_to_two_specialists_in_order(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "it is seven 7", "words": "d o g"})
    late = threading.Event()
    engine.before = lambda name, count: late.wait(0.2) and None if name == "sums" else None
    items = list(pilot.stream("What is 3 + 4? And spell dog."))
    answer = items[-1]
    assert isinstance(answer, Answer)
    assert (answer.specialist, answer.text) == ("sums+words", "it is seven 7\n\nd o g")
    assert "".join(i for i in items if isinstance(i, str)) == answer.text
    assert sorted(name for name, _ in engine.calls) == ["sums", "words"]
    record = page().record
    assert [part.prompt for part in record.parts] == ["What is 3 + 4?", "Spell dog."]
    assert {entry["part"] for entry in answer.candidates} == {0, 1}


def test_a_cut_that_no_probe_believes_in_is_not_made(scripted: Make) -> None:
    pilot, _ = scripted({"sums": "a", "words": "b", "about": "c"})
    prompt = f"What is 3 + 4? And what is {LOST}"
    pilot.ask(prompt)
    assert [part.prompt for part in page().record.parts] == [prompt]


def test_a_prompt_with_one_ask_is_read_once(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "a"})
    pilot.ask(SUM)
    assert len(engine.read) == 1


def test_parts_are_read_once_each(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "a 7", "words": "b"})
    pilot.ask("What is 3 + 4? And spell dog.")
    assert len(engine.read) == 2


def test_pieces_that_surely_go_to_two_specialists_are_two_asks(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "33", "words": "b"})
    prompt = "45 - 12. Spell dog."
    assert split(prompt) == (prompt,)
    assert pilot.ask(prompt).specialist == "sums+words"
    assert [part.prompt for part in page().record.parts] == ["45 - 12.", "Spell dog."]
    assert len(engine.read) == 2


@pytest.mark.parametrize("prompt", ["45 - 12. 52 - 6.", "45 - 12. Spell it."])
def test_pieces_of_one_specialist_or_that_lean_on_another_stay_together(scripted: Make, prompt: str) -> None:
    pilot, _ = scripted({"sums": "a 7", "words": "b"})
    pilot.ask(prompt)
    assert [part.prompt for part in page().record.parts] == [prompt]


# -- checks and escalation ----------------------------------------------------------------------------------


def open_policy() -> Policy:
    """Everybody is above the threshold, so that there is somebody to escalate to."""
    return Policy(lam=0.01, threshold=0.0)


def test_a_wrong_sum_is_withdrawn_and_the_next_best_asked(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "3+4=8 so 8", "words": "it is 7"}, policy=open_policy())
    items = list(pilot.stream(SUM))
    answer = items[-1]
    assert isinstance(answer, Answer)
    assert (answer.text, answer.specialist) == ("it is 7", "words")
    restarts = [i for i in items if isinstance(i, Restart)]
    assert len(restarts) == 1
    assert restarts[0].text == "3+4=8 so "
    assert "sums: wrong sum: 3+4 = 8 is wrong" in restarts[0].reason
    part = page().record.parts[0]
    assert [hop.decision.chosen for hop in part.hops] == ["sums"]
    assert part.hops[0].answer == "3+4=8 so 8"
    assert part.hops[0].checks[-1].verdict == "escalate"
    assert len(engine.read) == 1, "the prefill is shared by the attempts"


def test_settled_streams_never_withdraw(scripted: Make) -> None:
    pilot, _ = scripted({"sums": "3+4=8 so 8", "words": "it is 7"}, policy=open_policy())
    items = list(pilot.stream(SUM, settled=True))
    assert [i for i in items if isinstance(i, Restart)] == []
    assert "".join(i for i in items if isinstance(i, str)) == "it is 7"


def test_a_wrong_sum_is_never_given_out(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "3+4=8", "words": "9"}, policy=Policy(lam=0.0, threshold=0.02))
    answer = pilot.ask(SUM)
    assert answer.status == "abstained"
    assert "3+4=8" not in answer.text
    assert "wrong sum" in answer.text
    assert len(engine.calls) <= 3


def test_escalation_is_bounded(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "3+4=8", "words": "3+4=9"}, policy=open_policy(), limits=Limits(hops=1))
    assert pilot.ask(SUM).status == "abstained"
    assert len(engine.calls) == 2


def test_an_unsure_answer_stands_when_nobody_better_is_left(scripted: Make) -> None:
    pilot, _ = scripted({"words": "perhaps"}, logprob=-5.0)
    answer = pilot.ask(WORD)
    assert (answer.status, answer.text) == ("completed", "perhaps")
    assert "unsure: -5.00" in page().record.parts[0].checks[0].reason
    assert "nobody better" in page().record.parts[0].checks[0].reason


def test_an_unsure_answer_escalates_when_somebody_is_left(scripted: Make) -> None:
    pilot, engine = scripted({"words": "perhaps", "sums": "surely"}, logprob=-5.0, policy=open_policy())
    pilot.ask(WORD)
    assert [name for name, _ in engine.calls][:2] == ["words", "sums"]


def test_nobody_takes_over_from_an_override(scripted: Make) -> None:
    """A refusal that sounds unsure must not go on to somebody who complies."""
    override = Override(reading="outside", specialist="words")
    policy = open_policy().model_copy(update={"overrides": (override,)})
    pilot, engine = scripted({"words": "I refuse", "sums": "of course"}, logprob=-5.0, policy=policy)
    assert pilot.ask(LOST).text == "I refuse"
    assert [name for name, _ in engine.calls] == ["words"]


def test_a_loop_is_no_answer(scripted: Make) -> None:
    pilot, engine = scripted({"words": "so it goes " + "on and " * 30})
    engine.finish = "length"
    answer = pilot.ask(WORD)
    assert answer.status == "abstained"
    assert "loop" in answer.text


def test_repetition_that_ends_by_itself_is_no_loop(scripted: Make) -> None:
    pilot, _ = scripted({"words": "row " * 20 + "your boat"})
    assert pilot.ask(WORD).status == "completed"


def test_a_forced_answer_stands_with_its_faults_noted(scripted: Make) -> None:
    pilot, _ = scripted({"words": "3+4=9"}, policy=open_policy())
    answer = pilot.ask(SUM, specialist="words")
    assert answer.text == "3+4=9"
    assert any("forced" in check.reason for check in page().record.parts[0].checks)


# -- steering -----------------------------------------------------------------------------------------------


def test_the_caller_can_steer(scripted: Make) -> None:
    pilot, engine = scripted({"words": "x"})
    answer = pilot.ask(WORD, steer=Steer(extra={"push": 2.0}))
    assert engine.calls == [("words", ("push",))]
    assert [(e["name"], e["coefficient"], e["reading"]) for e in answer.steering] == [
        ("push", 2.0, "the caller")
    ]
    with pytest.raises(NotFoundError, match="there is no steering vector 'pull'; this family has push"):
        pilot.ask(WORD, steer=Steer(extra={"pull": 1.0}))


def test_a_fired_reading_steers_and_the_caller_can_switch_it_off(scripted: Make, tiny: Tiny) -> None:
    policy = tiny.family.policy
    assert policy is not None
    pilot, engine = scripted({"words": "x"}, policy=policy.model_copy(update={"ood": None, "threshold": 0.0}))
    pilot.ask(LOST, specialist="words")
    pilot.ask(LOST, specialist="words", steer=Steer(off=True))
    pilot.ask(WORD, specialist="words")
    assert [vectors for _, vectors in engine.calls] == [("push",), (), ()]


def test_steering_changes_what_the_engine_says(pilot: Pilot) -> None:
    plain = pilot.ask(WORD).text
    assert pilot.ask(WORD, steer=Steer(extra={"push": 3.0})).text != plain
    assert pilot.ask(WORD).text == plain, "and leaves nothing behind"


# -- the graph itself ---------------------------------------------------------------------------------------


def test_the_graph_has_the_designed_steps(tiny: Tiny) -> None:
    nodes = set(build_graph(None).get_graph().nodes) - {"__start__", "__end__"}
    assert nodes == {"plan", "probe", "route", "steer", "generate", "check", "escalate", "record"}


def test_the_graph_streams_by_itself(pilot: Pilot) -> None:
    """Embedded in another LangGraph application, text comes out of the custom stream."""
    voyage = Voyage(pilot.ship, Ask((Message(role="user", content=SUM),), "t"))
    events = list(build_graph(None).stream({}, context=voyage, stream_mode="custom"))
    assert "".join(getattr(event, "text", "") for event in events) == ANSWERS["sums"]


def test_nothing_is_loaded_at_import() -> None:
    import subprocess
    import sys
    from pathlib import Path

    code = "import sys; from pilothouse.agents import Pilot; Pilot(); print({'torch'} & set(sys.modules))"
    path = str(Path(__file__).resolve().parents[2] / ".typing")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
        check=True,
    )
    assert done.stdout.strip() == "set()"
