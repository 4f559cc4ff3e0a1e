"""vLLM as it is, timed step by step like the native engine: reading the prompts, then token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...specialists.engines.vllm.host import surroundings
from .contenders import Clock, Times

# vLLM takes this function away from the process when it opens a model.
set_threads = torch.set_num_threads
CACHE = 1 << 28
TOP = 20


@dataclass(eq=False)
class Vllm:
    """A model in plain vLLM, on so many threads; row i of a batch has adapter i of `loras`, if there are any.

    `answers` are the last round's tokens.
    """

    name: str
    engine: Any
    threads: int
    loras: Sequence[Any] = ()
    answers: list[list[int]] = field(default_factory=list)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        set_threads(self.threads)
        begun = Clock.now()
        rows: dict[str, list[int]] = {}
        for at, prompt in enumerate(prompts):
            rows[self._ask(at, prompt, tokens + 1)] = []
        middle = None
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                rows[output.request_id] += output.outputs[0].token_ids
            if middle is None and all(rows.values()):
                middle = Clock.now()
                assert all(len(row) == 1 for row in rows.values()), "the prompts do not fit one step"
        assert middle is not None
        spent = Clock.now() - middle
        self.answers = list(rows.values())
        assert all(len(row) == tokens + 1 for row in self.answers)
        return Times(middle - begun, spent / tokens)

    def likeliest(self, at: int, prompt: Sequence[int]) -> dict[int, float]:
        """The likeliest tokens after a prompt in row `at`, with their log-probabilities."""
        self._ask(at, prompt, 1, logprobs=TOP)
        outputs = [
            one for _ in iter(self.engine.has_unfinished_requests, False) for one in self.engine.step()
        ]
        return {token: one.logprob for token, one in outputs[-1].outputs[0].logprobs[0].items()}

    def _ask(self, at: int, prompt: Sequence[int], tokens: int, **more: Any) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **more,
        )
        given = {"type": "token", "prompt_token_ids": list(prompt)}
        lora = self.loras[at] if self.loras else None
        self.engine.add_request(str(at), given, params, lora_request=lora)
        return str(at)


def open_vllm(folder: Path, eager: bool, rows: int, adapters: int = 0, rank: int = 16) -> Any:
    """Open a folder in vLLM with its own settings, in bfloat16, without prefix reuse.

    Raises what vLLM raises where it does not take the folder.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    more: dict[str, Any] = {}
    if adapters:
        more = {"enable_lora": True, "max_loras": adapters, "max_cpu_loras": adapters, "max_lora_rank": rank}
    with surroundings():
        return LLMEngine.from_engine_args(
            EngineArgs(
                model=str(folder),
                skip_tokenizer_init=True,
                dtype="bfloat16",
                max_num_seqs=rows,
                kv_cache_memory_bytes=CACHE,
                enable_prefix_caching=False,
                enforce_eager=eager,
                disable_log_stats=True,
                seed=0,
                **more,
            )
        )


def lora_requests(engine: Any, folders: Sequence[Path]) -> list[Any]:
    """Load PEFT folders into vLLM; return what requests name them by."""
    from vllm.lora.request import LoRARequest

    found = [LoRARequest(folder.name, 1 + at, str(folder)) for at, folder in enumerate(folders)]
    for one in found:
        engine.add_lora(one)
    return found
