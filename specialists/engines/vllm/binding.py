"""Where the board meets vLLM's two model runners.

V1 (always on a CPU): around `_prepare_inputs` and `_model_forward`. V2 (the default on a GPU): by a
`ModelState` of ours, through the function with which vLLM chooses one; its hooks run outside captured graphs,
which read what they wrote. Both share `_set_active_loras`, where adapters become activated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .board import Board
from .row import Note
from .sites import Settings
from .versions import require

BOARD = "pilothouse_board"


def make(model: Any, config: Any, tokens: int, device: Any) -> Board | None:
    """A board on a loaded model, where its `VllmConfig` asks for one."""
    settings = Settings.of(config)
    if settings is None:
        return None
    compilation = config.compilation_config
    padded = max([tokens, *(compilation.cudagraph_capture_sizes or ())])
    # CompilationMode.NONE is 0
    return Board(model, config.model_config.hf_text_config, settings, padded, device, bool(compilation.mode))


def begin(
    board: Board, note_of: Callable[[str], Note | None], ids: Sequence[str], firsts: Any, counts: Any
) -> None:
    """Plan a pass: of each request in the batch, in its order, `counts[i]` tokens from `firsts[i]` on."""
    if board.goes_on(ids, firsts, counts):
        return
    at, order = 0, []
    for index, name in enumerate(ids):
        count, note = int(counts[index]), note_of(name)
        row = None if note is None else board.rows.get(note.number)
        order.append(None if row is None else row.span(at, int(firsts[index]), count))
        at += count
    board.begin(order, at)
    board.may_go_on(ids, firsts, counts)


def bind_first() -> None:
    """Bind the V1 runner."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    prepare = require(GPUModelRunner, "_prepare_inputs", "self", "scheduler_output", "num_scheduled_tokens")
    forward = require(GPUModelRunner, "_model_forward", "self", "input_ids", "positions")

    def prepare_inputs(self: Any, scheduler_output: Any, num_scheduled_tokens: Any, *more: Any) -> Any:
        board = getattr(self, BOARD, None)
        if board is not None:
            batch, requests = self.input_batch, self.requests

            def note_of(name: str) -> Note | None:
                return Note.of(requests[name].sampling_params)

            begin(board, note_of, batch.req_ids, batch.num_computed_tokens_cpu, num_scheduled_tokens)
        return prepare(self, scheduler_output, num_scheduled_tokens, *more)

    def model_forward(self: Any, *given: Any, **named: Any) -> Any:
        found = forward(self, *given, **named)
        board = getattr(self, BOARD, None)
        if board is not None:
            board.harvest()
        return found

    GPUModelRunner._prepare_inputs = prepare_inputs
    GPUModelRunner._model_forward = model_forward
    for runner in (GPUModelRunner, CPUModelRunner):
        _bind_load(runner)


def _bind_load(runner: Any) -> None:
    load = require(runner, "load_model", "self", "load_dummy_weights")

    def load_model(self: Any, *given: Any, **named: Any) -> None:
        load(self, *given, **named)
        setattr(self, BOARD, make(self.model, self.vllm_config, self.max_num_tokens, self.device))

    runner.load_model = load_model


def bind_second() -> None:
    """Bind the V2 runner, by the class with which it keeps a model's state."""
    from vllm.v1.worker.gpu import model_states

    resolve = require(model_states, "resolve_model_state_cls", "vllm_config", "model")

    def resolved(vllm_config: Any, model: Any) -> Any:
        state = resolve(vllm_config, model)
        return state if Settings.of(vllm_config) is None else boarded(state)

    model_states.resolve_model_state_cls = resolved


def boarded(state: Any) -> Any:
    """A `ModelState` class like `state`, with a board."""
    require(state, "preprocess_state", "self", "input_batch")
    require(state, "postprocess_state", "self", "idx_mapping")

    class Boarded(state):  # type: ignore[misc]
        """Tells the board of each batch before the forward pass, and takes what was read after it."""

        def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
            super().__init__(vllm_config, model, encoder_cache, device)
            self.notes: dict[str, Note] = {}
            setattr(self, BOARD, make(model, vllm_config, self.max_num_tokens, device))

        def add_request(self, req_index: int, new_req_data: Any) -> None:
            super().add_request(req_index, new_req_data)
            note = Note.of(new_req_data.sampling_params)
            if note is not None:
                self.notes[new_req_data.req_id] = note

        def remove_request(self, req_id: str) -> None:
            super().remove_request(req_id)
            self.notes.pop(req_id, None)

        def preprocess_state(self, input_batch: Any, *more: Any) -> None:
            super().preprocess_state(input_batch, *more)
            firsts, counts = input_batch.num_computed_tokens_np, input_batch.num_scheduled_tokens
            begin(getattr(self, BOARD), self.notes.get, input_batch.req_ids, firsts, counts)

        def postprocess_state(self, *given: Any, **named: Any) -> None:
            super().postprocess_state(*given, **named)
            getattr(self, BOARD).harvest()

    return Boarded


def bind_adapters() -> None:
    """Let adapters act from the boundary on, in both runners."""
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    names = ("self", "prompt_lora_mapping", "token_lora_mapping", "lora_requests")
    activate = require(LoRAModelRunnerMixin, "_set_active_loras", *names)

    def set_active(self: Any, prompts: Any, tokens: Any, requests: Any, *more: Any) -> None:
        board = getattr(self, BOARD, None) or getattr(getattr(self, "model_state", None), BOARD, None)
        if board is not None and board.tokens == len(tokens):
            tokens = activated(board, tokens)
        activate(self, prompts, tokens, requests, *more)

    LoRAModelRunnerMixin._set_active_loras = set_active


def activated(board: Board, tokens: Sequence[int]) -> tuple[int, ...]:
    """The adapter of each token: none for prompt tokens of the board's requests."""
    found = list(tokens)
    for span in board.spans:
        found[span.at : span.at + span.prompt] = [0] * span.prompt
    return tuple(found)
