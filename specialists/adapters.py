"""Low-rank adapters over one trunk, switched without copying it: activated LoRA (Greenewald et al., 2025).

A trunk's linear maps are wrapped once. Outside ``active`` each computes exactly what it did before; inside,
positions from the invocation token on get ``scale * B (A x)`` added. Positions before it see the bare trunk,
so their key-value cache is shared by all adapters and by the trunk itself. Same numbers as ``peft`` with
``alora_invocation_tokens``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from .weights import AdapterFileError, read_json, read_tensors

PREFIX = "base_model.model."
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class LowRank:
    """The product of one linear map: ``a`` [R, inputs], ``b`` [outputs, R], times ``scale``."""

    a: Tensor
    b: Tensor
    scale: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``scale * b (a x)`` for ``x`` [..., inputs]."""
        hidden = F.linear(x, self.a)
        return F.linear(hidden if self.scale == 1.0 else hidden * self.scale, self.b)


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter: one product per linear map of the trunk, and the tokens that wake it."""

    name: str
    products: Mapping[str, LowRank]
    rank: int
    invocation: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Mixture:
    """Which adapter acts on which of a pass's N tokens: products of all `names` lie side by side, and `mask`
    [n, sum of ranks] leaves each token its own. `at` [n] are the tokens' places; None means all, in order.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    mask: Tensor
    at: Tensor | None


@dataclass(frozen=True)
class _Active:
    """Which adapter acts in the forward passes under way; ``groups`` is set where rows differ, ``mixture``
    where tokens do.
    """

    name: str | None
    start: int = 0
    groups: tuple[tuple[str, Tensor, Tensor], ...] = ()
    mixture: Mixture | None = None


