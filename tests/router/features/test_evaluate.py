"""Evaluation, own texts, label detection and dashboards: known answers and controls."""

from functools import cache
from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, WIDTH, model, planted, prompt

from pilothouse.router.features.dashboard import dashboard, histogram, logit_effects, save_dashboard
from pilothouse.router.features.detect import LABELLER, Likeness, detection, detection_scores
from pilothouse.router.features.evaluate import (
    Losses,
    fake_ratio,
    losses,
    quality,
    shared_ratio,
    sparse_probe,
)
from pilothouse.router.features.faithful import first_token_gap, own_texts, random_rows
from pilothouse.router.features.label import Label
from pilothouse.router.features.sae import SAE
from pilothouse.store.errors import UsageError


def identity(width: int, layer: int = 1) -> SAE:
    """A dictionary that loses nothing: every axis and its opposite."""
    eye = torch.cat([torch.eye(width), -torch.eye(width)])
    zeros = torch.zeros(2 * width)
    return SAE(eye.T.contiguous(), zeros, eye, torch.zeros(width), zeros.clone(), meta={"layer": layer})


def rows() -> list[list[int]]:
    return [prompt(10, seed=i)[0].tolist() for i in range(4)]


def test_a_perfect_dictionary_recovers_all_and_an_empty_one_nothing() -> None:
    found = losses(model(), identity(WIDTH), rows())
    assert found.through == pytest.approx(found.model, abs=1e-5)
    assert found.through != pytest.approx(found.zeroed, abs=1e-5)
    assert Losses(1.0, 2.0, 3.0).recovered == 0.5
    silent = SAE(
        torch.zeros(WIDTH, 4), torch.zeros(4), torch.zeros(4, WIDTH), torch.zeros(WIDTH), torch.ones(4)
    )
    empty = losses(model(), silent, rows(), layer=1)
    assert empty.through == pytest.approx(empty.zeroed, abs=1e-6)
    with pytest.raises(UsageError, match=r"\[N, 5\]"):
        losses(model(), identity(5), rows())
    with pytest.raises(UsageError, match="two tokens"):
        losses(model(), identity(WIDTH), [[3]])


def test_quality_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, -2.0], [3.0, 1.0]])
    assert quality(identity(2), x) == pytest.approx((4 / 3, 1.0, 0.25))


def test_sparse_probes_find_the_one_latent_and_fail_on_shuffled_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(600, 50, generator=generator) * (torch.rand(600, 50, generator=generator) < 0.1)
    y = (torch.rand(600, generator=generator) < 0.5).double()
    x[:, 17] += y.float() * 0.8
    for k in (1, 2, 5):
        assert sparse_probe(x[:400], y[:400], x[400:], y[400:], k) > 0.95
    shuffled = y[torch.randperm(600, generator=generator)]
    assert abs(sparse_probe(x[:400], shuffled[:400], x[400:], shuffled[400:], 1) - 0.5) < 0.12
    with pytest.raises(UsageError, match="k is 99"):
        sparse_probe(x, y, x, y, 99)
    with pytest.raises(UsageError, match="both classes"):
        sparse_probe(x, torch.ones(600), x, y, 1)


def test_shared_ratio_knows_twins_from_strangers() -> None:
    one, order = identity(16), torch.randperm(32, generator=torch.Generator().manual_seed(0))
    twin = SAE(one.W_enc[:, order], one.b_enc, one.W_dec[order], one.b_dec, one.threshold)
    stranger_rows = torch.nn.functional.normalize(
        torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    )
    stranger = SAE(stranger_rows.T.contiguous(), one.b_enc, stranger_rows, one.b_dec, one.threshold)
    assert shared_ratio(one, twin) == shared_ratio(one, twin, how="top1") == 1
    assert shared_ratio(one, stranger) < 0.4
    # one latent copied 32 times matches everyone's best, but only one of them one to one
    copies = one.W_dec[:1].expand(32, -1).contiguous()
    same = SAE(copies.T.contiguous(), one.b_enc, copies, one.b_dec, one.threshold)
    assert shared_ratio(same, one, how="top1") == 1
    assert shared_ratio(same, one) == pytest.approx(1 / 32)
    with pytest.raises(UsageError, match="wide"):
        shared_ratio(one, identity(8))


def test_fake_features_fire_on_what_the_model_does_not_write() -> None:
    sae = identity(4)
    own, foreign = torch.eye(4).repeat(5, 1), torch.zeros(20, 4)
    foreign[:, 2] = 1
    assert fake_ratio(sae, own, foreign) == pytest.approx(0.25)
    assert fake_ratio(sae, own, own, tau=0.3) == 0


# -- own texts -----------------------------------------------------------------------------------------------


