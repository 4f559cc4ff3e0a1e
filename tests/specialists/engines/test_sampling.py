"""Tokens are drawn by integer arithmetic from seed and place, in the shares that the logits give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pilothouse.specialists.engines.base import Capacity, Head, Prefill, Request, Sampling
from pilothouse.specialists.engines.sampling import draw, kept, penalised, uniform
from pilothouse.store.errors import UsageError


def test_uniform_is_splitmix() -> None:
    # the first outputs of SplitMix64 from state 0, as published with its source
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [uniform(0, i) for i in range(3)] == [(word >> 11) / 2**53 for word in published]
    assert uniform(-1, 0) == uniform(2**64 - 1, 0)


def test_uniform_is_uniform_over_places_and_over_seeds() -> None:
    for values in ([uniform(7, i) for i in range(4000)], [uniform(s, 0) for s in range(4000)]):
        counts = torch.histc(torch.tensor(values), 10, 0, 1)
        assert (counts - 400).abs().max() < 80  # four standard deviations
        lagged = torch.corrcoef(torch.stack((torch.tensor(values[1:]), torch.tensor(values[:-1]))))[0, 1]
        assert abs(lagged) < 0.06


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(0.5), Sampling(2.0, top_k=2), Sampling(1.0, top_p=0.6)]
)
def test_draws_have_the_shares_of_the_logits(sampling: Sampling) -> None:
    logits = torch.tensor([1.0, 2.0, 0.0, 1.5, -30.0])
    weights = kept(torch.softmax(logits.double() / sampling.temperature, -1), sampling)
    expected = weights / weights.sum()
    drawn = [
        draw(logits, Sampling(sampling.temperature, 9, seed, (), sampling.top_p, sampling.top_k), 3)
        for seed in range(3000)
    ]
    shares = torch.bincount(torch.tensor(drawn), minlength=5) / 3000
    assert (shares - expected).abs().max() < 0.04
    assert set(drawn) <= set(weights.nonzero().flatten().tolist())


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7), Sampling(1.3, top_k=40, top_p=0.8)])
def test_a_draw_is_the_first_token_whose_sum_passes_the_number(sampling: Sampling) -> None:
    for seed in range(50):
        logits = 4 * torch.randn(900, generator=torch.Generator().manual_seed(seed))
        weights = kept(torch.softmax(logits.double() / sampling.temperature, -1), sampling)
        sums = weights.cumsum(-1)
        place = torch.searchsorted(sums, uniform(seed, 5) * float(sums[-1]), right=True)
        assert draw(logits, replace(sampling, seed=seed), 5) == min(int(place), int(weights.nonzero()[-1]))


def test_filters_keep_the_fewest_likeliest() -> None:
    weights = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
    assert kept(weights, Sampling(1.0, top_k=2)).tolist() == [0, 0.4, 0.3, 0]
    assert kept(weights, Sampling(1.0, top_p=0.65)).tolist() == [0, 0.4, 0.3, 0]
    assert kept(weights, Sampling(1.0, top_p=0.75)).tolist() == [0, 0.4, 0.3, 0.2]
    assert kept(weights, Sampling(1.0, top_p=1e-9)).tolist() == [0, 0.4, 0, 0]
    assert kept(weights, Sampling(1.0, top_k=99)).tolist() == weights.tolist()
    ties = torch.full((4,), 0.25).double()
    assert kept(ties, Sampling(1.0, top_k=2)).nonzero().flatten().tolist() == [0, 1]


def test_repetition_weakens_what_was_said() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    assert penalised(logits, 2.0, [0, 1, 0]).tolist() == [1.0, -4.0, 1.0]
    assert draw(logits, Sampling(repetition=3.0), 0, [0]) == 2
    assert draw(logits, Sampling(repetition=3.0), 0) == 0


def test_the_last_token_is_drawn_when_the_sum_is_rounded_down() -> None:
    logits = torch.tensor([0.0] * 999 + [float("-inf")])
    assert max(draw(logits, Sampling(1.0, 9, seed), 0) for seed in range(300)) <= 998


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sampling(-1.0),
        lambda: Sampling(max_tokens=0),
        lambda: Sampling(top_p=0.0),
        lambda: Sampling(top_k=-1),
        lambda: Sampling(repetition=0.0),
        lambda: Capacity(rows=0),
        lambda: Request((), "a"),
        lambda: Request((1,), "a", taps=(0, 0)),
        lambda: Request((1,), "a", heads=(Head("h", 0, torch.ones(2)), Head("h", 1, torch.ones(2)))),
        lambda: Request((1,), "a", prefill=Prefill((2,))),
    ],
)
def test_what_cannot_be_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]
