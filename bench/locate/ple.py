"""The decoder with per-layer embeddings of `tinystories-ple-c3M`, as a Hugging Face model: its forward pass,
written here so that no code from the folder runs. A layer adds three things to the stream: attention, an MLP,
and a branch that a table looks up for each token and layer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, silu
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ...router.taps import LAYER_PATHS
from ...store.errors import ArtifactError


class PleConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes, under the names of the folder's `config.json`."""

    model_type = "ple_tinylm"
    ple_dim: int = 64
    rope_base: float = 10000.0
    rms_norm_eps: float = 1e-6


Past = list[
    tuple[Tensor, Tensor]
]  # for each layer, turned keys and values [B,H,T,D/H] of what was read before
LAYER_PATHS.setdefault(PleConfig.model_type, ("model.layers",))  # tell taps where this kind keeps its layers


class _Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


class _Attention(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.heads, self.base = c.num_attention_heads, c.rope_base
        self.qkv_proj = nn.Linear(c.hidden_size, 3 * c.hidden_size, bias=False)
        self.o_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)

    def forward(
        self, x: Tensor, attention_mask: Tensor, past: Past | None = None, layer: int = 0
    ) -> tuple[Tensor, Tensor]:
        """x [B,T,D], additive mask [.,.,T,P+T] -> what attention adds [B,T,D], and its weights [B,H,T,P+T]; P
        tokens are in `past`, which grows by T.
        """
        rows, tokens, width = x.shape
        size = width // self.heads
        parts = self.qkv_proj(x).view(rows, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        start = attention_mask.shape[-1] - tokens
        query, key, value = self._turned(parts[0], start), self._turned(parts[1], start), parts[2]
        if past is not None:
            if start:
                key, value = (torch.cat(pair, 2) for pair in zip(past[layer], (key, value), strict=True))
            past[layer] = key, value
        weights = (query @ key.transpose(-1, -2) * size**-0.5 + attention_mask).softmax(-1)
        return self.o_proj((weights @ value).transpose(1, 2).reshape(rows, tokens, width)), weights

    def _turned(self, z: Tensor, start: int) -> Tensor:
        size = z.shape[-1]
        speed = self.base ** (-torch.arange(0, size, 2, device=z.device, dtype=torch.float32) / size)
        angle = torch.arange(start, start + z.shape[2], device=z.device).float()[:, None] * speed
        cos, sin = angle.cos().to(z.dtype), angle.sin().to(z.dtype)
        a, b = z.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class _Mlp(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Layer(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = _Norm(c.hidden_size, c.rms_norm_eps), _Attention(c)
        self.post_attention_layernorm, self.mlp = _Norm(c.hidden_size, c.rms_norm_eps), _Mlp(c)
        self.ple_gate = nn.Linear(c.hidden_size, c.ple_dim, bias=False)
        self.ple_proj = nn.Linear(c.ple_dim, c.hidden_size, bias=False)
        self.ple_norm = _Norm(c.hidden_size, c.rms_norm_eps)

    def forward(
        self, x: Tensor, attention_mask: Tensor, branch: Tensor, past: Past | None = None, layer: int = 0
    ) -> Tensor:
        read = self.input_layernorm(x)
        x = x + self.self_attn(read, attention_mask=attention_mask, past=past, layer=layer)[0]
        x = x + self.mlp(self.post_attention_layernorm(x))
        out: Tensor = x + self.ple_norm(self.ple_proj(gelu(self.ple_gate(x)) * branch))
        return out


class _Body(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.ple_in = nn.Linear(c.hidden_size, c.num_hidden_layers * c.ple_dim, bias=False)
        self.ple_in_norm = _Norm(c.ple_dim, c.rms_norm_eps)
        self.ple_table = nn.Embedding(c.vocab_size, c.num_hidden_layers * c.ple_dim)
        self.layers = nn.ModuleList([_Layer(c) for _ in range(c.num_hidden_layers)])
        self.norm = _Norm(c.hidden_size, c.rms_norm_eps)


class PleForCausalLM(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The model, without padding."""

    config_class = PleConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        found: nn.Module = self.model.embed_tokens
        return found

    def get_output_embeddings(self) -> nn.Module:
        """The head; its weight is the embedding's."""
        found: nn.Module = self.lm_head
        return found

    def forward(
        self, input_ids: Tensor, past_key_values: Past | None = None, use_cache: bool = False, **_named: Any
    ) -> CausalLMOutputWithPast:
        """input_ids [B,T] -> logits [B,T,V]; what was read before is in `past_key_values`, which grows."""
        c, m, (rows, tokens) = self.config, self.model, input_ids.shape
        x = m.embed_tokens(input_ids)
        shape = (rows, tokens, c.num_hidden_layers, c.ple_dim)
        read = m.ple_in_norm((m.ple_in(x) * c.hidden_size**-0.5).view(shape))
        branch = (read + m.ple_table(input_ids).view(shape) * c.ple_dim**0.5) * 2**-0.5
        before = past_key_values[0][0].shape[2] if past_key_values else 0
        past = past_key_values or ([(x, x)] * c.num_hidden_layers if use_cache else None)
        later = torch.ones(tokens, before + tokens, dtype=torch.bool, device=x.device).triu(before + 1)
        mask = torch.zeros_like(later, dtype=x.dtype).masked_fill(later, -torch.inf)[None, None]
        for index, layer in enumerate(m.layers):
            x = layer(x, attention_mask=mask, branch=branch[:, :, index], past=past, layer=index)
        return CausalLMOutputWithPast(logits=self.lm_head(m.norm(x)), past_key_values=past)  # type: ignore[arg-type]


def load_ple(folder: Path) -> PleForCausalLM:
    """Return the model in a folder, frozen, float32. Raises ArtifactError when a file is missing or does not
    fit.
    """
    try:
        config = PleConfig(**json.loads((folder / "config.json").read_text()))
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} holds no model with per-layer embeddings ({error})") from error
    config._attn_implementation = "eager"
    model = PleForCausalLM(config)
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"{folder}: the weights do not fit config.json ({error})") from error
    model.requires_grad_(False)
    nn.Module.eval(model)
    return model
