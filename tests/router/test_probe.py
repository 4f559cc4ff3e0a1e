"""Probes and the bank: reading, files, and everything that must be refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from pilothouse.router.probes.calibrate import Isotonic, Platt
from pilothouse.router.probes.probe import Probe, ProbeBank
from pilothouse.router.taps import Site
from pilothouse.store.errors import ArtifactError, UsageError

SITE = Site((1,), ("last", "max_rolling_mean"))
WIDTH = 7


def probe(name: str = "facts", kind: str = "correct", seed: int = 0, **fields: object) -> Probe:
    weight = torch.randn(2 * WIDTH, generator=torch.Generator().manual_seed(seed))
    base = Probe(name, kind, weight, 0.3, Platt(1.5, -0.2), 0.5, SITE, "f" * 64, {"auroc": 0.9})  # type: ignore[arg-type]
    return replace(base, **fields)  # type: ignore[arg-type]


class Squared(Probe):
    """Beyond the linear part, the square of the first number."""

    type: ClassVar[str] = "squared"

    def beyond(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] ** 2


@pytest.fixture
def bank() -> ProbeBank:
    return ProbeBank(
        [probe(), probe("words", seed=1), probe("harm", "reading", 2, calibration=Isotonic((0.0,), (0.7,)))]
    )


def test_probes_that_compete_are_read_against_each_other_and_others_are_not(bank: ProbeBank) -> None:
    x = torch.randn(2 * WIDTH, generator=torch.Generator().manual_seed(8))
    rivals = [replace(one, competes=one.kind == "correct") for one in bank.probes]
    found, logits = ProbeBank(rivals), [one.logit(x) for one in rivals]
    for at, name in enumerate(("facts", "words")):
        odds = logits[at] - math.log(1 + math.exp(logits[1 - at]))
        assert found.correct(x)[name] == pytest.approx(rivals[at].calibration.one(odds))
        assert found.correct(x)[name] < bank.correct(x)[name]
    assert found.read(x) == bank.read(x)
    assert found.logits(x).tolist() == bank.logits(x).tolist()  # what an explanation adds up to
    many = found.probabilities(torch.stack([x, 2 * x]))
    assert float(many["correct", "facts"][0]) == pytest.approx(found.correct(x)["facts"])
    one = ProbeBank([rivals[0]]).correct(x)["facts"]
    assert one == pytest.approx(bank.correct(x)["facts"])


def test_that_a_probe_competes_is_kept_and_changes_its_digest(tmp_path: Path) -> None:
    rival = probe(competes=True)
    rival.save(tmp_path)
    assert Probe.load(tmp_path).competes
    assert Probe.load(tmp_path).sha256 == rival.sha256 != probe().sha256
    assert "competes" not in probe().head()


def test_bank_reads_what_each_probe_reads(bank: ProbeBank) -> None:
    x = torch.randn(2 * WIDTH)
    readings, correct = bank.evaluate(x)
    assert correct == {p.name: pytest.approx(p.probability(x)) for p in bank.probes[:2]}
    (harm,) = readings
    assert (harm.probe, harm.probability, harm.fired, harm.site) == ("harm", 0.7, True, SITE.name)
    assert harm.score == pytest.approx(bank.probes[2].logit(x))
    assert bank.read(x) == readings
    assert bank.correct(x) == correct


def test_one_vector_has_the_scores_it_has_among_many(bank: ProbeBank) -> None:
    rivals = ProbeBank([replace(one, competes=one.kind == "correct") for one in bank.probes])
    for one in (bank, rivals, ProbeBank([Squared(**vars(probe())), *bank.probes[1:]])):
        x = torch.randn(2 * WIDTH)
        for given in (x, x.double(), x.bfloat16()):
            wanted = one.scores(given[None])[0]
            torch.testing.assert_close(torch.tensor(one.scores_of(given), dtype=torch.float64), wanted)
    for bad, said in ((x[1:], r"\[13\]"), (x[None], "must be a vector"), (x / 0, "not finite")):
        with pytest.raises(UsageError, match=said):
            bank.scores_of(bad)
    bad = x.clone()
    bad[3], bad[4] = float("inf"), -float("inf")
    with pytest.raises(UsageError, match="2 numbers"):
        bank.evaluate(bad)


def test_many_rows_equal_one_by_one(bank: ProbeBank) -> None:
    rows = torch.randn(5, 2 * WIDTH)
    torch.testing.assert_close(bank.logits(rows), torch.stack([bank.logits(row) for row in rows]))
    p = bank.probabilities(rows)["correct", "facts"]
    assert p.tolist() == pytest.approx([bank.correct(row)["facts"] for row in rows])


def test_files_round_trip(bank: ProbeBank, tmp_path: Path) -> None:
    bank.save(tmp_path)
    again = ProbeBank.load(tmp_path)
    assert {p.sha256 for p in again.probes} == {p.sha256 for p in bank.probes}
    x = torch.randn(2 * WIDTH)
    assert again.correct(x) == bank.correct(x)
    assert again.specialists == ("facts", "words")
    assert again.probe("harm", "reading").calibration == Isotonic((0.0,), (0.7,))


def test_digest_follows_every_field() -> None:
    base = probe()
    others = [
        probe(seed=9),
        replace(base, bias=0.31),
        replace(base, threshold=0.6),
        replace(base, calibration=Platt(1.5, -0.1)),
        replace(base, fingerprint="e" * 64),
        replace(base, site=Site((2,), SITE.poolings)),
        replace(base, meta={}),
    ]
    assert len({base.sha256, *(one.sha256 for one in others)}) == len(others) + 1


def test_fingerprint_is_required(bank: ProbeBank) -> None:
    bank.require("f" * 64)
    with pytest.raises(ArtifactError, match="another model"):
        bank.require("a" * 64)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weight": torch.ones(2 * WIDTH - 1)}, "multiple"),
        ({"weight": torch.full((2 * WIDTH,), float("nan"))}, "not finite"),
        ({"bias": float("inf")}, "not finite"),
        ({"threshold": 1.2}, "1.2"),
        ({"kind": "guess"}, "guess"),
        ({"name": ""}, "name"),
    ],
)
def test_bad_probes_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        probe(**fields)  # type: ignore[arg-type]


def test_bad_banks_are_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        ProbeBank([])
    with pytest.raises(UsageError, match="twice"):
        ProbeBank([probe(), probe()])
    with pytest.raises(UsageError, match="sites"):
        ProbeBank([probe(), probe("b", site=Site((2,), SITE.poolings))])
    with pytest.raises(UsageError, match="fingerprints"):
        ProbeBank([probe(), probe("b", fingerprint="0" * 64)])
    with pytest.raises(UsageError, match="lengths"):
        ProbeBank([probe(), probe("b", weight=torch.ones(4 * WIDTH))])


def test_same_name_may_be_read_and_predicted() -> None:
    assert ProbeBank([probe("emotion"), probe("emotion", "reading")]).specialists == ("emotion",)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(3), r"\[3\]"),
        (torch.full((2 * WIDTH,), float("inf")), "not finite"),
        (torch.ones(1, 2, 2 * WIDTH), "shape"),
    ],
)
def test_bad_vectors_are_refused(bank: ProbeBank, x: torch.Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bank.logits(x)


def test_unknown_probe_is_named(bank: ProbeBank) -> None:
    with pytest.raises(UsageError, match="'law'; this family has facts, words"):
        bank.probe("law")


def damage(folder: Path, how: str) -> None:
    head = json.loads((folder / "probe.json").read_text())
    if how == "no weights":
        (folder / "probe.safetensors").unlink()
    elif how == "cut weights":
        (folder / "probe.safetensors").write_bytes((folder / "probe.safetensors").read_bytes()[:40])
    elif how == "no json":
        (folder / "probe.json").unlink()
    elif how == "not json":
        (folder / "probe.json").write_text("{")
    elif how == "newer":
        (folder / "probe.json").write_text(json.dumps(head | {"format": 2}))
    elif how == "no site":
        (folder / "probe.json").write_text(json.dumps({k: v for k, v in head.items() if k != "site"}))
    elif how == "bad site":
        (folder / "probe.json").write_text(json.dumps(head | {"site": {"layers": []}}))


@pytest.mark.parametrize(
    "how", ["no weights", "cut weights", "no json", "not json", "newer", "no site", "bad site"]
)
def test_damaged_files_are_named(tmp_path: Path, how: str) -> None:
    probe().save(tmp_path)
    damage(tmp_path, how)
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        Probe.load(tmp_path)


def test_empty_folder_is_no_bank(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no probe"):
        ProbeBank.load(tmp_path)
