"""Packing: a sealed family of what the run made, and a policy that names only what is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.features.train import train_topk
from pilothouse.router.fingerprint import fingerprint
from pilothouse.router.probes.calibrate import Platt
from pilothouse.router.probes.probe import Probe, ProbeBank
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.router.taps import Site
from pilothouse.specialists.adapters import save_adapter
from pilothouse.specialists.family import Family, IntegrityError
from pilothouse.specialists.improve.finetune import Learner, Tuning
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.starter import makers, pack, probing
from pilothouse.specialists.starter.work import Work
from pilothouse.store.errors import ArtifactError

NAMES = (*makers.COURSES, "help")
WIDTH = 32


def save_vector(work: Work, name: str) -> None:
    vector = SteeringVector(
        name, "add", 0, 1.0, "generation", torch.ones(WIDTH), fingerprint=fingerprint(work.path("trunk"))
    )
    vector.save(work.path("vectors", name))


def save_probes(work: Work) -> None:
    site, print_ = Site((1,), ("last", "max_rolling_mean")), fingerprint(work.path("trunk"))
    wanted = [("correct", name) for name in NAMES] + [("reading", name) for name in probing.READINGS]
    probes = [
        Probe(
            name,
            "correct" if kind == "correct" else "reading",
            torch.ones(64),
            0.0,
            Platt(),
            0.5,
            site,
            print_,
        )
        for kind, name in wanted
    ]
    ProbeBank(probes).save(work.path("probes"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """What the steps before packing leave, on the tiny trunk."""
    folder = tmp_path_factory.mktemp("run")
    work = Work(folder / "work", folder)
    shutil.copytree(tiny_folder, work.path("trunk"))
    model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    for name in makers.COURSES:
        adapter = Learner(model, Tuning(rank=2)).adapter(name, (2,))
        save_adapter(adapter, 2, "trunk", work.path("adapters", name))
    quantize_folder(tiny_folder, work.path("student"), 8, 16)
    save_probes(work)
    for name in ("refuse", "dialogue", "reply-fr"):
        save_vector(work, name)
    meta = {"layer": 1, "fingerprint": fingerprint(work.path("trunk")), "model_name": "tiny"}
    states = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(0))
    train_topk(states, 16, 2, 2, 0, meta=meta).save(work.path("features", "L1"))
    work.path("layers.json").write_text('{"layers": [1], "scores": {"1": 0.9}}')
    pack.make_policy(work, 0.4, 0.1).save(work.path("policy.json"))
    return work.folder


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Work:
    """A copy that a test may change."""
    shutil.copytree(finished, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work", tmp_path)


@pytest.fixture
def family(work: Work, tmp_path: Path) -> Path:
    pack.pack(work, tmp_path / "family")
    return tmp_path / "family"


# -- the policy --------------------------------------------------------------------------------------------


def test_the_policy_names_only_vectors_that_are_there(work: Work) -> None:
    policy = pack.make_policy(work, 0.25, 0.1)
    assert [rule.vector for rule in policy.steering] == ["dialogue", "reply-fr"]
    assert all(rule.reading == rule.vector for rule in policy.steering)
    assert policy.overrides[0].steering == "refuse"
    assert (policy.threshold, policy.risk) == (0.25, 0.1)
    shutil.rmtree(work.path("vectors", "refuse"))
    shutil.rmtree(work.path("vectors", "reply-fr"))
    less = pack.make_policy(work, 0.25)
    assert [rule.vector for rule in less.steering] == ["dialogue"]
    assert less.overrides[0].steering is None  # a harmful prompt still goes to the storyteller, unsteered


def test_every_price_is_a_specialists(work: Work) -> None:
    pack.make_policy(work, 0.0).require(NAMES, probing.READINGS)
    assert set(pack.PRICES) == set(NAMES)


# -- cards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_specialist_has_words_of_its_own(name: str) -> None:
    card = pack.card_of(name, "a" * 64, {"accuracy": 0.5})
    assert card.name == name
    assert card.kind == {"help": "cards", "screening": "student"}.get(name, "adapter")
    assert card.parent_sha256 == (None if name == "help" else "a" * 64)
    assert card.metrics == {"accuracy": 0.5}
    assert len(card.description) > 20
    assert card.examples
    assert bool(card.quantization) == (name != "help")


# -- the family --------------------------------------------------------------------------------------------


def test_the_family_opens_verifies_and_holds_everything(family: Path) -> None:
    found = Family.open(family)
    found.verify()
    assert tuple(found.cards) == NAMES
    assert found.scout_layers == (1,)
    assert set(found.vectors) == {"refuse", "dialogue", "reply-fr"}
    assert found.bank is not None
    assert found.policy is not None
    found.policy.with_vectors(found.vectors)
    assert found.sae is not None
    kinds = [artifact.kind for artifact in found.artifacts()]
    assert kinds.count("adapter") == len(makers.COURSES) - 1
    assert kinds.count("student") == 1
    assert not list(family.rglob("*.part"))


def test_metrics_reach_the_cards(work: Work, tmp_path: Path) -> None:
    work.path("metrics.json").write_text(json.dumps({"facts": {"exact": 0.75}}))
    pack.pack(work, tmp_path / "family")
    cards = Family.open(tmp_path / "family").cards
    assert cards["facts"].metrics == {"exact": 0.75}
    assert cards["words"].metrics == {}


@pytest.mark.parametrize(
    "name",
    [
        "trunk/model.safetensors",
        "specialists/facts/adapter_model.safetensors",
        "specialists/screening/model.safetensors",
        "specialists/help/card.toml",
        "probes/reading-harm/probe.json",
        "vectors/refuse/vector.safetensors",
        "policy.json",
        "family.toml",
    ],
)
def test_a_changed_file_is_named(family: Path, name: str) -> None:
    raw = bytearray((family / name).read_bytes())
    raw[-2] ^= 1
    (family / name).write_bytes(bytes(raw))
    with pytest.raises((IntegrityError, ArtifactError), match=name.rsplit("/", 1)[-1].replace(".", r"\.")):
        Family.open(family).verify()


def test_a_missing_and_an_added_file_are_named(family: Path) -> None:
    (family / "vectors" / "new.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"new\.json is not in the manifest"):
        Family.open(family).verify()
    (family / "vectors" / "new.json").unlink()
    (family / "probes" / "correct-facts" / "probe.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"correct-facts/probe\.safetensors is missing"):
        Family.open(family).verify()


def test_a_vector_for_another_trunk_is_refused(work: Work, tmp_path: Path) -> None:
    stranger = SteeringVector("refuse", "add", 0, 1.0, "generation", torch.ones(WIDTH), fingerprint="0" * 64)
    stranger.save(work.path("vectors", "refuse"))
    pack.pack(work, tmp_path / "family")
    with pytest.raises(ArtifactError, match="steering vector 'refuse' was made for the model 000000000000"):
        _ = Family.open(tmp_path / "family").vectors


def test_packing_again_replaces_the_family_whole(work: Work, family: Path) -> None:
    (family / "left.json").write_text("{}")
    shutil.rmtree(work.path("vectors", "dialogue"))
    pack.make_policy(work, 0.4).save(work.path("policy.json"))
    pack.pack(work, family)
    assert not (family / "left.json").exists()
    found = Family.open(family)
    found.verify()
    assert set(found.vectors) == {"refuse", "reply-fr"}


def test_a_missing_artifact_leaves_the_old_family(work: Work, family: Path) -> None:
    shutil.rmtree(work.path("adapters", "words"))
    with pytest.raises(FileNotFoundError, match="words"):
        pack.pack(work, family)
    Family.open(family).verify()


def test_equal_runs_pack_equal_bytes(work: Work, family: Path, tmp_path: Path) -> None:
    pack.pack(work, tmp_path / "again")
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (family / "manifest.json").read_bytes()
