"""The teacher's cached decoder against a plain forward pass, and sampling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor

from pilothouse.specialists.starter.teacher import Teacher

LAYERS, WIDTH, HEADS, INNER, EXTRA, WORDS, BASE, EPS = 2, 16, 2, 24, 4, 60, 100.0, 1e-6
FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with random weights; token i reads ``i``, those above 49 end a sentence."""
    path = tmp_path_factory.mktemp("teacher")
    config = {
        "num_attention_heads": HEADS,
        "hidden_size": WIDTH,
        "rope_base": BASE,
        "num_hidden_layers": LAYERS,
        "rms_norm_eps": EPS,
        "ple_dim": EXTRA,
        "eos_token_id": 0,
    }
    (path / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(3)
    save_file({n: 0.5 * torch.randn(s, generator=generator) for n, s in shapes()}, path / FILES[1])
    words = {f"{i}." if i > 49 else str(i): i for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="0"))
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def shapes() -> list[tuple[str, tuple[int, ...]]]:
    model = {
        "embed_tokens": (WORDS, WIDTH),
        "ple_in": (LAYERS * EXTRA, WIDTH),
        "ple_in_norm": (EXTRA,),
        "ple_table": (WORDS, LAYERS * EXTRA),
        "norm": (WIDTH,),
    }
    layer = {
        "input_layernorm": (WIDTH,),
        "self_attn.qkv_proj": (3 * WIDTH, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "post_attention_layernorm": (WIDTH,),
        "mlp.gate_proj": (INNER, WIDTH),
        "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
        "ple_gate": (EXTRA, WIDTH),
        "ple_proj": (WIDTH, EXTRA),
        "ple_norm": (WIDTH,),
    }
    layers = {f"layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    return [(f"model.{name}.weight", shape) for name, shape in {**model, **layers}.items()]


class Plain:
    """The decoder with per-layer embeddings, all tokens at once, in float64, without a cache."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = {name.removesuffix(".weight"): tensor.double() for name, tensor in weights.items()}

    def __call__(self, ids: list[int]) -> Tensor:
        w, steps = self.weights, len(ids)
        x = w["model.embed_tokens"][ids]
        read = self.linear(x, "ple_in").reshape(steps, LAYERS, EXTRA) / WIDTH**0.5
        read = self.norm(read, "ple_in_norm")
        table = w["model.ple_table"][ids].reshape(steps, LAYERS, EXTRA) * EXTRA**0.5
        extra = (read + table) / 2**0.5
        for i in range(LAYERS):
            at = f"layers.{i}."
            x = x + self.attend(self.norm(x, at + "input_layernorm"), at + "self_attn.")
            h = self.norm(x, at + "post_attention_layernorm")
            gate, up = self.linear(h, at + "mlp.gate_proj"), self.linear(h, at + "mlp.up_proj")
            x = x + self.linear(gate * gate.sigmoid() * up, at + "mlp.down_proj")
            g = self.linear(x, at + "ple_gate")
            gelu = g * (1 + torch.erf(g / 2**0.5)) / 2
            x = x + self.norm(self.linear(gelu * extra[:, i], at + "ple_proj"), at + "ple_norm")
        return self.norm(x, "norm") @ w["model.embed_tokens"].T

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"model.{name}"].T

    def norm(self, x: Tensor, name: str) -> Tensor:
        return self.weights[f"model.{name}"] * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()

    def attend(self, h: Tensor, at: str) -> Tensor:
        steps, half = len(h), WIDTH // HEADS // 2
        q, k, v = self.linear(h, at + "qkv_proj").reshape(steps, 3, HEADS, 2 * half).permute(1, 2, 0, 3)
        turn = torch.outer(torch.arange(steps).double(), BASE ** (-torch.arange(half).double() / half))
        unit = torch.polar(torch.ones_like(turn), turn)
        q, k = (torch.complex(z[..., :half], z[..., half:]) * unit for z in (q, k))
        score = (q @ k.conj().transpose(1, 2)).real / (2 * half) ** 0.5
        score = score.masked_fill(torch.ones(steps, steps).triu(1).bool(), -torch.inf)
        return self.linear((score.softmax(-1) @ v).transpose(0, 1).reshape(steps, WIDTH), at + "o_proj")


def test_a_cached_step_equals_the_plain_forward_pass(folder: Path) -> None:
    teacher = Teacher(folder)
    plain = Plain(teacher.weights)
    rows = [[0, 7, 59, 7, 31, 2, 18], [0, 50, 3, 3, 44, 21, 9]]
    cache = teacher.cache(2, len(rows[0]))
    found = [teacher.step(torch.tensor([row[t] for row in rows]), t, cache) for t in range(len(rows[0]))]
    for i, row in enumerate(rows):
        assert torch.allclose(torch.stack(found)[:, i].double(), plain(row), atol=1e-4)
    # the last logits depend on the order of the earlier tokens, so a cache that forgets them would show
    swapped = [0, 59, 7, 7, 31, 2, 18]
    assert not torch.allclose(plain(swapped)[-1], plain(rows[0])[-1], atol=1e-2)


def test_sampling_is_a_function_of_the_seed(folder: Path) -> None:
    teacher = Teacher(folder)
    assert teacher.sample(4, 20, seed=5) == teacher.sample(4, 20, seed=5)
    assert teacher.sample(4, 20, seed=5) != teacher.sample(4, 20, seed=6)


class Countdown(Teacher):
    """Draws the first token at random, then counts down to the end token, which is 0."""

    def step(self, tokens: Tensor, position: int, cache: Tensor) -> Tensor:
        logits = torch.full((len(tokens), WORDS), -1e4)
        if position == 0:
            logits[:, 1:] = 0.0
        else:
            logits[torch.arange(len(tokens)), (tokens - 1).clamp(min=0)] = 0.0
        return logits


def test_a_row_stops_at_its_end_token_and_the_others_go_on(folder: Path) -> None:
    texts = Countdown(folder).sample(40, 70, seed=1)
    firsts = [int(text.split()[0].rstrip(".")) for text in texts]
    assert min(firsts) < 31 < 35 < max(firsts)  # some rows left the batch, others crossed the compaction
    for first, text in zip(firsts, texts, strict=True):
        assert [int(word.rstrip(".")) for word in text.split()] == list(range(first, 0, -1))


def test_a_row_never_exceeds_the_length(folder: Path) -> None:
    counts = [len(text.split()) for text in Countdown(folder).sample(40, 10, seed=1)]
    assert max(counts) == 10
    assert min(counts) < 10


class Watched(Teacher):
    """Compares every step of every row with the plain forward pass over that row's own tokens."""

    worst, left = 0.0, 0

    def step(self, tokens: Tensor, position: int, cache: Tensor) -> Tensor:
        if position == 0:
            self.read: list[list[int]] = [[] for _ in tokens]
        if len(tokens) < len(self.read):
            self.read = [row for row in self.read if 0 not in row[1:]]  # none ends just here with this seed
            self.left += 1
        for row, token in zip(self.read, tokens.tolist(), strict=True):
            row.append(token)
        logits = super().step(tokens, position, cache)
        if position in (31, 32, 36):
            plain = Plain(self.weights)
            wanted = torch.stack([plain(row)[-1] for row in self.read])
            self.worst = max(self.worst, float((wanted - logits).abs().max()))
        return logits


def test_compaction_leaves_the_other_rows_alone(folder: Path) -> None:
    """Rows that finished take their caches with them, and nobody else's."""
    watched = Watched(folder)
    watched.sample(12, 37, seed=2)
    assert watched.left == 1
    assert watched.worst < 1e-3


class Short(Teacher):
    """Hands out texts that were written beforehand."""

    def sample(self, rows: int, length: int, seed: int, temperature: float = 0.85) -> list[str]:
        return [f" {seed} tale ends. ", "It breaks", 'He said "yes!"'][:rows]


def test_stories_come_in_batches_of_their_own_seed_and_are_finished(folder: Path) -> None:
    found = list(Short(folder).stories(5, seed=2, rows=3))
    assert found == [["200006 tale ends.", 'He said "yes!"'], ["200007 tale ends.", 'He said "yes!"']]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    for file in FILES:
        if file != name:
            (tmp_path / file).write_bytes((folder / file).read_bytes())
    with pytest.raises(FileNotFoundError, match=name):
        Teacher(tmp_path)
