"""The application on several machines, without any: its arguments, its configuration, its engine's calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.agents.deploy import app
from pilothouse.agents.deploy.engine import ClusterEngine
from pilothouse.agents.deploy.fleet import Fleet
from pilothouse.specialists.engines.base import EngineBusy, EngineClosed, Prefill, Sampling, TokenEvent
from pilothouse.specialists.family import Family
from pilothouse.store.errors import ArtifactError, UsageError

CONFIG = Path(__file__).parents[2] / "deploy" / "ray.yaml"
URL = "postgresql://pilot@127.0.0.1/log"
TOKENS = tuple(range(7, 17))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"log": "postgresql://pilot:hush@host/log"}, "'log'.*holds a password"),
        ({"log": "postgresql://host/log?password=hush"}, "'log'.*holds a password"),
        ({"log": "/var/lib/log.db"}, "'log'.*is a file, and each node would have one of its own"),
        ({"log": "mysql://host/log"}, "'log'.*cannot be opened"),
        ({"engines": 0}, "'engines'.*greater than or equal to 1"),
        ({"engins": 2}, "'engins'.*known are family"),
    ],
)
def test_arguments_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Fleet.of(given)
    assert "hush" not in str(caught.value)


def test_words_of_a_command_line_are_read() -> None:
    fleet = Fleet.of({"log": URL, "engines": "3", "engine_gpus": "0.5", "open": "true"})
    assert (fleet.engines, fleet.engine_gpus, fleet.open) == (3, 0.5, True)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pilothouse\[ray,serve,postgres\]'"):
        app.application({"log": URL})


def test_the_configuration_is_the_applications() -> None:
    found = yaml.safe_load(CONFIG.read_text())["applications"][0]
    module, _, name = found["import_path"].partition(":")
    assert (module, name) == (app.__name__, app.application.__name__)
    assert Fleet.of(found["args"]).controllers == 2


def test_the_configuration_is_rays() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="ray is in the extra ray")
    found = schema.ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    assert found.applications[0].name == "pilothouse"


# -- the engine's calls ------------------------------------------------------------------------------------


class Call:
    """What a handle gives back: pieces of an answer, or one value; an exception in it is raised."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces, self.cancelled = pieces, False

    def __iter__(self) -> Iterator[Any]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def result(self, timeout_s: float) -> Any:
        return next(iter(self))

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A deployment whose calls do what a script says, one entry a call."""

    def __init__(self, *script: list[Any]) -> None:
        self.script, self.calls = list(script), list[Call]()

    def __getattr__(self, name: str) -> Handle:
        return self

    def options(self, stream: bool) -> Handle:
        return self

    def remote(self, *arguments: Any) -> Call:
        self.calls.append(Call(self.script.pop(0) if len(self.script) > 1 else self.script[0]))
        return self.calls[-1]


def events(*tokens: int) -> list[TokenEvent]:
    return [TokenEvent(t, str(t), -0.1, "stop" if t == TOKENS[-1] else None) for t in tokens]


@pytest.fixture
def lost() -> Callable[[], Exception]:
    found = pytest.importorskip("ray.exceptions", reason="ray is in the extra ray")
    return lambda: found.ActorDiedError()


def drawn(handle: Handle, patience: float = 5.0) -> list[TokenEvent]:
    engine = ClusterEngine(handle, Family.open(), patience)
    return list(engine.generate(Prefill((1, 2)), "arithmetic", Sampling()))


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_an_answer_goes_on_where_its_replica_was_lost(lost: Callable[[], Exception], cut: int) -> None:
    whole = events(*TOKENS)
    handle = Handle([whole[:cut], lost()], [lost()], [whole[:2], whole[2:]])
    assert drawn(handle) == whole
    assert len(handle.calls) == 3
    assert all(call.cancelled for call in handle.calls)


def test_another_replica_that_draws_otherwise_is_noticed(lost: Callable[[], Exception]) -> None:
    with pytest.raises(EngineClosed, match="draws other tokens"):
        drawn(Handle([events(*TOKENS[:4]), lost()], [events(7, 8, 3, 4, 5, 16)]))


def test_with_nobody_left_it_says_so(lost: Callable[[], Exception]) -> None:
    with pytest.raises(EngineClosed, match=r"could be reached for 0.5 s \(ActorDiedError\)"):
        drawn(Handle([lost()]), patience=0.5)
    engine = ClusterEngine(Handle([TimeoutError()]), Family.open(), 0.5)
    with pytest.raises(EngineBusy, match=r"no engine answered for 0\.5 s"):
        engine.probe((1, 2))


def test_the_engines_own_word_comes_through() -> None:
    found = pytest.importorskip("ray.exceptions", reason="ray is in the extra ray")
    for error in (UsageError("too long"), ValueError("a fault")):
        told = found.RayTaskError("probe", "a traceback", error).as_instanceof_cause()
        with pytest.raises(type(error)) as caught:
            ClusterEngine(Handle([told]), Family.open()).probe((1, 2))
        assert caught.value is error


def test_another_trunk_is_refused() -> None:
    family = Family.open()
    assert ClusterEngine(Handle([(family.trunk_fingerprint, 512)]), family).context == 512
    with pytest.raises(ArtifactError, match="give every node the same family"):
        _ = ClusterEngine(Handle([("ab" * 32, 512)]), family).context


def test_leaving_cancels_the_call() -> None:
    handle = Handle([events(*TOKENS)])
    stream = ClusterEngine(handle, Family.open()).generate(Prefill((1,)), "arithmetic", Sampling())
    assert next(iter(stream)).token == TOKENS[0]
    stream.close()  # type: ignore[attr-defined]
    assert handle.calls[0].cancelled
