"""Write a dictionary in every layout, read it back, spoil it, and see what is caught."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ...router.features.layouts import load_dictionary
from ...router.features.recipe import Recipe
from ...router.features.sae import SAE
from ...router.features.stream import Made
from ...router.features.synthetic import Planted
from ...router.features.trainer import train
from ...store.errors import ArtifactError
from .. import estimates
from ..page import Goal, Section
from .written import WRITERS, in_form

K = 3


def section(seed: int) -> Section:
    """One row a layout: the largest difference of latents, and whether spoilt files are refused."""
    planted = Planted.draw(40, 24, K, seed)
    base = train(Recipe("topk", 48, K, steps=400, batch=256, rate=1e-2, seed=seed), Made(planted, 24, seed))
    varied = base.threshold * torch.linspace(0.7, 1.3, base.d_sae)
    base = SAE(base.W_enc, base.b_enc, base.W_dec, base.b_dec + 0.05, varied, base.check)
    states = planted(600, torch.Generator().manual_seed(seed + 9))
    rows, same, caught = [], [], []
    for name, (write, form) in WRITERS.items():
        sae = in_form(base, form, K)
        with tempfile.TemporaryDirectory(prefix="pilothouse-layout-") as folder:
            write(sae, Path(folder) / "good")
            found = load_dictionary(Path(folder) / "good", states)
            off = float((found.encode(states) - sae.encode(states)).abs().max())
            scaled = _refused(Path(folder) / "scaled", name, _with(sae, sae.W_dec * 4), states)
            shifted = _refused(Path(folder) / "shifted", name, _with(sae, sae.W_dec.roll(1, 0)), states)
        rows.append((name, f"{off:.1e}", "refused" if scaled else "read", "refused" if shifted else "read"))
        same.append(float(off < 1e-4))
        caught += [float(scaled), float(shifted)]
    return Section(
        "Loaders",
        "A trained dictionary in every layout. Off: largest difference of its latents after the trip. "
        "Spoilt: "
        "the "
        "decoder scaled by four, or its rows in another order.",
        ("layout", "off", "wrong scale", "wrong order"),
        tuple(rows),
        (
            Goal("layouts that come back the same", "at least", 1, "%", estimates.mean(same, seed)),
            Goal("spoilt files that are refused", "at least", 1, "%", estimates.mean(caught, seed)),
        ),
    )


def _with(sae: SAE, w_dec: torch.Tensor) -> SAE:
    return SAE(sae.W_enc, sae.b_enc, w_dec, sae.b_dec, sae.threshold, sae.check, sae.meta, sae.k)


def _refused(folder: Path, name: str, sae: SAE, states: torch.Tensor) -> bool:
    WRITERS[name][0](sae, folder)
    try:
        load_dictionary(folder, states)
    except ArtifactError:
        return True
    return False
