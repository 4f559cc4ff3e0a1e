"""What every engine must do; run here on the embedded one. A new engine joins `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Thread

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.engines.base import Engine, Sampling, TokenEvent
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.store.errors import ArtifactError, NotFoundError, UsageError
from pilothouse.store.records import Message, SteeringScope

ENGINES: dict[str, Callable[[Family], Engine]] = {"torch": lambda family: TorchEngine(family, "cpu")}
GREEDY = Sampling(max_tokens=12)
SPECIALISTS = ("trunk", "alpha", "beta", "pupil")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tiny_family: Path) -> Iterator[Engine]:
    made = ENGINES[request.param](Family.open(tiny_family))
    yield made
    made.close()


@pytest.fixture
def prompt(engine: Engine) -> tuple[int, ...]:
    return engine.encode_chat([Message(role="user", content="What is the capital of France?")])


@pytest.fixture(scope="module")
def plain(tiny_family: Path) -> Qwen3ForCausalLM:
    model: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(tiny_family / "trunk")
    model.train(False)
    return model


def vector(
    family: Path, scope: SteeringScope = "generation", coefficient: float = 4.0, name: str = "v"
) -> SteeringVector:
    generator = torch.Generator().manual_seed(5)
    return SteeringVector(
        name, "add", 0, coefficient, scope, torch.randn(32, generator=generator),
        fingerprint=Family.open(family).trunk_fingerprint,
    )  # fmt: skip


class Drawn(list[tuple[int, float]]):
    """Tokens with log-probabilities; equal when tokens are, and numbers but for rounding in another batch."""

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Drawn)
        return [t for t, _ in self] == [t for t, _ in other] and [p for _, p in self] == pytest.approx(
            [p for _, p in other], abs=1e-4
        )

    __hash__ = None  # type: ignore[assignment]


def tokens_of(events: Iterator[TokenEvent]) -> Drawn:
    return Drawn((e.token, e.logprob) for e in events)


def greedy(model: Qwen3ForCausalLM, tokens: Sequence[int], count: int) -> list[int]:
    """Decode without any cache."""
    found = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            found.append(int(model(torch.tensor([found])).logits[0, -1].argmax()))
            if found[-1] == 3:
                break
    return found[len(tokens) :]


def test_the_trunk_answers_like_a_plain_model(
    engine: Engine, prompt: tuple[int, ...], plain: Qwen3ForCausalLM
) -> None:
    events = list(engine.generate(engine.probe(prompt), "trunk", GREEDY))
    assert [e.token for e in events] == greedy(plain, (*prompt, 2), 12)
    assert [e.finish_reason for e in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].finish_reason == ("stop" if events[-1].token == 3 else "length")


def test_taps_are_the_residual_stream_of_a_plain_pass(
    engine: Engine, prompt: tuple[int, ...], plain: Qwen3ForCausalLM
) -> None:
    states = engine.probe(prompt, (0, 1)).states
    caught: dict[int, torch.Tensor] = {}
    for index, layer in enumerate(plain.model.layers):
        layer.register_forward_hook(lambda _m, _i, out, index=index: caught.update({index: out}))
    with torch.no_grad():
        plain(torch.tensor([prompt]))
    for index in (0, 1):
        assert states[index].shape == (len(prompt), 32)
        assert torch.allclose(states[index], caught[index][0], atol=1e-5)


def test_one_prefill_serves_every_specialist(engine: Engine, prompt: tuple[int, ...]) -> None:
    shared = engine.probe(prompt)
    answers = {name: tokens_of(engine.generate(shared, name, GREEDY)) for name in SPECIALISTS}
    assert len({tuple(t for t, _ in a) for a in answers.values()}) == 4
    for name in reversed(SPECIALISTS):
        assert tokens_of(engine.generate(shared, name, GREEDY)) == answers[name]
        assert tokens_of(engine.generate(engine.probe(prompt), name, GREEDY)) == answers[name]


def test_steering_changes_answers_and_nothing_else(
    engine: Engine, prompt: tuple[int, ...], tiny_family: Path
) -> None:
    before = engine.probe(prompt, (0, 1))
    idle = tokens_of(engine.generate(before, "alpha", GREEDY))
    for scope in ("prompt", "generation", "both"):
        steered = tokens_of(engine.generate(before, "alpha", GREEDY, [vector(tiny_family, scope)]))
        assert steered != idle
        after = engine.probe(prompt, (0, 1))
        assert all(torch.equal(before.states[layer], after.states[layer]) for layer in (0, 1))
        assert tokens_of(engine.generate(before, "alpha", GREEDY)) == idle
        assert tokens_of(engine.generate(after, "alpha", GREEDY)) == idle


def test_prefix_reuse_reads_less_and_leaks_no_steering(
    engine: Engine, prompt: tuple[int, ...], tiny_family: Path, plain: Qwen3ForCausalLM
) -> None:
    first = engine.probe(prompt, (1,))
    list(engine.generate(first, "alpha", GREEDY, [vector(tiny_family, "both")]))
    longer = (*prompt, *engine.encode_chat([Message(role="user", content="and of Spain?")]))
    second = engine.probe(longer, (1,))
    assert second.reused == len(prompt)
    fresh = TorchEngine(Family.open(tiny_family), "cpu").probe(longer, (1,))
    assert fresh.reused == 0
    assert torch.allclose(second.states[1], fresh.states[1], atol=1e-5)
    assert [e.token for e in engine.generate(second, "trunk", GREEDY)] == greedy(plain, (*longer, 2), 12)


def test_interleaved_answers_do_not_meet(engine: Engine, prompt: tuple[int, ...], tiny_family: Path) -> None:
    shared, steering = engine.probe(prompt), [vector(tiny_family)]
    alone = tokens_of(engine.generate(shared, "alpha", GREEDY))
    steered = tokens_of(engine.generate(shared, "beta", GREEDY, steering))
    left, right = engine.generate(shared, "alpha", GREEDY), engine.generate(shared, "beta", GREEDY, steering)
    pairs = list(zip(left, right, strict=False))
    assert tokens_of(a for a, _ in pairs) == Drawn(alone[: len(pairs)])
    assert tokens_of(b for _, b in pairs) == Drawn(steered[: len(pairs)])


def test_threads_get_their_own_answers(engine: Engine, prompt: tuple[int, ...], tiny_family: Path) -> None:
    plans = [(name, vs) for name in ("trunk", "alpha", "beta") for vs in ([], [vector(tiny_family)])]
    alone = [tokens_of(engine.generate(engine.probe(prompt), n, GREEDY, v)) for n, v in plans]
    found: dict[int, list[tuple[int, float]]] = {}

    def work(index: int) -> None:
        name, vectors = plans[index]
        found[index] = tokens_of(engine.generate(engine.probe(prompt), name, GREEDY, vectors))

    threads = [Thread(target=work, args=(i,)) for i in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(plans))] == alone


def test_cancel_leaves_nothing_behind(engine: Engine, prompt: tuple[int, ...], tiny_family: Path) -> None:
    shared = engine.probe(prompt)
    idle = tokens_of(engine.generate(shared, "trunk", GREEDY))
    running = engine.generate(shared, "alpha", GREEDY, [vector(tiny_family, "both")])
    list(islice(running, 2))
    running.close()  # type: ignore[attr-defined]
    assert tokens_of(engine.generate(shared, "trunk", GREEDY)) == idle


def test_sampling_is_seeded(engine: Engine, prompt: tuple[int, ...]) -> None:
    shared = engine.probe(prompt)
    drawn = [
        [e.token for e in engine.generate(shared, "alpha", Sampling(1.0, 12, seed))] for seed in (1, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1]
    assert len({tuple(d) for d in drawn}) == 3


def test_stop_texts_end_the_answer_before_them(engine: Engine, prompt: tuple[int, ...]) -> None:
    shared = engine.probe(prompt)
    whole = "".join(e.text for e in engine.generate(shared, "alpha", GREEDY))
    stop = whole[4:7]
    events = list(engine.generate(shared, "alpha", Sampling(max_tokens=12, stop=(stop, "never"))))
    assert "".join(e.text for e in events) == whole[: whole.index(stop)]
    assert events[-1].finish_reason == "stop"


def test_scores_are_the_drawn_log_probabilities(
    engine: Engine, prompt: tuple[int, ...], tiny_family: Path
) -> None:
    shared = engine.probe(prompt)
    for name, vectors in [
        ("trunk", []),
        ("alpha", []),
        ("pupil", []),
        ("beta", [vector(tiny_family, "both")]),
    ]:
        drawn = tokens_of(engine.generate(shared, name, GREEDY, vectors))
        mean = sum(p for _, p in drawn) / len(drawn)
        answer = [t for t, _ in drawn]
        assert engine.score(shared, name, answer, vectors) == pytest.approx(mean, abs=1e-4)
        assert engine.states(shared, name, answer, (1,), vectors)[1].shape == (len(answer), 32)


def test_adapter_states_differ_from_the_trunks(engine: Engine, prompt: tuple[int, ...]) -> None:
    shared, answer = engine.probe(prompt), engine.encode_answer("Paris")
    trunk, alpha = (engine.states(shared, name, answer, (0,))[0] for name in ("trunk", "alpha"))
    assert answer[-1] == 3
    assert (trunk - alpha).abs().max() > 1e-2


def test_wrong_requests_are_named(engine: Engine, prompt: tuple[int, ...], tiny_family: Path) -> None:
    shared = engine.probe(prompt)
    with pytest.raises(NotFoundError, match=r"'gamma'.*trunk, alpha, beta, pupil, guide"):
        engine.generate(shared, "gamma", GREEDY)
    with pytest.raises(UsageError, match="cards"):
        engine.generate(shared, "guide", GREEDY)
    with pytest.raises(UsageError, match="student"):
        engine.generate(shared, "pupil", GREEDY, [vector(tiny_family)])
    with pytest.raises(UsageError, match="reads 1 to"):
        engine.probe([5] * 1000)
    with pytest.raises(UsageError, match="reads 1 to"):
        engine.probe([])
    other = SteeringVector("w", "add", 0, 1.0, "both", torch.ones(32), fingerprint="0" * 64)
    with pytest.raises(ArtifactError, match="'w'"):
        engine.generate(shared, "alpha", GREEDY, [other])
