"""Make a family around a Hugging Face model folder, so that one can chat with it, probe it and add
specialists.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..store import paths
from ..store.errors import UsageError
from .card import Card
from .family import Family, Settings
from .integrity import model_fingerprint, seal
from .weights import PICKLES, WeightsError, missing, read_json

COPIED = (".safetensors", ".json", ".jinja", ".txt", ".model")
KINDS = frozenset(
    [
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
    ]
)


def new_family(
    trunk: Path, name: str, target: Path | None = None, *, copy: bool = False, licence: str = "unknown"
) -> Family:
    """Make the family `name` over the model folder `trunk`, in `target` or the user's families folder.

    It holds one specialist, `trunk`, the bare model, to which everything goes until probes are fitted. The
    trunk is referred to by its path, or copied with `copy=True`.

    Raises:
        UsageError: the name is not usable, the target exists, or the model is of a kind that cannot be
            tapped.
        ArtifactError: the folder is no model folder; pickled weights are refused.

    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise UsageError(f"family name {name!r}: use lower-case letters, digits, - and _, 64 at most")
    folder = target if target is not None else paths.data_dir() / "families" / name
    if folder.exists():
        raise UsageError(f"{folder} exists already: remove it, or choose another name")
    trunk = trunk.expanduser().resolve()
    layers = check_trunk(trunk)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if copy:
        copy_trunk(trunk, part / "trunk")
    settings = Settings(
        name=name,
        title=f"{trunk.name}, alone",
        description="A model without specialists or probes yet: every prompt goes to it.",
        licence=licence,
        trunk="trunk" if copy else None,
        trunk_path=None if copy else str(trunk),
        trunk_fingerprint=model_fingerprint(trunk),
        scout_layers=scout_layers(layers),
        specialists=("trunk",),
        fallback="trunk",
    )
    settings.save(part)
    trunk_card(trunk, settings.trunk_fingerprint).save(part / "specialists" / "trunk")
    seal(part)
    part.rename(folder)
    return Family.open(folder)


def trunk_card(trunk: Path, fingerprint: str) -> Card:
    """Return the card of a bare trunk."""
    return Card(
        name="trunk",
        kind="trunk",
        title=trunk.name,
        description=f"The bare model {trunk.name}: answers anything, as well as it can.",
        method="Used as it was published.",
        parent_sha256=fingerprint,
        max_tokens=512,
    )


def check_trunk(trunk: Path) -> int:
    """Return the number of decoder layers of a model folder that can be a trunk.

    Raises:
        UsageError: it is not a folder, or of a kind that cannot be tapped.
        WeightsError: its files are missing, or its weights are pickled.
    """
    if not trunk.is_dir():
        raise UsageError(
            f"{trunk} is no folder: give that of a downloaded model (config.json, *.safetensors)"
        )
    config = read_json(trunk / "config.json")
    kind = config.get("model_type")
    if kind not in KINDS:
        raise UsageError(f"{trunk} is a {kind!r} model: a trunk is one of {', '.join(sorted(KINDS))}")
    if not list(trunk.glob("*.safetensors")):
        raise WeightsError(missing(trunk, "model.safetensors"))
    text = config.get("text_config", config)
    return int(text.get("num_hidden_layers") or text.get("n_layer") or 0)


def scout_layers(layers: int) -> tuple[int, ...]:
    """Return the decoder layers that probes read by default: about half and three quarters down."""
    return tuple(sorted({max(0, round(layers * share) - 1) for share in (0.5, 0.75)}))


def copy_trunk(trunk: Path, target: Path) -> None:
    """Copy a model folder's weights, settings and tokenizer; pickles, code and documents stay behind."""
    target.mkdir(parents=True)
    for path in sorted(trunk.iterdir()):
        if path.is_file() and path.suffix in COPIED and path.suffix not in PICKLES:
            shutil.copyfile(path, target / path.name)