@dataclass
class _Site:
    """One wrapped linear map. ``weight`` is a low-precision copy for training, else None (the module's own
    forward).
    """

    module: nn.Module
    bank: AdapterBank
    products: dict[str, LowRank] = field(default_factory=dict)
    weight: Tensor | None = None
    stack: tuple[tuple[str, ...], Tensor, Tensor] | None = None

    def plain(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return type(self.module).forward(self.module, x)  # type: ignore[no-any-return]
        bias = cast(Tensor | None, self.module.bias)
        return F.linear(x, self.weight, None if bias is None else bias.to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        y, now = self.plain(x), self.bank.now
        if now is None:
            return y
        if now.name is None:
            return self._mixed(x, y, now.mixture) if now.mixture else self._rows(x, y, now)
        product = self.products.get(now.name)
        if product is None:
            return y
        if now.start == 0:
            return y + product(x)
        return torch.cat((y[:, : now.start], y[:, now.start :] + product(x[:, now.start :])), 1)

    def _rows(self, x: Tensor, y: Tensor, now: _Active) -> Tensor:
        for name, rows, mask in now.groups:
            if name in self.products:
                y = y.index_add(0, rows, self.products[name](x[rows]) * mask[..., None].to(y.dtype))
        return y

    def _mixed(self, x: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
        if not self.products:
            return y
        a, b = self._stacked(mixture)
        flat, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        if mixture.at is None:
            return torch.addmm(out, F.linear(flat, a) * mixture.mask, b).view(y.shape)
        delta = (F.linear(flat[mixture.at], a) * mixture.mask) @ b
        return out.index_add(0, mixture.at, delta).view(y.shape)

    def _stacked(self, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """All products side by side: [sum of ranks, inputs], and [sum of ranks, outputs] with the scales."""
        if self.stack is None or self.stack[0] != mixture.names:
            like = next(iter(self.products.values()))
            a = like.a.new_zeros(sum(mixture.ranks), like.a.shape[1])
            b = like.b.new_zeros(sum(mixture.ranks), like.b.shape[0])
            end = 0
            for name, rank in zip(mixture.names, mixture.ranks, strict=True):
                start, end = end, end + rank
                if name in self.products:
                    product = self.products[name]
                    a[start:end], b[start:end] = product.a, product.b.T * product.scale
            self.stack = mixture.names, a, b
        return self.stack[1:]


class AdapterBank:
    """The adapters of one trunk. The trunk's parameters, state dict and idle outputs stay what they were.

    Not thread-safe: ``active`` changes what every forward pass of this trunk computes until it is left.
    """

    def __init__(self, model: nn.Module, low: torch.dtype | None = None) -> None:
        """Wrap the linear maps of ``model``; ``low`` keeps a copy of their weights in that dtype
        (frozen-trunk training).
        """
        self.model: Any = model
        self.adapters: dict[str, Adapter] = {}
        self.now: _Active | None = None
        self._mixed: tuple[str, ...] = ()
        self.sites = {name: _Site(module, self) for name, module in linear_maps(model).items()}
        for site in self.sites.values():
            if low is not None:
                weight = cast(Tensor, site.module.weight).detach()
                site.weight = (weight.T if is_conv1d(site.module) else weight).to(low).contiguous()
            site.module.forward = site.forward

    def close(self) -> None:
        """Unwrap the trunk."""
        for site in self.sites.values():
            site.module.__dict__.pop("forward", None)
        self.sites = {}

    def add(self, adapter: Adapter) -> None:
        """Take ``adapter``, replacing one of the same name.

        Raises:
            AdapterFileError: it names a linear map that the trunk lacks, or a shape that does not fit.
        """
        for target, product in adapter.products.items():
            if target not in self.sites:
                raise AdapterFileError(
                    f"adapter {adapter.name!r} adapts {target!r}, which is not in this trunk"
                )
            outputs, inputs = shape_of(self.sites[target].module)
            if product.a.shape[1] != inputs or product.b.shape[0] != outputs:
                shapes = f"{tuple(product.a.shape)} and {tuple(product.b.shape)}"
                raise AdapterFileError(
                    f"adapter {adapter.name!r} has {shapes} at {target!r}, which maps {inputs} to {outputs}"
                )
        self.remove(adapter.name)
        self.adapters[adapter.name] = adapter
        for target, product in adapter.products.items():
            self.sites[target].products[adapter.name] = product

    def remove(self, name: str) -> None:
        """Forget the adapter ``name`` if it is here."""
        if self.adapters.pop(name, None) is not None:
            self._mixed = tuple(other for other in self._mixed if other != name)
            for site in self.sites.values():
                site.products.pop(name, None)
                site.stack = None

    def load(self, name: str, folder: Path) -> Adapter:
        """Read a PEFT adapter folder and take it under ``name``.

        Raises:
            AdapterFileError: the folder holds no LoRA adapter, or not one for this trunk.
        """
        parameter = next(self.model.parameters())
        adapter = read_adapter(name, folder, parameter.dtype, parameter.device)
        self.add(adapter)
        return adapter

    @contextmanager
    def active(self, name: str, from_position: int = 0) -> Iterator[Adapter]:
        """Let ``name`` act in every forward pass inside, on positions ``from_position`` and later of each
        pass.

        With a key-value cache, a pass that starts at the invocation token has ``from_position`` 0.

        Raises:
            KeyError: no adapter of that name was loaded.

        """
        adapter, before = self.adapters[name], self.now
        self.now = _Active(name, from_position)
        try:
            yield adapter
        finally:
            self.now = before

    @contextmanager
    def active_rows(self, names: Sequence[str | None], mask: Tensor) -> Iterator[None]:
        """Let row ``i`` of each batch inside run ``names[i]`` where ``mask`` [B, T] is true; None leaves a
        row bare.

        Raises:
            KeyError: no adapter of one of the names was loaded.

        """
        before, groups = self.now, []
        for name in dict.fromkeys(n for n in names if n is not None):
            if name not in self.adapters:
                raise KeyError(name)
            rows = torch.tensor([i for i, n in enumerate(names) if n == name], device=mask.device)
            groups.append((name, rows, mask[rows]))
        self.now = _Active(None, groups=tuple(groups))
        try:
            yield
        finally:
            self.now = before

    def mixture(self, groups: Sequence[tuple[str, Sequence[int]]], total: int) -> Mixture:
        """Return how each named adapter acts on its places among the `total` tokens of a pass.

        Raises:
            KeyError: no adapter of one of the names was loaded.

        """
        used = {name for name, _ in groups}
        if not used <= set(self._mixed):
            self._mixed = tuple(sorted({*self._mixed, *used} & set(self.adapters) | used))
        ranks = tuple(self.adapters[name].rank for name in self._mixed)
        places = sorted((place, name) for name, at in groups for place in at)
        parameter = next(self.model.parameters())
        mask = torch.zeros(len(places), sum(ranks), dtype=parameter.dtype)
        starts = dict(zip(self._mixed, accumulate(ranks, initial=0), strict=False))
        for row, (_, name) in enumerate(places):
            mask[row, starts[name] : starts[name] + self.adapters[name].rank] = 1
        at = torch.tensor([place for place, _ in places], device=parameter.device)
        every = len(places) == total
        return Mixture(self._mixed, ranks, mask.to(parameter.device), None if every else at)

    @contextmanager
    def active_tokens(self, mixture: Mixture) -> Iterator[None]:
        """Let several adapters act inside, each on its tokens, in passes of as many tokens as it was made
        for.
        """
        before = self.now
        self.now = _Active(None, mixture=mixture)
        try:
            yield
        finally:
            self.now = before


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is GPT-2's linear map, transformers' Conv1D, told by name: importing it is slow."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def linear_maps(model: nn.Module) -> dict[str, nn.Module]:
    """Name every linear map inside the decoder's layers (the output head is left alone)."""
    head = cast(Any, model).get_output_embeddings()
    maps = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) or is_conv1d(m)}
    return {name: module for name, module in maps.items() if module is not head}


def shape_of(module: nn.Module) -> tuple[int, int]:
    """Return (outputs, inputs) of a linear map; Conv1D, GPT-2's, keeps its weight transposed."""
    first, second = cast(Tensor, module.weight).shape
    return (second, first) if is_conv1d(module) else (first, second)


def read_adapter(name: str, folder: Path, dtype: torch.dtype, device: torch.device) -> Adapter:
    """Read a PEFT LoRA folder; the scale is folded into ``b``.

    Raises:
        AdapterFileError: files are missing or damaged, or the adapter is of a kind that is not supported
            here.

    """
    config = read_json(folder / CONFIG)
    _check_config(config, folder)
    tensors = read_tensors(folder, WEIGHTS)
    rank, scale = int(config["r"]), float(config["lora_alpha"]) / int(config["r"])
    products = {}
    for key in sorted(k for k in tensors if k.endswith(".lora_A.weight")):
        target = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        b = tensors.get(key.replace(".lora_A.", ".lora_B."))
        if b is None:
            raise AdapterFileError(
                f"{folder / WEIGHTS} holds {key!r} without its lora_B: save the adapter again"
            )
        a = tensors[key].to(device=device, dtype=dtype)
        products[target] = LowRank(a, (b.to(device=device, dtype=torch.float32) * scale).to(dtype))
    if not products:
        raise AdapterFileError(f"{folder / WEIGHTS} holds no lora_A tensors: is it a PEFT LoRA adapter?")
    return Adapter(name, products, rank, tuple(config.get("alora_invocation_tokens") or ()))


def _check_config(config: Mapping[str, Any], folder: Path) -> None:
    if config.get("peft_type") != "LORA" or "r" not in config or "lora_alpha" not in config:
        raise AdapterFileError(
            f"{folder / CONFIG} is of type {config.get('peft_type')!r}: only LORA adapters are run"
        )
    for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(key):
            raise AdapterFileError(f"{folder / CONFIG} sets {key}, which is not supported: use plain LoRA")


def save_adapter(adapter: Adapter, alpha: float, base: str, folder: Path, transposed: bool = False) -> None:
    """Write a PEFT folder (fp16) that ``peft.PeftModel.from_pretrained`` loads; ``transposed`` marks Conv1D
    trunks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for target, product in adapter.products.items():
        for letter, tensor in (("A", product.a), ("B", product.b)):
            half = tensor.detach().to("cpu", torch.float16).clone().contiguous()
            tensors[f"{PREFIX}{target}.lora_{letter}.weight"] = half
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
        "target_modules": sorted({t.rsplit(".", 1)[-1] for t in adapter.products}),
        "alora_invocation_tokens": list(adapter.invocation) or None,
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
