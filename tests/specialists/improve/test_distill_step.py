"""Divergences have their limits; the step distils from one teacher, or routes among several and counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.improve import teachers
from pilothouse.specialists.improve.build import build
from pilothouse.specialists.improve.distill_logits import sampled
from pilothouse.specialists.improve.divergence import divergence
from pilothouse.specialists.improve.recipe import Recipe, plan
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.tokenizing import ChatCodec


def test_divergences_are_zero_at_the_teacher_and_js_has_its_limits() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(7, 23, dtype=torch.float64), torch.randn(7, 23, dtype=torch.float64)
    for kind in ("forward", "reverse", "js"):
        assert float(divergence(p + 3, p, kind, 0.3, 2.0)) == pytest.approx(0, abs=1e-6)  # type: ignore[arg-type]
        assert float(divergence(q, p, kind)) > 0.05  # type: ignore[arg-type]
    forward, reverse = divergence(q, p, "forward"), divergence(q, p, "reverse")
    assert float(reverse) == pytest.approx(float(divergence(p, q, "forward")))
    assert float(divergence(q, p, "js", 1e-3) / 1e-3) == pytest.approx(float(forward), rel=0.02)
    assert float(divergence(q, p, "js", 1 - 1e-3) / 1e-3) == pytest.approx(float(reverse), rel=0.02)
    whole = torch.nn.functional.kl_div(
        q.float().log_softmax(-1), p.float().log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert float(forward) == pytest.approx(float(whole), rel=1e-4)
    with pytest.raises(ValueError, match="strictly between"):
        divergence(q, p, "js", 1.0)


def test_sampling_is_a_function_of_its_generator(tiny_model: Qwen3ForCausalLM, tiny_folder: Path) -> None:
    codec, prompts = ChatCodec.load(tiny_folder), [(5, 6), (7, 8, 9), (9, 9)]

    def draw(seed: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        return [r.answer for r in sampled(tiny_model, prompts, codec, 6, generator)]

    assert draw(0) == draw(0) != draw(1)
    assert all(a[0] == codec.invocation[0] and (len(a) == 7 or a[-1] == codec.end) for a in draw(0))


HEAD = """
name = "kd"
trunk = "trunk"
licence = "Apache-2.0"
[data.train]
generator = "symbols:first"
rows = 40
[data.held]
generator = "symbols:first"
split = "test"
rows = 8
test = true
"""
TEACH = """
[[steps]]
step = "finetune"
name = "{name}"
from = "trunk"
method = "{method}"
data = "train"
rate = 0.01
steps = {steps}
rows = 16
rank = 8
"""
STUDY = """
[[steps]]
step = "distill"
from = ["trunk", {teachers}]
data = "train"
test_data = "held"
steps = 4
rows = 8
every = 2
longest = 10
router_steps = 3
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


def built(tmp_path: Path, tiny_folder: Path, text: str) -> dict:  # type: ignore[type-arg]
    (tmp_path / "trunk").symlink_to(tiny_folder, target_is_directory=True)
    (tmp_path / "r.toml").write_text(HEAD + text)
    return build(plan(Recipe.read(tmp_path / "r.toml"), tmp_path), tmp_path / "run")


def test_routes_are_compared_in_one_command_with_exact_counts(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"answers": 0}
    real = teachers.ModelTeacher.answer

    def counting(self: teachers.ModelTeacher, prompts: list, longest: int) -> list:  # type: ignore[type-arg]
        given["answers"] += len(prompts)
        return real(self, prompts, longest)

    monkeypatch.setattr(teachers.ModelTeacher, "answer", counting)
    text = TEACH.format(name="a", method="alora", steps=25) + TEACH.format(name="b", method="full", steps=25)
    routes = 'labelled = 10\ncompare = ["strong", "shuffled", "persyn"]\n'
    card = built(tmp_path, tiny_folder, text + STUDY.format(teachers='"a", "b"') + routes)
    figures = card["steps"]["distill"]["figures"]
    assert figures["generations"] == 10 * 2 + 40
    assert given["answers"] == 10 * 2 + 3 * 40  # one labelling, three routes
    assert figures["generate_then_select"] == 80
    assert sum(figures["persyn"]["shares"]) == pytest.approx(1)
    assert figures["shuffled"]["shares"] == figures["persyn"]["shares"]
    assert 0 <= figures["router"]["hit1"] <= figures["router"]["hit3"] <= 1
    assert {"accuracy", "mean_length"} <= set(figures["strong"])


def test_one_teacher_is_learned_by_its_distribution_on_and_off_policy(
    tmp_path: Path, tiny_folder: Path
) -> None:
    text = TEACH.format(name="a", method="alora", steps=25) + STUDY.format(teachers='"a"')
    card = built(tmp_path, tiny_folder, text + 'layers = [1]\nloss = "js"\non_policy = 0.5\n')
    assert "accuracy" in card["steps"]["distill"]["figures"]
    model = load_model_folder(tmp_path / "run" / "distill")
    assert model.config.num_hidden_layers == 1
    ChatCodec.load(tmp_path / "run" / "distill")
