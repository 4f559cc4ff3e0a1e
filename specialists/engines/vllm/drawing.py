"""Drawing by the contract's own numbers inside vLLM: a logits processor that leaves one token in a row.

vLLM takes the log-probabilities from the logits before any processor, and the likeliest token after them. So
greedy requests are left alone, and the others get their drawn token as the only one.
"""

from __future__ import annotations

from typing import Any

from .board import BOARDS
from .row import Note
from .sites import Settings


def processor(config_uses_v2: bool) -> type:
    """Return the class for the model runner in use: the two have interfaces of their own."""
    return _second() if config_uses_v2 else _first()


def _first() -> type:
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class Draws(LogitsProcessor):  # type: ignore[misc]
        """For the V1 runner: one row of logits a request, in the batch's order."""

        def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
            self.settings = Settings.of(vllm_config)

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            """Nothing: the board knows who is in the batch."""

        def apply(self, logits: Any) -> Any:
            board = BOARDS.get(self.settings.number) if self.settings else None
            return logits if board is None else board.draw(logits)

    return Draws


def _second() -> type:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor

    class Draws(LogitsProcessor):  # type: ignore[misc]
        """For the V2 runner."""

        def __init__(self, vllm_config: Any, req_states: Any) -> None:
            self.settings = Settings.of(vllm_config)

        def add_request(self, req_idx: int, sampling_params: Any) -> bool:
            return Note.of(sampling_params) is not None

        def apply(self, logits: Any, ctx: Any) -> Any:
            board = BOARDS.get(self.settings.number) if self.settings else None
            return logits if board is None else board.draw(logits)

    return Draws
