"""One decoder in the native engine: its weights, sequences, adapters and plans, and the step over many
sequences.
"""

from __future__ import annotations

import ctypes as C
import os
import weakref
from array import array
from collections.abc import Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ...adapters import Adapter
from ...leanconfig import LeanConfig, NotLean
from ...weights import AdapterFileError, read_json
from . import library as lib
from .run import Run, Steps
from .weights import Precision, Stored, StoredFolder

MAPS: Final = {
    "self_attn.q_proj": lib.MAP_Q,
    "self_attn.k_proj": lib.MAP_K,
    "self_attn.v_proj": lib.MAP_V,
    "self_attn.o_proj": lib.MAP_O,
    "mlp.gate_proj": lib.MAP_GATE,
    "mlp.up_proj": lib.MAP_UP,
    "mlp.down_proj": lib.MAP_DOWN,
}
NORMS: Final = {
    "input_layernorm": lib.NORM_INPUT,
    "post_attention_layernorm": lib.NORM_POST,
    "self_attn.q_norm": lib.NORM_Q,
    "self_attn.k_norm": lib.NORM_K,
}
ROWS: Final = 256
CACHE: Final = 1 << 31


class Context:
    """The engine's threads and the instruction set they use; models that share one take turns."""

    def __init__(self, threads: int | None = None, kernels: str = "auto") -> None:
        """`threads` None: as many as this process may use, at most what torch would."""
        self.threads = threads or max(1, min(_processors(), torch.get_num_threads()))
        native = lib.library()
        self.handle = native.ph_context_new(self.threads, kernels.encode())
        if not self.handle:
            raise ValueError(f"{native.ph_error().decode()}: kernels {kernels!r}, usable are {lib.kernels()}")
        # Not at exit: a thread that is still in a step would lose the ground under its feet.
        weakref.finalize(self, native.ph_context_free, self.handle).atexit = False

    @property
    def kernels(self) -> str:
        """The instruction set in use."""
        return str(lib.library().ph_context_kernels(self.handle).decode())

    def read(self, size: int, rounds: int) -> list[float]:
        """Read `size` bytes of memory `rounds` times with all threads; return the seconds that each took."""
        seconds = (C.c_double * rounds)()
        lib.check(lib.library().ph_read(self.handle, size, rounds, seconds))
        return list(seconds)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Numbered:
    """Something of a model that has a number there, and is freed when nobody holds it any more."""

    def __init__(self, model: NativeModel, number: int, free: str) -> None:
        self.model, self.number = model, number
        # The finalizer holds the model: its memory goes last.
        self._free = weakref.finalize(self, _free, model, free, number)
        self._free.atexit = False


def _free(model: NativeModel, function: str, number: int) -> None:
    getattr(lib.library(), function)(model.handle, number)


class Sequence(Numbered):
    """The keys and values of some tokens; `length` counts them."""

    length: int = 0

    @property
    def nbytes(self) -> int:
        """Memory that its tokens take, shared or not."""
        return self.length * self.model.bytes_a_token

    def fork(self, tokens: int) -> Sequence:
        """Return a sequence that begins with the first `tokens` of this one; what both hold is shared.

        Raises:
            MemoryError: the cache has no room.
        """
        number = C.c_int32()
        code = lib.library().ph_sequence_fork(self.model.handle, self.number, tokens, C.byref(number))
        lib.check(code)
        twin = Sequence(self.model, number.value, "ph_sequence_free")
        twin.length = tokens
        return twin


class Plan(Numbered):
    """Steering vectors and heads of one request; `heads` counts the heads."""

    heads: int = 0


