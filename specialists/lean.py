"""A small decoder in torch alone: RMSNorm, rotary positions and gated MLPs, as in Llama, Qwen 2/3, Mistral.

Importing transformers' modeling code takes longer than answering a short prompt. This twin reads the same
folders, names its modules as Hugging Face does (so adapters, taps, steering and any other hook find what they
look for), and computes the same numbers in less time. What it does not know it refuses (`NotLean`); then
`models.load_model_folder` loads the Hugging Face model, which stays the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .leanconfig import LeanConfig, NotLean
from .weights import read_json, read_model_tensors

# -- cache -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class LeanLayerCache:
    """Keys and values [B, T, key-value heads, head_dim] of one layer; None before the first token."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append into new tensors, so that a copy of this object keeps what it had; return all."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat((self.keys, keys), 1), torch.cat((self.values, values), 1)
        self.keys, self.values = keys, values
        return keys, values


class LeanCache:
    """The key-value cache of one batch; a `copy.copy` of it and of its layers grows apart from it."""

    def __init__(self, layers: int) -> None:
        self.layers = [LeanLayerCache() for _ in range(layers)]

    def get_seq_length(self) -> int:
        """Return how many tokens are held."""
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[1]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows of the batch, in this order."""
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = layer.keys[indices], layer.values[indices]


class Rows(Protocol):
    """Rows of different lengths, end to end as one row of N tokens; each attends to what is its own."""

    positions: Tensor
    end: int

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens: q [N, heads, d], k and v [N, key-value heads, d] -> [N, heads, d]."""


# -- modules -----------------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """What all layers of one forward pass share: rotary tables [T, 1, head_dim], and how to mask, or rows."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    causal: bool
    rows: Rows | None = None


class Linear(nn.Linear):
    """A linear map whose weights come from a file: drawing them first would cost time and imports."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Embedding(nn.Embedding):
    """An embedding whose weights come from a file."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Norm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.shape, self.eps = (width,), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Causal attention with rotary positions (Su et al., 2021) and grouped key-value heads."""

    def __init__(self, config: LeanConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.heads, self.size, self.grouped = heads, size, heads != groups
        width, bias = config.hidden_size, config.qkv_bias
        self.q_proj = Linear(width, heads * size, bias=bias)
        self.k_proj = Linear(width, groups * size, bias=bias)
        self.v_proj = Linear(width, groups * size, bias=bias)
        self.o_proj = Linear(heads * size, width, bias=config.output_bias)
        self.q_norm = Norm(size, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = Norm(size, config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, shared: Pass, cache: LeanLayerCache | None) -> Tensor:
        rows, tokens, _ = x.shape
        shape = (rows, tokens, -1, self.size)
        q, k = self.q_proj(x).view(shape), self.k_proj(x).view(shape)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        both, v = rotate(torch.cat((q, k), 2), shared), self.v_proj(x).view(shape)
        q, k = both[:, :, : self.heads], both[:, :, self.heads :]
        if shared.rows is not None:
            y = shared.rows.attend(self.layer, q[0], k[0], v[0])
            return cast(Tensor, self.o_proj(y.reshape(1, tokens, -1)))
        if cache is not None:
            k, v = cache.update(k, v)
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            shared.mask,
            is_causal=shared.causal,
            enable_gqa=self.grouped,
        )
        return cast(Tensor, self.o_proj(y.transpose(1, 2).reshape(rows, tokens, -1)))


def rotate(x: Tensor, shared: Pass) -> Tensor:
    """Turn pairs (i, i + half) of x [B, T, heads, head_dim] by their position's angles."""
    return torch.addcmul(x * shared.cos, x.roll(x.shape[-1] // 2, -1), shared.sin)


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer, 2020)."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Layer(nn.Module):
    """One decoder layer; its output [B, T, D] is the residual stream that taps read and steering changes."""

    def __init__(self, config: LeanConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, shared: Pass, cache: LeanLayerCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), shared, cache)
        return x + cast(Tensor, self.mlp(self.post_attention_layernorm(x)))


class Stack(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, at) for at in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)
        self._tables = (torch.empty(0), torch.empty(0))

    def forward(self, input_ids: Tensor, cache: LeanCache | None, rows: Rows | None = None) -> Tensor:
        x = self.embed_tokens(input_ids)
        if rows is not None:
            cos, sin = self._rotary(x, rows.end)
            shared = Pass(cos[rows.positions], sin[rows.positions], None, False, rows)
        else:
            shared = self._pass(x, 0 if cache is None else cache.get_seq_length())
        for index, layer in enumerate(self.layers):
            x = layer(x, shared, None if cache is None else cache.layers[index])
        return cast(Tensor, self.norm(x))

    def _pass(self, x: Tensor, past: int) -> Pass:
        tokens = x.shape[1]
        end = past + tokens
        cos, sin = self._rotary(x, end)
        mask = None
        if past and tokens > 1:
            mask = torch.ones(tokens, end, dtype=torch.bool, device=x.device).tril(past)
        return Pass(cos[past:end], sin[past:end], mask, not past and tokens > 1)

    def _rotary(self, x: Tensor, end: int) -> tuple[Tensor, Tensor]:
        cos, sin = self._tables
        if len(cos) < end or cos.device != x.device or cos.dtype != x.dtype:
            cos, sin = self._tables = rotary_tables(self.config, end, x.dtype, x.device)
        return cos, sin


