"""What every batching engine must do, as plain checks: `for check in CHECKS: check(Suite(engine, ...))`.

A check raises AssertionError where the engine is wrong. All compare with `Reference`, one plain pass a row,
so that what an engine batches, caches, chunks or fuses is held against arithmetic that does none of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Thread

import torch

from ...router.steer.vector import SteeringVector
from ...store.errors import ArtifactError, NotFoundError, PilothouseError, UsageError
from .base import BatchEngine, Capacity, EngineBusy, EngineClosed, Head, Request, RequestFailed, Sampling
from .stream import Stream
from .suite import WORDS, Got, Suite, agrees, ask, close, collect, rests, same, serves
from .toy import ADAPTERS, CARDS, STUDENT


def every_specialist_matches_a_plain_pass(suite: Suite) -> None:
    """Trunk, adapters and student, with taps and heads, alone."""
    for name in ("trunk", *ADAPTERS, STUDENT):
        request = Request(suite.prompt("a boat"), name, Sampling(max_tokens=8), (), (1, 0), suite.heads())
        agrees(suite, ask(suite, request)[0])


def every_steering_matches_a_plain_pass(suite: Suite) -> None:
    """Every kind and scope alone, then several in both orders at one layer; each changes the answer."""
    plain = Request(suite.prompt("down the river"), "beta", Sampling(max_tokens=6), (), (0, 1), suite.heads())
    idle = ask(suite, plain)[0]
    pool = suite.pool()
    for vectors in (*((one,) for one in pool), pool, pool[::-1]):
        got = ask(suite, replace(plain, vectors=vectors))[0]
        agrees(suite, got)
        assert [e.logprob for e in got.events] != [e.logprob for e in idle.events], [v.name for v in vectors]


def a_batch_equals_each_alone(suite: Suite) -> None:
    """Requests of every kind at one moment: the same answers as one by one, and as the plain pass."""
    rng = random.Random(1)
    requests = [suite.random_request(rng) for _ in range(12)]
    for request, together in zip(requests, ask(suite, *requests), strict=True):
        agrees(suite, together)
        same(together, ask(suite, request)[0], suite.tolerance)


def rows_keep_their_own_under_random_arrival(suite: Suite) -> None:
    """Random arrival, length and cancellation: whoever is left gets what is theirs."""
    rng, left = random.Random(2), []
    for _ in range(24):
        stream = suite.engine.submit(suite.random_request(rng), wait=60)
        if rng.random() < 0.3:
            for _ in range(rng.randint(0, 3)):
                next(stream, None)
            stream.cancel()
            assert next(stream, None) is None
        else:
            left.append(stream)
        time.sleep(rng.choice((0, 0, 0.002, 0.01)))
    for stream in rng.sample(left, len(left)):
        agrees(suite, collect(stream))
    rests(suite.engine)


def idle_rows_keep_their_bits(suite: Suite) -> None:
    """A row's numbers are bit for bit the same whether its neighbours are steered or not."""

    def idle(seed: int) -> Request:
        return Request(suite.prompt("the answer"), "beta", Sampling(1.0, 8, seed), (), (1,), reuse=False)

    neighbours = [
        Request(suite.prompt(text), "trunk", Sampling(max_tokens=8), reuse=False) for text in WORDS[:3]
    ]
    vectors = (suite.vector(), suite.vector(layer=1, gate=suite.gate(1)))
    steered = [replace(one, vectors=vectors) for one in neighbours]
    for seed in range(3):
        plain, among = ask(suite, idle(seed), *neighbours), ask(suite, idle(seed), *steered)
        # as long as nobody has left, both passes have the same shape
        count = min(len(got.events) for got in (*plain, *among))
        assert count >= 2
        assert plain[0].events[:count] == among[0].events[:count]
        tokens = len(plain[0].stream.request.tokens) + count
        assert torch.equal(plain[0].stream.states[1][:tokens], among[0].stream.states[1][:tokens])
        assert plain[1].events != among[1].events


