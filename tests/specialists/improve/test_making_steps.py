"""The recipe steps quantize and merge: artifacts load, figures are true, impossible settings are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.fingerprint import fingerprint
from pilothouse.specialists.improve.data import made
from pilothouse.specialists.improve.quantize_step import Quantize, check
from pilothouse.specialists.improve.step import Context, Made, Plan, step_of
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.weights import read_model_tensors
from pilothouse.store.errors import UsageError

TEXT = made("text", [{"text": "Once upon a time a small boat went down the river."}] * 6, "own", "test")


def context(tmp_path: Path, inputs: list[Path], trunk: Path) -> Context:
    found = tuple(Made(f"in{i}", "model", p, fingerprint(p)) for i, p in enumerate(inputs))
    return Context(
        tmp_path / "work", tmp_path / "out", 3, found, Made("trunk", "model", trunk, fingerprint(trunk)),
        {"text": TEXT},
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"allocation": "nsds", "solver": "hqq"},
        {"allocation": "greedy", "solver": "gptq", "data": "text", "rows": 2},
        {"allocation": "lsaq", "solver": "nearest", "data": "text", "rows": 2, "embeddings": 0},
    ],
)
def test_quantize_gives_a_model_of_the_promised_bits(
    settings: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    step = step_of("quantize")
    ctx = context(tmp_path, [tiny_folder], tiny_folder)
    figures = step.run(step.settings(group=32, **settings), ctx)
    assert sorted(figures["layers"]) == [2, 4]
    head = json.loads((ctx.out / "quantization.json").read_text())
    for layer, bits in enumerate(figures["layers"]):
        for name, one in head["weights"].items():
            assert f"layers.{layer}." not in name or one["bits"] == bits
    embedded = "model.embed_tokens.weight" in head["weights"]
    assert embedded == (settings.get("embeddings", 8) != 0)
    model = load_model_folder(ctx.out)
    assert torch.isfinite(model(torch.arange(4, 20)[None]).logits).all()
    assert (ctx.out / "tokenizer.json").is_file()


def test_quantize_refuses_what_cannot_be() -> None:
    plan = Plan(("model",), {"text": TEXT})
    with pytest.raises(UsageError, match="greedy and gptq read data"):
        check(Quantize(allocation="greedy", solver="gptq"), plan)
    with pytest.raises(UsageError, match="budget 5"):
        check(Quantize(budget=5.0), plan)
    with pytest.raises(UsageError, match="no data set"):
        check(Quantize(allocation="lim", data="other"), plan)
    check(Quantize(allocation="lim", data="text"), plan)


def test_merge_writes_a_model_between(tiny_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    tuned = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    for p in tuned.parameters():
        p.data += 0.05 * torch.randn_like(p)
    tuned.save_pretrained(tmp_path / "tuned")
    step = step_of("merge")
    ctx = context(tmp_path, [tmp_path / "tuned"], tiny_folder)
    figures = step.run(step.settings(norm=0.5), ctx)
    assert figures["length_kept"] == pytest.approx(0.5, rel=1e-3)
    assert torch.isfinite(load_model_folder(ctx.out)(torch.arange(4, 20)[None]).logits).all()
    whole = context(tmp_path / "whole", [tmp_path / "tuned"], tiny_folder)
    step.run(step.settings(weak=1.0, strong=1.0), whole)
    a, b = read_model_tensors(whole.out), read_model_tensors(tmp_path / "tuned")
    assert all(torch.equal(a[n], b[n]) for n in b)
