"""Dictionaries inside the shipped trunk: the one that ships, its labels, and two trained on own texts or
noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...router.features.dashboard import dashboard, logit_effects, save_dashboard
from ...router.features.detect import Likeness, detection_scores
from ...router.features.evaluate import fake_ratio, losses, quality, shared_ratio, sparse_probe
from ...router.features.faithful import own_texts, random_rows
from ...router.features.recipe import Recipe
from ...router.features.sae import SAE
from ...router.features.stream import Activations
from ...router.features.trainer import train
from ...router.locate.anatomy import Anatomy
from ...router.taps import Taps
from ...specialists.family import Family
from ...specialists.models import load_model_folder
from ...specialists.starter.skills import freeform
from ...specialists.tokenizing import ChatCodec
from ...store.errors import NotFoundError
from .. import estimates
from ..locate.trunk import untrained
from ..page import Goal, Section, cell

LATENTS, ACTIVE = 768, 16  # of the dictionaries that are trained here
LABELLED = 512  # labels that are judged, at most, of features with even numbers; odd ones chose the judge


def section(family: Family, seeds: Sequence[int], seed: int, quick: bool, out: Path) -> Section:
    """Loss recovered, L0, explained variance, dead share, sparse probing and label detection."""
    if family.sae is None:
        raise NotFoundError(f"family {family.name!r} has no dictionary; make one, or measure another family")
    sae, codec = family.sae, ChatCodec.load(family.trunk_folder)
    model = load_model_folder(family.trunk_folder, torch.float32).requires_grad_(False)
    examples = freeform.examples("calibrate", 40 if quick else 200, seed)
    rows = [list(codec.encode_prompt(e.prompt)) for e in examples]
    states, contexts = read(model, codec, rows, sae.layer)
    found, inside = quality(sae, states), losses(model, sae, rows[:60])
    twin = losses(untrained(family.trunk_folder, seed), sae, rows[:20])
    probing = _probing(sae, model, rows, [e.skill for e in examples], seeds)
    labels = family.labels.get(f"L{sae.layer}", {})
    chosen = {
        f: labels[f]
        for f in [f for f in sorted(labels) if f % 2 == 0][: 60 if quick else LABELLED]
        if labels[f].text != "mixed"
    }
    acts = sae.encode(states)
    scores, control = detection_scores(chosen, acts, contexts, Likeness(contexts), seed)
    _dashboard(sae, model, codec, states, contexts, labels, out)
    judged = estimates.mean(list(scores.values()) or [float("nan")], seed)
    return Section(
        "The dictionary that ships, inside its trunk",
        f"{len(rows)} hand-written prompts that nothing was trained on, {len(states)} states after layer "
        f"{sae.layer}. "
        "Labels of features with even numbers are judged by likeness of letter groups, word by word, which "
        "did not make them; "
        "[dashboard](features-dashboard.html).",
        ("measured", "value"),
        (
            (
                "loss of the trunk, through the dictionary, with the layer zeroed (nats)",
                f"{inside.model:.3f}, {inside.through:.3f}, {inside.zeroed:.3f}",
            ),
            ("loss recovered", f"{inside.recovered:.3f}"),
            (
                "the same of an untrained trunk (control: nothing to lose, nothing to recover)",
                f"{twin.model:.3f}, {twin.through:.3f}, {twin.zeroed:.3f}",
            ),
            ("L0", f"{found.l0:.1f} of {sae.d_sae}"),
            ("explained variance", f"{found.explained:.3f}"),
            ("dead", f"{found.dead:.1%}"),
            *((name, cell(value, "%")) for name, value in probing.items()),
            (f"detection score of {len(scores)} labels", cell(judged, "%")),
            ("detection score of swapped labels (control)", f"{100 * control:.1f} %"),
        ),
        (
            Goal(
                "loss recovered in the trunk", "at least", 0.9, "", estimates.mean([inside.recovered], seed)
            ),
            Goal(
                "labels' detection score above swapped ones'",
                "at least",
                0.05,
                "%",
                estimates.mean([s - control for s in scores.values()] or [float("nan")], seed),
            ),
        ),
    )


@torch.no_grad()
def read(
    model: Any, codec: ChatCodec, rows: Sequence[Sequence[int]], layer: int
) -> tuple[torch.Tensor, list[str]]:
    """States [N,D] of all tokens but the first, and the words up to each."""
    states, contexts = [], []
    with Taps(model, (layer,)) as taps:
        for row in rows:
            model(torch.tensor([list(row)]))
            states.append(taps.states[layer][0, 1:].float())
            contexts += [
                codec.decode(list(row)[max(0, t - 6) : t + 1]).strip() or "(start)"
                for t in range(1, len(row))
            ]
    return torch.cat(states), contexts


def _probing(
    sae: SAE, model: Any, rows: Sequence[Sequence[int]], skills: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Is the prompt arithmetic? By 1, 2 or 5 latents, pooled by mean; and with shuffled labels."""
    pooled = torch.stack([_mean_latents(sae, model, row) for row in rows])
    most = max(sorted(set(skills)), key=list(skills).count)
    y = torch.tensor([float(skill == most) for skill in skills])
    found: dict[str, list[float]] = {}
    for s in seeds:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(s))
        half = len(y) // 2
        train_rows, test_rows = order[:half], order[half:]
        shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(s + 1))]
        for k in (1, 2, 5):
            for name, labels in (
                (f"{k}-sparse probe for {most!r}", y),
                (f"{k}-sparse probe, shuffled labels", shuffled),
            ):
                value = sparse_probe(
                    pooled[train_rows], labels[train_rows], pooled[test_rows], labels[test_rows], k
                )
                found.setdefault(name, []).append(value)
    found[f"always saying no ({most!r} is the commonest skill)"] = [float(1 - y.mean())]
    return {name: estimates.mean(values, seeds[0]) for name, values in found.items()}


