"""A forward pass taken apart: on every kind of decoder the parts add up, and edits do what they say."""

import pytest
import torch
from tiny import CONFIGS, LAYERS, VOCABULARY, model, prompt
from torch import nn
from transformers import LlamaModel

from pilothouse.router.locate.anatomy import Anatomy, bias_of, matrix_of
from pilothouse.router.locate.attribute import channel_parts, head_vectors, neuron_vectors
from pilothouse.router.locate.edit import Edit, edited, value_at
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.readout import Readout, components
from pilothouse.router.locate.run import record
from pilothouse.store.errors import UsageError


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_of_the_parts_sum_to_the_true_ones(kind: str) -> None:
    anatomy = Anatomy.of(model(kind))
    run = record(anatomy, prompt()[0], weights=True)
    readout = Readout(anatomy, run)
    parts = sum(readout.logits(v) for v in components(anatomy, run).values()) + readout.constant
    cap = anatomy.softcap
    whole = parts if cap is None else cap * torch.tanh(parts / cap)
    assert float((whole - run.logits[-1]).abs().max()) < 1e-4
    assert float(run.logits[-1].std()) > 1e-3  # they are not all alike


def _bias(module: nn.Module) -> torch.Tensor:
    found = bias_of(module)
    return torch.zeros(1) if found is None else found


@pytest.mark.parametrize("kind", CONFIGS)
def test_heads_channels_and_neurons_sum_to_what_their_layer_writes(kind: str) -> None:
    anatomy = Anatomy.of(model(kind))
    run = record(anatomy, prompt()[0], weights=True)
    for layer in range(LAYERS):
        neurons = (neuron_vectors(anatomy, run, layer) * run.neurons[layer, -1][:, None]).sum(0)
        bias = _bias(anatomy.blocks[layer].down)
        torch.testing.assert_close(neurons + bias, run.mlp[layer, -1], atol=1e-5, rtol=1e-4)
        mixed = channel_parts(anatomy, run, layer).sum(0)
        torch.testing.assert_close(mixed, run.mixed[layer, -1], atol=1e-5, rtol=1e-4)
        heads = head_vectors(anatomy, run, layer).sum(0)
        bias = _bias(anatomy.blocks[layer].mix)
        torch.testing.assert_close(heads + bias, run.attention[layer, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_edit_of_its_own_value_changes_nothing_and_zero_does(kind: str) -> None:
    anatomy, ids = Anatomy.of(model(kind)), prompt()[0]
    run = record(anatomy, ids)
    places = [
        Place("head", 1, 2),
        Place("channel", 1, 5),
        Place("neuron", 2, 7),
        Place("attention", 0),
        Place("mlp", 1),
        Place("residual", 1, -1, 10),
        Place("embedding", -1, -1, 3),
    ]
    same = edited(anatomy, ids, [[Edit(p, 0.0, value_at(anatomy, run, p))] for p in places])
    scaled = edited(anatomy, ids, [[Edit(p, 1.0)] for p in places])
    zeroed = edited(anatomy, ids, [[Edit(p)] for p in places])
    for found in (same, scaled):
        torch.testing.assert_close(found, run.logits[-1].expand_as(found), atol=1e-5, rtol=1e-5)
    assert all(float((row - run.logits[-1]).abs().max()) > 1e-6 for row in zeroed)


def test_each_row_of_a_batch_has_its_own_edits() -> None:
    anatomy, ids = Anatomy.of(model()), prompt()[0]
    one, two = [Edit(Place("head", 1, 0))], [Edit(Place("neuron", 0, 3)), Edit(Place("mlp", 2))]
    together = edited(anatomy, ids, [one, [], two])
    for row, edits in enumerate((one, [], two)):
        torch.testing.assert_close(together[row], edited(anatomy, ids, [edits])[0], atol=1e-5, rtol=1e-5)
    assert not any(b.mix._forward_pre_hooks or b.layer._forward_hooks for b in anatomy.blocks)


def test_zeroing_a_head_is_zeroing_its_columns() -> None:
    """The plain twin: a copy of the weights without the head."""
    import copy

    twin = copy.deepcopy(model())
    anatomy = Anatomy.of(twin)
    wanted = edited(anatomy, prompt()[0], [[Edit(Place("head", 1, 3))]])[0]
    twin.model.layers[1].self_attn.o_proj.weight[:, anatomy.head_columns(3)] = 0
    with torch.no_grad():
        torch.testing.assert_close(wanted, twin(prompt()).logits[0, -1], atol=1e-6, rtol=1e-5)


def test_models_without_the_named_site_are_refused() -> None:
    with pytest.raises(UsageError, match="no language-model head"):
        Anatomy.of(LlamaModel(CONFIGS["llama"]))
    with pytest.raises(UsageError, match="no decoder layers"):
        Anatomy.of(nn.Linear(2, 2))
    anatomy, ids = Anatomy.of(model()), prompt()[0]
    for place, said in (
        (Place("head", LAYERS, 0), f"0 to {LAYERS - 1}"),
        (Place("head", 0, 4), "L0.H4 does not exist"),
        (Place("neuron", 0, 999), "40 units"),
        (Place("residual", 0, -1, 11), "11 tokens"),
    ):
        with pytest.raises(UsageError, match=said):
            edited(anatomy, ids, [[Edit(place)]])


def test_a_model_that_writes_more_than_its_parts_is_refused() -> None:
    """A hook stands for an unmerged adapter: the stream gets something that no part wrote."""
    anatomy = Anatomy.of(model("llama"))
    handle = anatomy.blocks[1].mix.register_forward_hook(lambda _m, _i, output: output + 1)
    try:
        with pytest.raises(UsageError, match="layer 1, the heads miss"):
            record(anatomy, prompt()[0])
    finally:
        handle.remove()


def test_states_that_are_not_finite_are_refused() -> None:
    import copy

    broken = copy.deepcopy(model("llama"))
    broken.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(UsageError, match="not finite"):
        record(Anatomy.of(broken), prompt()[0])
    with pytest.raises(UsageError, match="no tokens"):
        record(Anatomy.of(model()), [])


def test_names_of_places_read_back() -> None:
    for name in ("L3.H2", "L0.N120@4", "L1.A17", "L2.attn", "L3.mlp@7", "L3.resid@5", "embed@0"):
        assert Place.parse(name).name == name
    for wrong in ("", "L3", "H2", "L3.X1", "L-1.H2", "L3.H2@", "L3.H2@x"):
        with pytest.raises(UsageError, match="names no place"):
            Place.parse(wrong)


def test_conv1d_and_linear_are_read_the_same_way() -> None:
    x = torch.randn(2, 128)
    down = Anatomy.of(model("gpt2")).blocks[0].down
    wanted = down(x) - torch.as_tensor(down.bias)
    torch.testing.assert_close(x @ matrix_of(down), wanted, atol=1e-5, rtol=1e-5)
    assert matrix_of(Anatomy.of(model("gpt2")).head).shape[1] == VOCABULARY
