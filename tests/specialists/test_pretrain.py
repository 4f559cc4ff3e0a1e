"""Training from scratch: its schedule, its data order, and that a killed run continues to the same bits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from pilothouse.specialists.improve.pretrain import (
    Schedule,
    Stage,
    Streams,
    Turns,
    loss_of,
    optimizers,
    pretrain,
    restore,
)

VOCABULARY, PERIOD = 32, 16
FILES = ("weights.safetensors", "optimizer.safetensors", "step.json")


def fresh(seed: int = 0) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=48,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
    )
    return Qwen3ForCausalLM(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams with a planted structure: one repeats, one is random, two are constant."""
    path = tmp_path_factory.mktemp("streams")
    rng = np.random.default_rng(0)
    once = rng.permutation(VOCABULARY)[:PERIOD]
    for name, stream in {
        "periodic": np.tile(once, 100),
        "random": rng.choice(once, 1600),
        "ones": np.full(400, 1),
        "twos": np.full(400, 2),
        "count": np.arange(500),
    }.items():
        np.save(path / f"{name}.npy", stream.astype(np.uint16))
    return path


def single(name: str, steps: int, **settings: object) -> Schedule:
    shape = {"rows": 4, "length": 16, "warmup": 2, "every": 2}
    head = Schedule(**{**shape, **settings})  # type: ignore[arg-type]
    return replace(head, stages=(Stage(name, steps * head.rows * head.length, {name: 1.0}),))


# -- the schedule ------------------------------------------------------------------------------------------

TWENTY = Schedule(
    rows=2, length=10, rate=1.0, warmup=4, decay=0.5, stages=(Stage("a", 119, {}), Stage("b", 300, {}))
)


def test_steps_are_whole_batches_of_each_stage() -> None:
    assert [TWENTY.steps_of(stage) for stage in TWENTY.stages] == [5, 15]
    assert TWENTY.steps == 20


def test_a_step_belongs_to_the_stage_its_tokens_fall_in() -> None:
    names = [TWENTY.stage_at(step).name for step in (0, 4, 5, 19, 20)]
    assert names == ["a", "a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.25), (2, 0.75), (3, 1.0), (10, 1.0), (12, 0.8), (15, 0.5), (17, 0.3), (18, 0.2), (19, 0.1)],
)
def test_the_rate_rises_stays_and_falls_to_a_tenth(step: int, rate: float) -> None:
    assert TWENTY.rate_at(step) == pytest.approx(rate)
    assert replace(TWENTY, rate=0.02).rate_at(step) == pytest.approx(0.02 * rate)


def test_without_decay_the_rate_stays() -> None:
    assert replace(TWENTY, decay=0.0).rate_at(19) == 1.0


# -- the batches -------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    schedule = single("count", 9, rows=8)
    first = Streams(folder).batch(schedule, 3)
    streams = Streams(folder)
    streams.batch(schedule, 7)
    assert torch.equal(streams.batch(schedule, 3), first)
    assert not torch.equal(streams.batch(schedule, 4), first)
    assert not torch.equal(streams.batch(replace(schedule, seed=1), 3), first)


def test_a_row_is_a_window_of_the_stream(folder: Path) -> None:
    rows = Streams(folder).batch(single("count", 9, rows=64), 0)
    assert rows.shape == (64, 16)
    assert bool((rows.diff(dim=1) == 1).all())
    assert len(set(rows[:, 0].tolist())) > 40  # windows start anywhere


def test_sources_are_mixed_by_their_shares_and_change_with_the_stage(folder: Path) -> None:
    stages = (Stage("one", 800 * 4, {"ones": 3.0, "twos": 1.0}), Stage("two", 800 * 4, {"twos": 1.0}))
    schedule = Schedule(rows=800, length=4, stages=stages)
    first, second = (Streams(folder).batch(schedule, step) for step in (0, 1))
    assert float((first[:, 0] == 1).float().mean()) == pytest.approx(0.75, abs=0.05)
    assert bool((first == first[:, :1]).all())  # a row comes from one source
    assert bool((second == 2).all())


def test_a_missing_stream_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tales\.npy"):
        Streams(folder).batch(single("tales", 1), 0)


