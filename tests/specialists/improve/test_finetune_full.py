"""Selective fine-tuning moves what it should and nothing else; masks act row by row; the search is exact."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.improve import cofitune
from pilothouse.specialists.improve.build import build
from pilothouse.specialists.improve.cofitune import Region, Scores
from pilothouse.specialists.improve.distill import student_pass
from pilothouse.specialists.improve.finetune import Row, collate
from pilothouse.specialists.improve.finetune_full import Sft, interpolate, region, tune
from pilothouse.specialists.improve.finetune_mask import Gates, SoftMask, controlled, importance
from pilothouse.specialists.improve.recipe import Recipe, plan
from pilothouse.store.errors import UsageError

ROWS = [Row((5 + i % 7, 9), (2, 20 + i % 7, 3)) for i in range(24)]
SFT = Sft(rows=8, steps=4, rate=1e-2, warmup=0, every=2)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def test_frozen_tensors_stay_bit_identical(tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
    before, chosen = weights(tiny_model), region(tiny_model, (1, 2), "ffn")
    assert chosen == ["model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"]
    tune(tiny_model, ROWS, 1, SFT, tmp_path, chosen)
    after = weights(tiny_model)
    assert [n for n in before if not before[n].equal(after[n])] == chosen
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_regions_name_their_maps(tiny_model: Qwen3ForCausalLM) -> None:
    assert len(region(tiny_model, (0, 2), "mha")) == 8
    assert len(region(tiny_model, (0, 1), "qkv")) == 3
    assert len(region(tiny_model, (0, 1), "all")) == 7
    with pytest.raises(UsageError, match="0 to 2, give first < last"):
        region(tiny_model, (1, 3), "ffn")


def test_a_strong_anchor_keeps_the_weights_and_interpolation_has_its_ends(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def moved(name: str, sft: Sft) -> tuple[float, Qwen3ForCausalLM, dict[str, Tensor]]:
        model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
        start = weights(model)
        tune(model, ROWS, 1, sft, tmp_path / name)
        now = weights(model)
        return sum(float((now[n] - start[n]).square().sum()) for n in start), model, start

    free, model, start = moved("free", Sft(rows=8, steps=12, rate=1e-2, warmup=0))
    held, _, _ = moved("held", Sft(rows=8, steps=12, rate=1e-2, warmup=0, anchor=100.0))
    assert held < 0.5 * free
    tuned = weights(model)
    interpolate(model, start, 1.0)
    assert all(tuned[n].equal(p) for n, p in model.named_parameters())
    interpolate(model, start, 0.0)
    assert all(start[n].equal(p) for n, p in model.named_parameters())


def test_gates_of_one_change_nothing_and_importance_is_a_share(tiny_model: Qwen3ForCausalLM) -> None:
    batch = collate(ROWS[:5], 1, tiny_model.device)
    with torch.no_grad():
        plain = student_pass(tiny_model, batch)[1]
        with Gates(tiny_model).attached():
            gated = student_pass(tiny_model, batch)[1]
        again = student_pass(tiny_model, batch)[1]
    assert plain.equal(gated)
    assert plain.equal(again)
    found = importance(tiny_model, ROWS, 1)
    assert {len(v) for n, v in found.items() if "o_proj" in n} == {4}
    assert all(float(v.min()) >= 0 and float(v.max()) < 1 for v in found.values())
    assert importance(tiny_model, ROWS, 1)["model.layers.0.mlp.up_proj"].equal(
        found["model.layers.0.mlp.up_proj"]
    )
    shuffled, constant = controlled(found, "shuffled"), controlled(found, "constant")
    for name, value in found.items():
        assert shuffled[name].sort().values.equal(value.sort().values)
        assert float(constant[name].mean()) == pytest.approx(float(value.mean()), abs=1e-6)


NAMES = ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight")


def test_importance_1_freezes_its_own_row_and_no_other(tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
    """The released mask was tiled along the flattened weight: it would freeze scattered columns."""
    found = {n: torch.zeros_like(g) for n, g in Gates(tiny_model).values.items()}
    found["model.layers.0.mlp.up_proj"][5] = 1.0
    found["model.layers.0.self_attn.o_proj"][2] = 1.0
    chosen = [*NAMES, *region(tiny_model, (0, 1), "qkv")]
    before = weights(tiny_model)
    for mode in ("gradient", "update"):
        tune(
            tiny_model,
            ROWS,
            1,
            SFT,
            tmp_path / mode,
            chosen,
            change=SoftMask(tiny_model, chosen, found, mode),
        )  # type: ignore[arg-type]
        now = weights(tiny_model)
        still = (now[NAMES[0]] == before[NAMES[0]]).all(1)
        assert still.nonzero().flatten().tolist() == [5]
        queries = (
            now["model.layers.0.self_attn.q_proj.weight"] == before["model.layers.0.self_attn.q_proj.weight"]
        ).all(1)
        assert queries.nonzero().flatten().tolist() == list(range(16, 24))  # head 2 of width 8
        keys = (
            now["model.layers.0.self_attn.k_proj.weight"] == before["model.layers.0.self_attn.k_proj.weight"]
        ).all(1)
        assert keys.nonzero().flatten().tolist() == list(range(8, 16))  # which key-value head 1 serves


def test_zero_importance_is_plain_training(tiny_folder: Path, tmp_path: Path) -> None:
    def trained(name: str, masked: bool) -> dict[str, Tensor]:
        model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
        zero = controlled({n: g.detach() for n, g in Gates(model).values.items()}, "zero")
        change = SoftMask(model, NAMES, zero, "gradient") if masked else None
        tune(model, ROWS, 1, SFT, tmp_path / name, NAMES, change=change)
        return weights(model)

    plain, masked = trained("plain", False), trained("masked", True)
    assert all(plain[n].equal(masked[n]) for n in plain)


def test_adam_undoes_a_constant_mask_on_the_gradient_and_not_on_the_update(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def length(name: str, mode: str | None) -> float:
        model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
        start = weights(model)
        half = {n: torch.full_like(g, 0.5) for n, g in Gates(model).values.items()}
        change = SoftMask(model, NAMES[:1], half, mode) if mode else None  # type: ignore[arg-type]
        tune(
            model,
            ROWS,
            1,
            Sft(rows=8, steps=1, rate=1e-2, warmup=0),
            tmp_path / name,
            NAMES[:1],
            change=change,
        )
        return float((weights(model)[NAMES[0]] - start[NAMES[0]]).norm())

    free = length("free", None)
    assert length("gradient", "gradient") == pytest.approx(free, rel=0.02)
    assert length("update", "update") == pytest.approx(free / 2, rel=0.02)


def planted(best: Region, seed: int = 0) -> tuple[cofitune.Runner, list[Region]]:
    """Scores that fall with the distance from one region: what overlaps it more is better."""
    seen: list[Region] = []

    def overlap(r: Region) -> float:
        common = max(0, min(r.last, best.last) - max(r.first, best.first))
        same = {"up": "ffn", "down": "ffn", "qkv": "mha"}
        kind = 1.0 if r.module == best.module else 0.7 if same.get(best.module) == r.module else 0.3
        return kind * common / (r.last - r.first + 0.1)

    def run(regions: Sequence[Region]) -> list[Scores]:
        seen.extend(regions)
        return [Scores(overlap(r), 0.5) for r in regions]

    return run, seen


@pytest.mark.parametrize(
    "best", [Region(2, 4, "ffn"), Region(6, 8, "up"), Region(0, 2, "qkv"), Region(4, 6, "mha")]
)
def test_the_tree_finds_the_grids_best_with_fewer_runs(best: Region) -> None:
    runner, seen = planted(best)
    found, trials = cofitune.search(8, runner)
    grid = cofitune.grid(8)
    scores = dict(zip(grid, planted(best)[0](grid), strict=True))
    assert found == best
    assert trials[found].uni == max(s.uni for s in scores.values())
    assert len(seen) == len(set(seen)) < len(grid) / 2


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    runner, seen = planted(Region(2, 4, "ffn"))

    def dies(regions: Sequence[Region]) -> list[Scores]:
        for region_, scores in zip(regions[:2], runner(regions[:2]), strict=True):
            cofitune.keep(tmp_path, region_, scores)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cofitune.search(8, cofitune.kept(dies, tmp_path))
    cofitune.search(8, cofitune.kept(runner, tmp_path))
    assert len(seen) == len(set(seen))


HEAD = """
name = "ft"
trunk = "trunk"
licence = "Apache-2.0"
[data.train]
generator = "symbols:first"
rows = 40
[data.held]
generator = "symbols:first"
split = "test"
rows = 6
test = true
[data.general]
generator = "symbols:copy"
split = "test"
rows = 6
test = true
[[steps]]
step = "finetune"
data = "train"
test_data = "held"
versatility_data = ["general"]
steps = 3
rows = 8
every = 2
longest = 10
"""


@pytest.mark.parametrize(
    "settings",
    [
        'method = "cofitune"\nsearch_steps = 1\nmask = "update"\nimportance_rows = 8',
        'method = "dora"\nrank = 2',
        'method = "lora"\nrank = 2',
        'method = "full"\nanchor = 0.1\ninterpolate = 0.5',
    ],
)
def test_every_method_reports_speciality_versatility_and_forgetting(
    tmp_path: Path, tiny_folder: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    (tmp_path / "trunk").symlink_to(tiny_folder, target_is_directory=True)
    (tmp_path / "r.toml").write_text(HEAD + settings)
    card = build(plan(Recipe.read(tmp_path / "r.toml"), tmp_path), tmp_path / "run")
    figures = card["steps"]["finetune"]["figures"]
    assert {"speciality", "versatility", "forgetting"} <= set(figures)
    assert math.isfinite(figures["forgetting"])
    if "cofitune" in settings:
        assert len(figures["trials"]) in (5, 6)
        assert figures["trained"] in figures["trials"]
    saved = Qwen3ForCausalLM.from_pretrained(tmp_path / "run" / "finetune")
    assert saved.num_parameters() == Qwen3ForCausalLM.from_pretrained(tiny_folder).num_parameters()
    assert json.loads((tmp_path / "run" / "finetune" / "config.json").read_text())["model_type"] == "qwen3"
