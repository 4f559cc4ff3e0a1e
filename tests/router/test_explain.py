"""Explanations sum to the logit exactly, name the planted cause, and ablation agrees with them."""

from pathlib import Path

import pytest
import torch
from tiny import planted

from pilothouse.router.explain import Explainer, without
from pilothouse.router.features.label import Label, label_features, load_labels, save_labels, words
from pilothouse.router.features.sae import SAE
from pilothouse.router.policy import Policy
from pilothouse.router.probes.calibrate import Platt
from pilothouse.router.probes.fit import fit_logistic
from pilothouse.router.probes.probe import Probe, ProbeBank
from pilothouse.router.scout import Scout
from pilothouse.router.taps import Site
from pilothouse.store.errors import ArtifactError, UsageError

ENDS = ["other features", "sae bias", "unexplained remainder", "probe bias"]


def exact_sae(atoms: torch.Tensor, layer: int = 1) -> SAE:
    """A dictionary whose decoder is the planted atoms; its encoder is their pseudo-inverse."""
    count, width = atoms.shape
    return SAE(
        torch.linalg.pinv(atoms),
        torch.zeros(count),
        atoms,
        torch.randn(width) * 0.1,
        torch.full((count,), 0.1),
        meta={"layer": layer},
    )


def random_probe(width: int, site: Site, seed: int = 0) -> Probe:
    weight = torch.randn(site.size(width), generator=torch.Generator().manual_seed(seed)) * 5
    return Probe("facts", "correct", weight, -1.25, Platt(), 0.5, site, "f" * 64)


@pytest.mark.parametrize("width", [1, 7, 65, 256])
@pytest.mark.parametrize("poolings", [("last",), ("last", "max_rolling_mean")])
@pytest.mark.parametrize("top", [0, 3, 10_000])
def test_rows_sum_to_the_logit(width: int, poolings: tuple[str, ...], top: int) -> None:
    generator = torch.Generator().manual_seed(width)
    site = Site((1, 2), poolings)
    probe = random_probe(width, site)
    saes = {
        layer: SAE(
            torch.randn(width, 3 * width, generator=generator),
            torch.randn(3 * width, generator=generator),
            torch.randn(3 * width, width, generator=generator),
            torch.randn(width, generator=generator),
            torch.rand(3 * width, generator=generator),
        )
        for layer in (1, 2)
    }
    x = torch.randn(site.size(width), generator=generator) * 10
    rows = Explainer(probe, saes).rows(x, top=top)
    assert sum(row.contribution for row in rows) == pytest.approx(probe.logit(x), abs=1e-4)
    assert [row.label for row in rows[-4:]] == ENDS
    assert all(row.feature is None for row in rows[-4:])
    assert len(rows) <= top + 4
    shares = [abs(row.contribution) for row in rows[:-4]]
    assert shares == sorted(shares, reverse=True)


def test_planted_cause_comes_first() -> None:
    """Answers are right exactly when atom 5 is present: the probe's first feature must be atom 5."""
    atoms, codes, states = planted(4000, 32, 24, 3)
    weight, bias = fit_logistic(states, codes[:, 5] > 0)
    probe = Probe("facts", "correct", weight, bias, Platt(), 0.5, Site((1,)), "f" * 64)
    x = states[int(codes[:, 5].argmax())]
    rows = Explainer(probe, exact_sae(atoms)).rows(x, {5: Label(feature=5, text="the cause")}, top=3)
    assert (rows[0].feature, rows[0].label) == (5, "the cause")
    assert rows[0].contribution > 2 * max(abs(row.contribution) for row in rows[1:3])
    shuffled = codes[torch.randperm(4000, generator=torch.Generator().manual_seed(0)), 5] > 0
    control_weight, _ = fit_logistic(states, shuffled, 1e-2)
    cause, control = float(weight @ atoms[5]), float(control_weight @ atoms[5])
    assert abs(control) < cause / 5


def test_poolings_of_a_layer_are_added_up() -> None:
    atoms = torch.eye(4)
    sae = SAE(torch.eye(4), torch.zeros(4), atoms, torch.zeros(4), torch.zeros(4), meta={"layer": 1})
    probe = random_probe(4, Site((1,), ("last", "max_rolling_mean")))
    rows = Explainer(probe, sae).rows(torch.tensor([2.0, 0, 0, 0, 3.0, 0, 0, 0]))
    assert rows[0].feature == 0
    assert rows[0].activation == 3.0
    assert rows[0].contribution == pytest.approx(float(2 * probe.weight[0] + 3 * probe.weight[4]))
    assert rows[0].label == "feature 0"


def test_block_without_a_dictionary_is_unexplained() -> None:
    probe = random_probe(4, Site((1, 2)))
    x = torch.randn(8)
    rows = {row.label: row.contribution for row in Explainer(probe, None).rows(x)}
    assert rows["unexplained remainder"] == pytest.approx(float(probe.weight.double() @ x.double()), abs=1e-6)
    assert rows["probe bias"] == -1.25


