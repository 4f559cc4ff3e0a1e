"""One model inside vLLM, in this process, with its board: opened, asked, stepped, closed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...adapters import CONFIG, WEIGHTS, read_adapter
from ...models import QUANTIZATION, load_model_folder
from ...weights import read_json, read_tensors
from ..base import Capacity, NotOffered
from ..scheduler import Turns
from . import plugin
from .board import BOARDS, Board
from .drawing import processor
from .row import Note, Reading, VllmRow, salt_of
from .sites import Settings

BLOCK = 32
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Nothing reaches the network, standard output belongs to the answers, and the engine is in this process.
SURROUNDINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


@dataclass(frozen=True)
class Options:
    """How vLLM is set up: `dtype` None is float32 on a CPU and the weights' own on a GPU. `compiled` False
    runs layer by layer; vLLM's CPU build does so anyway where there are adapters.
    """

    dtype: str | None = None
    compiled: bool = False


class Host:
    """A model folder in vLLM. Not thread-safe: one thread at a time."""

    def __init__(
        self,
        folder: Path,
        adapters: Mapping[str, Path],
        capacity: Capacity,
        settings: Settings | None,
        options: Options,
    ) -> None:
        """Load the model, with room for these adapters; without `settings` it is plain vLLM.

        Raises:
            NotOffered: vLLM cannot run the model, or differs from what the plugin knows.
        """
        plugin.bind()
        self._scratch = tempfile.TemporaryDirectory(prefix="pilothouse-vllm-")
        scratch = Path(self._scratch.name)
        self.loras = {name: _adapter(name, path, scratch) for name, path in adapters.items()}
        config = read_json(folder / "config.json")
        self.context = int(config.get("max_position_embeddings", 1 << 20))
        self.bytes_a_token = _bytes_a_token(config, options)
        self.vocabulary = int(config["vocab_size"])
        self.width, self.layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        arguments = self._arguments(_plain(folder, scratch), capacity, settings, options)
        self._compiled = options.compiled
        with TURN, surroundings(), self._stance():
            self.engine: Any = _open(arguments)
            _live.add(self)
            self._load_adapters()
        self._board = None if settings is None else BOARDS[settings.number]
        self._named: dict[str, VllmRow] = {}

    @property
    def board(self) -> Board:
        """Its instruments."""
        assert self._board is not None, "plain vLLM has none"
        return self._board

    def _arguments(
        self, folder: Path, capacity: Capacity, settings: Settings | None, options: Options
    ) -> dict[str, Any]:
        cpu = not torch.cuda.is_available()
        # Its CPU kernels have room for a stretch of one adapter a row; ours has two, the prompt being bare.
        rows = capacity.rows * (2 if cpu and self.loras else 1)
        found: dict[str, Any] = {
            "model": str(folder),
            "skip_tokenizer_init": True,
            "dtype": options.dtype or ("float32" if cpu else "auto"),
            "max_model_len": self.context,
            "max_num_seqs": rows,
            # answers go on by a token each while a chunk of prompts is read
            "max_num_batched_tokens": max(capacity.chunk + capacity.rows, rows),
            "block_size": BLOCK,
            "kv_cache_memory_bytes": self._blocks(capacity) * BLOCK * self.bytes_a_token,
            "enable_prefix_caching": True,
            "async_scheduling": False,
            "enforce_eager": not options.compiled,
            "disable_log_stats": True,
            "additional_config": {} if settings is None else {"pilothouse": settings.plain()},
            "seed": 0,
        }
        if self.loras:
            ranks = [rank for rank, _ in self.loras.values()]
            # On a CPU vLLM gives tokens without an adapter, beside others, what is in the last place (it
            # takes -1 for an index): that one stays empty.
            places = len(ranks) + 1 if cpu else min(len(ranks), capacity.rows)
            found |= {
                "enable_lora": True,
                "max_loras": places,
                "max_cpu_loras": max(places, len(ranks)),
                "max_lora_rank": next((size for size in RANKS if size >= max(ranks)), max(ranks)),
            }
        return found

    def _blocks(self, capacity: Capacity) -> int:
        """How many blocks of cache vLLM gets: what the capacity promises, one whole context at least, and no
        more than all rows could fill twice over (the rest is for prefixes).
        """
        whole = -(-self.context // BLOCK)
        promised = capacity.memory // (BLOCK * self.bytes_a_token)
        return max(whole, min(promised, 2 * whole * capacity.rows)) + 2

    def _load_adapters(self) -> None:
        """Load all adapters now: one that vLLM refuses later would end every request of its pass."""
        for name in self.loras:
            try:
                self.engine.add_lora(self._lora(name))
            except (ValueError, RuntimeError) as error:
                raise NotOffered(
                    f"vLLM does not take the adapter {name!r} ({error}): use the torch engine"
                ) from error

    def _lora(self, name: str) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, 1 + list(self.loras).index(name), str(self.loras[name][1]))

    # -- requests ------------------------------------------------------------------------------------------

    def add(self, row: VllmRow, note: Note) -> None:
        """Hand a request to vLLM."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        given = isinstance(row.request, Reading) and bool(row.request.given)
        params = SamplingParams(
            temperature=0.0,
            max_tokens=row.limit,
            stop_token_ids=sorted(row.codec.stops),
            ignore_eos=True,
            detokenize=False,
            logprobs=0,
            prompt_logprobs=0 if given else None,
            output_kind=RequestOutputKind.DELTA,
            extra_args=note.plain(),
        )
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": row.tokens[:]}
        salt = salt_of(row.request)
        if salt is not None:
            prompt["cache_salt"] = salt
        lora = None if row.adapter is None else self._lora(row.adapter)
        engine, number = self.engine, note.number
        asked = engine.input_processor.process_inputs(
            str(number), prompt, params, engine.get_supported_tasks(), lora_request=lora
        )
        engine.input_processor.assign_request_id(asked)
        row.name = asked.request_id
        self.board.rows[number], self._named[row.name] = row, row
        engine.engine_core.add_request(asked)

    def drop(self, row: VllmRow) -> None:
        """Forget a request, whether or not vLLM is done with it."""
        self.board.rows.pop(row.serial, None)
        if self._named.pop(row.name, None) is not None and not row.ended:
            self.engine.engine_core.abort_requests([row.name])

    def step(self) -> tuple[list[tuple[VllmRow, Any]], Sequence[Any]]:
        """One pass of vLLM: what its core gives for each of the rows, and what requests of others get.

        The core's outputs are those of `LLMEngine.step` before vLLM makes texts and records of them, which
        rows do themselves.
        """
        with TURN, self._stance():
            found = self.engine.engine_core.get_output()
            mine = [(row, one) for one in found.outputs if (row := self._named.get(one.request_id))]
            if len(mine) == len(found.outputs):
                return mine, ()
            others = [one for one in found.outputs if one.request_id not in self._named]
            done = self.engine.output_processor.process_outputs(others, found.timestamp)
            self.engine.engine_core.abort_requests(done.reqs_to_abort)
        return mine, done.request_outputs

    def _stance(self) -> AbstractContextManager[None]:
        """Not compiled means not at all: vLLM compiles small helpers even where its layers are not, and the
        first token would wait for a C++ compiler.
        """
        return nullcontext() if self._compiled else torch.compiler.set_stance("force_eager")

    def close(self) -> None:
        """Give back the model's memory."""
        if self.engine is None:
            return
        with TURN:
            core = self.engine.engine_core
            _live.discard(self)
            if _live:  # vLLM's shutdown takes down what all engines of the process share
                core._finalizer.detach()
                core.engine_core.scheduler.shutdown()
            else:
                core.shutdown()
        self.engine = None
        self._scratch.cleanup()


