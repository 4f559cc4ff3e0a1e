"""CorrSteer: equal to numpy, the planted feature found, controls that find nothing, its variants."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from wired import END, FEATURES, HINT, PLAIN, RIGHT, WRONG, dictionary, prompts, task, wired

from pilothouse.router.features.correlate import Correlation
from pilothouse.router.steer.corrsteer import (
    Pick,
    above_median,
    at_random,
    correlate,
    entries,
    picks,
    pruned,
    shuffled,
)
from pilothouse.router.steer.task import (
    Answer,
    Task,
    Verdict,
    play,
    right,
    side_effect_ratio,
    valid,
    validity_share,
)
from pilothouse.store.errors import UsageError


def verdicts(answers: list[Answer]) -> list[bool]:
    return [one.right for one in answers]


def test_streamed_r_equals_numpy_on_a_thousand_samples_of_five_hundred_features() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 500, generator=generator).relu() * torch.logspace(-4, 4, 500)
    x[:, ::50] = 3.0  # constant: 0, not NaN
    x[:, 1] += 1e4  # a large mean with a small spread
    y = torch.rand(1000, generator=generator) < 0.4
    sums = Correlation(500)
    for at in range(0, 1000, 77):
        sums.add(x[at : at + 77], y[at : at + 77])
    with np.errstate(invalid="ignore"):
        wanted = np.nan_to_num(np.corrcoef(x.double().numpy().T, y.double().numpy())[-1, :-1])
    np.testing.assert_allclose(sums.coefficients().numpy(), wanted, atol=1e-6)


def test_drawn_answers_come_again_for_a_seed_and_follow_the_chances() -> None:
    model, asked = wired(), [prompts(1, 0.0)[0]] * 400
    drawn = [replace(task(asked), temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    first, again, other = ([one.tokens for one in play(model, one)] for one in drawn)
    assert first == again
    assert first != other
    chances = model(input_ids=torch.tensor(asked[:1])).logits[0, -1].softmax(-1)
    share = sum(tokens[:1] == (WRONG,) for tokens in first) / 400
    assert abs(share - float(chances[WRONG])) <= 4 * (0.25 / 400) ** 0.5
    cold = play(model, replace(task(asked[:20]), temperature=1e-4))
    assert {one.tokens for one in cold} == {(WRONG,)}


def test_play_answers_as_one_row_alone_and_counts_draws() -> None:
    model, asked = wired(), prompts(9, 0.5)
    together = play(model, task(asked))
    assert together == [play(model, task([one]))[0] for one in asked]
    assert [one.tokens for one in together] == [(RIGHT,) if p[-1] == HINT else (WRONG,) for p in asked]
    assert {one.draws for one in together} == {2}
    assert right(together) == sum(p[-1] == HINT for p in asked) / 9
    assert valid(together) == 1.0


def test_max_and_mean_pools_count_generated_tokens_only() -> None:
    """Axis 0 is 2 where HINT is read at the prompt's end; the second draw reads RIGHT, which lacks it."""
    model, sae = wired(), dictionary()
    asked = [(HINT, HINT), (HINT, PLAIN)]
    for pool, wanted in (("max", 2.0), ("mean", 1.0)):
        (found,) = correlate(model, task(asked), {0: sae}, [[True, False]], pool)  # type: ignore[arg-type]
        (one,) = picks(found, "A")
        assert one.feature == 0
        assert one.coefficient == pytest.approx(wanted)


