"""Whether the native engine over quantized weights says what torch says over the same weights, dequantized.

The native engine answers greedily. Torch then reads prompt and answer in one pass and says at every token
which it would have drawn. Where it would have drawn another, that is a proven tie only if the two tokens'
logits lie nearer in torch's own numbers than twice the largest difference between both engines' logits
there, and all logits there agree within the bound that is asked for.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...specialists.engines.native.model import Context, NativeModel
from ...specialists.engines.native.run import Run
from ...specialists.family import Family
from ...specialists.improve.quantize import carry, quantize_folder
from ...specialists.lean import LeanDecoder, load_lean
from ...specialists.tokenizing import ChatCodec
from ...specialists.weights import SINGLE, read_model_tensors
from ...store.records import Message
from ..estimates import Estimate
from ..page import Goal, Section

BITS, GROUP, TOKENS = (8, 4), 64, 24
MOST = 2e-3  # relative error of logits
ASKED = (
    "What is {a} + {b}?",
    "Tell me a story about {a} boats and {b} birds.",
    "How do you say the number {a} in Spanish?",
    "Which is the larger, {a} or {b}?",
)


@dataclass(frozen=True)
class Compared:
    """One answer: its tokens, how many of them are proven ties or wrong, and the largest relative error of
    logits.
    """

    tokens: int
    ties: int
    wrong: int
    error: float


def compared(model: NativeModel, twin: LeanDecoder, prompt: Sequence[int], tokens: int) -> Compared:
    """Answer a prompt with the native model and hold every token against its torch twin."""
    drawn, ours = _answered(model, prompt, tokens)
    with torch.inference_mode():
        whole = twin(input_ids=torch.tensor([[*prompt, *drawn]])).logits[0]
    theirs = whole[len(prompt) - 1 : -1]
    errors = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)
    ties = wrong = 0
    for at, token in enumerate(drawn):
        there = theirs[at]
        if token == int(there.argmax()):
            continue
        near = float(there.max() - there[token]) <= 2 * float((ours[at] - there).abs().max())
        tied = near and float(errors[at]) <= MOST
        ties, wrong = ties + tied, wrong + (not tied)
    return Compared(len(drawn), ties, wrong, float(errors.max()))


def _answered(model: NativeModel, prompt: Sequence[int], tokens: int) -> tuple[list[int], Tensor]:
    sequence, drawn, logits = model.sequence(), list[int](), list[Tensor]()
    run = Run(sequence, prompt, draw=True, want_logits=True)
    for _ in range(tokens):
        model.step([run])
        assert run.logits is not None
        drawn.append(run.token)
        logits.append(run.logits)
        run = Run(sequence, (run.token,), draw=True, want_logits=True)
    return drawn, torch.stack(logits)


def prompts(codec: ChatCodec, count: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Return different prompts of several kinds."""
    draw = random.Random(seed)
    for index in range(count):
        text = ASKED[index % len(ASKED)].format(a=index, b=draw.randrange(1000))
        yield codec.encode_chat([Message(role="user", content=text)])


def written_out(source: Path, target: Path) -> Path:
    """Write the numbers that a model folder's weights stand for to `target`, which quantizing starts from."""
    target.mkdir()
    save_file(read_model_tensors(source), target / SINGLE, metadata={"format": "pt"})
    carry(source, target)
    return target


def section(context: Context, family: Family, count: int, seed: int) -> Section:
    """Compare a family's trunk at 8 and at 4 bits over `count` prompts."""
    rows, goals = [], []
    with tempfile.TemporaryDirectory() as scratch:
        whole = written_out(family.trunk_folder, Path(scratch) / "whole")
        for bits in BITS:
            folder = Path(scratch) / f"{bits}"
            quantize_folder(whole, folder, bits, GROUP)
            model, twin = NativeModel(context, folder), load_lean(folder, torch.float32)
            asked = prompts(ChatCodec.load(folder), count, seed)
            found = [compared(model, twin, prompt, TOKENS) for prompt in asked]
            worst = max(one.error for one in found)
            differ = sum(one.wrong > 0 for one in found)
            tokens, ties = sum(one.tokens for one in found), sum(one.ties for one in found)
            rows.append((f"{bits}", f"{len(found)}", f"{tokens}", f"{ties}", f"{differ}", f"{worst:.1e}"))
            goals += [
                Goal(f"{bits} bits: largest relative error of logits", "at most", MOST, "e", _exactly(worst)),
                Goal(f"{bits} bits: texts that differ, but for ties", "at most", 0, "", _exactly(differ)),
            ]
    return Section(
        "The same text",
        f"The {family.name} family's trunk, quantized; {TOKENS} greedy tokens for each prompt, held against "
        "the dequantized weights in torch (fp32), token by token. A tie is proven where torch's own logits "
        "of both tokens lie nearer than twice the largest difference between the engines there.",
        ("bits", "prompts", "tokens", "proven ties", "texts that differ otherwise", "largest relative error"),
        tuple(rows),
        tuple(goals),
    )


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 1)
