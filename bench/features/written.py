"""Write one dictionary in every layout that is read, to see it come back the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ...router.features.sae import SAE

LAYER = 3


def _json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, path)


def _outer_bias(sae: SAE) -> Tensor:
    """The encoder's bias for a layout that subtracts b_dec from its input itself."""
    return sae.b_enc + sae.b_dec @ sae.W_enc


def saelens(sae: SAE, folder: Path) -> None:
    """SAELens 6, without the check sample that our own files have."""
    sae.save(folder)
    (folder / "check.safetensors").unlink()


def gemma_scope(sae: SAE, folder: Path) -> None:
    """Gemma Scope 1."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    np.savez(
        folder / "params.npz", allow_pickle=False, **{name: getattr(sae, name).numpy() for name in names}
    )


def gemma_scope_2(sae: SAE, folder: Path) -> None:
    """Gemma Scope 2."""
    names = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    _tensors(folder / "params.safetensors", {name.lower(): getattr(sae, name) for name in names})
    point = f"model.layers.{LAYER}.output"
    config = {"architecture": "jump_relu", "hf_hook_point_in": point, "hf_hook_point_out": point}
    _json(folder / "config.json", config)


def llama_scope(sae: SAE, folder: Path) -> None:
    """Llama Scope: one threshold for all latents, states scaled to a norm of sqrt(D)."""
    norm = 3.0
    scale = math.sqrt(sae.d_in) / norm
    point = f"blocks.{LAYER}.hook_resid_post"
    _json(
        folder / "hyperparams.json",
        {
            "hook_point_in": point,
            "hook_point_out": point,
            "act_fn": "jumprelu",
            "jump_relu_threshold": float(sae.threshold[0]) / scale,
            "norm_activation": "dataset-wise",
            "dataset_average_activation_norm": {"in": norm, "out": norm},
            "apply_decoder_bias_to_pre_encoder": False,
        },
    )
    _tensors(
        folder / "checkpoints" / "final.safetensors",
        {
            "encoder.weight": sae.W_enc.T / scale,
            "encoder.bias": sae.b_enc,
            "decoder.weight": sae.W_dec.T * scale,
            "decoder.bias": sae.b_dec * scale,
        },
    )


def sparsify(sae: SAE, folder: Path) -> None:
    """sparsify: TopK, b_dec subtracted."""
    _json(folder / "cfg.json", {"activation": "topk", "k": sae.k, "d_in": sae.d_in, "num_latents": sae.d_sae})
    _tensors(
        folder / "sae.safetensors",
        {
            "encoder.weight": sae.W_enc.T,
            "encoder.bias": _outer_bias(sae),
            "W_dec": sae.W_dec,
            "b_dec": sae.b_dec,
        },
    )


def dictionary_learning(kind: str) -> Callable[[SAE, Path], None]:
    """dictionary_learning, one of its classes."""

    def write(sae: SAE, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        linear = {"encoder.weight": sae.W_enc.T, "decoder.weight": sae.W_dec.T}
        matrices = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
        outer = _outer_bias(sae)
        tensors: dict[str, dict[str, Tensor]] = {
            "AutoEncoder": linear | {"encoder.bias": outer, "bias": sae.b_dec},
            "AutoEncoderTopK": linear
            | {"encoder.bias": outer, "b_dec": sae.b_dec, "k": torch.tensor(sae.k or 0)},
            "BatchTopKSAE": linear
            | {"encoder.bias": outer, "b_dec": sae.b_dec, "threshold": sae.threshold[0]},
            "JumpReluAutoEncoder": matrices | {"b_enc": sae.b_enc, "threshold": sae.threshold},
            "MatryoshkaBatchTopKSAE": matrices | {"b_enc": outer, "threshold": sae.threshold[0]},
        }
        torch.save({name: t.contiguous() for name, t in tensors[kind].items()}, folder / "ae.pt")
        _json(folder / "config.json", {"trainer": {"dict_class": kind, "layer": LAYER}})

    return write


# layout -> (writer, which form of the dictionary it holds: jumprelu, one threshold, topk, or relu)
WRITERS: dict[str, tuple[Callable[[SAE, Path], None], str]] = {
    "saelens jumprelu": (saelens, "jumprelu"),
    "saelens topk": (saelens, "topk"),
    "gemma_scope": (gemma_scope, "jumprelu"),
    "gemma_scope_2": (gemma_scope_2, "jumprelu"),
    "llama_scope": (llama_scope, "one threshold"),
    "sparsify": (sparsify, "topk"),
    "dictionary_learning AutoEncoder": (dictionary_learning("AutoEncoder"), "relu"),
    "dictionary_learning TopK": (dictionary_learning("AutoEncoderTopK"), "topk"),
    "dictionary_learning BatchTopK": (dictionary_learning("BatchTopKSAE"), "one threshold"),
    "dictionary_learning JumpReLU": (dictionary_learning("JumpReluAutoEncoder"), "jumprelu"),
    "dictionary_learning Matryoshka": (dictionary_learning("MatryoshkaBatchTopKSAE"), "one threshold"),
}


def in_form(sae: SAE, form: str, k: int) -> SAE:
    """The same directions with the activation that a layout holds."""
    one = torch.full_like(sae.threshold, float(sae.threshold.mean()))
    threshold = {"jumprelu": sae.threshold, "one threshold": one}.get(form, torch.zeros_like(one))
    return SAE(
        sae.W_enc,
        sae.b_enc,
        sae.W_dec,
        sae.b_dec,
        threshold,
        sae.check,
        {"layer": LAYER},
        k if form == "topk" else None,
    )