# vLLM keeps what a pass is about in globals of the process: one pass, or one opening, at a time in all of it.
TURN = Turns()
_live: set[Host] = set()


def _open(arguments: Mapping[str, Any]) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        config = EngineArgs(**arguments).create_engine_config(UsageContext.ENGINE_CONTEXT)
        if arguments["additional_config"]:
            config.model_config.logits_processors = [processor(bool(config.use_v2_model_runner))]
        return LLMEngine.from_vllm_config(config, UsageContext.ENGINE_CONTEXT, disable_log_stats=True)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise NotOffered(
            f"vLLM cannot run {arguments['model']} here ({error}): use the torch engine"
        ) from error


@contextmanager
def surroundings() -> Iterator[None]:
    """Set what vLLM reads from the environment; what the user set himself stays."""
    mine = {name: value for name, value in SURROUNDINGS.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def _bytes_a_token(config: Mapping[str, Any], options: Options) -> int:
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    wide = options.dtype == "float32" or (options.dtype is None and not torch.cuda.is_available())
    return 2 * int(config["num_hidden_layers"]) * heads * size * (4 if wide else 2)


def _adapter(name: str, folder: Path, scratch: Path) -> tuple[int, Path]:
    """An adapter's rank, and a folder in which vLLM reads it: vLLM refuses activated ones, so ours does not
    say that it is one; the board sees to it (`binding.activated`).

    Raises AdapterFileError where it is damaged or of an unknown kind.
    """
    rank = read_adapter(name, folder, torch.float32, torch.device("cpu")).rank
    config = read_json(folder / CONFIG)
    config.pop("alora_invocation_tokens", None)
    twin = scratch / "adapters" / name
    twin.mkdir(parents=True)
    (twin / CONFIG).write_text(json.dumps(config))
    if (folder / QUANTIZATION).is_file():
        save_file({n: t.contiguous() for n, t in read_tensors(folder, WEIGHTS).items()}, twin / WEIGHTS)
    else:
        (twin / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
    return rank, twin


def _plain(folder: Path, scratch: Path) -> Path:
    """The folder, or one with its weights expanded where they are quantized in our own way."""
    if not (folder / QUANTIZATION).is_file():
        return folder
    model: Any = load_model_folder(folder, torch.bfloat16)
    model.save_pretrained(scratch / "model")
    return scratch / "model"