def gates_open_for_each_request_alone(suite: Suite) -> None:
    """Of requests with the same vector, only those are steered whose own gate is open."""
    base = Request(suite.prompt("Say hello"), "gamma", Sampling(max_tokens=6), (), (0,))
    gates = [replace(suite.gate(), threshold=threshold) for threshold in (-1e9, 1e9, 0.0)]
    requests = [replace(base, vectors=(suite.vector(layer=1, gate=gate),)) for gate in gates]
    plain, always, never, some = ask(suite, base, *requests)
    bare = ask(suite, replace(base, vectors=(suite.vector(layer=1),)))[0]
    for got in (plain, always, never, some):
        agrees(suite, got)
    same(never, plain, suite.tolerance)
    same(always, bare, suite.tolerance)
    assert [e.logprob for e in always.events] != [e.logprob for e in plain.events]


def prefix_reuse_never_leaks_steering(suite: Suite) -> None:
    """One prompt under changing steering, in every order: each is read as it should be, and reused when
    alike.
    """
    rng = random.Random(3)
    prompt = suite.prompt(" ".join(rng.choices(WORDS, k=40)))
    assert len(prompt) > suite.grain
    base = Request(prompt, "alpha", Sampling(max_tokens=4))
    steered = [(), (suite.vector("add", "both"),), (suite.vector("add", "prompt"),), (suite.vector(),)]
    for vectors in [*rng.sample(steered, 4), *rng.sample(steered, 4), *steered]:
        got = ask(suite, replace(base, vectors=vectors))[0]
        agrees(suite, got)
    assert got.stream.reused > 0, "an unsteered prompt that was just read is reused"
    other = replace(suite.vector("add", "both"), coefficient=-3.0)
    fresh = ask(suite, replace(base, vectors=(other,)))[0]
    assert fresh.stream.reused == 0, "no request was read under this steering"
    agrees(suite, fresh)
    longer = replace(base, tokens=(*base.tokens, *suite.prompt("and then?")), specialist="beta")
    again = ask(suite, longer)[0]
    assert again.stream.reused > 0
    agrees(suite, again)
    anew = ask(suite, replace(base, reuse=False))[0]
    assert anew.stream.reused == 0


def a_scouts_reading_is_gone_on_from(suite: Suite) -> None:
    """`probe`, then requests with its prefill: nothing is read twice, and all is right, steered or not."""
    tokens = suite.prompt("the pilot of a small boat reads the river")
    prefill = suite.engine.probe(tokens, (0, 1))
    truth = suite.reference.read(Request(tokens, "trunk"), [0])
    for layer in (0, 1):
        close(suite, prefill.states[layer], truth.states[layer][: len(tokens)])
    for name in ("trunk", *ADAPTERS, STUDENT):
        request = Request(tokens, name, Sampling(max_tokens=4), (), (0,), prefill=prefill)
        got = ask(suite, request)[0]
        assert name == STUDENT or got.stream.reused >= (len(tokens) - 1) // suite.grain * suite.grain
        agrees(suite, got)
    steered = Request(tokens, "beta", Sampling(max_tokens=4), (suite.vector("add", "both"),), prefill=prefill)
    agrees(suite, ask(suite, steered)[0])
    drawn = list(suite.engine.generate(prefill, "beta", Sampling(max_tokens=5)))
    mean = sum(event.logprob for event in drawn) / len(drawn)
    scored = suite.engine.score(prefill, "beta", [event.token for event in drawn])
    assert abs(scored - mean) <= suite.tolerance


def sampling_is_the_requests_own(suite: Suite) -> None:
    """The same seed draws the same, alone and among others; other seeds differ; one token left is greedy."""
    base = Request(suite.prompt("Once upon a time"), "alpha", Sampling(1.0, 12, 7))
    alone = ask(suite, base)[0]
    crowd = [replace(base, sampling=Sampling(1.0, 12, seed)) for seed in range(10)]
    among = ask(suite, *crowd)
    assert among[7].tokens == alone.tokens
    assert len({tuple(got.tokens) for got in among}) > 5
    greedy = ask(suite, replace(base, sampling=Sampling(max_tokens=12)))[0]
    for sampling in (Sampling(50.0, 12, 3, top_k=1), Sampling(1.0, 12, 3, top_p=1e-9)):
        assert ask(suite, replace(base, sampling=sampling))[0].tokens == greedy.tokens


