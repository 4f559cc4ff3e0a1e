"""Replay against planted changes: the changed artifact is named, nothing else; untouched, all reproduces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_family import Tiny, toy_prompts

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.replay import Replay, replay
from pilothouse.agents.voyage import Ship, Steer
from pilothouse.router.policy import Policy
from pilothouse.specialists import integrity
from pilothouse.specialists.family import Family
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Page, Request


def pages() -> list[Page]:
    with Audit.open() as audit:
        return list(audit.pages())


def page_of(record_id: str | None) -> Page:
    with Audit.open() as audit:
        return audit.page(str(record_id))


def ship_of(pilot: Pilot, folder: Path) -> Ship:
    """The same engine over another family folder, sealed as it now is."""
    integrity.seal(folder)
    ship = pilot.ship
    return Pilot(Family.open(folder), ship.log, ship.engine, threads=False).ship  # type: ignore[arg-type]


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the family, to plant changes in."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "copy"))


def planted(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_everything_reproduces(pilot: Pilot) -> None:
    for kind in ("sums", "words", "about", "outside"):
        for prompt in toy_prompts(kind, 4, 9):
            pilot.ask(prompt, max_tokens=4)
    pilot.ask("What is 3 + 4? And what is the plural of dog?", max_tokens=4)
    first = pilot.ask("What is 3 + 4?", max_tokens=4)
    pilot.ask("And what is 5 + 6?", thread_id=first.thread_id, max_tokens=4)
    pilot.ask("Spell spoon.", specialist="sums", max_tokens=4)
    pilot.ask("Spell river.", steer=Steer(extra={"push": 0.25}), max_tokens=4)
    found = [replay(page, pilot.ship) for page in pages()]
    assert len(found) == 21
    assert {one.verdict for one in found} == {"reproduced"}, [one.reason for one in found]
    assert max(one.largest for one in found) == 0.0
    assert not any(one.changed for one in found)


def test_exploration_draws_alike(tiny: Tiny, home: Path) -> None:
    policy = Policy(lam=0.01, threshold=0.0, epsilon=1.0)
    with Ledger.open() as ledger, Pilot(tiny.family, ledger, tiny.engine, policy) as pilot:
        for prompt in toy_prompts("sums", 8, 3):
            pilot.ask(prompt, max_tokens=2)
        found = [replay(page, pilot.ship) for page in pages()]
        drawn = {one.decisions[0].chosen for one in found}
    assert len(drawn) > 1  # it did draw
    assert {one.verdict for one in found} == {"reproduced"}


def test_a_changed_probe_is_named(pilot: Pilot, copy: Path) -> None:
    answer = pilot.ask("What is 3 + 4?", max_tokens=2)
    probe = copy / "probes/correct-sums/probe.json"
    planted(probe, bias=json.loads(probe.read_text())["bias"] - 50.0)
    found = replay(page_of(answer.record_id), ship_of(pilot, copy))
    assert found.verdict == "changed"
    assert ("probe", "correct-sums") in {(one.kind, one.name) for one in found.blamed}
    assert {one.kind for one in found.blamed} == {"probe"}
    assert "probe correct-sums" in found.reason
    fields = {miss.field for miss in found.mismatches}
    assert {"chosen", "candidates.sums"} <= fields
    assert "candidates.words" not in fields  # that probe was not touched


def test_a_changed_policy_is_named(pilot: Pilot, copy: Path) -> None:
    answer = pilot.ask("What is 3 + 4?", max_tokens=2)
    planted(copy / "policy.json", threshold=1.0)
    found = replay(page_of(answer.record_id), ship_of(pilot, copy))
    assert found.verdict == "changed"
    assert [(one.kind, one.name) for one in found.blamed] == [("policy", "policy")]
    assert found.decisions[0].abstained


def test_a_change_without_effect_is_told_and_not_blamed(pilot: Pilot, copy: Path) -> None:
    answer = pilot.ask("What is 3 + 4?", max_tokens=2)
    card = copy / "specialists/words/card.toml"
    card.write_text(card.read_text() + "\n# another word\n")
    found = replay(page_of(answer.record_id), ship_of(pilot, copy))
    assert (found.verdict, found.blamed) == ("reproduced", ())
    assert [one.name for one in found.changed] == ["words"]
    assert "changed without effect" in found.reason


def test_an_untouched_copy_is_the_same(pilot: Pilot, copy: Path) -> None:
    """The control of the three above."""
    answer = pilot.ask("What is 3 + 4?", max_tokens=2)
    found = replay(page_of(answer.record_id), ship_of(pilot, copy))
    assert (found.verdict, found.changed) == ("reproduced", ())


def test_what_nothing_explains_is_said(pilot: Pilot) -> None:
    page = page_of(pilot.ask("What is 3 + 4?", max_tokens=2).record_id)
    part = page.record.parts[0]
    assert part.decision is not None
    forged = part.model_copy(update={"decision": part.decision.model_copy(update={"chosen": "words"})})
    found = replay(_with_parts(page, forged), pilot.ship)
    assert found.verdict == "unexplained"
    assert found.reason.startswith("chosen was words and is sums now, although no artifact changed")


def test_a_redacted_text_is_not_blamed_on_anything(pilot: Pilot) -> None:
    page = page_of(pilot.ask("What is 3 + 4?", max_tokens=2).record_id).model_copy(update={"redacted": True})
    assert replay(page, pilot.ship).verdict == "reproduced"
    part = page.record.parts[0]
    assert part.decision is not None
    forged = part.model_copy(update={"decision": part.decision.model_copy(update={"chosen": "words"})})
    found = replay(_with_parts(page, forged), pilot.ship)
    assert found.verdict == "impossible"
    assert "redacted" in found.reason


def _with_parts(page: Page, *parts: object) -> Page:
    return page.model_copy(update={"record": page.record.model_copy(update={"parts": parts})})


def test_steering_off_is_guessed_and_said(pilot: Pilot, tiny: Tiny) -> None:
    """A word of the caller's is not in the record; what it explains is a note, not a mismatch."""
    rules = Policy(threshold=0.0, steering=(_rule(),))
    with Pilot(tiny.family, pilot.ship.log, pilot.ship.engine, rules, threads=False) as steered:
        prompt = toy_prompts("outside", 1, 4)[0]
        on = steered.ask(prompt, max_tokens=2)
        off = steered.ask(prompt, steer=Steer(off=True), max_tokens=2)
        assert on.steering
        assert not off.steering
        found = [replay(page_of(one.record_id), steered.ship) for one in (on, off)]
    assert [one.verdict for one in found] == ["reproduced", "reproduced"]
    assert [bool(one.notes) for one in found] == [False, True]


