"""A package with an engine, a family, a probe type and a sink of its own: they answer, and are logged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from small_package import install
from toy_family import SITE, Tiny

from pilothouse.agents.cli import console
from pilothouse.agents.cli.doctor import examine
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.router.explain import Explainer
from pilothouse.router.probes.calibrate import Platt
from pilothouse.router.probes.probe import Probe, ProbeBank, load_probe
from pilothouse.specialists.engines.choose import open_engine
from pilothouse.specialists.family import Family, known_families
from pilothouse.store.errors import ArtifactError, NotFoundError, PluginError, UsageError

CODE = """
from dataclasses import dataclass
from typing import ClassVar
from pilothouse.router.probes.probe import Probe

def open_sail(family, device, threads, **options):
    from pilothouse.specialists.engines.torch import TorchEngine
    if options.pop("torn", False):
        raise ValueError("torn")
    engine = TorchEngine(family, "cpu", threads, **options)
    engine.sail = True
    return engine

def fleet():
    return FOLDER

def lost():
    return FOLDER + "/nowhere"

@dataclass(frozen=True, eq=False)
class Bent(Probe):
    type: ClassVar[str] = "bent"
    def beyond(self, x):
        return 0.5 * x.square().sum(-1)

told = []
class Bell:
    def closed(self, page): told.append(page.record.id)
    def close(self): told.append("closed")
"""
POINTS = {
    "pilothouse.engines": {"sail": "harbour:open_sail", "rotten": "harbour:gone"},
    "pilothouse.specialists": {"fleet": "harbour:fleet", "lost": "harbour:lost", "rotten": "wreck:gone"},
    "pilothouse.probes": {"bent": "harbour:Bent"},
    "pilothouse.sinks": {"bell": "harbour:Bell"},
}


@pytest.fixture
def harbour(tiny: Tiny, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed."""
    install(tmp_path / "site", monkeypatch, POINTS, CODE.replace("FOLDER", repr(str(tiny.folder))))


@pytest.mark.usefixtures("harbour")
def test_its_engine_answers_for_its_family_and_its_sink_hears_of_it() -> None:
    settings = console.settings_with(family="fleet", engine="sail", sinks=["bell"])
    with console.open_pilot(settings, no_log=False) as pilot:
        answer = pilot.ask("What is 3 + 4?")
        assert getattr(pilot.ship.engine, "sail", False)
    import harbour  # type: ignore[import-not-found]

    assert harbour.told == [answer.record_id, "closed"]


@pytest.mark.usefixtures("harbour")
def test_what_is_broken_is_told_only_to_who_asks(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        families = known_families()
    assert families["fleet"] == tiny.folder
    assert families.keys() & {"lost", "rotten"} == set()
    assert "'lost'" in caplog.text
    assert "'rotten'" in caplog.text
    assert Family.open("fleet").name == "tiny"
    for name, said in (("lost", "there is no family.toml"), ("rotten", "cannot be loaded")):
        with pytest.raises(PluginError, match=said):
            Family.open(name)
    with pytest.raises(NotFoundError, match=r"known are starter, fleet, lost, rotten"):
        Family.open("nobody")


@pytest.mark.usefixtures("harbour")
def test_the_doctor_looks_at_each() -> None:
    found = [one for one in examine("fleet") if one.name == "packages"]
    assert {one.text for one in found if one.state == "ok"} >= {
        "engine 'sail' of harbour 1.2",
        "family 'fleet' of harbour 1.2",
        "probe type 'bent' of harbour 1.2",
        "sink 'bell' of harbour 1.2",
    }
    notes = [one.text for one in found if one.state == "note"]
    assert len(notes) == 2
    assert all("'rotten'" in text for text in notes)
    assert all(one.code == 0 for one in found)


@pytest.mark.usefixtures("harbour")
def test_a_broken_engine_is_told_plainly(tiny: Tiny) -> None:
    with pytest.raises(PluginError, match=r"engine 'sail' of harbour 1.2 .* failed \(ValueError: torn\)"):
        open_engine(tiny.family, "sail", torn=True)
    with (
        Pilot(tiny.folder, Unlogged(), "rotten") as pilot,
        pytest.raises(PluginError, match="cannot be loaded"),
    ):
        pilot.warm()
    with pytest.raises(UsageError, match=r"engine 'oar' is unknown: .*'sail'"):
        console.settings_with(engine="oar")


@pytest.mark.usefixtures("harbour")
def test_its_probe_type_reads_and_is_explained_exactly(tmp_path: Path) -> None:
    from harbour import Bent

    generator = torch.Generator().manual_seed(0)
    wide = 32 * len(SITE.blocks)

    def fields(name: str) -> tuple[object, ...]:
        weight = torch.randn(wide, generator=generator)
        return name, "reading", weight, 0.3, Platt(), 0.5, SITE, "ab" * 32

    bent, plain = Bent(*fields("bent")), Probe(*fields("plain"))  # type: ignore[arg-type]
    ProbeBank([bent, plain]).save(tmp_path / "probes")
    bank = ProbeBank.load(tmp_path / "probes")
    assert [type(probe).__name__ for probe in bank.probes] == ["Bent", "Probe"]
    assert [probe.sha256 for probe in bank.probes] == [bent.sha256, plain.sha256]
    x = torch.randn(5, wide, generator=generator)
    linear = x.double() @ bent.weight.double() + bent.bias
    assert torch.allclose(bank.logits(x)[:, 0], linear + 0.5 * x.double().square().sum(-1))
    for row in x:
        assert bank.logits(row).tolist() == pytest.approx([bent.logit(row), plain.logit(row)])
        for probe in bank.probes:
            told = Explainer(probe, None).rows(row)
            assert sum(one.contribution for one in told) == pytest.approx(probe.logit(row), abs=1e-6)


def test_a_probe_of_a_type_that_nobody_brings(tmp_path: Path) -> None:
    bent = Probe("bent", "reading", torch.zeros(32 * len(SITE.blocks)), 0.0, Platt(), 0.5, SITE, "ab" * 32)
    bent.save(tmp_path)
    path = tmp_path / "probe.json"
    path.write_text(path.read_text().replace('"format"', '"type": "bent",\n "format"'))
    with pytest.raises(ArtifactError, match=r"probe type 'bent' is unknown: use one of 'linear'"):
        load_probe(tmp_path)
