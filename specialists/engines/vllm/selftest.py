"""The test that every vLLM engine passes before it is used: steered differs, idle is bit-equal.

A plugin that is bound to the wrong place steers nothing and says nothing. So two prompts are answered twice:
once idle, once with the second steered. Then the first must have the same bits, the second another answer,
and the tapped state of the second must have moved by the very vector.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ....router.steer.vector import SteeringVector
from ..base import NotOffered, Request, Sampling, TokenEvent
from ..rowbatch import TRUNK
from ..stream import Stream
from .batch import VllmBatch

STEPS = 1000


def self_test(batch: VllmBatch, prompt: tuple[int, ...]) -> None:
    """Raise NotOffered, saying what is wrong, unless the trunk is steered as it should be."""
    host = batch.models[TRUNK]
    layer = max(host.board.sites.of)
    direction = torch.randn(host.width, generator=torch.Generator().manual_seed(7))
    idle = Request(prompt, "trunk", Sampling(max_tokens=2), (), (layer,), reuse=False)
    plain = replace(idle, tokens=prompt[::-1])
    size, length = _run(batch, idle, plain)[1][1].norm(dim=-1).max(), float(direction.norm())
    vector = SteeringVector("self-test", "add", layer, 4 * float(size) / length, "both", direction)
    before, after = _run(batch, idle, plain), _run(batch, idle, replace(plain, vectors=(vector,)))
    moved = after[1][1][: len(prompt)] - before[1][1][: len(prompt)]
    wrong = torch.dist(moved, (vector.coefficient * direction).expand_as(moved)) / moved.norm()
    if not before[1][0] or [e.logprob for e in before[1][0]] == [e.logprob for e in after[1][0]]:
        raise _failed("a steered request was answered as if it were not")
    if before[0][0] != after[0][0] or not torch.equal(before[0][1], after[0][1]):
        raise _failed("an idle request beside a steered one changed")
    if not wrong < 0.05:
        raise _failed(f"a steered state moved {float(wrong):.0%} beside the vector")
    if host.board.sites.in_use or host.board.rows:
        raise _failed("something of an ended request is left")


def _failed(what: str) -> NotOffered:
    return NotOffered(
        f"the vLLM plugin's self-test failed: {what}. It is not bound as it should be to this vLLM and this "
        "kind of model: use the torch engine"
    )


def _run(batch: VllmBatch, *requests: Request) -> list[tuple[list[TokenEvent], torch.Tensor]]:
    """The events of each request, and what it tapped."""
    streams = [Stream(request) for request in requests]
    rows = [batch.open(one, stream) for one, stream in zip(requests, streams, strict=True)]
    try:
        for _ in range(STEPS):
            if all(stream.over for stream in streams):
                break
            batch.step(rows)
    except RuntimeError as error:
        raise _failed(str(error)) from error
    finally:
        for row in rows:
            batch.shut(row)
            row.stream.fail(_failed("vLLM did not come to an end"))
    return [(list(stream), stream.states[stream.request.taps[0]]) for stream in streams]