def test_own_texts_follow_the_models_distribution() -> None:
    texts = own_texts(model(), 1, 40, 8, 0)
    assert len(texts) == 40
    assert all(len(row) == 8 and row[0] == 1 for row in texts)
    assert own_texts(model(), 1, 5, 8, 0) == own_texts(model(), 1, 5, 8, 0)
    assert own_texts(model(), 1, 5, 8, 1) != own_texts(model(), 1, 5, 8, 0)
    many = own_texts(model(), 1, 600, 2, 0, repetition=1.0)
    few = first_token_gap(model(), 1, many[:30])
    assert 0 <= first_token_gap(model(), 1, many) < few
    odd = [[1, 5]] * 600
    assert first_token_gap(model(), 1, odd) > 2 * first_token_gap(model(), 1, many)


def test_cold_greedy_texts_equal_the_models_own_choice() -> None:
    """The plain twin: no cache, argmax."""
    (row,) = own_texts(model(), 1, 1, 9, 0, temperature=1e-4, repetition=1.0)
    ids = [1]
    with torch.no_grad():
        while len(ids) < 9:
            ids.append(int(model()(torch.tensor([ids])).logits[0, -1].argmax()))
    assert row == ids
    assert own_texts(model(), 1, 1, 9, 0, top_p=1e-6, repetition=1.0) == [ids]
    stop = ids[3]
    (cut,) = own_texts(model(), 1, 1, 9, 0, temperature=1e-4, repetition=1.0, stop=stop)
    assert cut[-1] == stop
    assert stop not in cut[1:-1]
    with pytest.raises(UsageError, match="top_p"):
        own_texts(model(), 1, 1, 9, 0, top_p=0)
    assert max(max(row) for row in random_rows(VOCABULARY, 30, 5, 0)) < VOCABULARY


# -- labels and dashboards -----------------------------------------------------------------------------------

THEMES = {0: "river boat harbour sail", 1: "bread oven flour baker", 2: "violin concert piano song"}


@cache
def scene() -> tuple[list[str], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    contexts, acts = [], []
    for i in range(90):
        words = THEMES[i % 3].split()
        picked = [words[int(j)] for j in torch.randperm(4, generator=generator)[:2]]
        contexts.append(f"the {picked[0]} and the {picked[1]} number {i}")
        row = torch.zeros(3)
        row[i % 3] = 1 + float(torch.rand(1, generator=generator))
        acts.append(row)
    return contexts, torch.stack(acts)


def test_detection_tells_true_labels_from_swapped_ones() -> None:
    contexts, acts = scene()
    labels = {f: Label(feature=f, text=", ".join(t.split())) for f, t in THEMES.items()}
    scores, control = detection_scores(labels, acts, contexts, Likeness(contexts))
    assert set(scores) == {0, 1, 2}
    assert min(scores.values()) == 1.0
    assert control < 0.6


def test_detection_needs_another_judge_and_enough_contexts() -> None:
    contexts, acts = scene()
    label = Label(feature=0, text="river")
    judge = Likeness(contexts)
    judge.name = LABELLER
    with pytest.raises(UsageError, match="somebody else"):
        detection(label, acts[:, 0], contexts, judge)
    judge.name = "trigram likeness"
    assert detection(label, torch.zeros(90), contexts, judge) is None
    # an empty label says nothing: chance
    assert detection(Label(feature=0, text=""), acts[:, 0], contexts, judge) == pytest.approx(0.5)


def test_dashboard_shows_escapes_and_refuses(tmp_path: Path) -> None:
    sae = identity(4)
    states = torch.eye(4).repeat(3, 1)
    contexts = [f"<b>context {i % 4}</b>" for i in range(12)]
    read = torch.eye(4)

    def effects(feature: int):  # type: ignore[no-untyped-def]
        return logit_effects(sae, feature, read, lambda token: f"w{token}", top=2)

    page = dashboard(sae, [0, 5], states, contexts, labels={0: Label(feature=0, text="<x>")}, effects=effects)
    assert "<b>context" not in page
    assert "context 0" in page
    assert "&lt;x&gt;" in page
    assert "w0" in page
    save_dashboard(tmp_path / "d.html", page)
    assert (tmp_path / "d.html").read_text() == page
    assert effects(2).raised[0] == ("w2", pytest.approx(0.75))
    assert int(histogram(torch.tensor([0.0, 1.0, 2.0, 2.0])).sum()) == 3
    for wrong, said in (
        (lambda: dashboard(sae, [99], states, contexts), "feature 99"),
        (lambda: dashboard(sae, [0], states, contexts[:3]), "3 contexts"),
        (lambda: logit_effects(sae, 0, torch.eye(5), str), "width 5"),
    ):
        with pytest.raises(UsageError, match=said):
            wrong()


def test_planted_codes_are_shared() -> None:
    atoms, _, states = planted(50, 8, 4, 1)
    assert atoms.shape == (4, 8)
    assert quality(identity(8), states).explained == pytest.approx(1, abs=1e-4)
