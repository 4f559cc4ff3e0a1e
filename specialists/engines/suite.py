"""An engine under test: what requests it is given, and how their answers are held against the plain pass."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...router.steer.vector import Encoder, Gate, SteeringVector
from ...store.errors import PilothouseError
from ...store.records import Message, SteeringKind, SteeringScope
from .base import BatchEngine, Capacity, Head, Request, Sampling, TokenEvent
from .reference import Reference
from .sampling import draw
from .stream import Stream
from .toy import ADAPTERS, STUDENT

WORDS = ("the", "boat", "river", "capital", "France", "answer", "twelve", "Spanish", "pilot", "wheel", "café")


@dataclass(frozen=True, eq=False)
class Suite:
    """An engine over a family of `toy.make_family`, and what to hold it against.

    `make` opens another engine over the same family, with that capacity. `tolerance` bounds the error of
    log-probabilities (nats), and of states and readings relative to their size. `grain` is the engine's block
    of cache: what was read is reused in whole blocks.
    """

    engine: BatchEngine
    reference: Reference
    make: Callable[[Capacity], BatchEngine]
    tolerance: float = 1e-3
    grain: int = 1

    def prompt(self, text: str) -> tuple[int, ...]:
        """The tokens of one user turn."""
        return self.engine.encode_chat([Message(role="user", content=text)])

    def random_prompt(self, rng: random.Random, most: int = 20) -> tuple[int, ...]:
        """The tokens of one to `most` words."""
        return self.prompt(" ".join(rng.choices(WORDS, k=rng.randint(1, most))))

    def direction(self, seed: int) -> Tensor:
        """A random vector [D]."""
        return torch.randn(self.reference.width, generator=torch.Generator().manual_seed(seed))

    def vector(
        self,
        kind: SteeringKind = "add",
        scope: SteeringScope = "generation",
        coefficient: float = 3.0,
        layer: int = 0,
        gate: Gate | None = None,
        seed: int = 5,
    ) -> SteeringVector:
        """A steering vector of this family's trunk."""
        clamps = kind == "clamp_feature"
        encoder = Encoder(self.direction(seed + 1) / 8, 0.1, 0.2) if clamps else None
        name, mark = f"{kind}-{scope}-{seed}", self.reference.family.trunk_fingerprint
        return SteeringVector(
            name,
            kind,
            layer,
            coefficient,
            scope,
            self.direction(seed),
            3 if clamps else None,
            gate,
            encoder,
            mark,
        )

    def gate(self, layer: int = 0, seed: int = 11, threshold: float = 0.0) -> Gate:
        """A gate that is open for about half of all tokens."""
        return Gate(layer, self.direction(seed), 0.0, threshold)

    def pool(self) -> tuple[SteeringVector, ...]:
        """Steering of every kind and scope, gated and not, at both layers."""
        return (
            self.vector(),
            self.vector("add", "both", 2.0, 1, self.gate(0), seed=21),
            self.vector("project_out", "prompt", 1.0, 0, seed=31),
            self.vector("scale", "generation", 0.2, 1, seed=41),
            self.vector("clamp_feature", "both", 2.0, 0, seed=51),
            self.vector("add", "generation", -3.0, 0, self.gate(0, 12), seed=61),
        )

    def heads(self) -> tuple[Head, ...]:
        """Heads of every kind at both layers."""
        last = self.reference.layers - 1
        return (
            Head("asked", last, self.direction(71), 0.5, "prompt"),
            Head("each", 0, self.direction(72), -0.5),
            Head("every", last, self.direction(73)),
            Head("last", 0, self.direction(74), 1.0, "end"),
        )

    def random_request(self, rng: random.Random) -> Request:
        """A request of any kind."""
        specialist = rng.choice(("trunk", *ADAPTERS, STUDENT))
        many = 0 if specialist == STUDENT else rng.choice((0, 0, 1, 2, 3))
        samplings = (
            Sampling(max_tokens=rng.randint(1, 12)),
            Sampling(1.0, rng.randint(2, 12), rng.randint(-5, 10**9)),
            Sampling(0.8, 8, rng.randint(0, 99), top_p=0.9),
            Sampling(1.5, 8, rng.randint(0, 99), top_k=5, repetition=1.3),
        )
        return Request(
            self.random_prompt(rng),
            specialist,
            rng.choice(samplings),
            tuple(rng.sample(self.pool(), many)),
            rng.choice(((), (0,), (1, 0))),
            rng.choice(((), self.heads())),
            reuse=rng.random() < 0.7,
        )


