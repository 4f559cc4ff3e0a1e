"""`why --tokens`: the strip tells what steering did where it acted, and only there."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Group
from toy_family import Tiny
from typer.testing import CliRunner

from pilothouse.agents.cli import whystrip
from pilothouse.agents.cli.whypage import picture
from pilothouse.agents.cli.whystrip import Touch, pieces, strips, style
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Steer
from pilothouse.router.steer.vector import Gate
from pilothouse.specialists.improve.subject import Subject
from pilothouse.store.errors import UsageError
from pilothouse.store.records import Message


def plain(strip: whystrip.Strip) -> str:
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=110, no_color=True).print(Group(*pieces(strip)))
    return out.getvalue()


def test_a_steered_answer_is_read_again_as_it_was(pilot: Pilot) -> None:
    answer = pilot.ask("What is 3 + 4?", steer=Steer(extra={"push": 0.6}))
    why = pilot.why(answer.record_id or "")
    (strip,) = strips(why.page, pilot.ship)
    assert strip.note == ""
    assert (strip.entries, strip.specialist) == (("push",), answer.specialist)
    assert "".join(one.text for one in strip.tokens).strip() == answer.text.strip()
    assert all(one.acted == ("push",) for one in strip.tokens)
    assert any(abs(one.raised) > 1e-4 for one in strip.tokens)
    assert all(one.divergence >= 0 for one in strip.tokens)
    told = plain(strip)
    assert "steering, token by token: push" in told
    assert "0 of" in told
    drawn = "".join(ElementTree.fromstring(picture(why, [strip])).itertext())
    assert "token by token" in drawn.replace("\xa0", " ")


def test_raised_is_the_difference_of_log_probabilities(tiny: Tiny) -> None:
    """Against the engine's own scores, steered and not: their difference is the mean over tokens and end."""
    family, engine = tiny.family, tiny.engine
    subject = Subject.open(family, "sums")
    prompt = engine.encode_chat([Message(role="user", content="What is 3 + 4?")])
    answer = engine.encode_answer("The sum of the two numbers")
    vector = replace(family.vectors["push"], coefficient=1.5)
    steered, bare = (whystrip._pass(subject, prompt, answer, v) for v in ([vector], []))
    found = whystrip._touches(subject, answer, steered, bare)
    prefill = engine.probe(prompt)
    wanted = engine.score(prefill, "sums", answer, [vector]) - engine.score(prefill, "sums", answer)
    assert sum(one.raised for one in found) / len(found) == pytest.approx(wanted, abs=1e-4)


def test_a_gate_is_shown_open_where_it_is(tiny: Tiny) -> None:
    subject = Subject.open(tiny.family, "sums")
    prompt = tiny.engine.encode_chat([Message(role="user", content="What is 3 + 4?")])
    answer = tiny.engine.encode_answer("The sum of the two numbers is ready for you.")
    push = tiny.family.vectors["push"]
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    states = tiny.engine.states(tiny.engine.probe(prompt), "sums", answer, [1])[1]
    # answer token i is drawn at the place of token i - 1
    logits = states[:-1] @ weight
    gated = replace(push, gate=Gate(1, weight, threshold=float(logits.median())))
    steered = whystrip._pass(subject, prompt, answer, [gated]).acted["push"][1:]
    assert 0 < sum(steered) < len(steered)
    first_open = steered.index(True)
    # before anything was pushed, the gate reads the plain states
    assert steered[: first_open + 1] == (logits >= logits.median()).tolist()[: first_open + 1]
    shut = replace(push, gate=Gate(1, weight, threshold=1e9))
    closed, bare = (whystrip._pass(subject, prompt, answer, v) for v in ([shut], []))
    found = whystrip._touches(subject, answer, closed, bare)
    assert all(one.acted == () and one.raised == 0 for one in found)


def test_colours() -> None:
    def touch(raised: float, acted: tuple[str, ...] = ("a",)) -> Touch:
        return Touch(text="x", raised=raised, divergence=0.0, acted=acted)

    assert style(touch(0.0)) == ""
    assert style(touch(0.0, ())) == "underline"
    assert style(touch(5.0)) == "black on rgb(80,255,80)"
    assert style(touch(-5.0)) == "black on rgb(255,80,80)"


def test_hostile_text_stays_text() -> None:
    strip = whystrip.Strip(
        part=0,
        specialist="s",
        entries=("a\x1b[31m",),
        tokens=(Touch(text="[red]\x1b[2J\n", raised=3.0, divergence=1.0, acted=("a",)),),
    )
    told = plain(strip)
    assert "\x1b[2J" not in told
    assert "[red]" in told


def test_unsteered_records_have_no_strip_and_the_command_prints_json(
    pilot: Pilot, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    pilot.ask("What is 3 + 4?")
    with pytest.raises(UsageError, match="was not steered"):
        strips(pilot.why().page, pilot.ship)
    pilot.ask("What is 3 + 4?", steer=Steer(extra={"push": 0.6}))
    from pilothouse.agents.cli.why import app

    done = CliRunner().invoke(app, ["last", "--tokens", "--json", "--family", str(tiny.folder)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["tokens"][0]["entries"] == ["push"]