def test_the_planted_feature_is_found_and_steers_where_the_hint_is_missing() -> None:
    model, sae = wired(), dictionary()
    fit, lacking = task(prompts(80, 0.5)), task(prompts(40, 0.0, seed=1))
    labels = verdicts(play(model, fit))
    true, *null = correlate(model, fit, {0: sae}, [labels, *[shuffled(labels, i) for i in range(4)]])
    (best,) = picks(true, "S")
    assert (best.layer, best.feature) == (0, 0)
    assert best.coefficient == pytest.approx(2.0)
    assert best.correlation == pytest.approx(1.0)
    assert right(play(model, lacking)) == 0.0
    assert right(play(model, lacking, entries([best], {0: sae}, "hint"))) == 1.0
    gains = [right(play(model, lacking, entries(picks(n, "S"), {0: sae}, "null"))) for n in null]
    assert max(abs(p.correlation) for n in null for p in picks(n, "S")) < 0.6
    assert sum(gains) / len(gains) <= 0.3  # a null may draw the planted feature by chance
    random = [
        right(play(model, lacking, entries(at_random([best], {0: sae}, i), {0: sae}, "random")))
        for i in range(5)
    ]
    assert random == [0.0] * 5
    assert true[0].best(1, "negative")[0].correlation < 0
    assert picks(true, "S", sign="negative") == ()  # never active on right answers: no strength to steer with


def test_variants_a_and_p_and_the_slides_median() -> None:
    model = wired()
    saes = {0: dictionary(0), 1: dictionary(1)}
    fit = task(prompts(60, 0.5))
    (found,) = correlate(model, fit, saes, [verdicts(play(model, fit))])
    every = picks(found, "A")
    assert [one.layer for one in every] == [0, 1]
    vectors = entries(every, saes, "hint")
    assert [one.name for one in vectors] == ["hint-L0", "hint-L1"]
    idle = entries([every[0]._replace(feature=7)], saes, "idle")
    lacking = task(prompts(20, 0.0, seed=2))
    assert pruned(model, lacking, [*idle, vectors[1]]) == (vectors[1],)
    assert above_median([Pick(0, 1, 0.2, 1.0), Pick(1, 1, 0.5, 1.0), Pick(2, 1, 0.4, 1.0)]) == (
        Pick(1, 1, 0.5, 1.0),
        Pick(2, 1, 0.4, 1.0),
    )


@pytest.mark.parametrize(("mean", "wanted"), [("all", 1.0), ("active", 2.0), ("contrast", 0.5)])
def test_strengths(mean: str, wanted: float) -> None:
    sums = Correlation(1)
    sums.add(torch.tensor([[2.0], [0.0], [1.0], [0.0]]), [1, 1, 0, 0])
    assert sums.best(1, mean=mean)[0].coefficient == pytest.approx(wanted)  # type: ignore[arg-type]


def test_ratios() -> None:
    def answer(is_right: bool, is_valid: bool = True) -> Answer:
        return Answer((), 1, is_right, is_valid)

    before = [answer(True), answer(False), answer(False, False), answer(True)]
    after = [answer(False), answer(True), answer(True), answer(True)]
    assert side_effect_ratio(before, after) == pytest.approx(1 / 3)
    assert validity_share(before, after) == pytest.approx(1 / 2)
    assert math.isnan(side_effect_ratio(before, before))


def test_an_adapter_acts_from_the_invocation_on() -> None:
    """The invocation is fed inside `acting`, the prompt outside."""
    from contextlib import contextmanager

    model, inside = wired(), []

    @contextmanager
    def acting():  # type: ignore[no-untyped-def]
        handle = model.model.register_forward_pre_hook(
            lambda module, args, kwargs: inside.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        yield
        handle.remove()

    asked = Task(
        ((5, 6, 7),), lambda row, tokens: Verdict(True), END, 2, invocation=(PLAIN, HINT), acting=acting
    )
    (one,) = play(model, asked)
    assert one.tokens == (RIGHT,)
    assert inside == [2, 1]


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match="0 dictionaries"):
        correlate(wired(), task(prompts(4, 0.5)), {}, [[True] * 4])
    with pytest.raises(UsageError, match=r"labellings of \[3\] for 4"):
        correlate(wired(), task(prompts(4, 0.5)), {0: dictionary()}, [[True] * 3])
    with pytest.raises(UsageError, match="at least one prompt"):
        task([])
    assert dictionary().d_sae == FEATURES