class NativeModel:
    """A decoder of the kinds that `LeanConfig` reads, in the native engine."""

    def __init__(
        self,
        context: Context,
        folder: Path,
        precision: Precision = lambda name: None,
        group: int = 64,
        parts: int = 2,
        cache_bytes: int = CACHE,
        rows: int = ROWS,
    ) -> None:
        """Read a Hugging Face folder. `precision` names the bits of each weight (None: as stored), `group`
        how many columns share a scale. `parts` 2 quantizes activations to 15 bits, 1 to 8, where weights are
        quantized. `rows` is the most tokens of one step.

        Raises:
            NotLean: it is no decoder of a kind that is run here.
            WeightsError: its files are missing, pickled, truncated or damaged.
        """
        self.runtime, self.config = context, LeanConfig.read(read_json(folder / "config.json"))
        config, self.rows = self.config, rows
        self.kinds: set[int] = set()
        shape = lib.Shape(
            vocabulary=config.vocab_size,
            width=config.hidden_size,
            inner=config.intermediate_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            head_size=config.head_dim,
            context=config.max_position_embeddings,
            rows=rows,
            parts=parts,
            epsilon=config.rms_norm_eps,
            cache_bytes=cache_bytes,
        )
        steps = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        frequencies = 1.0 / config.rope_theta**steps
        native = lib.library()
        self.handle = native.ph_model_new(context.handle, C.byref(shape), frequencies.data_ptr())
        if not self.handle:
            raise NotLean(f"{folder} cannot be run natively: {native.ph_error().decode()}")
        # Freed when no sequence, adapter or plan is left either: they hold the model.
        weakref.finalize(self, _free_model, native, self.handle, context).atexit = False
        self._load(StoredFolder(folder, precision, group), folder)
        lib.give_back()

    # -- weights -------------------------------------------------------------------------------------------

    def _load(self, tensors: Mapping[str, Stored | Tensor], folder: Path) -> None:
        native = lib.library()
        try:
            self._matrix(-1, lib.EMBED, tensors, "model.embed_tokens")
            if not self.config.tie_word_embeddings:
                self._matrix(-1, lib.HEAD, tensors, "lm_head")
            self._vector(-1, lib.NORM_FINAL, tensors["model.norm.weight"])
            for layer in range(self.config.num_hidden_layers):
                for name, index in MAPS.items():
                    self._matrix(layer, index, tensors, f"model.layers.{layer}.{name}")
                for name, index in NORMS.items():
                    weight = tensors.get(f"model.layers.{layer}.{name}.weight")
                    if weight is not None:
                        self._vector(layer, index, weight)
            lib.check(native.ph_model_ready(self.handle))
        except KeyError as error:
            raise NotLean(f"{folder} has no {error.args[0]}: restore it") from None
        except ValueError as error:
            raise NotLean(f"{folder} cannot be run natively: {error}") from error

    def _matrix(self, layer: int, index: int, tensors: Mapping[str, Stored | Tensor], name: str) -> None:
        found, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        assert isinstance(found, Stored)
        self.kinds.add(found.kind)
        given = lib.Matrix(
            kind=found.kind,
            rows=found.data.shape[0],
            columns=found.data.shape[1],
            group=found.group,
            data=found.data.data_ptr(),
            scales=None if found.scales is None else found.scales.data_ptr(),
            bias=None if not isinstance(bias, Tensor) else bias.data_ptr(),
        )
        lib.check(lib.library().ph_model_matrix(self.handle, layer, index, C.byref(given)))

    def _vector(self, layer: int, index: int, weight: Stored | Tensor) -> None:
        assert isinstance(weight, Tensor)
        data = weight.float().contiguous()
        code = lib.library().ph_model_vector(self.handle, layer, index, data.data_ptr(), data.numel())
        lib.check(code)

    def weight(self, layer: int, index: int, rows: int, columns: int) -> Tensor:
        """Return weights [rows, columns] as the engine holds them, dequantized (`library` numbers them)."""
        out = torch.empty(rows, columns)
        for row in range(rows):
            place = out[row].data_ptr()
            lib.check(lib.library().ph_model_row(self.handle, layer, index, row, place))
        return out

    @property
    def weight_bytes(self) -> int:
        """Memory of all matrices; a decoded token reads it once, but for the embedding of an untied one."""
        return int(lib.library().ph_model_bytes(self.handle))

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""
        return self.config.max_position_embeddings

    @property
    def bytes_a_token(self) -> int:
        """Memory of one token's keys and values."""
        padded = -(-self.config.head_dim // 16) * 16
        return 8 * self.config.num_hidden_layers * self.config.num_key_value_heads * padded

    @property
    def cache_bytes(self) -> int:
        """Memory of keys and values in use."""
        return int(lib.library().ph_cache_bytes(self.handle))

    # -- what requests bring -------------------------------------------------------------------------------

    def sequence(self) -> Sequence:
        """Return an empty sequence."""
        number = C.c_int32()
        lib.check(lib.library().ph_sequence_new(self.handle, C.byref(number)))
        return Sequence(self, number.value, "ph_sequence_free")

    @property
    def adapter_kind(self) -> int:
        """How adapters are kept: as precisely as the trunk. Bytes beside codes, f32 beside f32, else f16."""
        if self.kinds == {lib.F32}:
            return lib.F32
        return lib.F16 if self.kinds <= {lib.F32, lib.BF16, lib.F16} else lib.BYTE

    def adapter(self, adapter: Adapter) -> Numbered:
        """Take a LoRA adapter, kept as `adapter_kind` says.

        Raises:
            AdapterFileError: it names a map that this trunk lacks, or a shape that does not fit.
        """
        native, number = lib.library(), C.c_int32()
        lib.check(native.ph_adapter_new(self.handle, self.adapter_kind, C.byref(number)))
        made = Numbered(self, number.value, "ph_adapter_free")
        for target, product in adapter.products.items():
            layer, index = _place(target, self.config.num_hidden_layers, adapter.name)
            a = product.a.float().contiguous()
            b = (product.b.float() * product.scale).contiguous()
            if b.shape[1] != a.shape[0]:  # the engine takes one rank: it would read beyond B
                raise AdapterFileError(
                    f"adapter {adapter.name!r} at {target!r} has rank {a.shape[0]} in A and {b.shape[1]} in "
                    "B: save it again"
                )
            try:
                lib.check(
                    native.ph_adapter_product(
                        self.handle, number, layer, index, a.shape[0], a.data_ptr(), a.shape[1], b.data_ptr(),
                        b.shape[0],
                    )
                )  # fmt: skip
            except ValueError as error:
                raise AdapterFileError(f"adapter {adapter.name!r} at {target!r}: {error}") from error
        lib.check(native.ph_adapter_ready(self.handle, number))
        return made

    # -- steps ---------------------------------------------------------------------------------------------

    def step(self, runs: Many[Run], stops: array[int] | None = None) -> None:
        """Advance every run's sequence by its tokens. A run that cannot go on fails alone (`Run.status`).

        A run that draws several tokens ends early with one of `stops` (numbers of tokens, array type "i").
        """
        self.steps(runs).make(stops)

    def steps(self, runs: Many[Run]) -> Steps:
        """Lay runs out for a step, and for those after it that read one token more each."""
        return Steps(self.handle, runs, self.config.vocab_size)


def _free_model(native: Any, handle: int, context: Context) -> None:
    native.ph_model_free(handle)


def _place(target: str, layers: int, adapter: str) -> tuple[int, int]:
    """(layer, map) of a linear map by its name in the model."""
    parts = target.split(".", 3)
    if len(parts) == 4 and parts[:2] == ["model", "layers"] and parts[2].isdecimal():
        layer, index = int(parts[2]), MAPS.get(parts[3])
        if layer < layers and index is not None:
            return layer, index
    raise AdapterFileError(f"adapter {adapter!r} adapts {target!r}, which is not in this trunk")
