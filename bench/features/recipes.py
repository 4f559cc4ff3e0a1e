"""Every recipe on planted atoms: recovery, shrinkage, dead latents, absorption, the L0 controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ...router.features.recipe import Recipe
from ...router.features.sae import SAE
from ...router.features.stream import Made
from ...router.features.synthetic import Hierarchy, Planted, recovery
from ...router.features.trainer import train
from .. import estimates
from ..page import Goal, Section, cell

WIDTH, ATOMS, ACTIVE, LATENTS = 64, 128, 5, 192


def _recipes(seed: int, share: float) -> dict[str, Recipe]:
    steps = max(20, round(800 * share))
    topk = Recipe("topk", LATENTS, ACTIVE, steps=steps, batch=256, seed=seed, rate=1e-2, dead_after=10_000)
    return {
        "standard": replace(topk, kind="standard", l1=0.15),
        "topk": topk,
        "batchtopk": replace(topk, kind="batchtopk"),
        "matryoshka": replace(topk, kind="matryoshka", groups=(0.25, 0.25)),
        "jumprelu": replace(topk, kind="jumprelu", bandwidth=0.05),
    }


def recovery_section(seeds: Sequence[int], seed: int, share: float) -> Section:
    """Share of atoms found at cosine > 0.9, and what else each recipe does."""
    rows: dict[str, list[tuple[float, ...]]] = {}
    for s in seeds:
        planted = Planted.draw(ATOMS, WIDTH, ACTIVE, s)
        for name, recipe in _recipes(s, share).items():
            rows.setdefault(name, []).append(_measured(recipe, planted, s))
        control = replace(_recipes(s, share)["topk"], steps=1)
        rows.setdefault("topk, one step (control)", []).append(_measured(control, planted, s))
    found = {
        n: [estimates.mean([r[i] for r in values], seed) for i in range(4)] for n, values in rows.items()
    }
    units = ("%", "", "", "%")
    l0 = estimates.mean([abs(r[2] / ACTIVE - 1) for r in rows["jumprelu"]], seed)
    return Section(
        "Planted dictionaries",
        f"{ATOMS} atoms in {WIDTH} dimensions, {ACTIVE} active with strengths 0.5 to 1.5, noise 0.01; "
        f"{LATENTS} "
        f"latents, {_recipes(0, share)['topk'].steps} steps of 256 states, {len(seeds)} seeds. Size: "
        "activation "
        "of "
        "the "
        "matching latent over the planted strength.",
        ("recipe", "atoms found", "size", "L0", "unexplained"),
        tuple((n, *(cell(e, u) for e, u in zip(v, units, strict=True))) for n, v in found.items()),  # type: ignore[arg-type]
        (
            Goal("TopK finds planted atoms", "at least", 0.95, "%", found["topk"][0]),
            Goal(
                "one step of training finds none", "at most", 0.05, "%", found["topk, one step (control)"][0]
            ),
            Goal(
                "Standard finds no more than TopK (difference)",
                "at most",
                0.02,
                "%",
                estimates.mean(
                    [a[0] - b[0] for a, b in zip(rows["standard"], rows["topk"], strict=True)], seed
                ),
            ),
            Goal("Standard shrinks (size)", "at most", 0.97, "", found["standard"][1]),
            Goal("JumpReLU's L0 is off its target by", "at most", 0.15, "%", l0),
        ),
    )


def _measured(recipe: Recipe, planted: Planted, seed: int) -> tuple[float, ...]:
    sae = train(recipe, Made(planted, WIDTH, seed))
    share, _ = recovery(sae, planted.atoms)
    return share, _size(sae, planted, seed), float(sae.meta["l0"]), float(sae.meta["unexplained"])


def _size(sae: SAE, planted: Planted, seed: int) -> float:
    codes = planted.codes(2000, torch.Generator().manual_seed(90_000 + seed))
    latent = (planted.atoms @ sae.W_dec.T).argmax(1)
    acts = sae.encode(codes @ planted.atoms)[:, latent]
    return float(acts[codes > 0].mean() / codes[codes > 0].mean())


def dead_section(seeds: Sequence[int], seed: int, share: float) -> Section:
    """Share of dead latents in a dictionary of 16 times the width, with AuxK and without."""
    width, atoms, steps = 32, 1024, max(20, round(800 * share))
    rows: dict[str, list[float]] = {"with AuxK": [], "without": []}
    missed: dict[str, list[float]] = {"with AuxK": [], "without": []}
    for s in seeds:
        planted = Planted.draw(atoms, width, 4, s)
        recipe = Recipe("topk", 16 * width, 4, steps=steps, batch=256, seed=s, rate=3e-2, dead_after=3_000)
        for name, aux in (("with AuxK", recipe.aux), ("without", 0.0)):
            sae = train(replace(recipe, aux=aux), Made(planted, width, s))
            rows[name].append(float(sae.meta["dead"]) / sae.d_sae)
            missed[name].append(float(sae.meta["unexplained"]))
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    times = [b / max(a, 1 / (16 * width)) for a, b in zip(rows["with AuxK"], rows["without"], strict=True)]
    return Section(
        "Dead latents",
        f"{16 * width} latents for {atoms} atoms in {width} dimensions, {steps} steps at a rate that kills; "
        "dead: silent on 4,096 states. With latents to spare for few atoms none needs to be woken, and "
        "AuxK changes nothing.",
        ("TopK", "dead", "unexplained"),
        tuple((n, cell(v, "%"), cell(estimates.mean(missed[n], seed), "%")) for n, v in found.items()),
        (Goal("AuxK cuts dead latents by", "at least", 3, "×", estimates.mean(times, seed)),),
    )


def hierarchy_section(seeds: Sequence[int], seed: int, share: float) -> Section:
    """Absorption: how often a parent's latent is silent because a child's stands for both."""
    parents, children, width = 8, 3, 40
    count, steps = parents * (children + 1), max(20, round(700 * share))
    rows: dict[str, list[float]] = {"batchtopk": [], "matryoshka": []}
    levels: dict[str, list[float]] = {"batchtopk": [], "matryoshka": []}
    for s in seeds:
        tree = Hierarchy.draw(parents, children, width, s)
        flat = Recipe("batchtopk", count, 2, steps=steps, batch=256, seed=s, rate=1e-2, dead_after=10_000)
        for kind in ("batchtopk", "matryoshka"):
            recipe = replace(flat, kind=kind, groups=(parents / count,))
            sae = train(recipe, Made(tree, width, s))
            rows[kind].append(tree.absorption(sae, s))
            levels[kind].append(float(sae.meta["l0"]))
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    ratio = estimates.mean(rows["matryoshka"], seed).value / max(
        estimates.mean(rows["batchtopk"], seed).value, 1e-6
    )
    return Section(
        "Absorption on a hierarchy",
        f"{parents} parents, each on in 15 % of states and then with one of {children} children in 70 % of "
        "those; "
        f"{count} latents, {steps} steps. Absorbed: the parent is on with a child, and its latent is silent.",
        ("recipe", "absorbed", "L0"),
        tuple((n, cell(v, "%"), cell(estimates.mean(levels[n], seed), "")) for n, v in found.items()),
        (
            Goal(
                "Matryoshka's absorption over BatchTopK's", "at most", 0.5, "", estimates.mean([ratio], seed)
            ),
        ),
    )
