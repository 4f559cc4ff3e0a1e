"""Read dictionaries that others trained: one loader for the layouts in use, each verified by reconstruction.

All of them come down to JumpReLU(x W_enc + b_enc, threshold) W_dec + b_dec, or its TopK form, once scalings
and input biases are folded into the weights. A wrong scaling or transposition still loads and computes
nonsense, so every load must explain `states` of the layer it is for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ..checks import matrix
from ..files import head_field, read_json, read_tensors
from .sae import SAE

LIMIT = 0.9  # share of variance a dictionary may miss before it counts as misread
_HOOK = re.compile(r"(?:blocks|layers|h)\.(\d+)(?:\.hook_resid_(pre|post))?$")


class Parts(NamedTuple):
    """A dictionary as read: W_enc [D,S], b_enc [S], W_dec [S,D], b_dec [D], threshold [S] or None, k or None.

    `subtracts`: whether the encoder sees x - b_dec.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    k: int | None = None
    subtracts: bool = False
    meta: Mapping[str, Any] = {}


def load_dictionary(
    folder: Path | str, states: Tensor, *, layer: int | None = None, layout: str | None = None
) -> SAE:
    """Return the dictionary in a folder of any layout in `LAYOUTS` (found by its files, or named).

    `states` [N,D] of the layer it is for must be explained. `layer` says which layer that is, where the files
    do not. Raises ArtifactError when files are missing or damaged, when it is no dictionary of residual
    states (a transcoder), when a scaling is not stored, or when it misses more than 90 % of the variance of
    `states`; UsageError for an unknown layout or states of another width.
    """
    folder = Path(folder)
    name = layout or which_layout(folder)
    if name not in LAYOUTS:
        raise UsageError(f"layout {name!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    parts = LAYOUTS[name](folder)
    rows = matrix("states", states).detach().cpu().float()
    if parts.W_enc.ndim == 2 and rows.shape[1] != parts.W_enc.shape[0]:
        raise UsageError(
            f"the dictionary in {folder} reads states of width {parts.W_enc.shape[0]}, these are "
            f"{rows.shape[1]} wide; use states of the model and layer it was trained on"
        )
    meta = dict(parts.meta) | ({} if layer is None else {"layer": layer}) | {"layout": name}
    try:
        found = _built(parts, rows, meta)
    except (UsageError, RuntimeError) as error:
        raise ArtifactError(f"{folder} is no {name} dictionary: {error}") from error
    found.verify(rows, LIMIT)
    return found


def _built(parts: Parts, rows: Tensor, meta: dict[str, Any]) -> SAE:
    w_enc, b_enc, w_dec, b_dec = (t.float() for t in parts[:4])
    bias = b_enc - b_dec @ w_enc if parts.subtracts else b_enc
    threshold = torch.zeros_like(bias) if parts.threshold is None else parts.threshold.float()
    return SAE(
        w_enc.contiguous(),
        bias,
        w_dec.contiguous(),
        b_dec,
        threshold.expand_as(bias).clamp_min(0).clone(),
        rows[:8].clone(),
        meta,
        parts.k,
    )


def which_layout(folder: Path) -> str:
    """Say which layout a folder has, by its files. Raises ArtifactError when it has none that is known."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    signs = {
        "gemma_scope": "params.npz",
        "gemma_scope_2": "params.safetensors",
        "llama_scope": "hyperparams.json",
        "sparsify": "sae.safetensors",
        "dictionary_learning": "ae.pt",
        "saelens": "sae_weights.safetensors",
    }
    for layout, sign in signs.items():
        if sign in names:
            return layout
    raise ArtifactError(
        f"{folder} holds no dictionary of a known layout (it has {sorted(names)[:6]}); the layouts are told "
        f"apart by {', '.join(signs.values())}"
    )


def hook_layer(name: object) -> dict[str, int]:
    """Return {"layer": l} for a hook name such as `blocks.4.hook_resid_post`; {} where it names no layer's
    output.
    """
    found = _HOOK.search(str(name))
    if found is None:
        return {}
    layer = int(found[1]) - (found[2] == "pre")
    return {"layer": layer} if layer >= 0 else {}


# -- one reader a layout -------------------------------------------------------------------------------------


def _saelens(folder: Path) -> Parts:
    path = folder / "cfg.json"
    config = read_json(path)
    kind = head_field(config, "architecture", path)
    _only_residual(folder, config.get("d_out", config.get("d_in")) != config.get("d_in"))
    scaling = config.get("normalize_activations", "none")
    if scaling not in ("none", None):
        raise ArtifactError(
            f"{path} says normalize_activations {scaling!r}, whose scale the file does not hold; fold it "
            "into "
            "the "
            "weights (SAELens: fold_activation_norm_scaling_factor) and save again"
        )
    head = config.get("metadata", {})
    common: dict[str, Any] = {
        "subtracts": bool(config.get("apply_b_dec_to_input", False)),
        "meta": hook_layer(head.get("hook_name")) | head,
    }
    weights = folder / "sae_weights.safetensors"
    if kind == "gated":
        t = read_tensors(weights, ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"))
        return gated_parts(t["W_enc"], t["W_dec"], t["b_dec"], t["b_gate"], t["b_mag"], t["r_mag"], **common)
    if kind not in ("standard", "jumprelu", "topk"):
        raise ArtifactError(f"{path} says architecture {kind!r}; read are standard, topk, jumprelu and gated")
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    t = read_tensors(weights, (*names, "threshold") if kind == "jumprelu" else names)
    if kind != "topk":
        return Parts(*_four(t, names), t.get("threshold"), **common)
    norm = t["W_dec"].float().norm(dim=1) if config.get("rescale_acts_by_decoder_norm") else None
    if norm is not None:  # latents are ranked, and kept, in units of their decoder's length
        t |= {"W_enc": t["W_enc"] * norm, "b_enc": t["b_enc"] * norm, "W_dec": t["W_dec"] / norm[:, None]}
    return Parts(*_four(t, names), None, int(head_field(config, "k", path)), **common)


def _four(t: Mapping[str, Tensor], names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return t[names[0]], t[names[1]], t[names[2]], t[names[3]]


def gated_parts(
    w_enc: Tensor, w_dec: Tensor, b_dec: Tensor, b_gate: Tensor, b_mag: Tensor, r_mag: Tensor, **more: Any
) -> Parts:
    """Turn a gated dictionary into its JumpReLU equal.

    With u = x W, the gate is open where u + b_gate > 0, and the magnitude is ReLU(e^r u + b_mag). As e^r > 0,
    the gate is open where the magnitude's pre-activation exceeds b_mag - e^r b_gate (Rajamanoharan et al.,
    2024).
    """
    scale = r_mag.float().exp()
    threshold = b_mag.float() - scale * b_gate.float()
    return Parts(w_enc.float() * scale, b_mag, w_dec, b_dec, threshold.clamp_min(0), **more)


def _gemma_scope(folder: Path) -> Parts:
    path = folder / "params.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.lower(): torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} cannot be read as npz without pickles ({error}); fetch it again"
        ) from error
    found = re.search(r"layer_(\d+)", str(folder))
    return _jump(arrays, path, {"layer": int(found[1])} if found else {})


def _gemma_scope_2(folder: Path) -> Parts:
    path = folder / "params.safetensors"
    arrays = {name.lower(): t for name, t in read_tensors(path, ()).items()}
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    into, out = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    _only_residual(folder, "affine_skip_connection" in arrays or into != out)
    found = re.search(r"layers?[._](\d+)", str(into)) or re.search(r"layer_(\d+)", str(folder))
    return _jump(arrays, path, {"layer": int(found[1])} if found else {})


def _jump(arrays: Mapping[str, Tensor], path: Path, meta: Mapping[str, Any]) -> Parts:
    names = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ArtifactError(f"{path} lacks {missing}; it holds {sorted(arrays)}; fetch it again")
    return Parts(*_four(arrays, names), arrays["threshold"], meta=meta)


def _llama_scope(folder: Path) -> Parts:
    path = folder / "hyperparams.json"
    config = read_json(path)
    _only_residual(folder, config.get("hook_point_in") != config.get("hook_point_out"))
    if config.get("act_fn") != "jumprelu" or config.get("norm_activation") != "dataset-wise":
        raise ArtifactError(
            f"{path} says act_fn {config.get('act_fn')!r} with norm_activation "
            f"{config.get('norm_activation')!r}; "
            "read is jumprelu with dataset-wise norms, whose scale is stored"
        )
    t = read_tensors(
        folder / "checkpoints" / "final.safetensors",
        ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"),
    )
    norm = head_field(head_field(config, "dataset_average_activation_norm", path), "in", path)
    scale = math.sqrt(t["encoder.weight"].shape[1]) / float(norm)
    threshold = float(head_field(config, "jump_relu_threshold", path)) * scale
    # trained on x * scale; undo it here
    return Parts(
        t["encoder.weight"].float().T * scale,
        t["encoder.bias"],
        t["decoder.weight"].float().T / scale,
        t["decoder.bias"].float() / scale,
        torch.tensor(threshold),
        meta=hook_layer(config.get("hook_point_in")),
        subtracts=bool(config.get("apply_decoder_bias_to_pre_encoder", False)),
    )


def _sparsify(folder: Path) -> Parts:
    path = folder / "cfg.json"
    config = read_json(path)
    if config.get("activation", "topk") != "topk":
        raise ArtifactError(f"{path} says activation {config['activation']!r}; only topk is read")
    t = read_tensors(folder / "sae.safetensors", ("encoder.weight", "encoder.bias", "W_dec", "b_dec"))
    _only_residual(folder, bool(config.get("transcode")) or "W_skip" in t)
    k = int(head_field(config, "k", path))
    # b_dec is always subtracted there, whatever normalize_decoder says
    return Parts(
        t["encoder.weight"].T,
        t["encoder.bias"],
        t["W_dec"],
        t["b_dec"],
        None,
        k,
        True,
        hook_layer(folder.name),
    )


def _dictionary_learning(folder: Path) -> Parts:
    path = folder / "ae.pt"
    trainer = head_field(read_json(folder / "config.json"), "trainer", folder / "config.json")
    kind = str(trainer.get("dict_class"))
    try:
        t = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle of anything but tensors ends in errors of many kinds
        raise ArtifactError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}); fetch it again"
        ) from error
    if not isinstance(t, dict) or not all(isinstance(one, Tensor) for one in t.values()):
        raise ArtifactError(f"{path} holds something other than named tensors; fetch it again")
    meta = {"layer": int(trainer["layer"])} if isinstance(trainer.get("layer"), int) else {}
    try:
        return _of_class(kind, t, trainer, meta)
    except KeyError as error:
        raise ArtifactError(
            f"{path} is no {kind}: it lacks {error} and holds {sorted(t)}; fetch it again"
        ) from error


def _of_class(
    kind: str, t: Mapping[str, Tensor], trainer: Mapping[str, Any], meta: Mapping[str, Any]
) -> Parts:
    if kind == "AutoEncoder":
        return Parts(
            t["encoder.weight"].T, t["encoder.bias"], t["decoder.weight"].T, t["bias"], None, None, True, meta
        )
    if kind == "GatedAutoEncoder":
        return gated_parts(
            t["encoder.weight"].T,
            t["decoder.weight"].T,
            t["decoder_bias"],
            t["gate_bias"],
            t["mag_bias"],
            t["r_mag"],
            subtracts=True,
            meta=meta,
        )
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        rows = (t["encoder.weight"].T, t["encoder.bias"], t["decoder.weight"].T, t["b_dec"])
        if kind == "AutoEncoderTopK":
            return Parts(*rows, None, int(t["k"]) if "k" in t else int(trainer["k"]), True, meta)
        return Parts(*rows, t["threshold"], None, True, meta)
    if kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        rows = (t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"])
        return Parts(*rows, t["threshold"], None, kind.startswith("Matryoshka"), meta)
    raise ArtifactError(f"the dictionary class {kind!r} is not read; convert it to SAELens 6")


def _only_residual(folder: Path, other: bool) -> None:
    if other:
        raise ArtifactError(
            f"{folder} is a transcoder: it reads one place and writes another; only dictionaries that "
            "reconstruct "
            "what they read can explain it"
        )


LAYOUTS: dict[str, Callable[[Path], Parts]] = {
    "saelens": _saelens,
    "gemma_scope": _gemma_scope,
    "gemma_scope_2": _gemma_scope_2,
    "llama_scope": _llama_scope,
    "sparsify": _sparsify,
    "dictionary_learning": _dictionary_learning,
}
