"""The vLLM plugin's parts that need no vLLM: versions, tables, block names, refusals."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from drawn_vectors import LAYERS, TOKENS, WIDTH, vector

from pilothouse.specialists.engines import choose
from pilothouse.specialists.engines.base import NotOffered, Request, Sampling
from pilothouse.specialists.engines.plan import Span
from pilothouse.specialists.engines.stream import Stream
from pilothouse.specialists.engines.vllm import versions
from pilothouse.specialists.engines.vllm.keys import marked
from pilothouse.specialists.engines.vllm.row import Note, VllmRow, mark_of, salt_of
from pilothouse.specialists.engines.vllm.sites import Settings, Sites
from pilothouse.specialists.family import Family
from pilothouse.store.errors import UsageError

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


def test_requests_share_a_vector_which_stays_until_its_row_is_needed() -> None:
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
    again = tables.take((vector(gate=True, layer=1),))
    assert again[0].row == one[0].row
    tables.give(again)
    others = tuple(vector(seed=seed, layer=1, gate=seed < 42) for seed in (40, 41, 42))
    taken = tables.take(others)
    assert len({act.row for act in taken}) == 3
    for act, wanted in zip(taken, others, strict=True):
        assert torch.equal(tables.of[1].tables.vector[act.row], wanted.vector)
        assert (tables.of[1].gated[act.row] >= 0) == (wanted.gate is not None)
    assert set(tables.of[1].used) == {wanted.sha256 for wanted in others}
    assert int(tables.of[0].gates.mine.sum()) == 2


def test_a_freed_row_and_its_gate_are_cleared() -> None:
    tables = sites(vectors=1, gates=1)
    tables.give(tables.take((vector(gate=True, layer=1),)))
    tables.give(tables.take((vector(seed=9, layer=2, gate=True),)))
    site = tables.of[1]
    assert not site.used
    assert not bool(site.tables.vector.any())
    assert not bool(tables.of[0].gates.mine.any())
    tables._clear(tables.of[2], vector(seed=9, layer=2, gate=True).sha256)
    for site in tables.of.values():
        assert not bool(site.tables.vector.any())
        assert not bool(site.gates.mine.any())
        assert (site.gated == -1).all()


def test_states_go_to_the_streams_own_memory_once_each() -> None:
    """A row that was put off reads its tokens again: what is there already is not taken twice."""
    request = Request((1, 2, 3), "trunk", Sampling(max_tokens=3), taps=(2, 0))
    row: Any = SimpleNamespace(
        request=request, stream=Stream(request), tokens=[1, 2, 3, 4], limit=3, read=1, begun=0, held=None
    )
    row.stream.tap(2, torch.zeros(1, WIDTH))
    row.stream.tap(0, torch.zeros(1, WIDTH))
    drawn = {layer: torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(layer)) for layer in (0, 2)}
    for first, count in ((1, 2), (3, 1), (0, 4), (4, 1), (5, 1)):
        at = 2  # the row's tokens lie behind those of another
        seen = {
            layer: torch.cat((torch.full((at, WIDTH), 9.0), x[first:][:count])) for layer, x in drawn.items()
        }
        flat = torch.stack((seen[0], torch.zeros_like(seen[0]), seen[2])).view(torch.uint8).numpy()
        VllmRow.keep(row, flat, [2, 0], torch.float32, Span(row, at, first, count, True), first)
    assert row.read == 6
    for layer, x in row.stream.states.items():
        assert torch.equal(x, torch.cat((torch.zeros(1, WIDTH), drawn[layer][1:])))


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