# -- reading and judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Got:
    """All that came of a request."""

    stream: Stream
    events: tuple[TokenEvent, ...]
    error: PilothouseError | None = None

    @property
    def tokens(self) -> list[int]:
        """The drawn tokens."""
        return [event.token for event in self.events]

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(event.text for event in self.events)


def collect(stream: Stream) -> Got:
    """Read a stream to its end."""
    events: list[TokenEvent] = []
    try:
        events.extend(stream)
    except PilothouseError as error:
        return Got(stream, tuple(events), error)
    return Got(stream, tuple(events))


def ask(suite: Suite, *requests: Request) -> list[Got]:
    """Submit requests at one moment and read them all."""
    return [collect(stream) for stream in suite.engine.submit_all(requests, wait=60)]


def agrees(suite: Suite, got: Got) -> None:
    """Hold everything that came of a request against the plain pass."""
    request = got.stream.request
    assert got.error is None, got.error
    truth = suite.reference.read(request, got.tokens)
    logprobs = truth.logits.log_softmax(-1)
    seen = [*request.tokens, *suite.reference.codec.invocation]
    for at, event in enumerate(got.events):
        expected = float(logprobs[at, event.token])
        assert abs(event.logprob - expected) <= suite.tolerance, (at, event.logprob, expected)
        wanted = draw(truth.logits[at], request.sampling, at, seen)
        tied = abs(float(logprobs[at, wanted]) - expected) <= 2 * suite.tolerance
        assert event.token == wanted or (tied and request.sampling.temperature == 0), (
            at,
            event.token,
            wanted,
        )
        seen.append(event.token)
    _ends_well(suite, got)
    for layer in request.taps:
        close(suite, got.stream.states[layer], truth.states[layer])
    for head in request.heads:
        close(suite, torch.tensor(got.stream.readings[head.name]), torch.tensor(truth.readings(head)))
    each = [list(event.readings) for event in got.events]
    by_name = [got.stream.readings[head.name] for head in request.heads if head.at == "token"]
    assert each == [list(row) for row in zip(*by_name, strict=True)] or not by_name


def _ends_well(suite: Suite, got: Got) -> None:
    codec, sampling = suite.reference.codec, got.stream.request.sampling
    assert [event.finish_reason for event in got.events[:-1]] == [None] * (len(got.events) - 1)
    last = got.events[-1]
    assert last.finish_reason == ("stop" if last.token in codec.stops else "length")
    assert len(got.events) <= sampling.max_tokens
    assert (len(got.events) == sampling.max_tokens) or last.finish_reason == "stop"
    assert got.text == codec.decode(got.tokens)


def close(suite: Suite, found: Tensor, expected: Tensor) -> None:
    """Equal within the tolerance, relative to the size of what is expected."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    size = max(1.0, float(expected.float().abs().max()))
    error = float((found.float() - expected.float()).abs().max()) / size
    assert error <= suite.tolerance, error


def same(left: Got, right: Got, tolerance: float) -> None:
    """The same answer, but for rounding."""
    assert left.tokens == right.tokens
    pairs = zip(left.events, right.events, strict=True)
    assert all(abs(a.logprob - b.logprob) <= tolerance for a, b in pairs)


def rests(engine: BatchEngine) -> None:
    """Nothing is held: no row, no queue, no reserved memory (engines that tell their `load`)."""
    until = time.monotonic() + 10
    while (load := getattr(engine, "load", (0, 0, 0))) != (0, 0, 0):
        assert time.monotonic() < until, load
        time.sleep(0.002)


def serves(suite: Suite, engine: BatchEngine | None = None) -> None:
    """The engine answers a plain request rightly."""
    request = Request(suite.prompt("What is the capital"), "alpha", Sampling(max_tokens=4), reuse=False)
    agrees(suite, collect((engine or suite.engine).submit(request, wait=10)))