def stop_texts_end_an_answer_before_them(suite: Suite) -> None:
    """The text ends where the stop text begins, also in a batch; a stop text that never comes changes
    nothing.
    """
    base = Request(suite.prompt("Say hello in Spanish"), "alpha", Sampling(max_tokens=12))
    whole = ask(suite, base)[0]
    stop = whole.text[3:6]
    stopped = replace(base, sampling=replace(base.sampling, stop=(stop, "never said")))
    quiet = replace(base, sampling=replace(base.sampling, stop=("never said",)))
    for got in ask(suite, stopped, quiet, stopped)[::2]:
        assert got.text == whole.text[: whole.text.index(stop)]
        assert got.events[-1].finish_reason == "stop"
    assert ask(suite, quiet)[0].text == whole.text


def long_prompts_are_read_in_chunks(suite: Suite) -> None:
    """Chunks of five tokens, taps, heads and prompt steering across their borders, beside short prompts."""
    engine, rng = suite.make(Capacity(rows=3, waiting=16, chunk=5)), random.Random(4)
    try:
        vectors = (suite.vector("add", "both"), suite.vector("add", "prompt", 2.0, 1, suite.gate(0)))
        long = Request(
            suite.prompt("the river " * 12), "alpha", Sampling(max_tokens=4), vectors, (0, 1), suite.heads()
        )
        requests = [long, *(suite.random_request(rng) for _ in range(6)), replace(long, specialist="beta")]
        for stream in engine.submit_all(requests):
            agrees(suite, collect(stream))
        rests(engine)
    finally:
        engine.close()


def errors_end_one_request_and_leave_nothing(suite: Suite) -> None:
    """What is wrong is named at once; what overflows later ends its own request; neighbours are right."""
    good = Request(suite.prompt("twelve and thirty"), "beta", Sampling(max_tokens=6), (), (1,))
    wide = SteeringVector(
        "wide", "add", 0, 1.0, "both", torch.ones(7), fingerprint=suite.reference.family.trunk_fingerprint
    )
    last = suite.reference.layers
    wrong: list[tuple[Request, type[PilothouseError]]] = [
        (replace(good, specialist="nobody"), NotFoundError),
        (replace(good, specialist=CARDS), UsageError),
        (replace(good, specialist=STUDENT, vectors=(suite.vector(),)), UsageError),
        (replace(good, tokens=(5,) * 100_000), UsageError),
        (replace(good, vectors=(wide,)), UsageError),
        (replace(good, vectors=(suite.vector(layer=last),)), UsageError),
        (replace(good, vectors=(replace(suite.vector(), fingerprint="0" * 64),)), ArtifactError),
        (replace(good, taps=(last,)), UsageError),
        (replace(good, heads=(Head("wide", 0, torch.ones(7)),)), UsageError),
    ]
    for request, kind in wrong:
        refused(suite.engine, request, kind)
    burst = replace(good, vectors=(suite.vector(coefficient=3e38),))
    before, failed, after = ask(suite, good, burst, good)
    assert isinstance(failed.error, RequestFailed), failed.error
    for got in (before, after):
        agrees(suite, got)
    rests(suite.engine)
    serves(suite)


def refused(engine: BatchEngine, request: Request, kind: type[PilothouseError]) -> None:
    """The request is refused, in words."""
    said = ""
    try:
        engine.submit(request)
    except kind as error:
        said = str(error)
    assert len(said) > 20, f"{request.specialist}: {kind.__name__} was expected, with words"


def cancelling_leaves_nothing(suite: Suite) -> None:
    """Cancelled before, during and after reading the prompt, and twice: neighbours and followers go on."""
    engine = suite.make(Capacity(rows=2, waiting=8, chunk=4))
    try:
        long = Request(
            suite.prompt("the wheel " * 20), "alpha", Sampling(max_tokens=30), (suite.vector(),), (0,)
        )
        short = Request(suite.prompt("boat"), "gamma", Sampling(max_tokens=10))
        for reading in (0, 0.01, 0.05):
            gone, queued, stays = engine.submit(long), engine.submit(long), engine.submit(short)
            queued.cancel()
            time.sleep(reading)
            gone.cancel()
            gone.cancel()
            assert list(gone) == []
            agrees(suite, collect(stays))
        rests(engine)
        serves(suite, engine)
    finally:
        engine.close()


