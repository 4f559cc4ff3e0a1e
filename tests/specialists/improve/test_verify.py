"""What was fitted on a trunk is re-examined on the changed one; what went stale keeps that one out."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.features.train import train_topk
from pilothouse.router.fingerprint import fingerprint
from pilothouse.router.probes.calibrate import fit_calibration
from pilothouse.router.probes.fit import fit_logistic
from pilothouse.router.probes.probe import Probe
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.router.taps import Site
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.build import build
from pilothouse.specialists.improve.recipe import Recipe, plan
from pilothouse.specialists.improve.register import StaleError
from pilothouse.specialists.improve.verify import last_states, pooled
from pilothouse.specialists.integrity import seal
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.tokenizing import ChatCodec
from pilothouse.store.errors import UsageError

WORDS = ("boat", "river", "log", "wheel", "course", "pilot", "time", "hello")
SITE = Site((1,), ("last", "max_rolling_mean"))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


def prompts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return list(dict.fromkeys(" ".join(rng.choices(WORDS, k=3)) for _ in range(2 * count)))[:count]


def label(prompt: str) -> int:
    return WORDS.index(prompt.split()[0]) % 2


@pytest.fixture(scope="module")
def probed(tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny family with a probe for a planted rule, a dictionary and a steering entry."""
    folder = tmp_path_factory.mktemp("probed") / "fam"
    shutil.copytree(tiny_family, folder)
    family = Family.open(folder)
    trunk, codec = load_model_folder(family.trunk_folder, torch.float32), ChatCodec.load(family.trunk_folder)
    texts = prompts(160, 0)
    states = last_states(trunk, [codec.encode_prompt(t) for t in texts], [1])
    x, y, print_ = pooled(states, SITE), [label(t) for t in texts], family.trunk_fingerprint
    weight, bias = fit_logistic(x[::2], y[::2])
    calibration = fit_calibration(x[1::2].double() @ weight.double() + bias, y[1::2])
    probe = Probe("odd", "reading", weight, bias, calibration, 0.5, SITE, print_)
    probe.save(folder / "probes" / "reading-odd")
    tokens = torch.cat([s[1] for s in states])
    train_topk(tokens, 48, 8, 150, 0, meta={"layer": 1, "fingerprint": print_}).save(
        folder / "features" / "L1"
    )
    vector = SteeringVector("push", "add", 1, 4.0, "both", tokens[0] - tokens[40], fingerprint=print_)
    vector.save(folder / "vectors" / "push")
    settings = {"scout_layers": (1,)}
    family.settings.model_copy(update=settings).save(folder)
    seal(folder)
    return folder


def changed(family: Path, target: Path, noise: float) -> None:
    """The family's trunk with noise on its weights (large: another model altogether)."""
    trunk = Family.open(family).trunk_folder
    shutil.copytree(trunk, target)
    model = Qwen3ForCausalLM.from_pretrained(trunk)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(target)


RECIPE = """
name = "renew"
family = "fam"
licence = "Apache-2.0"
[models]
new = "new"
[data.prompts]
file = "prompts.jsonl"
licence = "CC0"
[[steps]]
step = "finetune"
name = "same"
from = "new"
method = "region"
layers = [0, 1]
data = "prompts"
steps = 1
rate = 1e-9
[[steps]]
step = "verify"
role = "trunk"
data = "prompts"
sae_steps = 150
rows = 160
[register]
specialist = "trunk"
step = "same"
role = "trunk"
title = "New"
description = "New trunk."
"""


def renewed(tmp_path: Path, probed: Path, noise: float, truth: str | None = None) -> dict:  # type: ignore[type-arg]
    shutil.copytree(probed, tmp_path / "fam")
    changed(probed, tmp_path / "new", noise)
    rng = random.Random(1)
    rows = []
    for prompt in prompts(160, 3):
        row = {"prompt": prompt, "answer": "x"}
        if truth is not None:
            row["reading:odd"] = str(label(prompt) if truth == "real" else rng.randrange(2))
        rows.append(json.dumps(row))
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "r.toml").write_text(RECIPE)
    return build(plan(Recipe.read(tmp_path / "r.toml"), tmp_path), tmp_path / "run")


def test_a_trunk_that_hardly_changed_keeps_all_that_was_fitted_on_it(tmp_path: Path, probed: Path) -> None:
    card = renewed(tmp_path, probed, 1e-5)
    found = card["steps"]["verify"]["figures"]["findings"]
    assert {f["verdict"] for f in found.values()} == {"holds"}
    family = Family.open(tmp_path / "fam")
    family.verify()
    assert (
        family.trunk_fingerprint
        == fingerprint(tmp_path / "run" / "same")
        != Family.open(probed).trunk_fingerprint
    )
    assert family.bank is not None
    assert family.bank.probe("odd", "reading").fingerprint == family.trunk_fingerprint
    assert family.vectors["push"].fingerprint == family.trunk_fingerprint
    assert family.sae is not None
    assert family.cards["alpha"].parent_sha256 == family.trunk_fingerprint


def test_another_trunk_makes_entries_stale_and_is_not_registered(tmp_path: Path, probed: Path) -> None:
    before = Family.open(probed).manifest
    with pytest.raises(StaleError, match=r"not registered: .*vector push.* went stale"):
        renewed(tmp_path, probed, 0.3, "real")
    report = json.loads((tmp_path / "run" / "verify" / "report.json").read_text())
    odd = report["findings"]["reading odd"]
    assert odd["verdict"] == "refitted"
    assert odd["auroc_refitted"] > 0.85 > odd["auroc_shuffled"]
    assert report["findings"]["vector push"]["cosine"] < 0.8
    assert Family.open(tmp_path / "fam").manifest == before


def test_a_probe_that_cannot_be_fitted_again_is_stale(tmp_path: Path, probed: Path) -> None:
    with pytest.raises(StaleError, match="reading odd"):
        renewed(tmp_path, probed, 0.3, "random")


SPECIALIST = """
name = "new"
family = "fam"
licence = "Apache-2.0"
[data.train]
generator = "symbols:first"
rows = 60
[data.others]
generator = "symbols:copy"
rows = 40
[[steps]]
step = "finetune"
data = "train"
rate = 0.02
rank = 8
rows = 16
steps = {steps}
{verify}
[register]
specialist = "first"
step = "finetune"
title = "First"
description = "Repeats the first letter."
"""
VERIFY = """
[[steps]]
step = "verify"
specialist = "first"
data = "train"
others_data = "others"
longest = 10
"""


def test_a_family_with_probes_takes_no_unverified_specialist(tmp_path: Path, probed: Path) -> None:
    shutil.copytree(probed, tmp_path / "fam")
    before = Family.open(tmp_path / "fam").manifest
    for text, said in (("", "no verify step"), (VERIFY, "correct first went stale")):
        (tmp_path / "r.toml").write_text(SPECIALIST.format(steps=1, verify=text))
        whole = plan(Recipe.read(tmp_path / "r.toml"), tmp_path)
        with pytest.raises(StaleError, match=said):
            build(whole, tmp_path / "run")
        assert Family.open(tmp_path / "fam").manifest == before


def test_the_embedded_family_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: Path
) -> None:
    shutil.copytree(probed, tmp_path / "fam")
    monkeypatch.setattr(
        "pilothouse.specialists.improve.register.known_families", lambda: {"starter": tmp_path / "fam"}
    )
    (tmp_path / "r.toml").write_text(SPECIALIST.format(steps=1, verify=""))
    with pytest.raises(UsageError, match="embedded family is not changed"):
        build(plan(Recipe.read(tmp_path / "r.toml"), tmp_path), tmp_path / "run")
