"""Batched greedy answers against the simplest possible loop: one prompt, no cache, full forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import AdapterBank
from pilothouse.specialists.improve.answering import Answered, answer_all, batches
from pilothouse.specialists.improve.finetune import Learner, Tuning

CALL, NEVER, LONGEST = 2, -1, 10
LENGTHS = (3, 7, 5, 3, 1, 5, 9, 3, 7, 5, 3, 11)


def prompts_of(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 300, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture
def bank(tiny_model: Qwen3ForCausalLM) -> Iterator[AdapterBank]:
    """The tiny trunk with one random adapter that changes answers."""
    learner = Learner(tiny_model, Tuning(rank=4, alpha=4, seed=1))
    generator = torch.Generator().manual_seed(1)
    for b in learner.b:
        b.data.normal_(std=0.5, generator=generator)
    found = AdapterBank(tiny_model)
    found.add(learner.adapter("alpha", (CALL,)))
    yield found
    found.close()


@torch.inference_mode()
def plainly(
    bank: AdapterBank, prompt: list[int], end: int, longest: int, start: int | None = None
) -> Answered:
    """Answer one prompt without cache or batch; ``start`` is where the adapter begins: the invocation."""
    tokens, total = [*prompt, CALL], 0.0
    for drawn in range(longest):
        with bank.active("alpha", len(prompt) if start is None else start):
            logits = bank.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = int(logits.argmax())
        total += float(logits.log_softmax(-1)[best])
        if best == end:
            return Answered(tuple(tokens[len(prompt) + 1 :]), total / (drawn + 1), True)
        tokens.append(best)
    return Answered(tuple(tokens[len(prompt) + 1 :]), total / longest, False)


def answers(bank: AdapterBank, prompts: list[list[int]], end: int = NEVER, rows: int = 64) -> list[Answered]:
    model = bank.model
    return answer_all(model, prompts, CALL, end, LONGEST, lambda: bank.active("alpha"), rows)


def an_end(bank: AdapterBank) -> int:
    """A token that ends some answers early, others late or never."""
    free = [one.tokens for one in answers(bank, prompts_of())]
    counts = {t: sum(t in row[1:] for row in free) for t in {t for row in free for t in row}}
    return min((t for t, n in counts.items() if n), key=lambda t: abs(counts[t] - len(free) // 2))


def same(one: Answered, other: Answered) -> bool:
    close = abs(one.mean_logprob - other.mean_logprob) < 1e-4
    return close and (one.tokens, one.ended) == (other.tokens, other.ended)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_a_batch_answers_as_each_prompt_alone(bank: AdapterBank, rows: int) -> None:
    end = an_end(bank)
    wanted = [plainly(bank, prompt, end, LONGEST) for prompt in prompts_of()]
    assert {one.ended for one in wanted} == {True, False}
    assert len({len(one.tokens) for one in wanted}) > 2  # rows leave the batch at different times
    found = answers(bank, prompts_of(), end, rows)
    assert all(map(same, found, wanted))


def test_the_prompt_is_read_by_the_bare_model(bank: AdapterBank) -> None:
    """The adapter acts from the invocation token on; acting on the prompt too would give other answers."""
    found = answers(bank, prompts_of())
    everywhere = [plainly(bank, prompt, NEVER, LONGEST, start=0) for prompt in prompts_of()]
    assert not any(map(same, found, everywhere))


def test_the_adapter_acts_only_inside(bank: AdapterBank) -> None:
    bare = answer_all(bank.model, prompts_of(), CALL, NEVER, LONGEST)
    adapted = answers(bank, prompts_of())
    assert [one.tokens for one in bare] != [one.tokens for one in adapted]
    assert answer_all(bank.model, prompts_of(), CALL, NEVER, LONGEST) == bare


def test_the_switch_is_on_once_a_batch_and_off_when_a_pass_fails(bank: AdapterBank) -> None:
    inside: list[str] = []

    @contextmanager
    def active() -> Iterator[None]:
        inside.append("on")
        try:
            yield
        finally:
            inside.append("off")

    answer_all(bank.model, prompts_of(), CALL, NEVER, 2, active)
    assert inside == ["on", "off"] * len(set(LENGTHS))
    inside.clear()
    with pytest.raises(IndexError):
        answer_all(bank.model, [[5, 6]], 10**6, NEVER, 2, active)
    assert inside == ["on", "off"]


@pytest.mark.parametrize("longest", [1, 2, 7])
def test_no_answer_is_longer_than_asked(bank: AdapterBank, longest: int) -> None:
    found = answer_all(bank.model, prompts_of(), CALL, NEVER, longest)
    assert {len(one.tokens) for one in found} == {longest}
    assert not any(one.ended for one in found)


def test_an_answer_that_ends_at_once_is_empty_and_its_end_counts(bank: AdapterBank) -> None:
    prompt = prompts_of()[0]
    end = answers(bank, [prompt])[0].tokens[0]
    (found,) = answers(bank, [prompt], end)
    assert (found.tokens, found.ended) == ((), True)
    with torch.inference_mode(), bank.active("alpha", len(prompt)):
        logits = bank.model(input_ids=torch.tensor([[*prompt, CALL]]), use_cache=False).logits[0, -1]
    assert found.mean_logprob == pytest.approx(float(logits.log_softmax(-1)[end]), abs=1e-4)


def test_progress_counts_answered_prompts(bank: AdapterBank) -> None:
    told: list[int] = []
    answer_all(bank.model, prompts_of(), CALL, NEVER, 1, rows=2, on_batch=told.append)
    assert told == sorted(set(told))
    assert told[-1] == len(LENGTHS)
    assert answer_all(bank.model, [], CALL, NEVER, 1) == []


def test_batches_hold_equal_lengths_and_every_prompt_once() -> None:
    found = list(batches(LENGTHS, 3))
    assert sorted(i for group in found for i in group) == list(range(len(LENGTHS)))
    assert all(len({LENGTHS[i] for i in group}) == 1 for group in found)
    assert [len(group) for group in found] == [1, 3, 1, 3, 2, 1, 1]