def test_ablation_takes_away_what_the_row_said() -> None:
    atoms, _codes, states = planted(500, 32, 24, 3)
    sae, probe = exact_sae(atoms), random_probe(32, Site((1,)))
    x = states[0]
    first = Explainer(probe, sae).rows(x, top=1)[0]
    assert first.feature is not None
    left = without(sae, probe, x, [first.feature])
    assert probe.logit(left) == pytest.approx(probe.logit(x) - first.contribution, abs=1e-3)
    assert torch.equal(without(sae, probe, x, []), x)


def test_scout_reads_explains_and_ablates() -> None:
    atoms, codes, states = planted(2000, 32, 24, 3)
    weight, bias = fit_logistic(states, codes[:, 5] > 0)
    probe = Probe("facts", "correct", weight, bias, Platt(), 0.5, Site((1,)), "f" * 64)
    harm = Probe("harm", "reading", -weight, -bias, Platt(), 0.5, Site((1,)), "f" * 64)
    scout = Scout(ProbeBank([probe, harm]), Policy(), exact_sae(atoms), {5: Label(feature=5, text="cause")})
    row = int(codes[:, 5].argmax())
    tokens = torch.cat([torch.randn(6, 32), states[row : row + 1]])
    found = scout.read({1: tokens})
    assert torch.equal(found.x, states[row])
    assert found.p_correct["facts"] > 0.9
    assert [(one.probe, one.fired) for one in found.readings] == [("harm", False)]
    assert scout.explain("facts", found.x, top=1)[0].label == "cause"
    assert sum(r.contribution for r in scout.explain("harm", found.x, kind="reading")) == pytest.approx(
        found.readings[0].score, abs=1e-4
    )
    assert scout.ablate(found.x, [5]).p_correct["facts"] < 0.5
    with pytest.raises(UsageError, match="'law'"):
        scout.explain("law", found.x)


def test_misfits_are_refused() -> None:
    probe = random_probe(4, Site((1,)))
    with pytest.raises(UsageError, match="wide"):
        Explainer(probe, exact_sae(torch.eye(5))).rows(torch.ones(4))
    with pytest.raises(UsageError, match="shape"):
        Explainer(probe, None).rows(torch.ones(5))
    with pytest.raises(UsageError, match="not finite"):
        Explainer(probe, None).rows(torch.full((4,), float("nan")))


# -- labels ------------------------------------------------------------------------------------------------


def labelled() -> tuple[SAE, torch.Tensor, list[str]]:
    """Feature 0 fires on contexts about rivers, 1 on money, 2 on anything, 3 never."""
    sae = SAE(torch.eye(4), torch.zeros(4), torch.eye(4), torch.zeros(4), torch.zeros(4), meta={"layer": 1})
    states, contexts = [], []
    for i in range(60):
        kind = i % 3
        noun = ("river", "money", "other")[kind]
        contexts.append(f"The {noun} number {i} was there.")
        states.append([float(kind == 0), float(kind == 1), 0.5 + (i * 7 % 60) / 60, 0.0])
    return sae, torch.tensor(states), contexts


def test_labels_name_what_is_distinctive() -> None:
    sae, states, contexts = labelled()
    labels = {one.feature: one for one in label_features(sae, states, contexts)}
    assert labels[0].text.split(", ")[0] == "river"
    assert labels[1].text.split(", ")[0] == "money"
    assert labels[2].text == "mixed"
    assert 3 not in labels
    assert all("river" in example for example in labels[0].examples)
    assert len(labels[0].examples) == 5


def test_a_repeated_context_counts_once() -> None:
    sae, states, contexts = labelled()
    states = torch.cat([states, torch.tensor([[9.0, 0, 0, 0]]).repeat(100, 1)])
    label = label_features(sae, states, [*contexts, *["spam spam"] * 100], features=[0])[0]
    assert label.examples.count("spam spam") == 1
    assert label.text.split(", ")[0] == "river"


def test_labels_survive_the_disk(tmp_path: Path) -> None:
    sae, states, contexts = labelled()
    labels = label_features(sae, states, contexts)
    save_labels(tmp_path / "labels.jsonl", labels)
    assert load_labels(tmp_path / "labels.jsonl") == {one.feature: one for one in labels}


def test_bad_labels_are_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"feature": 1, "text": "a"}\n{"feature": "x"}\n')
    with pytest.raises(ArtifactError, match=r"labels\.jsonl:2"):
        load_labels(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_labels(tmp_path / "none.jsonl")
    sae, states, _ = labelled()
    with pytest.raises(UsageError, match="1 contexts for 60 states"):
        label_features(sae, states, ["one"])


def test_words_are_plain() -> None:
    assert words("Don't add 3 + é!") == {"don't", "add", "3", "+", "é", "!"}
