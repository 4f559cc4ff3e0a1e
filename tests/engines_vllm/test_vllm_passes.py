"""Passes over a board, against plain arithmetic; it stands in for vLLM."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn_vectors import LAYERS, TOKENS, WIDTH, vector
from torch import Tensor, nn

from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.engines.plan import Span
from pilothouse.specialists.engines.vllm.binding import BOARD, activated
from pilothouse.specialists.engines.vllm.binding import boarded as with_board
from pilothouse.specialists.engines.vllm.board import BOARDS, Board
from pilothouse.specialists.engines.vllm.row import Note
from pilothouse.specialists.engines.vllm.sites import Act, Settings


class Layer(nn.Module):
    """A layer in vLLM's way: what it adds, and the residual it adds it to."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.map, self.apart = nn.Linear(WIDTH, WIDTH), apart

    def forward(self, hidden: Tensor, residual: Tensor | None) -> Any:
        stream = hidden if residual is None else hidden + residual
        new = torch.tanh(self.map(stream))
        return (new, stream) if self.apart else new + stream


class Model(nn.Module):
    """Three layers; `seen` are the streams after each."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([Layer(apart) for _ in range(LAYERS)])
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden, residual, self.seen = x, None, []
        for layer in self.layers:
            found = layer(hidden, residual)
            hidden, residual = found if isinstance(found, tuple) else (found, None)
            self.seen.append(hidden if residual is None else hidden + residual)
        return self.seen[-1]


@dataclass
class Rider:
    """What a board wants to know of a row."""

    boundary: int
    vectors: tuple[SteeringVector, ...]
    serial: int
    acts: tuple[Act, ...] = ()
    reads: tuple[int, ...] = ()
    request: Any = field(default_factory=lambda: SimpleNamespace(taps=()))
    asking: Any = None
    answering: Any = None
    plain: bool = True


def truth(model: Model, x: Tensor, rows: list[tuple[int, int, Rider]]) -> list[Tensor]:
    """The streams after each layer, token by token and vector by vector, in plain arithmetic."""
    states, streams = x.clone(), []
    opened: dict[tuple[int, int], bool] = {}
    for at, layer in enumerate(model.layers):
        found = type(layer).forward(layer, states, None)
        states = (found[0] + found[1] if isinstance(found, tuple) else found).clone()
        for first, count, rider in rows:
            for token in range(first, first + count):
                for index, one in enumerate(rider.vectors):
                    if one.gate is not None and one.gate.layer == at:
                        score = states[token] @ one.gate.weight + one.gate.bias
                        opened[token, id(rider) + index] = bool(score >= one.gate.threshold)
        for first, count, rider in rows:
            for place in range(count):
                for index, one in enumerate(rider.vectors):
                    scope = "generation" if place >= rider.boundary else "prompt"
                    if one.layer != at or one.scope not in (scope, "both"):
                        continue
                    if one.gate is None or opened[first + place, id(rider) + index]:
                        states[first + place] = moved(states[first + place], one)
        streams.append(states.clone())
    return streams


def moved(x: Tensor, one: SteeringVector) -> Tensor:
    unit = one.vector / one.vector.norm()
    if one.kind == "add":
        return x + one.coefficient * one.vector
    if one.kind == "project_out":
        return x - one.coefficient * (x @ unit) * unit
    if one.kind == "scale":
        return x + (one.coefficient - 1) * (x @ unit) * unit
    assert one.encoder is not None
    active = x @ one.encoder.weight + one.encoder.bias
    return x + (one.coefficient - active * (active > one.encoder.threshold)) * one.vector


@pytest.fixture(params=[True, False], ids=["residual-apart", "one-stream"])
def boarded(request: pytest.FixtureRequest) -> tuple[Model, Board]:
    model = Model(request.param)
    config = SimpleNamespace(hidden_size=WIDTH, num_hidden_layers=LAYERS)
    settings = Settings(None, 16, 4, 8)
    board = Board(model, config, settings, TOKENS, torch.device("cpu"), compiled=False)
    assert BOARDS[settings.number] is board
    return model, board


POOL = (
    (
        vector("add", "both", 0, 1),
        vector("clamp_feature", "prompt", 0, 11),
        vector("scale", "generation", 2, 21),
    ),
    (),
    (vector("add", "generation", 1, 31, gate=True), vector("project_out", "both", 1, 41)),
    (vector("add", "both", 2, 51, gate=True), vector("add", "both", 0, 61, gate=True)),
)


def ride(board: Board, seed: int) -> list[tuple[int, int, Rider]]:
    """Riders of every kind with so many tokens each, from the seed."""
    draw = torch.Generator().manual_seed(seed)
    at, rows = 0, []
    for serial, vectors in enumerate(POOL):
        count = int(torch.randint(1, 9, (), generator=draw))
        rider = Rider(int(torch.randint(0, count + 1, (), generator=draw)), vectors, 10 * seed + serial)
        rider.acts = board.sites.take(vectors)
        rows.append((at, count, rider))
        at += count
    return rows


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_a_pass_equals_plain_arithmetic_and_idle_rows_keep_their_bits(
    boarded: tuple[Model, Board], seed: int
) -> None:
    model, board = boarded
    rows = ride(board, seed)
    x = torch.randn(sum(count for _, count, _ in rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    board.begin([], 0)
    model(x)
    idle = [stream.clone() for stream in model.seen]
    spans: Any = [Span(rider, at, 0, count, True) for at, count, rider in rows]  # type: ignore[arg-type]
    board.begin(spans, len(x))
    model(x)
    at, count, _ = rows[1]
    for layer, (found, wanted) in enumerate(zip(model.seen, truth(model, x, rows), strict=True)):
        assert torch.allclose(found, wanted, atol=1e-4), layer
        assert torch.equal(found[at : at + count], idle[layer][at : at + count])
    assert not torch.equal(model.seen[-1], idle[-1])
    for _, _, rider in rows:
        board.sites.give(rider.acts)
    board.begin([], 0)
    model(x)
    assert all(torch.equal(a, b) for a, b in zip(model.seen, idle, strict=True))
    assert board.sites.in_use == 0


@torch.inference_mode()
def test_the_compiled_hook_is_one_opaque_operator() -> None:
    """Compiled or not, the same states; vectors that come after compiling still act."""
    model, other = Model(True), Model(True)
    config = SimpleNamespace(hidden_size=WIDTH, num_hidden_layers=LAYERS)
    eager = Board(other, config, Settings(None, 16, 4, 8), TOKENS, torch.device("cpu"), compiled=False)
    board = Board(model, config, Settings(None, 16, 4, 8), TOKENS, torch.device("cpu"), compiled=True)
    run: Any = torch.compile(lambda x: model(x), backend="eager", fullgraph=True)
    x = torch.randn(9, WIDTH)
    board.begin([], 0)
    idle = run(x).clone()
    for one in (board, eager):
        rider: Any = Rider(0, POOL[3], 5)
        rider.acts = one.sites.take(rider.vectors)
        one.begin([Span(rider, 0, 0, 9, True)], 9)
    assert torch.equal(run(x), other(x))
    assert not torch.equal(run(x), idle)


@torch.inference_mode()
def test_a_batch_that_goes_on_keeps_its_plan_and_a_change_renews_it(boarded: tuple[Model, Board]) -> None:
    model, board = boarded
    x, ones = torch.randn(2, WIDTH), np.ones(2, dtype=np.int64)
    riders: list[Any] = [Rider(1, (vector(),), 1), Rider(1, (), 2)]
    for rider in riders:
        rider.acts = board.sites.take(rider.vectors)

    def go(order: list[int], first: int, count: int = 1) -> Tensor:
        names = [str(who) for who in order]
        board.begin([Span(riders[who], at, first, count, True) for at, who in enumerate(order)], 2)
        board.may_go_on(names, np.array([first, first, 77]), ones * count)
        return model(x).clone()  # type: ignore[no-any-return]

    first = go([0, 1], 5)
    assert board.goes_on(["0", "1"], np.array([6, 6, 0]), ones)
    assert torch.equal(model(x), first)
    assert board.goes_on(["0", "1"], np.array([7, 7, 0]), ones)
    for names, at, counts in (
        (["1", "0"], (8, 8), ones),
        (["0"], (8,), ones[:1]),
        (["0", "1"], (8, 7), ones),
        (["0", "1"], (8, 8), 2 * ones),
    ):
        assert not board.goes_on(names, np.array(at), counts)
    turned = go([1, 0], 8)
    assert not torch.equal(first[0], turned[0])
    assert not torch.equal(first[1], turned[1])
    go([0, 1], 0)
    assert not board.goes_on(["0", "1"], np.array([1, 1]), ones), "the boundary was not passed"
    board.begin([Span(riders[0], 0, 5, 1, True), None], 2)
    board.may_go_on(["0", "1"], np.array([5, 5]), ones)
    assert not board.goes_on(["0", "1"], np.array([6, 6]), ones), "one of them is somebody else's"


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_looked_up_work_is_what_a_captured_graph_does(boarded: tuple[Model, Board], seed: int) -> None:
    """The tables and the index read inside the pass are the plain twin of a CPU's work."""
    model, board = boarded
    rows = ride(board, seed)
    x = torch.randn(sum(count for _, count, _ in rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    spans: Any = [Span(rider, at, 0, count, True) for at, count, rider in rows]  # type: ignore[arg-type]
    board.begin(spans, len(x))
    model(x)
    found = [stream.clone() for stream in model.seen]
    board.captured = True
    for site in board.sites.of.values():
        site.kept = torch.zeros(TOKENS, WIDTH)
    model(x)
    for one, other in zip(found, model.seen, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    at, count, _ = rows[1]
    assert all(
        torch.equal(a[at : at + count], b[at : at + count]) for a, b in zip(found, model.seen, strict=True)
    )


def test_adapters_act_from_the_boundary_on() -> None:
    spans = [Span(Rider(3, (), 1), 0, 1, 4, True), Span(Rider(0, (), 2), 4, 5, 1, True)]  # type: ignore[arg-type]
    board: Any = SimpleNamespace(spans=spans)
    assert activated(board, (7, 7, 7, 7, 8)) == (0, 0, 7, 7, 8)


class State:
    """What the plugin knows of vLLM's `ModelState`: the V2 runner's hooks around a pass."""

    max_num_tokens = TOKENS

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None: ...
    def add_request(self, req_index: int, new_req_data: Any) -> None: ...
    def remove_request(self, req_id: str) -> None: ...
    def preprocess_state(self, input_batch: Any, *more: Any) -> None: ...
    def postprocess_state(self, idx_mapping: Any, num_sampled: Any) -> None: ...


@torch.inference_mode()
def test_the_second_runners_state_finds_rows_in_the_batchs_own_order() -> None:
    """Stands in for vLLM: requests are added, then sorted anew in each batch, beside one of somebody else."""
    model = Model(True)
    config = SimpleNamespace(
        additional_config={"pilothouse": Settings(None, 16, 4, 8).plain()},
        compilation_config=SimpleNamespace(cudagraph_capture_sizes=None, mode=0),
        model_config=SimpleNamespace(
            hf_text_config=SimpleNamespace(hidden_size=WIDTH, num_hidden_layers=LAYERS)
        ),
    )
    state = with_board(State)(config, model, None, torch.device("cpu"))
    board: Board = getattr(state, BOARD)
    riders: dict[str, Any] = {"a": Rider(1, (vector(),), 1), "b": Rider(0, (vector(seed=9, layer=2),), 2)}
    for name, rider in riders.items():
        rider.acts = board.sites.take(rider.vectors)
        rider.span = lambda at, first, count, rider=rider: Span(rider, at, first, count, True)
        board.rows[rider.serial] = rider
        params = SimpleNamespace(extra_args=Note(rider.serial, 0, "", 0).plain())
        state.add_request(0, SimpleNamespace(req_id=name, sampling_params=params))
    state.add_request(2, SimpleNamespace(req_id="other", sampling_params=SimpleNamespace(extra_args=None)))
    x = torch.randn(6, WIDTH)
    for order, counts in ((("b", "other", "a"), (3, 1, 2)), (("a", "b", "other"), (1, 4, 1))):
        batch = SimpleNamespace(
            req_ids=order,
            num_computed_tokens_np=np.zeros(3, dtype=np.int32),
            num_scheduled_tokens=np.array(counts),
        )
        state.preprocess_state(batch, None)
        model(x)
        found, rows, at = model.seen, [], 0
        for name, count in zip(order, counts, strict=True):
            rows += [(at, count, riders[name])] if name in riders else []
            at += count
        assert board.tokens == 6
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, truth(model, x, rows), strict=True))
        state.postprocess_state(None, None)
    state.remove_request("a")
    assert set(state.notes) == {"b"}
