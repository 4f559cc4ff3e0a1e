"""Every recipe finds planted atoms; training streams, stops, goes on, and refuses bad states."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, WIDTH, model

from pilothouse.router.features.recipe import Jump, Recipe, Step, Weights, aux_loss, batch_topk, loss_of
from pilothouse.router.features.sae import SAE
from pilothouse.router.features.stream import Activations, Made, Rows
from pilothouse.router.features.synthetic import Hierarchy, Planted, recovery
from pilothouse.router.features.trainer import Progress, Trainer, train
from pilothouse.router.taps import Taps
from pilothouse.store.errors import ArtifactError, UsageError

PLANTED = Planted.draw(40, 24, 3, 0)
TOPK = Recipe("topk", 64, 3, steps=700, batch=256, rate=1e-2, dead_after=5000)
RECIPES = {
    "standard": replace(TOPK, kind="standard", l1=0.15),
    "topk": TOPK,
    "batchtopk": replace(TOPK, kind="batchtopk"),
    "matryoshka": replace(TOPK, kind="matryoshka", groups=(0.5,)),
    "jumprelu": replace(TOPK, kind="jumprelu", bandwidth=0.05),
}


@cache
def trained(kind: str) -> SAE:
    return train(RECIPES[kind], Made(PLANTED, 24))


@pytest.mark.parametrize("kind", RECIPES)
def test_every_recipe_finds_planted_atoms_and_none_where_there_are_none(kind: str) -> None:
    sae = trained(kind)
    found, cosine = recovery(sae, PLANTED.atoms)
    assert found >= (0.75 if kind == "matryoshka" else 0.95), (found, cosine)
    if kind != "standard":
        assert float(sae.meta["l0"]) == pytest.approx(3, rel=0.25)
    untrained = train(replace(RECIPES[kind], steps=1), Made(PLANTED, 24))
    assert recovery(untrained, PLANTED.atoms)[0] <= 0.1


def test_noise_has_no_atoms() -> None:
    noise = Made(lambda n, g: torch.randn(n, 24, generator=g), 24)
    assert recovery(train(replace(TOPK, steps=200), noise), PLANTED.atoms)[0] <= 0.1


def test_l1_shrinks_what_it_finds() -> None:
    codes = PLANTED.codes(2000, torch.Generator().manual_seed(3))
    ratios = {}
    for kind in ("standard", "topk"):
        sae = trained(kind)
        latent = (PLANTED.atoms @ sae.W_dec.T).argmax(1)
        acts = sae.encode(codes @ PLANTED.atoms)[:, latent]
        ratios[kind] = float(acts[codes > 0].mean() / codes[codes > 0].mean())
    assert ratios["standard"] < 0.95
    assert ratios["standard"] < ratios["topk"] - 0.03


def test_stopping_and_going_on_changes_nothing(tmp_path: Path) -> None:
    recipe = Recipe("topk", 32, 3, steps=60, batch=64, dead_after=500)
    whole = train(recipe, Made(PLANTED, 24))
    stream = Made(PLANTED, 24)
    trainer = Trainer.start(recipe, stream)
    for step in range(25):
        trainer.advance(stream.batch(step, 64))
    trainer.save(tmp_path)
    seen: list[Progress] = []
    again = train(recipe, Made(PLANTED, 24), folder=tmp_path, report=seen.append)
    assert again.sha256 == whole.sha256
    assert seen[0].step > 25
    assert seen[-1].step == 60
    with pytest.raises(ArtifactError, match="another recipe"):
        train(replace(recipe, k=4), Made(PLANTED, 24), folder=tmp_path)


def test_seeds_and_scales() -> None:
    recipe = Recipe("batchtopk", 32, 3, steps=40, batch=64)
    one, same = train(recipe, Made(PLANTED, 24)), train(recipe, Made(PLANTED, 24))
    assert one.sha256 == same.sha256
    assert train(replace(recipe, seed=1), Made(PLANTED, 24)).sha256 != one.sha256
    big = train(recipe, Made(lambda n, g: 64 * PLANTED(n, g), 24))
    x = PLANTED(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(big.encode(64 * x), 64 * one.encode(x), rtol=0.05, atol=1.0)


def test_auxk_wakes_the_dead_and_only_them() -> None:
    x = PLANTED(64, torch.Generator().manual_seed(0))
    recipe = Recipe("topk", 40, 3)
    weights = Weights.start(x, recipe)
    dead = torch.arange(40) >= 25
    loss = aux_loss(weights, x, x - x.mean(0), dead)
    gradients = torch.autograd.grad(loss, weights.all, allow_unused=True)
    assert gradients[3] is None
    for gradient in gradients[:3]:
        assert not bool(gradient[~dead].any())
        assert bool(gradient[dead].any())


def test_batch_topk_keeps_k_times_b() -> None:
    pre = torch.randn(7, 13, generator=torch.Generator().manual_seed(0))
    kept = batch_topk(pre, 2)
    assert int((kept > 0).sum()) == 14
    assert float(kept[kept > 0].min()) >= float(pre[kept == 0].max())
    assert torch.equal(kept[kept > 0], pre[kept > 0])
    assert int((batch_topk(-pre.abs(), 2) > 0).sum()) == 0


def test_straight_through_gradients_are_those_of_the_smoothed_kernel() -> None:
    """Averaged over inputs spread evenly, d/dtheta of the step is minus their density."""
    theta = torch.tensor([1.0], requires_grad=True)
    x = torch.linspace(0, 2, 200_001)[:, None]
    Step.apply(x, theta, 0.05).mean().backward()
    assert theta.grad is not None
    assert float(theta.grad) == pytest.approx(-0.5, rel=1e-2)
    theta.grad = None
    Jump.apply(x, theta, 0.05).mean().backward()
    assert float(theta.grad) == pytest.approx(-0.5, rel=1e-2)  # theta times the density


def test_matryoshka_prefixes_must_reconstruct_alone() -> None:
    recipe = Recipe("matryoshka", 48, 3, groups=(0.25, 0.25))
    assert recipe.prefixes() == [12, 24, 48]
    x = PLANTED(256, torch.Generator().manual_seed(0))
    weights = Weights.start(x, recipe)
    dead = torch.zeros(48, dtype=torch.bool)
    with torch.no_grad():
        nested = loss_of(recipe, weights, x, dead, 0)[0]
        flat = loss_of(replace(recipe, kind="batchtopk"), weights, x, dead, 0)[0]
    assert float(nested) != pytest.approx(float(flat))


def test_hierarchy_absorption_by_hand() -> None:
    tree = Hierarchy.draw(3, 2, 12, 0)
    atoms = torch.cat([tree.parents, tree.children.flatten(0, 1)])
    good = SAE(atoms.T, torch.zeros(9), atoms, torch.zeros(12), torch.full((9,), 0.1))
    assert tree.absorption(good) == 0
    # the parent's latent goes silent whenever a child is on
    away = atoms.clone()
    away[:3] -= 2 * tree.children.sum(1)
    bad = SAE(away.T, torch.zeros(9), atoms, torch.zeros(12), torch.full((9,), 0.1))
    assert tree.absorption(bad) == 1


# -- streams -------------------------------------------------------------------------------------------------


def rows(count: int = 9, length: int = 12) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, VOCABULARY, (count, length), generator=generator).tolist()


def test_activations_are_the_residual_stream_in_bounded_buffers() -> None:
    stream = Activations(model(), 1, rows(), buffer=25)
    assert stream.width == WIDTH
    with torch.no_grad(), Taps(model(), [1]) as taps:
        every = []
        for row in rows():
            model()(torch.tensor([row]))
            every.append(taps.states[1][0, 1:])
    wanted = {tuple(v.round(decimals=4).tolist()) for v in torch.cat(every)}
    seen = set()
    for step in range(12):
        batch = stream.batch(step, 10)
        assert batch.shape == (10, WIDTH)
        assert stream._held is not None
        assert len(stream._held[1]) <= 25
        seen |= {tuple(v.round(decimals=4).tolist()) for v in batch}
    assert seen <= wanted
    assert len(seen) > 0.8 * len(wanted)
    assert torch.equal(stream.batch(3, 10), Activations(model(), 1, rows(), buffer=25).batch(3, 10))


def test_a_dictionary_trains_on_a_model(tmp_path: Path) -> None:
    sae = train(
        Recipe("topk", 64, 8, steps=150, batch=64), Activations(model(), 1, rows(20)), meta={"layer": 1}
    )
    assert sae.d_in == WIDTH
    assert float(sae.meta["unexplained"]) < 0.9
    sae.save(tmp_path)


def test_bad_states_and_recipes_are_refused() -> None:
    with pytest.raises(UsageError, match="not finite"):
        train(Recipe("topk", 8, 2, steps=2), Made(lambda n, g: torch.full((n, 4), float("nan")), 4))
    with pytest.raises(UsageError, match="all zero"):
        train(Recipe("topk", 8, 2, steps=2), Rows(torch.zeros(8, 4)))
    with pytest.raises(UsageError, match="no rows"):
        Activations(model(), 1, [[3]])
    for wrong, said in (
        ({"kind": "magic"}, "magic"),
        ({"k": 9}, "k at most"),
        ({"groups": (0.5, 0.5)}, "groups"),
    ):
        with pytest.raises(UsageError, match=said):
            Recipe(**({"kind": "topk", "d_sae": 8, "k": 2} | wrong))  # type: ignore[arg-type]
