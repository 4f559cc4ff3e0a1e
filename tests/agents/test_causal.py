"""The experiment on the scout, against what can be known without it."""

from __future__ import annotations

import pytest
import torch
from toy_family import Tiny

from pilothouse.agents.causal import TOP
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.store.errors import NotFoundError, UsageError
from pilothouse.store.records import Message


def test_the_unablated_arm_is_the_record(pilot: Pilot) -> None:
    answer = pilot.ask("What is 3 + 4?")
    effect = pilot.why(answer.record_id or "", causal=True).effects[0]
    assert effect.before.p_correct == pytest.approx(answer.p_correct, abs=1e-5)
    assert effect.before.chosen == answer.specialist
    assert effect.before.features == ()
    assert effect.note == ""
    assert len(effect.ablated.features) == TOP
    assert not set(effect.ablated.features) & set(effect.control.features)


def test_ablation_happens_inside_the_forward_pass(pilot: Pilot) -> None:
    """At the deepest scout layer, holding a feature at zero there is what `Scout.ablate` computes by hand."""
    from pilothouse.agents import causal

    ship = pilot.ship
    scout = ship.scout
    assert scout is not None
    bench = causal._bench(ship)
    turns = (Message(role="user", content="Spell dog."),)
    plain = causal._read(bench, turns, ())
    sae = scout.saes[2]
    width = sae.d_in
    acts = sae.encode(plain.x[2 * width : 3 * width][None])[0]  # the block "layer 2, last token"
    feature = int(acts.argmax())
    assert acts[feature] > 0
    ablated = causal._read(bench, turns, [(2, feature)])
    at_last = slice(2 * width, 3 * width)
    expected = plain.x[at_last] - acts[feature] * sae.W_dec[feature]
    torch.testing.assert_close(ablated.x[at_last], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ablated.x[: 2 * width], plain.x[: 2 * width])
    assert causal._read(bench, turns, ()).x.equal(plain.x), "nothing is left behind"


def test_a_multi_part_record_has_one_effect_a_part(pilot: Pilot) -> None:
    pilot.ask("What is 3 + 4? And spell dog.")
    effects = pilot.why(causal=True).effects
    assert [effect.specialist for effect in effects] == ["sums", "words"]
    assert all(effect.note == "" for effect in effects)


def test_a_follow_up_is_read_as_it_was(pilot: Pilot) -> None:
    first = pilot.ask("What is 3 + 4?")
    pilot.ask("Spell dog.", first.thread_id)
    assert pilot.why(causal=True).effects[0].note == ""


def test_what_cannot_be_ablated(pilot: Pilot, tiny: Tiny) -> None:
    pilot.ask("zzq#@@xvjk#q%w")
    with pytest.raises(UsageError, match="no routed part"):
        pilot.why(causal=True)
    with pytest.raises(NotFoundError):
        pilot.why("0000000")
    with Pilot(tiny.family, Unlogged(), tiny.engine) as other:
        assert other.why().page.record.status == "abstained", "reading the log needs no model"


def test_erased_texts_cannot_be_ablated(pilot: Pilot) -> None:
    from pilothouse.store.ledger import Ledger

    answer = pilot.ask("What is 3 + 4?")
    with Ledger.open() as ledger:
        ledger.forget(record_id=answer.record_id)
    with pytest.raises(UsageError, match="erased"):
        pilot.why(causal=True)
