"""Dictionaries of every layout come back the same; a wrong scale, transposition or width is caught."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pilothouse.bench.features.written import LAYER, WRITERS, gemma_scope, in_form, llama_scope, sparsify
from pilothouse.router.features.layouts import hook_layer, load_dictionary
from pilothouse.router.features.recipe import Recipe
from pilothouse.router.features.sae import SAE
from pilothouse.router.features.stream import Made
from pilothouse.router.features.synthetic import Planted
from pilothouse.router.features.trainer import train
from pilothouse.store.errors import ArtifactError, UsageError

K = 3
PLANTED = Planted.draw(40, 24, K, 0)


@cache
def trained() -> SAE:
    found = train(Recipe("topk", 48, K, steps=400, batch=256, rate=1e-2), Made(PLANTED, 24))
    # thresholds that differ, so that a layout which loses them is seen
    varied = found.threshold * torch.linspace(0.7, 1.3, 48)
    return SAE(
        found.W_enc, found.b_enc, found.W_dec, found.b_dec + 0.05, varied, found.check, {"layer": LAYER}
    )


@cache
def states() -> torch.Tensor:
    return PLANTED(600, torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_comes_back_the_same(name: str, tmp_path: Path) -> None:
    write, form = WRITERS[name]
    sae = in_form(trained(), form, K)
    folder = tmp_path / "layer_3"
    write(sae, folder)
    found = load_dictionary(folder, states())
    torch.testing.assert_close(found.encode(states()), sae.encode(states()), atol=2e-5, rtol=1e-4)
    x = sae.decode(sae.encode(states()))
    torch.testing.assert_close(found.decode(found.encode(states())), x, atol=2e-5, rtol=1e-4)
    assert found.k == sae.k
    if name != "sparsify":
        assert found.layer == LAYER
    found.save(tmp_path / "ours")
    torch.testing.assert_close(SAE.load(tmp_path / "ours").encode(states()), found.encode(states()))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("spoil", ["scale", "shuffle"])
def test_a_wrong_scaling_or_order_is_caught(name: str, spoil: str, tmp_path: Path) -> None:
    write, form = WRITERS[name]
    sae = in_form(trained(), form, K)
    w_dec = sae.W_dec * 4 if spoil == "scale" else sae.W_dec.roll(1, 0)
    write(
        SAE(sae.W_enc, sae.b_enc, w_dec, sae.b_dec, sae.threshold, sae.check, sae.meta, sae.k), tmp_path / "d"
    )
    with pytest.raises(ArtifactError, match="misses"):
        load_dictionary(tmp_path / "d", states())


def test_transpositions_are_caught_by_shape_or_by_reconstruction(tmp_path: Path) -> None:
    sparsify(in_form(trained(), "topk", K), tmp_path)
    good = load_file(tmp_path / "sae.safetensors")
    save_file(good | {"W_dec": good["W_dec"].T.contiguous()}, tmp_path / "sae.safetensors")
    with pytest.raises(ArtifactError, match="no sparsify dictionary"):
        load_dictionary(tmp_path, states())


def test_a_square_transposition_is_caught(tmp_path: Path) -> None:
    planted = Planted.draw(16, 16, 2, 1)
    sae = train(Recipe("topk", 16, 2, steps=300, batch=128, rate=1e-2), Made(planted, 16))
    x = planted(300, torch.Generator().manual_seed(1))
    gemma_scope(sae, tmp_path)
    assert load_dictionary(tmp_path, x).unexplained(x) < 0.5
    with np.load(tmp_path / "params.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(tmp_path / "params.npz", allow_pickle=False, **arrays | {"W_enc": arrays["W_enc"].T})
    with pytest.raises(ArtifactError, match="misses"):
        load_dictionary(tmp_path, x)


def test_a_llama_scope_norm_of_another_size_is_caught(tmp_path: Path) -> None:
    llama_scope(in_form(trained(), "one threshold", K), tmp_path)
    head = json.loads((tmp_path / "hyperparams.json").read_text())
    head["dataset_average_activation_norm"]["in"] = 60.0
    (tmp_path / "hyperparams.json").write_text(json.dumps(head))
    with pytest.raises(ArtifactError, match="misses"):
        load_dictionary(tmp_path, states())


def test_gated_dictionaries_equal_their_jumprelu_form(tmp_path: Path) -> None:
    """The plain twin: gate and magnitude computed as the paper writes them."""
    sae = trained()
    r_mag, b_gate = torch.linspace(-0.2, 0.2, 48), sae.b_enc - 0.2
    tensors = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec, "b_gate": b_gate}
    tensors |= {"b_mag": sae.b_enc, "r_mag": r_mag}
    save_file({n: t.contiguous() for n, t in tensors.items()}, tmp_path / "sae_weights.safetensors")
    config = {"architecture": "gated", "d_in": 24, "apply_b_dec_to_input": True, "metadata": {}}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    found = load_dictionary(tmp_path, states())
    u = (states() - sae.b_dec) @ sae.W_enc
    wanted = (u + b_gate > 0) * (u * r_mag.exp() + sae.b_enc).relu()
    torch.testing.assert_close(found.encode(states()), wanted, atol=2e-5, rtol=1e-4)
    assert 0 < float((wanted > 0).float().mean()) < 0.5


def test_saelens_topk_that_ranks_by_decoder_norm(tmp_path: Path) -> None:
    sae = in_form(trained(), "topk", K)
    sae.save(tmp_path)
    norm = torch.linspace(0.5, 2, 48)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    weights |= {
        "W_dec": weights["W_dec"] * norm[:, None],
        "W_enc": weights["W_enc"] / norm,
        "b_enc": weights["b_enc"] / norm,
    }
    save_file({n: t.contiguous() for n, t in weights.items()}, tmp_path / "sae_weights.safetensors")
    config = json.loads((tmp_path / "cfg.json").read_text()) | {"rescale_acts_by_decoder_norm": True}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    found = load_dictionary(tmp_path, states())
    torch.testing.assert_close(found.encode(states()), sae.encode(states()), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architecture": "temporal"}, "temporal"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"d_out": 99}, "transcoder"),
    ],
)
def test_what_cannot_be_read_is_refused(config: dict[str, object], said: str, tmp_path: Path) -> None:
    trained().save(tmp_path)
    head = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(head | config))
    with pytest.raises(ArtifactError, match=said):
        load_dictionary(tmp_path, states())


def test_states_of_another_width_or_not_finite_are_refused(tmp_path: Path) -> None:
    gemma_scope(trained(), tmp_path)
    with pytest.raises(UsageError, match="width 24, these are 25"):
        load_dictionary(tmp_path, torch.ones(3, 25))
    with pytest.raises(UsageError, match="not finite"):
        load_dictionary(tmp_path, torch.full((3, 24), float("nan")))
    with pytest.raises(UsageError, match="'gemma'"):
        load_dictionary(tmp_path, states(), layout="gemma")
    with pytest.raises(ArtifactError, match="no dictionary"):
        load_dictionary(tmp_path / "empty", states())


def test_pickles_of_anything_but_tensors_are_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "harmed"),))

    torch.save({"encoder.weight": Harm()}, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoder"}}))
    with pytest.raises(ArtifactError, match="plain tensors"):
        load_dictionary(tmp_path, states())
    assert not (tmp_path / "harmed").exists()
    np.savez(tmp_path / "params.npz", W_enc=np.array([{}], dtype=object))
    with pytest.raises(ArtifactError, match="without pickles"):
        load_dictionary(tmp_path, states())


def test_hook_names() -> None:
    assert hook_layer("blocks.4.hook_resid_post") == hook_layer("layers.4") == {"layer": 4}
    assert hook_layer("blocks.4.hook_resid_pre") == {"layer": 3}
    assert hook_layer("blocks.0.hook_resid_pre") == hook_layer("blocks.2.hook_mlp_out") == {}
