"""PerSyn: rewards, the pairwise loss, a router that learns planted routes, and exact generation counts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.improve import persyn
from pilothouse.specialists.improve.answering import Answered
from pilothouse.specialists.improve.distill import student_pass
from pilothouse.specialists.improve.finetune import Row, collate, targets_of
from pilothouse.specialists.improve.persyn import Labels, Routing, bradley_terry, fit_router, hit, rewards
from pilothouse.specialists.improve.teachers import routed
from pilothouse.specialists.tokenizing import ChatCodec


def test_learnability_is_minus_the_loss_of_fine_tuning_on_that_row(tiny_model: Qwen3ForCausalLM) -> None:
    rng = random.Random(0)
    rows = [
        Row(
            tuple(rng.choices(range(4, 300), k=rng.randrange(1, 9))), (2, *rng.choices(range(4, 300), k=k), 3)
        )
        for k in (1, 5, 3, 7, 2)
    ]
    found = persyn.learnability(tiny_model, rows, 1, size=2)
    for row, value in zip(rows, found.tolist(), strict=True):
        batch = collate([row], 1, tiny_model.device)
        loss = F.cross_entropy(student_pass(tiny_model, batch)[1], targets_of(batch))
        assert value == pytest.approx(-loss.item(), abs=1e-4)


def test_alpha_0_ranks_by_quality_and_1_by_likelihood() -> None:
    torch.manual_seed(0)
    quality, likelihood = torch.rand(6, 4), torch.randn(6, 4)
    for how in ("minmax", "zscore"):
        assert rewards(quality, likelihood, 0.0, how).argsort().equal(quality.argsort())  # type: ignore[arg-type]
        assert rewards(quality, likelihood, 1.0, how).argsort().equal(likelihood.argsort())  # type: ignore[arg-type]
    both = rewards(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[-3.0, -1.0, 0.0]]))
    assert both.argsort(descending=True).tolist() == [[1, 0, 2]]
    assert persyn.normalised(torch.ones(1, 3)).tolist() == [[0.5] * 3]


def test_swapping_two_teachers_flips_the_sign_and_ties_count_half() -> None:
    scores, reward = torch.tensor([[0.3, -1.2]]), torch.tensor([[1.0, 0.0]])
    assert float(bradley_terry(scores, reward)) == pytest.approx(float(-F.logsigmoid(torch.tensor(1.5))))
    assert float(bradley_terry(scores.flip(1), reward.flip(1))) == pytest.approx(
        float(bradley_terry(scores, reward))
    )
    assert float(bradley_terry(scores.flip(1), reward)) > float(bradley_terry(scores, reward))
    tie = bradley_terry(scores, torch.ones(1, 2))
    assert float(tie) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(torch.tensor(1.5), torch.tensor(0.5)))
    )


def test_a_hit_counts_any_of_the_best() -> None:
    reward = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    scores = torch.tensor([[0.0, 5.0, 1.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
    assert hit(scores, reward).tolist() == [1.0, 0.0]
    assert hit(scores, reward, 3).tolist() == [1.0, 0.0]
    assert hit(scores, reward, 9).tolist() == [1.0, 1.0]


def test_car_and_strong_may_differ() -> None:
    quality = torch.tensor([[0.9, 0.8, 0.1]]).repeat(4, 1)
    likelihood = -torch.tensor([[5.0, 0.5, 0.1]]).repeat(4, 1)
    labels = Labels(quality, likelihood)
    assert (labels.single("strong"), labels.single("car"), labels.single("car", 0.0)) == (0, 1, 0)


def test_shuffled_routes_keep_every_teachers_share() -> None:
    routes = [0] * 7 + [1] * 3 + [2] * 10
    mixed = persyn.shuffled(routes, 0)
    assert sorted(mixed) == routes
    assert mixed != routes
    assert set(persyn.mixed(200, 3, 0)) == {0, 1, 2}


WORDS = ("boat", "river", "log")


def world(codec: ChatCodec, count: int, seed: int) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    """Prompts whose first word alone decides which of three teachers is best."""
    rng = random.Random(seed)
    firsts = [rng.randrange(3) for _ in range(count)]
    prompts = [codec.encode_prompt(f"{WORDS[i]} {rng.choice(WORDS)}") for i in firsts]
    return prompts, F.one_hot(torch.tensor(firsts), 3).float()


def test_a_router_learns_planted_routes_and_not_shuffled_ones(
    tiny_folder: Path, tiny_model: Qwen3ForCausalLM, tmp_path: Path
) -> None:
    codec = ChatCodec.load(tiny_folder)
    prompts, reward = world(codec, 90, 0)
    held, wanted = world(codec, 90, 1)
    plan = Routing(steps=40, rate=1e-2, warmup=4, every=20)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))

    def hits(name: str, labels: torch.Tensor) -> float:
        router = fit_router(tiny_model, prompts, labels, plan, tmp_path / name)
        return float(hit(router.scores(held), wanted).mean())

    assert hits("true", reward) > 0.95
    assert hits("shuffled", reward[order]) < 0.7  # by chance a third, widely: three kinds of prompt
    kept = [p.clone() for p in tiny_model.parameters()]
    assert all(a.equal(b) for a, b in zip(kept, tiny_model.parameters(), strict=True))


class Scripted:
    def __init__(self, name: str, token: int) -> None:
        self.name, self.token, self.generations = name, token, 0

    def answer(self, prompts: Sequence[Sequence[int]], longest: int) -> list[Answered]:
        self.generations += len(prompts)
        return [Answered((self.token,), 0.0, self.token != 9) for _ in prompts]


def test_each_prompt_is_answered_once_by_its_teacher(tiny_folder: Path) -> None:
    codec = ChatCodec.load(tiny_folder)
    teachers = [Scripted("a", 7), Scripted("b", 8), Scripted("c", 9)]
    prompts = [(10 + i,) for i in range(5)]
    rows = routed(teachers, prompts, [1, 0, 1, 2, 1], 4, codec)
    assert [t.generations for t in teachers] == [1, 3, 1]
    assert [None if r is None else (r.prompt[0], r.answer[1]) for r in rows] == [
        (10, 8), (11, 7), (12, 8), None, (14, 8)
    ]  # fmt: skip
