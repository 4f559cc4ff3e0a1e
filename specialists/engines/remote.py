"""The remote engine: an OpenAI-compatible endpoint answers as a specialist. It can be routed to and logged,
not steered.

Until the first token is there, a request that failed for a passing reason is sent again: after a pause that
grows and is drawn at random, so that many clients do not come back at one moment (full jitter: Brooker,
2015). Once text was given out, a broken answer is an error: a second try would say something else.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ...store.errors import UsageError
from ...store.printable import one_line
from ...store.records import Message
from ..card import Card, Remote
from ..family import Family
from .base import NotOffered, RequestFailed, Sampling, TokenEvent
from .breaker import Breaker, Unavailable
from .sse import Broken, payloads

if TYPE_CHECKING:
    import httpx

    from ...router.steer.vector import SteeringVector

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
NO_TOKEN = -1
Pause = Callable[[float], None]


class _Again(Exception):
    """This try failed for a passing reason; `after` is how long the endpoint asked to wait."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class RemoteEngine:
    """The remote specialists of one family. Safe to call from several threads; nothing is connected before it
    is used. `pause` and `rng` are there for tests.
    """

    def __init__(self, family: Family, pause: Pause = time.sleep, rng: random.Random | None = None) -> None:
        """Raises UsageError where the package that speaks HTTP is not installed."""
        if find_spec("httpx") is None:
            raise UsageError("remote specialists need httpx; install it: pip install 'pilothouse[remote]'")
        self.cards = {name: card for name, card in family.cards.items() if card.kind == "remote"}
        self._pause, self._rng = pause, rng or random.Random()
        self._breakers = {url: Breaker(url) for url in (_settings(c).url for c in self.cards.values())}
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def breaker(self, name: str) -> Breaker:
        """The circuit breaker of a specialist's endpoint, which all specialists there share."""
        return self._breakers[_settings(self.cards[name]).url]

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def generate(
        self,
        messages: Sequence[Message],
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
        taps: Sequence[int] = (),
    ) -> Iterator[TokenEvent]:
        """Answer a conversation; closing the iterator ends the connection. Events carry `NO_TOKEN`, for an
        endpoint gives text; their log-probability is not a number where it tells none.

        Raises, here: NotOffered for steering, taps, and sampling that the protocol does not have; UsageError
        where the variable with the key is not set. Raises, while iterating: Unavailable when it does not
        answer after all attempts or its breaker is open; RequestFailed when it refuses, or breaks off in the
        middle.
        """
        settings = _settings(self.cards[specialist])
        if vectors or taps:
            asked = [vector.name for vector in vectors] + [f"layer {layer}" for layer in taps]
            raise NotOffered(
                f"{specialist!r} runs at {settings.url}, where {', '.join(asked)} cannot reach: it can be "
                "neither steered nor tapped; choose a specialist on this machine"
            )
        if sampling.top_k or sampling.repetition != 1.0:
            raise NotOffered(
                f"{specialist!r} speaks the OpenAI protocol, which has no top_k and no repetition penalty: "
                "leave them out"
            )
        return self._events(specialist, settings, _body(settings, messages, sampling), headers(settings))

    # -- tries ---------------------------------------------------------------------------------------------

    def _events(
        self, name: str, settings: Remote, body: dict[str, Any], head: Mapping[str, str]
    ) -> Iterator[TokenEvent]:
        breaker, until = self.breaker(name), time.monotonic() + settings.timeout
        why = ""
        for attempt in range(settings.attempts):
            breaker.enter()
            given = False
            try:
                for event in self._try(settings, body, head, until):
                    given = True
                    yield event
            except _Again as error:
                breaker.failed()
                why = str(error)
                if given:
                    raise RequestFailed(f"{name!r} at {settings.url} broke off its answer: {why}") from error
                if attempt + 1 < settings.attempts:
                    self._wait(attempt, error.after, until)
                continue
            except RequestFailed:  # it answered: no fault of the endpoint's
                breaker.succeeded()
                raise
            breaker.succeeded()
            return
        raise Unavailable(
            f"{name!r} at {settings.url} did not answer in {settings.attempts} attempts, the last time: {why}"
        )

    def _wait(self, attempt: int, asked: float, until: float) -> None:
        drawn = self._rng.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))
        pause = max(drawn, min(asked, LONGEST_PAUSE))
        if time.monotonic() + pause < until:
            self._pause(pause)

    def _try(
        self, settings: Remote, body: dict[str, Any], head: Mapping[str, str], until: float
    ) -> Iterator[TokenEvent]:
        """One request. Raises _Again for a passing failure, RequestFailed for one that will not pass."""
        import httpx

        left = until - time.monotonic()
        if left <= 0:
            raise _Again(f"no time was left of {settings.timeout:g} s")
        timeout = httpx.Timeout(min(settings.patience, left))
        try:
            url = settings.url.rstrip("/") + "/chat/completions"
            with self._http().stream("POST", url, json=body, headers=head, timeout=timeout) as response:
                if response.status_code != 200:
                    raise _refusal(response, settings)
                yield from _answer(response, until)
        except httpx.TimeoutException as error:
            raise _Again(f"silent for {min(settings.patience, left):.3g} s") from error
        except httpx.InvalidURL as error:
            raise RequestFailed(f"{settings.url} is no address: correct the card ({error})") from error
        except (httpx.TransportError, Broken) as error:
            raise _Again(one_line(str(error) or type(error).__name__, 200)) from error

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(follow_redirects=False)
            return self._client


