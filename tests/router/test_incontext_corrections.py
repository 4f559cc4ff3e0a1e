"""Corrections of in-context learning: scores are edited exactly, and strength 0 is exactly nothing."""

import pytest
import torch
from tiny import CONFIGS, model

from pilothouse.bench.locate.demonstrations import ORDERS, SHOWN, accuracy, answers, asked, trained
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.case import Case
from pilothouse.router.locate.incontext import label_positions
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.run import record
from pilothouse.router.steer.incontext import Corrected, Places, choose, majority_bias, scores_edited
from pilothouse.store.errors import UsageError

HEADS = (Place("head", 0, 1), Place("head", 2, 3))


def found(kind: str = "llama") -> Anatomy:
    return Anatomy.of(model(kind))


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_added_to_scores_multiplies_attention(kind: str) -> None:
    case = asked(1, 0)[0]
    tokens = len(case.ids)
    added = torch.zeros(1, 4, tokens)
    added[0, 1, 3], added[0, 1, 5] = 1.5, -2.0
    before = record(found(kind), case.ids, weights=True)
    with scores_edited(found(kind), {0: added}):
        after = record(found(kind), case.ids, weights=True)
        with torch.no_grad():
            plain_attention = model(kind)(torch.tensor([case.ids])).logits[0]
    assert before.weights is not None
    assert after.weights is not None
    wanted = before.weights[0, :, -1] * added[0].exp()
    torch.testing.assert_close(
        after.weights[0, :, -1], wanted / wanted.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(after.weights[0, :, :-1], before.weights[0, :, :-1], atol=1e-6, rtol=1e-5)
    # the path that computes no weights gives the same
    torch.testing.assert_close(plain_attention, after.logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(record(found(kind), case.ids).logits, before.logits)


def test_the_measured_effect_of_places_is_taken_off() -> None:
    cases = asked(12, 1)
    places = Places.fit(found(), cases, HEADS)
    assert places.effect.shape == (2, SHOWN)
    torch.testing.assert_close(places.effect.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    assert float(places.effect.abs().max()) > 1e-3
    with scores_edited(found(), {0: places.bias(found(), cases[:1], 1.0)[0]}):
        again = Places.fit(found(), cases, HEADS[:1])
    assert float(again.effect.abs().max()) < 1e-3 * float(places.effect[0].abs().max()) + 1e-5


def test_strength_0_gives_the_same_bits_and_others_do_not() -> None:
    cases = asked(40, 2, 6)
    places = Places.fit(found(), cases, HEADS)
    with torch.no_grad():
        plain = torch.cat(
            [model("llama")(torch.tensor([c.ids for c in cases[i : i + 32]])).logits[:, -1] for i in (0, 32)]
        )
    assert torch.equal(Corrected(HEADS, 0.0, places, 0.0).logits(found(), cases), plain)
    for fix in (Corrected(HEADS, 0.5), Corrected(places=places, recency=0.5)):
        assert not torch.equal(fix.logits(found(), cases), plain)
    assert torch.equal(Corrected().logits(found(), cases), plain)


def test_the_majority_correction_does_not_know_which_answer_is_right() -> None:
    cases = asked(6, 3, 6)
    swapped = [Case(case.ids, case.against or 0, case.answer) for case in cases]
    fix = Corrected(HEADS, 0.5)
    torch.testing.assert_close(fix.logits(found(), cases), fix.logits(found(), swapped))


def test_bias_is_counted_and_strengths_are_chosen_within_what_is_allowed() -> None:
    cases = asked(20, 4, 6)
    logits = torch.zeros(20, 30)
    for row, case in enumerate(cases):
        common = max((case.answer, case.against or 0), key=[case.ids[p] for p in label_positions(case)].count)
        logits[row, common] = 50.0
    assert majority_bias(logits, cases) == pytest.approx(1.0)
    assert majority_bias(torch.zeros(20, 30), cases) == pytest.approx(0.0)
    with pytest.raises(UsageError, match="no majority"):
        majority_bias(logits, asked(20, 4))
    table = {0.0: (0.4, 0.9), 0.1: (0.3, 0.9), 0.2: (0.1, 0.7), 0.3: (0.5, 0.95)}
    assert choose((0.1, 0.2, 0.3), lambda strength: table[strength], 0.01) == 0.1
    assert choose((0.3,), lambda strength: table[strength], 0.01) == 0.0


def test_the_toy_asks_evenly_in_every_order() -> None:
    for order in ("drawn", *ORDERS):
        cases = asked(8, 5, order=order)
        for case in cases:
            shown = [case.ids[at] for at in label_positions(case)]
            assert shown.count(case.answer) == SHOWN // 2
        assert len({case.answer for case in cases}) == 2
    last = asked(1, 6, order="last")[0]
    assert all(last.ids[at] == last.answer for at in label_positions(last)[-SHOWN // 2 :])


def test_prompts_of_another_shape_are_refused() -> None:
    cases = asked(3, 7)
    places = Places.fit(found(), cases, HEADS)
    short = Case(cases[0].ids[4:], cases[0].answer, cases[0].against)
    with pytest.raises(UsageError, match="measured on"):
        places.bias(found(), [short], 1.0)
    with pytest.raises(UsageError, match="as many labels"):
        Places.fit(found(), [cases[0], short], HEADS)
    with pytest.raises(UsageError, match="at least one head"):
        Places.fit(found(), cases, ())
    with (
        scores_edited(found(), places.bias(found(), cases, 1.0)),
        pytest.raises(UsageError, match="open one edit"),
    ):
        model("llama")(torch.tensor([cases[0].ids] * 2))
    with pytest.raises(UsageError, match="layer 7"), scores_edited(found(), {7: torch.zeros(1, 4, 17)}):
        pass


def test_the_toy_knows_nothing_before_training_and_one_seed_is_one_toy() -> None:
    cases = asked(64, 5)
    assert accuracy(answers(trained(2, 0), cases), cases) < 0.65  # other tokens may lead, too
    twins = [trained(2, 3).parameters() for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*twins, strict=True))