@torch.inference_mode(False)
def rotary_tables(
    config: LeanConfig, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cos and signed sin [N, 1, head_dim] for N >= `tokens` positions; N grows by powers of two."""
    count, size = max(256, 1 << (tokens - 1).bit_length()), config.head_dim
    steps = torch.arange(0, size, 2, dtype=torch.float, device=device) / size
    angles = torch.arange(count, dtype=torch.float, device=device)[:, None] * (1.0 / config.rope_theta**steps)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), 1)[:, None].to(dtype), torch.cat((-sin, sin), 1)[:, None].to(dtype)


class LeanOutput(NamedTuple):
    """What a forward pass gives: `logits` [B, kept, V], and the cache that was grown."""

    logits: Tensor
    past_key_values: LeanCache | None


class LeanDecoder(nn.Module):
    """A causal language model with the parts of Hugging Face's interface that inference uses."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Stack(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the head read with the embedding's weights, if the config says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def arrange(self) -> None:
        """Lay out wide maps input by input, for one row's product is then two to four times as fast on a CPU.

        Shapes and values stay; only strides change.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.out_features >= 2 * module.in_features:
                module.weight.data = module.weight.data.t().contiguous().t()

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: LeanCache | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> LeanOutput:
        """Read `input_ids` [B, T], rows of equal length, after the cache; `logits_to_keep` 0 keeps all."""
        cache = past_key_values
        if cache is None and use_cache:
            cache = self.empty_cache()
        hidden = self.model(input_ids, cache)
        return LeanOutput(self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden), cache)

    def empty_cache(self) -> LeanCache:
        """Return a cache that holds nothing yet."""
        return LeanCache(self.config.num_hidden_layers)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.lm_head

    def num_parameters(self) -> int:
        """Count the parameters, a tied head once."""
        return sum(p.numel() for p in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device


# -- loading -----------------------------------------------------------------------------------------------


def load_lean(
    folder: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> LeanDecoder:
    """Return the decoder in a Hugging Face folder, in evaluation mode; `dtype` None keeps the folder's.

    Quantized folders (`quantization.json`) are dequantized.

    Raises:
        NotLean: it is no plain decoder, or its tensors are not those of one.
        WeightsError: its files are missing, pickled, truncated or damaged.
    """
    config = LeanConfig.read(read_json(folder / "config.json"))
    model = LeanDecoder(config)
    tensors = read_model_tensors(folder)
    if config.tie_word_embeddings:
        _tie(tensors, folder)
    wanted = model.state_dict()
    for name, blank in wanted.items():
        if name not in tensors or tensors[name].shape != blank.shape:
            shape = list(tensors[name].shape) if name in tensors else "missing"
            raise NotLean(f"{folder} has {shape} for {name}, not {list(blank.shape)}: restore it")
    stored = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    chosen = {name: tensors[name].to(device=device, dtype=dtype or stored) for name in wanted}
    model.load_state_dict(chosen, assign=True)
    model.tie_weights()
    model.arrange()
    return model.eval()


def _tie(tensors: dict[str, Tensor], folder: Path) -> None:
    """Let a tied head be its embedding; a stored head that differs would be another model."""
    embedding, head = tensors.get("model.embed_tokens.weight"), tensors.get("lm_head.weight")
    if embedding is None:
        return
    if head is not None and not torch.equal(head, embedding):
        raise NotLean(f"{folder} ties its head to its embedding, yet stores another one: use lean=False")
    tensors["lm_head.weight"] = embedding
