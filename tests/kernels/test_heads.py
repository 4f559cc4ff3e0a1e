"""Fused heads: each prompt by itself, with the poolings that the router's probes were fitted on."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from pilothouse.kernels.dispatch import Backend
from pilothouse.kernels.heads import POOLINGS, Heads, read, rolling_sum

CPU: tuple[Backend, ...] = ("plain", "fast")
# lengths of the prompts, D, P, window
SIZES = [([1], 1, 1, 1), ([2, 1, 9, 30], 65, 5, 8), ([3, 12], 130, 17, 5), ([7] * 5, 7, 3, 100)]
Size = tuple[list[int], int, int, int]


def made(size: Size, poolings: tuple[str, ...] = POOLINGS) -> tuple[torch.Tensor, torch.Tensor, Heads]:
    lengths, dims, count, window = size
    generator = torch.Generator().manual_seed(dims + count)
    x = torch.randn(sum(lengths), dims, generator=generator)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    weight = torch.randn(len(poolings), count, dims, generator=generator)
    return x, starts, Heads(weight, torch.randn(count, generator=generator), poolings, window)


def looped(x: torch.Tensor, heads: Heads) -> torch.Tensor:
    """One prompt, with loops."""
    body = x[1:] if len(x) > 1 else x
    width = min(heads.window, len(body))
    means = [body[i : i + width].sum(0) / width for i in range(len(body) - width + 1)]
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "last": lambda: x[-1],
        "mean": lambda: x.sum(0) / len(x),
        "max_rolling_mean": lambda: torch.stack(means).max(0).values,
    }
    return sum((w @ ways[name]() for name, w in zip(heads.poolings, heads.weight, strict=True)), heads.bias)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("poolings", [("last",), ("max_rolling_mean", "last"), POOLINGS])
@pytest.mark.parametrize("backend", CPU)
def test_each_prompt_is_read_by_itself(size: Size, poolings: tuple[str, ...], backend: Backend) -> None:
    x, starts, heads = made(size, poolings)
    got = read(x, starts, heads, backend)
    for b, (first, end) in enumerate(pairwise(starts)):
        torch.testing.assert_close(got[b], looped(x[first:end], heads), atol=1e-4, rtol=1e-4)


def test_poolings_are_those_of_the_router() -> None:
    from pilothouse.router import taps

    x, starts, _ = made(SIZES[1])
    # attention weighs tokens by each other: no product with one matrix, so the fused heads refuse it
    assert set(taps.POOLINGS) == {*POOLINGS, "attention"}
    with pytest.raises(ValueError, match="poolings"):
        Heads(torch.eye(65)[None], torch.zeros(65), ("attention",))
    for name in POOLINGS:
        pool = taps.POOLINGS[name]
        heads = Heads(torch.eye(65)[None], torch.zeros(65), (name,))
        for way in CPU:
            for b, scores in enumerate(read(x, starts, heads, way)):
                torch.testing.assert_close(scores, pool(x[starts[b] : starts[b + 1]]))


def test_the_prompts_beside_it_change_nothing() -> None:
    x, starts, heads = made(SIZES[1])
    solo = read(x[3:12], torch.tensor([0, 9]), heads)
    torch.testing.assert_close(read(x, starts, heads)[2:3], solo)
    x[12:] = float("nan")
    torch.testing.assert_close(read(x, starts, heads)[2:3], solo)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 13, 20])
def test_rolling_sums(width: int) -> None:
    x = torch.randn(20, 3)
    wanted = torch.stack([x[i : i + width].sum(0) for i in range(20 - width + 1)])
    torch.testing.assert_close(rolling_sum(x, width), wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("poolings", [("last",), ("mean", "max_rolling_mean"), POOLINGS])
def test_triton_is_plain(triton_device: str, size: Size, poolings: tuple[str, ...]) -> None:
    x, starts, heads = made(size, poolings)
    there = Heads(heads.weight.to(triton_device), heads.bias.to(triton_device), poolings, heads.window)
    got = read(x.to(triton_device), starts.to(triton_device), there, "triton").cpu()
    torch.testing.assert_close(got, read(x, starts, heads, "plain"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bounds", [[0, 5], [1, 42], [0, 9, 9, 42], []])
def test_starts_that_are_none_are_refused(bounds: list[int]) -> None:
    x, _, heads = made(SIZES[1])
    with pytest.raises(ValueError, match="begin with 0, end with 42"):
        read(x, torch.tensor(bounds, dtype=torch.long), heads)


def test_misfits_are_refused() -> None:
    weight, bias = torch.ones(1, 2, 3), torch.zeros(2)
    for what, said in (
        (lambda: Heads(weight, bias, ("first",)), "name some of last, mean"),
        (lambda: Heads(torch.ones(2, 2, 3), bias, ("last", "last")), "each once"),
        (lambda: Heads(weight, bias, ("last",), 0), "window 0"),
        (lambda: Heads(weight, bias, ("last", "mean")), r"weight is float32 \[1, 2, 3\]"),
        (lambda: Heads(weight, torch.zeros(3)), "bias is float32"),
        (lambda: read(torch.ones(2, 4), torch.tensor([0, 2]), Heads(weight, bias)), "x is float32"),
        (lambda: read(torch.ones(2, 3), torch.tensor([0.0, 2.0]), Heads(weight, bias)), "starts is float32"),
        (lambda: rolling_sum(torch.ones(2, 3), 3), "width of 3 for 2 rows"),
    ):
        with pytest.raises(ValueError, match=said):
            what()


def test_no_prompts() -> None:
    _, _, heads = made(SIZES[1])
    assert read(torch.zeros(0, 65), torch.zeros(1, dtype=torch.long), heads).shape == (0, 5)