# -- the protocol ------------------------------------------------------------------------------------------


def _settings(card: Card) -> Remote:
    assert card.remote is not None, "the card was checked"
    return card.remote


def headers(settings: Remote) -> dict[str, str]:
    """The headers of a request. Raises UsageError where the variable that should hold the key is not set."""
    found = {"Accept": "text/event-stream"}
    if settings.key_from is not None:
        key = os.environ.get(settings.key_from, "")
        if not key or not key.isascii() or not key.isprintable():
            raise UsageError(
                f"the environment variable {settings.key_from} holds no usable key for {settings.url}: set it"
            )
        found["Authorization"] = f"Bearer {key}"
    return found


def _body(settings: Remote, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": one.role, "content": one.content} for one in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "stream": True,
        "logprobs": settings.logprobs,
    }
    if sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _refusal(response: httpx.Response, settings: Remote) -> Exception:
    """The error of an answer that is none; its text is quoted, cut short and made printable."""
    text = b""
    for piece in response.iter_bytes():
        text += piece
        if len(text) > 2000:
            break
    said = one_line(text.decode("utf-8", "replace"), 300)
    what = f"{settings.url} answered {response.status_code}: {said or 'nothing'}"
    if response.status_code in PASSING:
        return _Again(what, _seconds(response.headers.get("retry-after", "")))
    if response.status_code in (401, 403):
        what += (
            f"; look at the key in {settings.key_from}" if settings.key_from else "; give its card a key_from"
        )
    return RequestFailed(what)


def _seconds(text: str) -> float:
    """The pause that a Retry-After header asks for, in seconds; 0 for a date or nonsense."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if 0 < found < math.inf else 0.0


def _answer(response: httpx.Response, until: float) -> Iterator[TokenEvent]:
    """The events of a streamed answer; the last has the finish reason.

    An event is held until the next is there, for the endpoint tells the finish reason after the last text.
    """
    held: TokenEvent | None = None
    for payload in payloads(response.iter_bytes()):
        if time.monotonic() > until:
            raise Broken("the time for an answer ran out")
        choice = _choice(payload)
        for text, logprob in _pieces(choice):
            if held is not None:
                yield held
            held = TokenEvent(NO_TOKEN, text, logprob)
        reason = choice.get("finish_reason")
        if reason in ("stop", "length"):
            text, logprob = (held.text, held.logprob) if held is not None else ("", math.nan)
            yield TokenEvent(NO_TOKEN, text, logprob, reason)
            return
        if reason is not None:
            raise RequestFailed(
                f"the endpoint ended its answer for the reason {one_line(str(reason), 40)!r}, not stop or "
                "length: ask otherwise, or choose another specialist"
            )
    raise Broken("the connection ended before the answer did")


def _choice(payload: Any) -> dict[str, Any]:
    """The one choice of a chunk, {} for a chunk without one (usage, keep-alive). Raises Broken for another
    shape.
    """
    if isinstance(payload, dict) and payload.get("error") is not None:
        raise Broken(f"it said {one_line(str(payload['error']), 200)}")
    choices = payload.get("choices", []) if isinstance(payload, dict) else None
    if choices == []:
        return {}
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise Broken(f"a chunk is {one_line(str(payload), 100)}, no object with choices")
    return choices[0]


def _pieces(choice: dict[str, Any]) -> list[tuple[str, float]]:
    """(text, log-probability) of each token of a chunk; one piece where the endpoint tells no tokens."""
    delta = choice.get("delta") or {}
    text = delta.get("content") if isinstance(delta, dict) else None
    if not text:
        return []
    if not isinstance(text, str):
        raise Broken(f"a chunk's content is {one_line(str(text), 60)}, no text")
    told = choice.get("logprobs") or {}
    tokens = told.get("content") if isinstance(told, dict) else None
    try:
        pairs = [(str(one["token"]), float(one["logprob"])) for one in tokens or ()]
    except (TypeError, KeyError, ValueError) as error:
        raise Broken(f"a chunk's logprobs are {one_line(str(tokens), 60)}") from error
    if len(pairs) > 1 and "".join(piece for piece, _ in pairs) == text:
        return pairs
    # pieces of a character do not add up to the text: one event then, with all their certainty
    return [(text, sum(value for _, value in pairs) if pairs else math.nan)]