@torch.no_grad()
def _mean_latents(sae: SAE, model: Any, row: Sequence[int]) -> torch.Tensor:
    with Taps(model, (sae.layer,)) as taps:
        model(torch.tensor([list(row)]))
        return sae.encode(taps.states[sae.layer][0, 1:].float()).mean(0)


def _dashboard(
    sae: SAE,
    model: Any,
    codec: ChatCodec,
    states: torch.Tensor,
    contexts: Sequence[str],
    labels: dict[int, Any],
    out: Path,
) -> None:
    anatomy = Anatomy.of(model)
    gain = torch.as_tensor(anatomy.norm.weight).float()
    head = gain[:, None] * anatomy.unembed
    busy = sae.encode(states).sum(0).topk(12).indices.tolist()
    page = dashboard(
        sae,
        busy,
        states,
        contexts,
        labels=labels,
        effects=lambda f: logit_effects(sae, f, head, lambda token: codec.decode([token])),
    )
    save_dashboard(out / "features-dashboard.html", page)


# -- own texts -----------------------------------------------------------------------------------------------


def faithful_section(family: Family, seeds: Sequence[int], seed: int, share: float) -> Section:
    """Dictionaries trained on the trunk's own texts, on given prompts and on random tokens, in pairs of
    seeds.
    """
    model = load_model_folder(family.trunk_folder, torch.float32).requires_grad_(False)
    codec, layer = ChatCodec.load(family.trunk_folder), family.scout_layers[-1]
    count, steps = max(16, round(240 * share)), max(20, round(300 * share))
    start = int(codec.encode_prompt("a")[0])
    own = own_texts(model, start, 2 * count, 48, seed)
    vocabulary = int(model.config.vocab_size)
    given = [list(codec.encode_prompt(e.prompt))[:48] for e in freeform.examples("fit", 3 * count, seed)]
    sources = {
        "own texts": own[:count],
        "given prompts": given,
        "random tokens": random_rows(vocabulary, count, 48, seed),
    }
    held, noise = own[count:], random_rows(vocabulary, count // 2, 48, seed + 1)
    own_states, _ = read(model, codec, held, layer)
    noise_states, _ = read(model, codec, noise, layer)
    rows: dict[str, dict[str, list[float]]] = {}
    for name, texts in sources.items():
        rows[name] = {}
        for s in seeds:
            pair = [
                train(
                    Recipe(
                        "topk", LATENTS, ACTIVE, steps=steps, batch=256, seed=2 * s + i, dead_after=20_000
                    ),
                    Activations(model, layer, texts, s),
                    meta={"layer": layer},
                )
                for i in range(2)
            ]
            told = losses(model, pair[0], held[:16], layer)
            told_values = {
                "loss added on own texts": told.through - told.model,
                "shared between seeds": shared_ratio(pair[0], pair[1], how="top1"),
                **{
                    f"fake at {tau:g}": fake_ratio(pair[0], own_states, noise_states, tau)
                    for tau in (0.01, 0.1, 0.5)
                },
            }
            for key, value in told_values.items():
                rows[name].setdefault(key, []).append(value)
    return _faithful_table(rows, seed, steps)


def _fake_notes(rows: dict[str, dict[str, list[float]]]) -> str:
    """The contrast with other text that is not the model's own, and why thresholds differ."""
    given, own = rows["given prompts"], rows["own texts"]
    times = ", ".join(
        f"{sum(given[k]) / max(sum(own[k]), 1e-3):.1f}× ({k})" for k in own if k.startswith("fake")
    )
    return (
        f"fake, given prompts over own texts: {times}. A dictionary trained on random tokens spreads its "
        f"{ACTIVE} active latents evenly over them, each on about {100 * ACTIVE / LATENTS:.1f} % of "
        "tokens, so that few of its latents are above 0.1 there: at that threshold it is no mark of noise. "
        "The source gives no threshold"
    )


def _faithful_table(rows: dict[str, dict[str, list[float]]], seed: int, steps: int) -> Section:
    keys = list(next(iter(rows.values())))
    found = {n: {k: estimates.mean(v, seed) for k, v in values.items()} for n, values in rows.items()}
    own, noise = rows["own texts"], rows["random tokens"]
    return Section(
        "Trained on the model's own texts",
        f"TopK, {LATENTS} latents, {ACTIVE} active, {steps} steps; pairs of seeds. "
        "Shared: best decoder cosine above 0.7 (top-1). "
        "Fake (a reconstruction): share of live latents that fire on more than a share of random tokens.",
        ("trained on", *keys),
        tuple(
            (n, *(cell(values[k], "nats" if k.startswith("loss") else "%") for k in keys))
            for n, values in found.items()
        ),
        (
            Goal(
                "own texts add least loss on own texts, against random tokens (ratio)",
                "at most",
                1.0,
                "",
                estimates.ratio(own["loss added on own texts"], noise["loss added on own texts"], seed),
            ),
            Goal(
                "fake at 0.01: random tokens over own texts",
                "at least",
                2,
                "×",
                estimates.ratio(noise["fake at 0.01"], [max(v, 1e-3) for v in own["fake at 0.01"]], seed),
            ),
            Goal(
                "fake at 0.1: random tokens over own texts",
                "at least",
                2,
                "×",
                estimates.ratio(noise["fake at 0.1"], [max(v, 1e-3) for v in own["fake at 0.1"]], seed),
            ),
        ),
        notes=(_fake_notes(rows),),
    )
