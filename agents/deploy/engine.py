"""The engine as a controller sees it: on other machines, behind a Ray Serve handle.

A replica that dies under an answer is no end of it. Drawing is repeatable (the same prompt, specialist, seed
and steering give the same tokens), so the answer is begun again on another replica, and what was given out
already is passed over, after a look that it is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...specialists.engines.base import EngineBusy, EngineClosed, Prefill, Sampling, TokenEvent
from ...specialists.family import Family
from ...specialists.tokenizing import ChatCodec
from ...store.errors import ArtifactError
from ...store.records import Message

if TYPE_CHECKING:
    from torch import Tensor

    from ...router.steer.vector import SteeringVector

PAUSE = 0.2  # seconds before a lost call is sent again
LOADING = 1800.0  # seconds that engines may take to load


class ClusterEngine:
    """See `Engine`. `handle` is the deployment of `EngineReplica`; a call that was lost with its replica is
    sent again for `patience` seconds. Calls wait, so they must not come from an event loop.
    """

    def __init__(self, handle: Any, family: Family, patience: float = 30.0) -> None:
        self._handle, self._family, self._patience = handle, family, patience
        self._codec = ChatCodec.load(family.trunk_folder)

    @cached_property
    def context(self) -> int:
        """The most tokens, prompt and answer together. Asked first, it waits until an engine is loaded.

        Raises ArtifactError when the engines have another trunk than this family's probes were made for.
        """
        fingerprint, context = self._ask("about", patience=max(LOADING, self._patience))
        if fingerprint != self._family.trunk_fingerprint:
            raise ArtifactError(
                f"the engines run the trunk {fingerprint[:12]}…, family {self._family.name!r} here was made "
                f"for {self._family.trunk_fingerprint[:12]}…; give every node the same family"
            )
        return int(context)

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to its last turn's end."""
        return self._codec.encode_chat(messages)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer, end token included."""
        return self._codec.encode_answer(text)

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt on some replica. Raises as `Engine.probe`, EngineClosed when none can be reached."""
        found: Prefill = self._ask("probe", tuple(tokens), tuple(layers))
        return found

    def generate(
        self,
        prefill: Prefill,
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
    ) -> Iterator[TokenEvent]:
        """Answer on some replica, and on another where that one is lost. Raises as `Engine.generate`,
        EngineClosed when none can be reached.
        """
        arguments = (prefill.tokens, specialist, sampling, tuple(vectors))
        given: list[int] = []
        end = time.monotonic() + self._patience
        while True:
            call = self._handle.options(stream=True).generate.remote(*arguments)
            try:
                for event in self._after(call, given):
                    given.append(event.token)
                    end = time.monotonic() + self._patience
                    yield event
                    if event.finish_reason is not None:
                        return
                return
            except Exception as error:
                self._again(error, end)
            finally:
                call.cancel()

    def _after(self, call: Any, given: Sequence[int]) -> Iterator[TokenEvent]:
        """The events of a call that come after those given out before it."""
        before = list(given)
        for number, event in enumerate(event for events in call for event in events):
            if number >= len(before):
                yield event
            elif event.token != before[number]:
                raise EngineClosed(
                    "the replica that answered was lost, and another one draws other tokens; ask again"
                )

    def score(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> float:
        """Return the mean log-probability (nats per token) that a specialist gives to an answer."""
        return float(self._ask("score", prefill.tokens, specialist, tuple(answer_tokens), tuple(vectors)))

    def states(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> dict[int, Tensor]:
        """Return the residual stream [A, D] at each of the answer's tokens, per layer, as that specialist."""
        answer, wanted = tuple(answer_tokens), tuple(layers)
        return dict(self._ask("states", prefill.tokens, specialist, answer, wanted, tuple(vectors)))

    def close(self) -> None:
        """Nothing is held here; the replicas are Ray's."""

    def _ask(self, method: str, *arguments: Any, patience: float | None = None) -> Any:
        end = time.monotonic() + (patience or self._patience)
        while True:
            call = getattr(self._handle, method).remote(*arguments)
            try:
                return call.result(timeout_s=max(0.1, end - time.monotonic()))
            except Exception as error:
                self._again(error, end)

    def _again(self, error: Exception, end: float) -> None:
        """Wait a moment where a call was lost and may be sent again; else raise what is to be told."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        if isinstance(error, RayTaskError):  # the engine's own word
            cause = getattr(error, "cause", error)
            raise cause if isinstance(cause, Exception) else error
        if isinstance(error, TimeoutError):
            raise EngineBusy(f"no engine answered for {self._patience:g} s; ask again later") from error
        if not isinstance(error, RayError | RayServeException):
            raise error
        if time.monotonic() + PAUSE > end:
            raise EngineClosed(
                f"no engine could be reached for {self._patience:g} s ({type(error).__name__}); ask again "
                "later"
            ) from error
        time.sleep(PAUSE)
