"""Read weights from disk safely: safetensors only, every fault named with its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..store.errors import ArtifactError


class WeightsError(ArtifactError):
    """A weights file is missing, truncated, or of a kind that is not read here."""


class AdapterFileError(WeightsError):
    """A folder does not hold an adapter that this trunk can run."""


SINGLE, INDEX, QUANTIZATION = "model.safetensors", "model.safetensors.index.json", "quantization.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: the file is missing, is not JSON, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing: restore it, or reinstall the family") from None
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as JSON ({error}): restore it, or reinstall the family"
        ) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds {type(value).__name__}, not a JSON object: restore it")
    return value


def read_tensors(folder: Path, name: str) -> dict[str, Any]:
    """Read the safetensors file ``name`` of ``folder`` onto the CPU; quantized tensors come back dequantized.

    Raises:
        WeightsError: it is missing (pickled weights in its place are named and refused), truncated or no
            safetensors.

    """
    tensors, path = load_stored(folder, name), folder / name
    if (folder / QUANTIZATION).is_file():
        from .improve.quantize import expand

        return expand(tensors, read_json(folder / QUANTIZATION), path)
    return tensors


def read_model_tensors(folder: Path) -> dict[str, Any]:
    """Read the tensors of a model folder, in one safetensors file or several that an index names.

    Raises:
        WeightsError: as `read_tensors`; the index names a file outside the folder.
    """
    files = model_files(folder)
    return {name: tensor for file in files for name, tensor in read_tensors(folder, file).items()}


def model_files(folder: Path) -> list[str]:
    """Return the names of the safetensors files that a model folder's tensors lie in.

    Raises:
        WeightsError: the index is no JSON object, or names a file outside the folder.
    """
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return [SINGLE]
    names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    for name in names:
        if Path(name).name != name:
            raise WeightsError(
                f"{folder / INDEX} names {name!r}, which is not a file of that folder: restore it"
            )
    return names


def load_stored(folder: Path, name: str, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """Read tensors of the safetensors file ``name`` of ``folder`` onto the CPU as they are stored: those that
    are ``wanted`` and there, or all. The file stays in memory only as long as one of them does.

    Raises:
        WeightsError: as `read_tensors`.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / name
    if not path.is_file():
        raise WeightsError(missing(folder, name))
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {n: file.get_tensor(n) for n in (names if wanted is None else wanted) if n in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is truncated or is not safetensors ({error}): restore it") from error


def missing(folder: Path, name: str) -> str:
    """Say that a weights file is missing, and whether a pickle lies in its place."""
    pickled = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    if pickled:
        return f"{folder / pickled[0]} is a pickle, which can run code when read: convert it to {name}"
    return f"{folder / name} is missing: restore it, or reinstall the family"