# -- training ----------------------------------------------------------------------------------------------


def learn(model: Qwen3ForCausalLM, streams: Streams, schedule: Schedule, run: Path) -> list[str]:
    lines: list[str] = []
    pretrain(model, streams, schedule, run, lines.append, compiled=False)
    return lines


class Killed(Streams):
    """Streams that are interrupted at a step."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder)
        self.at = at

    def batch(self, schedule: Schedule, step: int) -> Tensor:
        if step == self.at:
            raise KeyboardInterrupt
        return super().batch(schedule, step)


@pytest.mark.parametrize("at", [1, 5])
def test_a_killed_run_goes_on_to_the_same_bits(folder: Path, tmp_path: Path, at: int) -> None:
    schedule = single("periodic", 7)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    model = fresh(0)
    learn(model, Streams(folder), schedule, whole)
    with pytest.raises(KeyboardInterrupt):
        learn(fresh(0), Killed(folder, at), schedule, cut)
    # what was never saved must come from the seed, what was saved from the checkpoint
    resumed = fresh(0 if at == 1 else 99)
    learn(resumed, Streams(folder), schedule, cut)
    for name in FILES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    pairs = zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_another_data_order_gives_other_weights(folder: Path, tmp_path: Path) -> None:
    """The control of the test above: equal bits do not come by themselves."""
    for seed in (0, 1):
        learn(fresh(0), Streams(folder), single("periodic", 2, seed=seed), tmp_path / str(seed))
    assert (tmp_path / "0" / FILES[0]).read_bytes() != (tmp_path / "1" / FILES[0]).read_bytes()


def test_a_finished_run_trains_no_further(folder: Path, tmp_path: Path) -> None:
    schedule = single("periodic", 4)
    learn(fresh(0), Streams(folder), schedule, tmp_path)
    before = (tmp_path / FILES[0]).read_bytes()
    again = fresh(5)
    assert learn(again, Streams(folder), schedule, tmp_path) == []
    assert (tmp_path / FILES[0]).read_bytes() == before
    kept = load_file(tmp_path / FILES[0])["model.norm.weight"]
    assert torch.equal(again.model.norm.weight.detach(), kept)


def held_out(model: Qwen3ForCausalLM, folder: Path, name: str) -> float:
    with torch.inference_mode():
        return float(loss_of(model, Streams(folder).batch(single(name, 1, rows=32, seed=7), 0)))


def test_the_loss_falls_below_the_entropy_of_a_periodic_stream(folder: Path, tmp_path: Path) -> None:
    """One token tells the next: an order-0 model pays log(period), a model that learnt the order far less."""
    entropy = math.log(PERIOD)
    losses = {}
    for name in ("periodic", "random"):
        model = fresh(0)
        assert held_out(model, folder, name) > 0.95 * entropy
        learn(model, Streams(folder), single(name, 60, rows=8, rate=1e-2, every=30), tmp_path / name)
        losses[name] = held_out(model, folder, name)
    assert losses["periodic"] < 0.3 * entropy
    assert losses["random"] > 0.9 * entropy  # nothing to learn but the frequencies


class Poisoned(Streams):
    """Streams that break the model at a step, as an overflow would."""

    def __init__(self, folder: Path, model: Qwen3ForCausalLM, at: int) -> None:
        super().__init__(folder)
        self.model, self.at = model, at

    def batch(self, schedule: Schedule, step: int) -> Tensor:
        if step == self.at:
            self.model.model.norm.weight.data.fill_(float("nan"))
        return super().batch(schedule, step)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    model = fresh(0)
    with pytest.raises(FloatingPointError, match="loss is nan at step 3"):
        learn(model, Poisoned(folder, model, 3), single("periodic", 8), tmp_path)
    weights = load_file(tmp_path / FILES[0])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    healthy = fresh(1)
    assert restore(healthy, optimizers(healthy, single("periodic", 8)), tmp_path) == 2


def test_files_of_different_steps_are_refused(folder: Path, tmp_path: Path) -> None:
    """A kill between the two files: silently mixing them would give a model that no run has."""
    with pytest.raises(KeyboardInterrupt):
        learn(fresh(0), Killed(folder, 3), single("periodic", 4), tmp_path)
    early = (tmp_path / "optimizer.safetensors").read_bytes()
    learn(fresh(0), Streams(folder), single("periodic", 4), tmp_path)
    (tmp_path / "optimizer.safetensors").write_bytes(early)
    with pytest.raises(ValueError, match=r"different steps \[2, 4\]: delete it"):
        learn(fresh(0), Streams(folder), single("periodic", 4), tmp_path)


def test_a_folder_without_a_checkpoint_starts_at_0(tmp_path: Path) -> None:
    model = fresh(0)
    assert restore(model, optimizers(model, single("periodic", 1)), tmp_path) == 0


def test_progress_lines_name_stage_step_and_loss(folder: Path, tmp_path: Path) -> None:
    lines = learn(fresh(0), Streams(folder), single("periodic", 5), tmp_path)
    assert [line.split(" loss ")[0] for line in lines] == [f"periodic step {n}/5" for n in (2, 4, 5)]
    assert all("tokens/s" in line for line in lines)


def test_matrices_of_the_layers_learn_by_muon_and_the_rest_by_adamw() -> None:
    model = fresh(0)
    muon, adam = optimizers(model, TWENTY)
    names = {id(p): n for n, p in model.named_parameters()}
    by_muon, by_adam = ([names[id(p)] for g in opt.param_groups for p in g["params"]] for opt in (muon, adam))
    assert len(by_muon) == 2 * 7
    assert "model.embed_tokens.weight" in by_adam
    assert sorted(by_muon + by_adam) == sorted(names.values())


def test_answers_weigh_one_and_the_rest_of_a_chat_less() -> None:
    turns = Turns(user=1, assistant=2, others=0.25)
    chat = [1, 9, 9, 3, 2, 7, 7, 3, 1, 9, 3, 2]
    late = [7, 3, 1, 9, 9, 9, 3, 2, 8, 8, 8, 3]
    plain = [5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 3]
    found = turns.weights(torch.tensor([chat, late, plain]))
    low = 0.25
    # the next token of the assistant's mark is the first that counts, the next user's mark the last
    assert found[0].tolist() == [low] * 4 + [1.0] * 4 + [low] * 3
    assert found[1].tolist() == [low] * 7 + [1.0] * 4
    assert found[2].tolist() == [1.0] * 11


def test_weights_make_a_mean_and_all_alike_change_nothing() -> None:
    model, tokens = fresh(), torch.randint(4, VOCABULARY, (3, 12))
    plain = loss_of(model, tokens)
    assert torch.equal(plain, loss_of(model, tokens, None))
    torch.testing.assert_close(plain, loss_of(model, tokens, torch.full((3, 11), 0.1)))
    first = torch.zeros(3, 11)
    first[0] = 1.0
    torch.testing.assert_close(
        loss_of(model, tokens, first), loss_of(model, tokens[:1]), rtol=1e-2, atol=1e-2
    )


def test_weighing_answers_teaches_them_faster(tmp_path: Path) -> None:
    """Planted: prompts are noise, and every answer repeats its prompt's first token."""
    rng = np.random.default_rng(0)
    chats = [[1, *(noise := rng.integers(4, VOCABULARY, 6)), 3, 2, noise[0], 3] for _ in range(900)]
    np.save(tmp_path / "chats.npy", np.concatenate(chats).astype(np.uint16))
    schedule = Schedule(
        rows=8, length=33, rate=3e-3, warmup=5, every=1000, stages=(Stage("t", 70 * 8 * 33, {"chats": 1.0}),)
    )
    tokens = Streams(tmp_path).batch(schedule, 10_000)
    answers = Turns(1, 2, others=0.0).weights(tokens)
    losses = {}
    for name, turns in (("weighed", Turns(1, 2, others=0.05)), ("alike", None)):
        model = fresh()
        folder = tmp_path / name
        pretrain(model, Streams(tmp_path), schedule, folder, lambda _: None, compiled=False, turns=turns)
        losses[name] = loss_of(model, tokens, answers).item()
    assert losses["weighed"] < losses["alike"]
