"""Follow the answer's logit back recursively: what wrote it, what made those parts speak, and so on down.

After Yu and Ananiadou's logit flow (EMNLP 2025), reconstructed. From the top layer down, each layer's best
FFN and attention neurons at each position are those that raise the answer's log-probability themselves (at
the last token), or that feed neurons found above. A neuron found with importance s asks for its input: of any
part of that input, the share of the neuron's key that it makes up, times s, is what it feeds. Keys of
attention neurons are W_V's columns (their source positions are where the flow goes on); keys of FFN neurons
are the gradients of their coefficients, with the norm before the MLP held fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy, hooks, matrix_of, unflatten
from .attribute import channel_parts, gain_of, value_channels, value_neurons
from .case import Case
from .flow import Flow, best
from .readout import FixedNorm, written
from .run import Run, record

SMALL = 0.05  # cosine of key and state below which shares mean nothing, and a neuron is not followed (ours)


def trace(anatomy: Anatomy, case: Case, neurons: int = 30) -> Flow:
    """Trace a case through every hop, keeping the `neurons` best of each sort in each layer.

    The flow's `attention` [L,T] is what later tokens fetched from a position in a layer, its `mlp` [L,T] what
    the MLP wrote there: importance for the answer, in nats, at whatever distance.
    """
    run = record(anatomy, case.ids, weights=True)
    if run.besides is not None:
        raise UsageError("this model's layers have a third part, which cannot be traced; use one without")
    direct = value_neurons(anatomy, run, case.answer), value_channels(anatomy, run, case.answer)
    asked = torch.zeros_like(run.stream[0])  # [T,D]: what is asked of the stream, share per unit
    attention = torch.zeros(anatomy.layers, run.tokens, device=asked.device)
    mlp = torch.zeros_like(attention)
    for layer in reversed(range(anatomy.layers)):
        mlp[layer], more = _mlp(anatomy, run, layer, asked, direct[0][layer], neurons)
        asked = asked + more
        attention[layer], more = _attention(anatomy, run, layer, asked, direct[1][layer], neurons)
        asked = asked + more
    return Flow(attention, mlp)


def _mlp(
    anatomy: Anatomy, run: Run, layer: int, asked: Tensor, direct: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """What the best neurons are worth by position [T], and what they ask of the stream [T,D]."""
    down = matrix_of(anatomy.blocks[layer].down)
    scores = torch.stack(
        [
            run.neurons[layer, at] * (written(anatomy, run, layer, "mlp", down, at) @ asked[at])
            for at in range(run.tokens)
        ]
    )
    scores[-1] += direct
    kept = best(scores, count)
    found = torch.zeros_like(asked)
    for at in kept.sum(1).nonzero().flatten().tolist():
        found[at] = _keys(anatomy, run, layer, at, kept[at])
    return kept.sum(1), found


def _keys(anatomy: Anatomy, run: Run, layer: int, at: int, scores: Tensor) -> Tensor:
    """What neurons with scores [F] ask of the stream at a position: [D]."""
    block = anatomy.blocks[layer]
    units = scores.nonzero().flatten()
    state = run.stream[layer, at]
    if block.before_mlp is not block.before:
        state = state + run.attention[layer, at]
    norm = FixedNorm(block.before_mlp, state[None])
    read = (norm(state, 0) + norm.constant).repeat(len(units), 1).requires_grad_(True)
    seen: list[Tensor] = []
    with torch.enable_grad(), hooks(block.down.register_forward_pre_hook(lambda _m, x: seen.append(x[0]))):
        _mlp_module(anatomy, layer)(read[None])
        said = seen[0].reshape(len(units), -1).gather(1, units[:, None]).sum()
        (gradient,) = torch.autograd.grad(said, read)
    keys = gradient * norm.scale[0] * norm.gain
    if norm.centred:
        keys = keys - keys.mean(-1, keepdim=True)
    return _shares(keys, state, scores[units])


def _mlp_module(anatomy: Anatomy, layer: int) -> torch.nn.Module:
    found = anatomy.blocks[layer].layer.mlp
    assert isinstance(found, torch.nn.Module)
    return found


def _shares(keys: Tensor, state: Tensor, scores: Tensor) -> Tensor:
    """Sum of scores [N] times keys [N,D], each scaled so that the whole state [D] is asked for all of it."""
    whole = keys @ state
    small = whole.abs() < SMALL * keys.norm(dim=-1) * state.norm()
    whole = whole.masked_fill(small, torch.inf)
    return ((scores / whole)[:, None] * keys).sum(0)


def _attention(
    anatomy: Anatomy, run: Run, layer: int, asked: Tensor, direct: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """What was fetched from each position [T], and what the values there ask of the stream [T,D]."""
    mix = matrix_of(anatomy.blocks[layer].mix)
    total = torch.zeros(run.tokens, mix.shape[0], device=asked.device)
    for at in range(run.tokens):
        if at < run.tokens - 1 and not bool(asked[at].any()):
            continue
        out = written(anatomy, run, layer, "attention", mix, at)
        scores = channel_parts(anatomy, run, layer, at) * (out @ asked[at])
        total += best(scores + (direct if at == run.tokens - 1 else 0), count)
    weight, gain = anatomy.value_map(layer)[0], gain_of(anatomy, run, layer)
    keys = unflatten((weight * gain[:, None]).T, 0, (anatomy.groups, anatomy.head_size))
    each = keys.repeat_interleave(anatomy.heads // anatomy.groups, 0).flatten(0, 1)
    found = torch.zeros_like(asked)
    for at in total.sum(1).nonzero().flatten().tolist():
        units = total[at].nonzero().flatten()
        found[at] = _shares(each[units], run.stream[layer, at], total[at, units])
    return total.sum(1), found
