"""The vLLM plugin's parts that need no vLLM: versions, tables, passes over a board, block names, refusals."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pilothouse.router.steer.vector import Encoder, Gate, SteeringVector
from pilothouse.specialists.engines import choose
from pilothouse.specialists.engines.base import NotOffered, Request, Sampling
from pilothouse.specialists.engines.plan import Span
from pilothouse.specialists.engines.vllm import versions
from pilothouse.specialists.engines.vllm.binding import BOARD, activated
from pilothouse.specialists.engines.vllm.binding import boarded as with_board
from pilothouse.specialists.engines.vllm.board import BOARDS, Board
from pilothouse.specialists.engines.vllm.keys import marked
from pilothouse.specialists.engines.vllm.row import Note, mark_of, salt_of
from pilothouse.specialists.engines.vllm.sites import Act, Settings, Sites
from pilothouse.specialists.family import Family
from pilothouse.store.errors import UsageError
from pilothouse.store.records import SteeringKind, SteeringScope

WIDTH, LAYERS, TOKENS = 16, 3, 40


def direction(seed: int) -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def vector(
    kind: SteeringKind = "add",
    scope: SteeringScope = "both",
    layer: int = 0,
    seed: int = 1,
    gate: bool = False,
) -> SteeringVector:
    clamps = kind == "clamp_feature"
    encoder = Encoder(direction(seed + 1), 0.1, 0.2) if clamps else None
    at = Gate(max(layer - 1, 0), direction(seed + 2), 0.1, 0.2) if gate else None
    name = f"{kind}-{seed}"
    return SteeringVector(name, kind, layer, 1.5, scope, direction(seed), 3 if clamps else None, at, encoder)


# -- versions ----------------------------------------------------------------------------------------------


def test_an_unknown_vllm_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "find_spec", lambda name: object())
    for known in ("0.32.0", "0.32.1+cpu"):
        assert versions.why_not(known) is None
    for unknown in ("0.31.9", "0.33.0", "1.32.0"):
        reason = versions.why_not(unknown)
        assert reason is not None
        assert unknown in reason
        assert "0.32" in reason


def test_a_part_that_differs_is_refused_by_its_name() -> None:
    class Runner:
        def forward(self, input_ids: Any, positions: Any) -> None: ...

    assert versions.require(Runner, "forward", "self", "input_ids") is Runner.forward
    for name, parameters in (("forward", ("self", "positions")), ("backward", ("self",))):
        with pytest.raises(NotOffered, match=rf"Runner\.{name}\("):
            versions.require(Runner, name, *parameters)


def test_the_engine_refuses_openly_where_vllm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed", lambda: None)
    with pytest.raises(NotOffered, match="not installed: `pip install 'pilothouse\\[vllm\\]'`"):
        choose.open_engine(Family.open(), "vllm")


# -- tables ------------------------------------------------------------------------------------------------


def sites(vectors: int = 3, gates: int = 2) -> Sites:
    return Sites(range(LAYERS), WIDTH, TOKENS, Settings(None, vectors, 2, gates), torch.device("cpu"))


def test_requests_share_a_vector_and_the_last_clears_it() -> None:
    tables = sites()
    one = tables.take((vector(gate=True, layer=1), vector("scale", seed=9)))
    two = tables.take((vector(gate=True, layer=1),))
    assert one[0].row == two[0].row
    assert tables.in_use == 2
    assert bool(tables.of[0].gates.mine.any())
    tables.give(one)
    assert tables.in_use == 1
    tables.give(two)
    assert tables.in_use == 0
    for site in tables.of.values():
        assert not bool(site.tables.vector.any())
        assert not bool(site.gates.mine.any())
        assert site.probes == 0


def test_full_tables_refuse_and_take_nothing() -> None:
    tables = sites(vectors=2, gates=1)
    held = tables.take((vector(seed=1), vector(seed=2, layer=1, gate=True)))
    for wanted in ((vector(seed=3), vector(seed=4)), (vector(seed=5, layer=2, gate=True),)):
        with pytest.raises(UsageError, match="in use"):
            tables.take(wanted)
        assert tables.in_use == 2
    tables.give(held)
    assert len(tables.take((vector(seed=3), vector(seed=4)))) == 2


def test_layers_and_rounds_without_room_are_named() -> None:
    tables = sites()
    with pytest.raises(NotOffered, match="layer 7"):
        tables.check((), (7,))
    with pytest.raises(NotOffered, match="3 vectors at one layer"):
        tables.check([vector(seed=seed) for seed in range(3)], ())


def test_settings_survive_vllms_config() -> None:
    for settings in (Settings((0, 2), 5), Settings()):
        assert Settings.of(SimpleNamespace(additional_config={"pilothouse": settings.plain()})) == settings
    assert Settings.of(SimpleNamespace(additional_config={})) is None


# -- passes ------------------------------------------------------------------------------------------------


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
def test_a_steady_batch_keeps_its_index_and_a_change_renews_it(boarded: tuple[Model, Board]) -> None:
    model, board = boarded
    x = torch.randn(2, WIDTH)
    riders: list[Any] = [Rider(1, (vector(),), 1), Rider(1, (), 2)]
    for rider in riders:
        rider.acts = board.sites.take(rider.vectors)

    def go(order: list[int], first: int) -> Tensor:
        board.begin([Span(riders[who], at, first, 1, True) for at, who in enumerate(order)], 2)
        return model(x).clone()  # type: ignore[no-any-return]

    first, second, turned = go([0, 1], 5), go([0, 1], 6), go([1, 0], 7)
    assert torch.equal(first, second)
    assert not torch.equal(first[0], turned[0])
    assert not torch.equal(first[1], turned[1])


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
            req_ids=order, num_computed_tokens_np=torch.zeros(3).numpy(), num_scheduled_tokens=counts
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


# -- what vLLM is told -------------------------------------------------------------------------------------


def test_cached_blocks_are_named_by_who_read_them() -> None:
    lora, salt = ("lora", "a", "/a"), ("cache_salt", "s")
    note = Note(1, 40, "mark", 0)
    # prompt only: whoever answers reads it alike, but for its own steering
    assert marked((lora,), (lora,), note, 32) is None
    assert marked((lora, salt), (lora,), note, 40) == (salt,)
    # a generated token in it: nobody else's
    assert marked((lora,), (lora,), note, 64) == (("pilothouse", "mark"),)
    assert Note.of(SimpleNamespace(extra_args=note.plain())) == note
    assert Note.of(SimpleNamespace(extra_args=None)) is None


def test_steering_of_a_prompt_salts_it_and_that_of_an_answer_does_not() -> None:
    base = Request((1, 2), "alpha", Sampling())
    prompt, both = vector("add", "prompt"), vector("add", "both")
    answer = replace(base, vectors=(vector("add", "generation"),))
    assert salt_of(base) is None
    assert salt_of(answer) is None
    salts = {salt_of(replace(base, vectors=given)) for given in ((prompt,), (both,), (prompt, both))}
    assert None not in salts
    assert len(salts) == 3
    stronger = replace(prompt, coefficient=2.0)
    assert salt_of(replace(base, vectors=(stronger,))) not in salts
    marks = {mark_of(base), mark_of(answer), mark_of(replace(base, specialist="beta"))}
    assert len(marks) == 3
    assert mark_of(replace(base, vectors=(prompt,))) == mark_of(base)


def test_only_the_plugins_own_surroundings_are_set_and_taken_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os

    from pilothouse.specialists.engines.vllm.host import SURROUNDINGS, surroundings

    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    with surroundings():
        assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_NO_USAGE_STATS" not in os.environ
