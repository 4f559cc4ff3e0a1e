"""`pilothouse route`, from a table to a decision, and into a family that the controller loads."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pilothouse.agents import Pilot
from pilothouse.agents.cli.route import app
from pilothouse.agents.routers import Router, open_reader, turns_of
from pilothouse.agents.voyage import Unlogged
from pilothouse.router.policy import Policy
from pilothouse.router.probes.probe import ProbeBank
from pilothouse.specialists.family import Family
from pilothouse.specialists.integrity import seal
from pilothouse.store.errors import ArtifactError, NotFoundError, UsageError

HEADS = ("--heads", "length,linear", "--quiet", "--json")


def run(*arguments: str | Path) -> Any:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def table(folder: Path, names: tuple[str, str], rows: int = 40, split: bool = False) -> Path:
    """`names[0]` is right on sums, `names[1]` on stories."""
    rng = random.Random(0)
    lines = ["prompt,model,correct,cost,split"]
    for i in range(rows):
        part = "test" if split and i % 4 == 0 else "train"
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        for text, right in ((f"What is {a} + {b}?", 0), (f"Tell a story of dog {a} and cat {b}", 1)):
            noisy = right if rng.random() < 0.95 else 1 - right
            lines += [f"{text},{name},{int(k == noisy)},{1 + k},{part}" for k, name in enumerate(names)]
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("route")
    found = run(
        "fit", table(folder, ("arithmetic", "stories")), "-o", folder / "policy", *HEADS, "--no-report"
    )
    assert found["objective"] in ("gain", "correct")
    return folder / "policy"


def test_decide_routes_by_what_the_scout_saw(fitted: Path) -> None:
    found = run("decide", fitted, "What is 31 + 45?", "--json")
    assert found["chosen"] == "arithmetic"
    assert run("decide", fitted, "Tell a story of dog 3 and cat 7", "--json")["chosen"] == "stories"
    cheap = run("decide", fitted, "Tell a story of dog 3 and cat 7", "--lam", "50", "--json")
    assert cheap["chosen"] == "arithmetic"
    router = Router.open(fitted)
    assert 0.0 <= router.stability("What is 31 + 45?", 1) <= 1.0
    with pytest.raises(UsageError, match="prompt is empty"):
        router.decide(" ")


def test_the_controller_loads_the_probes(fitted: Path, tmp_path: Path) -> None:
    run("install", fitted, "--into", tmp_path / "family", "--linear")
    family = Family.open(tmp_path / "family")
    family.verify()
    assert family.bank is not None
    assert isinstance(family.policy, Policy)
    assert family.policy.prices["stories"] == 2.0
    ours = ProbeBank.load(fitted / "probes").probe("stories")
    assert family.bank.probe("stories").sha256 == ours.sha256
    shipped = Family.open("starter")
    assert shipped.bank is not None
    assert shipped.bank.probe("stories").sha256 != ours.sha256
    assert family.bank.probe("facts").sha256 == shipped.bank.probe("facts").sha256
    with pytest.raises(UsageError, match="exists already"):
        run("install", fitted, "--into", tmp_path / "family")


def test_the_controller_decides_by_the_whole_policy(fitted: Path, tmp_path: Path) -> None:
    run("install", fitted, "--into", tmp_path / "family")
    family = Family.open(tmp_path / "family")
    family.verify()
    assert {one.name for one in family.artifacts() if one.kind == "router"} == {"router"}
    router = Router.open(fitted)
    with Pilot(family, ledger=Unlogged()) as pilot:
        for prompt in ("What is 31 + 45?", "Tell a story of dog 3 and cat 7"):
            answer = pilot.ask(prompt, max_tokens=4)
            told = {one["specialist"]: one for one in json.loads(answer.model_dump_json())["candidates"]}
            _, ours = router.decide(prompt)
            assert len(ours) == 2
            for one in ours:
                assert told[one.specialist]["p_correct"] == pytest.approx(
                    one.p_correct, abs=0.02
                )  # the engine rounds otherwise
                assert told[one.specialist]["cost"] == one.cost
            assert "unfamiliar" in {one["probe"] for one in json.loads(answer.model_dump_json())["readings"]}
            assert "facts" in told  # whom the policy does not know keeps its probe
    Path(tmp_path / "family/router/router.json").write_text("{}")
    with pytest.raises(ArtifactError):
        Pilot(Family.open(tmp_path / "family"), ledger=Unlogged()).warm()


def test_a_family_without_probes_is_routed_by_the_text(tmp_path: Path) -> None:
    path = table(tmp_path, ("arithmetic", "stories"))
    run(
        "fit",
        path,
        "-o",
        tmp_path / "p",
        "--scout",
        "none",
        "--heads",
        "words",
        "--quiet",
        "--no-report",
        "--json",
    )
    run("install", tmp_path / "p", "--into", tmp_path / "family")
    shutil.rmtree(tmp_path / "family/probes")
    shutil.rmtree(tmp_path / "family/features")
    Policy().save(tmp_path / "family/policy.json")
    seal(tmp_path / "family")
    ship = Pilot(tmp_path / "family", ledger=Unlogged()).ship
    assert ship.scout is not None
    assert ship.layers == ()
    turns = turns_of("Tell a story of dog 3 and cat 7")
    p = ship.scout.observe(turns, {}).p_correct
    assert p["stories"] > p["arithmetic"]
    assert ship.scout.explain("stories", torch.zeros(0)) == ()


def test_installed_probes_say_what_the_linear_head_says(fitted: Path) -> None:
    import torch

    router = Router.open(fitted)
    from pilothouse.agents.routers import turns_of
    from pilothouse.router.routing.seen import quality_of

    seen = router.reader.read([turns_of("What is 5 + 6?"), turns_of("Tell a story")])
    assert seen.states is not None
    bank = ProbeBank.load(fitted / "probes")
    head = router.policy.fitted.heads["linear"]
    quality = quality_of(head.predict(seen), router.policy.fitted.base)
    for number, name in enumerate(router.policy.models):
        probe = bank.probe(name)
        logits = torch.tensor([probe.logit(x) for x in seen.states])
        torch.testing.assert_close(logits.float(), quality[:, number], rtol=1e-3, atol=1e-3)


def test_test_rows_are_judged_and_fitted_rows_are_no_test(fitted: Path, tmp_path: Path) -> None:
    path = table(tmp_path, ("arithmetic", "stories"), 48, split=True)
    found = run(
        "fit", path, "-o", tmp_path / "p", "--scout", "none", "--heads", "length,words", "--quiet", "--json"
    )
    assert found["test"]["prompts"] == 24
    assert (tmp_path / "p" / "report.html").is_file()
    assert (tmp_path / "p" / "test" / "report.json").is_file()
    with pytest.raises(UsageError, match="would be no test"):
        run("eval", tmp_path / "p", path, "-o", tmp_path / "e")
    held = run("eval", tmp_path / "p", path, "-o", tmp_path / "e", "--drop-leaks", "--json")
    assert held["prompts"] == 24


def test_faults_are_said(fitted: Path, tmp_path: Path) -> None:
    other = table(tmp_path, ("arithmetic", "wizard"), 20)
    with pytest.raises(UsageError, match="the model 'wizard'"):
        run("eval", fitted, other, "-o", tmp_path / "e")
    with pytest.raises(NotFoundError, match="no table at"):
        run("fit", tmp_path / "none.csv", "-o", tmp_path / "p")
    with pytest.raises(UsageError, match="not MODEL=NUMBER"):
        run("fit", other, "-o", tmp_path / "p", "--price", "wizard=free", *HEADS, "--no-report")
    with pytest.raises(UsageError, match="both given"):
        run("decide", fitted, "hello", "--lam", "1", "--budget", "2")
    with pytest.raises(UsageError, match="no numbers"):
        run("fit", other, "-o", tmp_path / "p", "--layers", "two", *HEADS)
    with pytest.raises(ArtifactError):
        run("decide", tmp_path, "hello")


def test_compare_leaves_a_report(tmp_path: Path) -> None:
    path = table(tmp_path, ("a", "b"), 30)
    found = run(
        "compare", path, "-o", tmp_path / "r", "--scout", "none", "--heads", "words", "--quiet", "--json"
    )
    names = [row["name"] for row in json.loads((tmp_path / "r/report.json").read_text())["rows_left_out"]]
    assert {"stack", "words", "length", "constant", "random"} <= set(names)
    assert found["verdict"]


def test_a_rounded_scout_is_read_by_itself(fitted: Path) -> None:
    exact = Router.open(fitted)
    rounded = Router(replace(exact.policy, scout={**exact.policy.scout, "precision": "int8"}), exact.reader)
    assert exact.reader.spec["precision"] == "float32"
    assert exact.shared == tuple(exact.policy.scout["layers"])
    assert rounded.shared == ()
    assert open_reader("starter", precision="int8").spec["precision"] == "int8"
