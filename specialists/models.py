"""Load a model folder: safetensors only, quantized or not, never code from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedModel
from transformers.utils import logging

from .weights import WeightsError, read_json, read_tensors

SINGLE, INDEX, QUANTIZATION = "model.safetensors", "model.safetensors.index.json", "quantization.json"


def load_model_folder(
    folder: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Return the causal language model in a Hugging Face folder, in evaluation mode; `dtype` None keeps the
    folder's.

    Quantized folders (`quantization.json`) are dequantized.

    Raises:
        WeightsError: the folder is no model folder, its weights are pickled, missing, truncated, or do not
            fit.

    """
    config_json = read_json(folder / "config.json")
    if "auto_map" in config_json and config_json.get("model_type") is None:
        raise WeightsError(
            f"{folder} needs its own code to run, which is never executed: use a standard model kind"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder / 'config.json'} names no model that can be run ({error})") from error
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        raise WeightsError(
            f"{folder} holds a {config.model_type!r} model, which generates no text: use a decoder"
        )
    tensors = _tensors(folder)
    stored = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    with quiet():
        model, info = kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype or stored, output_loading_info=True
        )
    lacking = sorted(map(str, [*info["missing_keys"], *info.get("mismatched_keys", ())]))
    if lacking:
        raise WeightsError(
            f"{folder} lacks {', '.join(lacking[:3])}, which its config.json asks for: restore it"
        )
    return cast(PreTrainedModel, model.to(device).eval())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bar off the terminal."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return read_tensors(folder, SINGLE)
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(set(read_json(folder / INDEX)["weight_map"].values())):
        if Path(name).name != name:
            raise WeightsError(
                f"{folder / INDEX} names {name!r}, which is not a file of that folder: restore it"
            )
        tensors |= read_tensors(folder, name)
    return tensors
