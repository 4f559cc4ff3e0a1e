"""trl's trainer learns what our loop learns, from the same rows, and resumes in the same bytes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, Qwen3ForCausalLM

from pilothouse.specialists.improve.finetune import Order, Row, collate
from pilothouse.specialists.improve.finetune_full import Sft, answer_loss, region, tune
from pilothouse.store.errors import UsageError

ROWS = [
    Row(tuple(range(5, 8 + i % 4)), (2, *(10 + (i * k) % 7 for k in range(1 + i % 3)), 3)) for i in range(20)
]
SFT = Sft(rows=8, steps=4, rate=3e-3, warmup=1, every=2)


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def tuned(start: PreTrainedModel, work: Path, trainer: str, steps: int = 4) -> tuple[PreTrainedModel, float]:
    model = copy.deepcopy(start)
    return model, tune(model, ROWS, 1, replace(SFT, trainer=trainer, steps=steps), work)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
class TestWithTrl:
    """Skipped where trl is not installed."""

    @pytest.fixture(autouse=True)
    def _trl(self) -> None:
        pytest.importorskip("trl", reason="trl is not installed")

    def test_the_loss_on_a_batch_is_ours(self, tiny_model: Qwen3ForCausalLM) -> None:
        from pilothouse.specialists.improve.finetune_trl import inputs_of

        batch = collate(ROWS[:8], 1, torch.device("cpu"))
        given = inputs_of(batch)
        assert int((given["labels"] >= 0).sum()) == int(batch.loss.sum())
        theirs = tiny_model(**given).loss
        assert float(theirs) == pytest.approx(float(answer_loss(tiny_model, batch)), rel=1e-5)

    def test_it_learns_what_our_loop_learns(self, tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
        own, ours = tuned(tiny_model, tmp_path / "own", "own")
        trl, theirs = tuned(tiny_model, tmp_path / "trl", "trl")
        moved = (flat(own) - flat(tiny_model)).abs().max()
        assert theirs == pytest.approx(ours, rel=1e-4)
        assert (flat(own) - flat(trl)).abs().max() < 0.01 * moved
        assert type(trl).forward is type(tiny_model).forward
        assert "forward" not in vars(trl)
        assert trl.config.to_dict() == own.config.to_dict()

    def test_a_resumed_run_ends_in_the_same_bytes(
        self, tiny_model: Qwen3ForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pilothouse.specialists.improve import finetune_trl

        whole, _ = tuned(tiny_model, tmp_path / "whole", "trl")
        real = finetune_trl.checkpoint

        def stop(*args: object) -> None:
            real(*args)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(finetune_trl, "checkpoint", stop)
            with pytest.raises(KeyboardInterrupt):
                tuned(tiny_model, tmp_path / "cut", "trl")
        again, _ = tuned(tiny_model, tmp_path / "cut", "trl")
        assert torch.equal(flat(again), flat(whole))

    def test_frozen_weights_stay(self, tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
        model, names = copy.deepcopy(tiny_model), region(tiny_model, (0, 1), "up")
        tune(model, ROWS, 1, replace(SFT, trainer="trl"), tmp_path, names)
        now, before = dict(model.named_parameters()), dict(tiny_model.named_parameters())
        assert {n for n in now if not torch.equal(now[n], before[n])} == set(names)


def test_trl_is_refused_what_it_cannot_do(tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="learns answers and nothing else"):
        tune(tiny_model, ROWS, 1, replace(SFT, trainer="trl", anchor=0.1), tmp_path)


def test_an_order_is_the_same_for_both() -> None:
    order = Order(ROWS, 8, 0)
    assert order.batch(3) == order.whole(3)
