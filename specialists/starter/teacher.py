"""Stories sampled from the teacher checkpoint ``tinystories-ple-c3M``: the plain English that the trunk is
distilled from.

The checkpoint's architecture (per-layer embeddings) is not part of transformers. Its forward pass is
written here against
the safetensors file, with a key-value cache, so that sampling needs no remote code and runs about a hundred
times faster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor


class Teacher:
    """The per-layer-embedding decoder, ready to sample many stories at once.

    Args:
        folder: holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        FileNotFoundError: a file of the checkpoint is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        heads, width = self.config["num_attention_heads"], self.config["hidden_size"]
        self.heads, self.head_width = heads, width // heads
        half = torch.arange(0, self.head_width, 2, dtype=torch.float32) / self.head_width
        self.inverse_frequency = self.config["rope_base"] ** -half

    def cache(self, rows: int, length: int) -> Tensor:
        """Allocate keys and values, shape ``[layers, 2, rows, heads, length, head_width]``."""
        layers = self.config["num_hidden_layers"]
        return torch.zeros(layers, 2, rows, self.heads, length, self.head_width)

    def step(self, tokens: Tensor, position: int, cache: Tensor) -> Tensor:
        """Read one token a row (shape ``[rows]``) at ``position`` and return next-token logits ``[rows,
        vocab]``.
        """
        w, c = self.weights, self.config
        x = w["model.embed_tokens.weight"][tokens]
        extra = self._per_layer(x, tokens)
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = self._norm(x, w[p + "input_layernorm.weight"])
            x = x + self._attend(h, p, position, cache[i])
            h = self._norm(x, w[p + "post_attention_layernorm.weight"])
            gate, up = h @ w[p + "mlp.gate_proj.weight"].T, h @ w[p + "mlp.up_proj.weight"].T
            x = x + (F.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
            branch = (F.gelu(x @ w[p + "ple_gate.weight"].T) * extra[:, i]) @ w[p + "ple_proj.weight"].T
            x = x + self._norm(branch, w[p + "ple_norm.weight"])
        return self._norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return gain * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])

    def _per_layer(self, x: Tensor, tokens: Tensor) -> Tensor:
        w, c = self.weights, self.config
        n, p = c["num_hidden_layers"], c["ple_dim"]
        read = (x @ w["model.ple_in.weight"].T * c["hidden_size"] ** -0.5).view(-1, n, p)
        looked_up = w["model.ple_table.weight"][tokens].view(-1, n, p) * p**0.5
        both: Tensor = self._norm(read, w["model.ple_in_norm.weight"]) + looked_up
        return both * 2**-0.5

    def _attend(self, h: Tensor, prefix: str, position: int, cache: Tensor) -> Tensor:
        w, rows = self.weights, h.shape[0]
        qkv = (h @ w[prefix + "self_attn.qkv_proj.weight"].T).view(rows, 3, self.heads, 1, self.head_width)
        angle = position * self.inverse_frequency
        cos, sin = angle.cos(), angle.sin()

        def rotate(z: Tensor) -> Tensor:
            a, b = z.chunk(2, -1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

        cache[0, :, :, position], cache[1, :, :, position] = rotate(qkv[:, 1])[:, :, 0], qkv[:, 2, :, 0]
        keys, values = cache[0, :, :, : position + 1], cache[1, :, :, : position + 1]
        out = F.scaled_dot_product_attention(rotate(qkv[:, 0]), keys, values)
        return out.reshape(rows, -1) @ w[prefix + "self_attn.o_proj.weight"].T

    @torch.inference_mode()
    def sample(self, rows: int, length: int, seed: int, temperature: float = 0.85) -> list[str]:
        """Sample ``rows`` stories of at most ``length`` tokens; a row ends at the end-of-text token.

        Returns the texts, unfinished ones included; the same seed gives the same texts on one machine.
        """
        generator = torch.Generator().manual_seed(seed)
        end = int(self.config["eos_token_id"])
        tokens = torch.full((rows, length + 1), end, dtype=torch.long)
        cache, alive = self.cache(rows, length), torch.arange(rows)
        ended = torch.zeros(rows, dtype=torch.bool)
        for t in range(length):
            logits = self.step(tokens[alive, t], t, cache) / temperature
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            tokens[alive, t + 1] = drawn
            ended[alive] |= drawn == end
            if ended.all():
                break
            if (
                t % 32 == 31
            ):  # finished rows leave the batch now and then: gathering the cache costs as much as a step
                going = ~ended[alive]
                alive, cache = alive[going], cache[:, :, going].contiguous()
        return [self.tokenizer.decode(self._until_end(row[1:])) for row in tokens.tolist()]

    def _until_end(self, row: list[int]) -> list[int]:
        end = int(self.config["eos_token_id"])
        return row[: row.index(end)] if end in row else row

    def stories(self, count: int, seed: int, rows: int = 256, length: int = 320) -> Iterator[list[str]]:
        """Yield batches of finished stories until ``count`` were drawn."""
        for batch in range(-(-count // rows)):
            texts = self.sample(rows, length, seed * 100_003 + batch)
            yield [text.strip() for text in texts if text.strip().endswith((".", "!", '"', "?"))]