def a_full_queue_refuses_or_waits(suite: Suite) -> None:
    """Beyond rows and queue a request is refused in words, or waits for its turn."""
    engine = suite.make(Capacity(rows=1, waiting=2))
    try:
        long = Request(suite.prompt("boat"), "trunk", Sampling(2.0, 200, 1))
        try:
            engine.submit_all([long] * 3)
        except EngineBusy:
            pass
        else:
            raise AssertionError("three do not fit a queue of two, however fast it is emptied")
        taken = _until_refused(engine, long)
        begun = time.monotonic()
        try:
            taken.append(engine.submit(long, wait=0.01))
        except EngineBusy:
            assert time.monotonic() - begun >= 0.01
        taken.append(engine.submit(long, wait=60))
        for stream in taken[-3:]:
            agrees(suite, collect(stream))
        for stream in taken[:-3]:
            stream.cancel()
        rests(engine)
    finally:
        engine.close()


def _until_refused(engine: BatchEngine, request: Request) -> list[Stream]:
    """Submit until there is no room: an engine may answer while its queue is filled, but not for ever."""
    taken: list[Stream] = []
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            taken.append(engine.submit(request))
        except EngineBusy:
            return taken
    raise AssertionError(f"a queue of two took {len(taken)} requests and refused none")


def memory_is_a_promise(suite: Suite) -> None:
    """What can never fit is refused at once; what does not fit now waits; all are answered."""
    base = Request(suite.prompt("boat"), "alpha", Sampling(max_tokens=8))
    tight = suite.make(Capacity(memory=1))
    try:
        refused(tight, base, UsageError)
    finally:
        tight.close()
    engine = suite.make(Capacity(rows=8, memory=24 << 10))
    try:
        for stream in engine.submit_all([base] * 6):
            agrees(suite, collect(stream))
        rests(engine)
    finally:
        engine.close()


def closing_ends_everything(suite: Suite) -> None:
    """Streams under way and queued end with EngineClosed; nothing is taken later; twice is once."""
    engine = suite.make(Capacity(rows=1))
    long = Request(suite.prompt("boat"), "trunk", Sampling(2.0, 200, 1))
    streams = [engine.submit(long) for _ in range(3)]
    next(streams[0])
    engine.close()
    engine.close()
    errors = [collect(stream).error for stream in streams]
    assert all(isinstance(error, EngineClosed) for error in errors[1:]), errors
    refused(engine, long, EngineClosed)


def threads_get_their_own_answers(suite: Suite) -> None:
    """Many threads submit and read at once, while others probe."""
    rng, found = random.Random(6), dict[int, Got]()
    requests = [suite.random_request(rng) for _ in range(8)]

    def work(index: int) -> None:
        suite.engine.probe(requests[index].tokens, (0,))
        found[index] = collect(suite.engine.submit(requests[index], wait=60))

    threads = [Thread(target=work, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(requests)
    for got in found.values():
        agrees(suite, got)


CHECKS: Sequence[Callable[[Suite], None]] = (
    every_specialist_matches_a_plain_pass,
    every_steering_matches_a_plain_pass,
    a_batch_equals_each_alone,
    rows_keep_their_own_under_random_arrival,
    idle_rows_keep_their_bits,
    gates_open_for_each_request_alone,
    prefix_reuse_never_leaks_steering,
    a_scouts_reading_is_gone_on_from,
    sampling_is_the_requests_own,
    stop_texts_end_an_answer_before_them,
    long_prompts_are_read_in_chunks,
    errors_end_one_request_and_leave_nothing,
    cancelling_leaves_nothing,
    a_full_queue_refuses_or_waits,
    memory_is_a_promise,
    closing_ends_everything,
    threads_get_their_own_answers,
)
