"""The adapter of the comparing section: what it changes, and where it stays out."""

from __future__ import annotations

import torch

from pilothouse.bench.locate.arithmetic import accuracy, sums, trained
from pilothouse.bench.locate.lora import adapted


def test_an_adapter_changes_the_attention_of_its_layer_only_and_teaches() -> None:
    base = trained(3, 14, 0.0, 128, 2)
    twin = adapted(base, 3, 100)
    changed = {
        name
        for (name, old), new in zip(base.named_parameters(), twin.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed == {f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkvo"}
    assert accuracy(twin) > accuracy(base) + 0.1


def test_an_adapter_fitted_to_shuffled_answers_does_not_learn_sums() -> None:
    base = trained(3, 14, 0.0, 128, 2)
    wrong = torch.randint(11, (len(sums()),), generator=torch.Generator().manual_seed(0))
    assert accuracy(adapted(base, 3, 100, answers=wrong)) < accuracy(base)
