"""What reads prompts for a router fastest here, or the plain model where that cannot; it is said which.

A fast reading has a plain twin that it is tested against: the native engine has the torch decoder, the lean
encoder has Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..router.routing.scouts import Forward, Hidden, Rows, TorchForward, TorchHidden
from ..router.taps import decoder_layers
from ..store.errors import ArtifactError, UsageError
from .engines.native.engine import SMALL
from .engines.native.library import OK, NativeUnavailable
from .engines.native.model import Context, NativeModel
from .engines.native.run import Run
from .leanconfig import NotLean
from .leanencoder import LeanEncoder, load_lean_encoder
from .models import load_decoder, quiet

EXACT, BYTES = "float32", "int8"
_STEP = 1024  # tokens that the native engine reads at a time


@dataclass(frozen=True, eq=False)
class Opened:
    """A decoder, ready to read. read_by: `native`, or `torch` and why not native."""

    forward: Forward
    precision: str
    read_by: str
    depth: int
    context: int

    def require(self, layer: int) -> None:
        """Raise UsageError where there is no such layer."""
        if not 0 <= layer < self.depth:
            raise UsageError(f"layer {layer} does not exist; this model has layers 0 to {self.depth - 1}")


@dataclass(frozen=True, eq=False)
class NativeForward:
    """A decoder in the native engine, row by row: what `TorchForward` gives, in half its time."""

    model: NativeModel

    def __call__(self, rows: Rows, layers: Sequence[int]) -> tuple[Mapping[int, Tensor], Tensor]:
        each = [self._one(row, layers) for row in rows]
        return {layer: torch.stack([s[layer] for s, _ in each]) for layer in layers}, torch.stack(
            [logits for _, logits in each]
        )

    def _one(self, tokens: Sequence[int], layers: Sequence[int]) -> tuple[dict[int, Tensor], Tensor]:
        sequence, parts = self.model.sequence(), []
        for start in range(0, len(tokens), _STEP):
            run = Run(sequence, tokens[start : start + _STEP], taps=tuple(layers), want_logits=True)
            self.model.step([run])
            if run.status != OK:
                raise UsageError(
                    f"the native engine stopped at a prompt of {len(tokens)} tokens with status {run.status} "
                    "(2: too long, 3: no memory for keys and values, 4: overflow); shorten the prompt"
                )
            parts.append(run.states)
        assert run.logits is not None
        return {layer: torch.cat([part[layer] for part in parts]) for layer in layers}, run.logits


def open_forward(folder: Path, precision: str = EXACT) -> Opened:
    """Open a decoder's folder for reading.

    precision: `float32`, as exact as its weights, or `int8`: weights and activations in bytes, half the time
    again. Where the native engine cannot run the model, torch reads it in float32.

    Raises:
        UsageError: no such precision.
        ArtifactError: weights are missing or damaged.
    """
    if precision not in (EXACT, BYTES):
        raise UsageError(f"a decoder is read in {EXACT} or {BYTES}, not {precision!r}; choose one")
    bits, parts = (8, 1) if precision == BYTES else (None, 2)
    # one thread for a small model: a step is too short to share (see the native engine)
    small = sum(path.stat().st_size for path in folder.glob("*.safetensors")) < SMALL
    try:
        native = NativeModel(Context(1 if small else None), folder, lambda _: bits, parts=parts, rows=_STEP)
    except (NotLean, NativeUnavailable) as reason:
        return _open_torch(folder, str(reason))
    config = native.config
    return Opened(
        NativeForward(native), precision, "native", config.num_hidden_layers, config.max_position_embeddings
    )


def _open_torch(folder: Path, reason: str) -> Opened:
    model = load_decoder(folder, torch.float32)
    context = int(getattr(model.config, "max_position_embeddings", _STEP))
    return Opened(TorchForward(model), EXACT, f"torch: {reason}", len(decoder_layers(model)), context)


def open_hidden(folder: Path, precision: str) -> tuple[Hidden, str]:
    """Open an encoder's folder for reading, in a torch dtype by name; `lean`, or `transformers` and why.

    Raises UsageError for another precision than float32 or bfloat16, and ArtifactError where there is no
    encoder that can be run: safetensors only, never code from the folder.
    """
    if precision not in ("float32", "bfloat16"):
        raise UsageError(f"an encoder is read in float32 or bfloat16, not {precision!r}; choose one")
    dtype = getattr(torch, precision)
    try:
        return LeanHidden(load_lean_encoder(folder, dtype)), "lean"
    except NotLean as reason:
        return TorchHidden(_load_transformers(folder, dtype)), f"transformers: {reason}"


@dataclass(frozen=True, eq=False)
class LeanHidden:
    """An encoder by its lean twin, no deeper than is read."""

    encoder: LeanEncoder

    def __call__(self, rows: Rows, deepest: int) -> Sequence[Tensor]:
        return self.encoder.states(rows, deepest)


def _load_transformers(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModel

    try:
        with quiet():
            model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype
            )
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{folder} holds no encoder that can be run ({error}); give another") from error
    return model.eval()