def _rule() -> object:
    from pilothouse.router.policy import SteeringRule

    return SteeringRule(reading="outside", vector="push")


@pytest.mark.parametrize("how", ["forgotten", "never kept", "undecided"])
def test_what_cannot_be_replayed_says_why(how: str, tiny: Tiny, home: Path) -> None:
    keep = how != "never kept"
    with Ledger.open(keep_text=keep) as ledger, Pilot(tiny.family, ledger, tiny.engine) as pilot:
        record_id = str(pilot.ask("What is 3 + 4?", max_tokens=2).record_id)
        if how == "undecided":
            record_id = ledger.begin(Request.model_validate({"messages": [_user("Hi")]}))
            ledger.finish(record_id, "failed", error="boom")
        if how == "forgotten":
            ledger.forget(record_id=record_id)
        found = replay(page_of(record_id), pilot.ship)
    words = {
        "forgotten": "were erased",
        "never kept": "never kept",
        "undecided": "before anything was decided",
    }
    assert found.verdict == "impossible"
    assert words[how] in found.reason


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_an_escalated_decision_is_compared_by_its_first_attempt(pilot: Pilot, tiny: Tiny) -> None:
    from scripted_engine import ScriptedEngine

    sums = {"sums": "3 + 4 = 8", "words": "3 + 4 = 7", "about": "seven"}
    engine = ScriptedEngine(tiny.engine, sums)
    with Pilot(tiny.family, pilot.ship.log, engine, threads=False) as scripted:
        answer = scripted.ask("What is 3 + 4?")
        page = page_of(answer.record_id)
        assert page.record.parts[0].hops
        assert replay(page, scripted.ship).verdict == "reproduced"


# -- the command -------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `pilothouse log replay ...` with the tiny family."""
    from pilothouse.agents.cli.main import main

    monkeypatch.setenv("PILOTHOUSE_FAMILY", str(tiny.folder))

    def invoke(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["pilothouse", "log", "replay", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return invoke


def test_the_command(pilot: Pilot, run: Run) -> None:
    for prompt in ("What is 3 + 4?", "Spell dog.", "@@ zz ## qq %% vv"):
        pilot.ask(prompt, max_tokens=2)
    code, out, _ = run()
    assert (code, out.count("\n")) == (0, 1)
    assert "reproduced: the same decision" in out
    assert run("--limit", "9")[1] == "3 records: 3 reproduced\n"
    rows = [Replay.model_validate_json(line) for line in run("--limit", "9", "--json")[1].splitlines()]
    assert [row.verdict for row in rows] == ["reproduced"] * 3
    code, out, _ = run("--limit", "9", "--threshold", "1")
    assert (code, "sums → nobody" in out, "words → nobody" in out) == (0, True, True)
    assert "coverage" in out
    assert run("last", "--limit", "2")[0] == 2
    assert run("--price", "nobody-here=2")[0] == 2
    assert run("--price", "sums")[0] == 2


def test_an_unexplained_decision_is_a_failure(
    pilot: Pilot, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilothouse.agents import replay as module

    pilot.ask("What is 3 + 4?", max_tokens=2)
    # the recorded decision says otherwise, and nothing is said to have changed
    monkeypatch.setattr(module, "changes", lambda record, ship: ())
    monkeypatch.setattr(module, "SAME", -1.0)
    code, out, error = run()
    assert code == 1
    assert "unexplained" in out
    assert "report this" in error
