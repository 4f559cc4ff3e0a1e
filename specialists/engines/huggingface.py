"""Attention by rows inside a Hugging Face decoder: its layers call one function, which knows the pass under
way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface

from ...router.taps import LAYER_PATHS
from .base import NotOffered
from .rows import RowCache, RowsPass, Segment, run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "pilothouse_rows"
_here = threading.local()
_known: WeakKeyDictionary[PreTrainedModel, dict[int, Any]] = WeakKeyDictionary()


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a layer calls: query [1, heads, N, d], key and value [1, key-value heads, N, d] -> [1, N, heads,
    d].
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    rows: RowsPass = _here.rows
    return rows.attend(module.layer_idx, q, k, v, scaling, sliding_window, softcap)[None], None


AttentionInterface.register(NAME, _attend)


@contextmanager
def attending(model: PreTrainedModel, rows: RowsPass) -> Iterator[None]:
    """Let the attention layers of `model` attend by `rows` inside; its settings are put back afterwards."""
    configs = _configs(model)
    before = {at: config._attn_implementation for at, config in configs.items()}
    _here.rows = rows
    try:
        for config in configs.values():
            config._attn_implementation = NAME
        yield
    finally:
        for at, config in configs.items():
            config._attn_implementation = before[at]
        del _here.rows


def _configs(model: PreTrainedModel) -> dict[int, Any]:
    """Every settings object that an attention layer of the model may ask, by its id."""
    if model not in _known:
        found = (getattr(module, "config", None) for module in model.modules())
        _known[model] = {id(config): config for config in found if hasattr(config, "_attn_implementation")}
    return _known[model]


@torch.inference_mode()
def check(model: PreTrainedModel) -> None:
    """Compare attention by rows with the model's own, for kinds that it was not tried on.

    Raises:
        NotOffered: they differ: the model attends in a way of its own.
    """
    if str(model.config.model_type) in LAYER_PATHS:
        return
    ids = [1 + at % 7 for at in range(12)]
    plain = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    layers = int(model.config.get_text_config().num_hidden_layers)
    segments = [Segment(RowCache(layers, len(part)), part) for part in (ids, ids[:5])]
    try:
        found = run(model, RowsPass(segments, model.device))
        same = torch.allclose(found, torch.cat((plain, plain[:5])), rtol=1e-2, atol=1e-2)
    except (RuntimeError, KeyError, TypeError, AttributeError, IndexError):
        same = False
    if not same:
        raise NotOffered(
            f"a {model.config.model_type} model attends in its own way, which the torch engine cannot batch: "
            f"use one of {', '.join(sorted(LAYER_PATHS))}"
        )
