"""Load a model folder: safetensors only, quantized or not, never code from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from .lean import LeanDecoder, load_lean
from .leanconfig import NotLean
from .weights import INDEX, QUANTIZATION, SINGLE, WeightsError, read_json, read_model_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["INDEX", "QUANTIZATION", "SINGLE", "empty_cache", "load_decoder", "load_model_folder", "quiet"]


def load_decoder(
    folder: Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    lean: bool | None = None,
) -> LeanDecoder | PreTrainedModel:
    """Return the model in a folder for inference: the lean decoder (`lean` True), Hugging Face's (False), or
    the lean one where it can on a CPU (None).

    Raises:
        NotLean: `lean` is True, and it cannot.
        WeightsError: as `load_model_folder`.
    """
    if lean is False or (lean is None and torch.device(device).type != "cpu"):
        return load_model_folder(folder, dtype, device)
    try:
        return load_lean(folder, dtype, device)
    except NotLean:
        if lean:
            raise
    return load_model_folder(folder, dtype, device)


def empty_cache(model: LeanDecoder | PreTrainedModel) -> Any:
    """Return an empty key-value cache for a model: the lean one's own, or a `DynamicCache`."""
    if isinstance(model, LeanDecoder):
        return model.empty_cache()
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


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
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

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
    tensors = read_model_tensors(folder)
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
    return cast("PreTrainedModel", model.to(device).eval())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bar off the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
