"""Comparative neuron analysis on a toy that learnt addition modulo a prime, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.causal import ablation_effects, candidates
from ...router.locate.compare import compare_runs
from ...router.locate.edit import Edit, edited, only
from ...router.locate.place import Place
from ...router.locate.run import record
from .. import estimates
from ..page import Goal, Section, cell

PRIME, EQUALS, STEPS = 11, 11, 400
TRIED = 16  # cases a seed
SWEEP = (10, 32, 64)  # neurons taken out


def sums() -> torch.Tensor:
    """All prompts `a b =` [P*P, 3]."""
    a, b = torch.meshgrid(torch.arange(PRIME), torch.arange(PRIME), indexing="ij")
    return torch.stack([a.flatten(), b.flatten(), torch.full((PRIME**2,), EQUALS)], 1)


def trained(seed: int, steps: int = STEPS) -> Any:
    """A one-layer Llama that answers a + b modulo 11."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=PRIME + 1,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=8,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config).train()
    x = sums()
    y = (x[:, 0] + x[:, 1]) % PRIME
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        loss = torch.nn.functional.cross_entropy(model(x).logits[:, -1], y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval().requires_grad_(False)


def cases(seed: int, count: int) -> list[Case]:
    """Some sums, drawn."""
    rows = sums()[torch.randperm(PRIME**2, generator=torch.Generator().manual_seed(seed))[:count]].tolist()
    return [Case(tuple(row), (row[0] + row[1]) % PRIME) for row in rows]


def right(anatomy: Anatomy, case: Case, edits: Sequence[Edit]) -> float:
    """Whether the answer is still the first choice under edits."""
    return float(edited(anatomy, torch.tensor(case.ids), [edits])[0].argmax() == case.answer)


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """What zeroing and keeping the compared neurons does, against random ones of the same layers."""
    rows: dict[str, list[float]] = {}
    for s in seeds:
        anatomy = Anatomy.of(trained(s, 200 if quick else STEPS))
        for name, values in _seed(anatomy, s, 6 if quick else TRIED).items():
            rows.setdefault(name, []).extend(values)
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    return Section(
        "Comparing runs: addition modulo 11",
        f"One layer of 256 neurons, trained for seconds, {len(seeds)} seeds. For each sum, the head whose "
        "loss "
        "hurts "
        "it most is silenced, and the neurons that lose most importance are taken. Right: the answer stays "
        "first.",
        ("measured", "mean, 95 % interval"),
        tuple((name, cell(value, "%")) for name, value in found.items()),
        (
            Goal(
                "zeroing the 10 compared neurons: right falls to",
                "at most",
                0.5,
                "%",
                found["right without the 10 compared neurons"],
            ),
            Goal(
                "zeroing 10 random neurons: right stays",
                "at least",
                0.95,
                "%",
                found["right without 10 random neurons"],
            ),
            Goal(
                "keeping only the top 1 % of the last layer: right",
                "at least",
                0.6,
                "%",
                found["right with only the top 1 % of the last layer"],
            ),
            Goal(
                "keeping only 1 % at random: right",
                "at most",
                0.2,
                "%",
                found["right with only 1 % at random"],
            ),
        ),
    )


def _seed(anatomy: Anatomy, seed: int, count: int) -> dict[str, list[float]]:
    heads, generator = candidates(anatomy, "heads"), torch.Generator().manual_seed(seed)
    size, last = anatomy.neurons, anatomy.layers - 1
    few = max(1, round(0.01 * size))
    rows: dict[str, list[float]] = {}
    for case in cases(seed, count):
        head = heads[int(ablation_effects(anatomy, case, heads).argmax())]
        lost, _ = compare_runs(anatomy, case, [Edit(head)])
        ranking = lost.flatten().argsort(descending=True).tolist()
        best = [Place("neuron", *divmod(at, size)) for at in ranking[: SWEEP[-1]]]
        order = lost[last].argsort(descending=True)[:few].tolist()
        drawn = torch.randperm(size, generator=generator)
        random = [Place("neuron", one.layer, int(drawn[i])) for i, one in enumerate(best)]
        chance = [Place("neuron", last, int(i)) for i in drawn[-few:]]
        told = {"right as it is": right(anatomy, case, [])}
        for n in SWEEP:
            told[f"right without the {n} compared neurons"] = right(
                anatomy, case, [Edit(p) for p in best[:n]]
            )
            told[f"right without {n} random neurons"] = right(anatomy, case, [Edit(p) for p in random[:n]])
        told |= {
            "right with only the top 1 % of the last layer": right(
                anatomy, case, only(anatomy, [Place("neuron", last, i) for i in order], [last])
            ),
            "right with only 1 % at random": right(anatomy, case, only(anatomy, chance, [last])),
            "right without any neuron of the last layer": right(anatomy, case, only(anatomy, [], [last])),
        }
        for name, value in told.items():
            rows.setdefault(name, []).append(value)
    return rows


def accuracy(model: Any) -> float:
    """Share of all sums that a model answers right."""
    x = sums()
    with torch.no_grad():
        return float((model(x).logits[:, -1].argmax(-1) == (x[:, 0] + x[:, 1]) % PRIME).float().mean())


def sum_error(anatomy: Anatomy, case: Case) -> float:
    """How far the parts' logits are from the true ones."""
    from ...router.locate.readout import Readout, components

    run = record(anatomy, case.ids)
    readout = Readout(anatomy, run)
    total = sum((readout.logits(v) for v in components(anatomy, run).values()), readout.constant)
    return float((readout.capped(total) - run.logits[-1]).abs().max())
