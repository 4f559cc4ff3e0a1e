"""Dictionaries: training finds planted atoms, files keep SAELens' layout, and wrong weights are caught."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import planted

from pilothouse.router.features.sae import SAE
from pilothouse.router.features.train import _aux_loss, _Student, train_topk
from pilothouse.store.errors import ArtifactError, UsageError

WIDTH, ATOMS, ACTIVE = 32, 48, 3


@pytest.fixture(scope="module")
def trained() -> tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sae, atoms, codes, states) of one small training run."""
    atoms, codes, states = planted(20_000, WIDTH, ATOMS, ACTIVE)
    meta = {"layer": 2, "fingerprint": "a" * 64, "model_name": "planted"}
    return (
        train_topk(states, 64, ACTIVE, 1200, 0, batch=256, rate=1e-2, dead_after=50, meta=meta),
        atoms,
        codes,
        states,
    )


def matches(sae: SAE, atoms: torch.Tensor) -> torch.Tensor:
    return (atoms @ sae.W_dec.T).amax(1)


def test_planted_dictionary_is_recovered(
    trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    sae, atoms, codes, states = trained
    assert float((matches(sae, atoms) > 0.9).float().mean()) >= 0.95
    assert sae.unexplained(states[:2000]) < 0.1
    active = (sae.encode(states[:2000]) > 0).sum(1).float()
    assert float(active.mean()) == pytest.approx(ACTIVE, abs=0.5)
    # the activation of the matching latent follows the planted strength
    latent = int((atoms[0] @ sae.W_dec.T).argmax())
    pairs = torch.stack([sae.encode(states[:2000])[:, latent], codes[:2000, 0]])
    assert float(torch.corrcoef(pairs)[0, 1]) > 0.95


def test_controls_recover_nothing(trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """An untrained dictionary, and one trained on structureless noise, match no planted atom."""
    _, atoms, _, states = trained
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(5))
    for data, steps in ((states, 1), (noise, 300)):
        control = train_topk(data, 64, ACTIVE, steps, 0, batch=256, rate=1e-2)
        assert float((matches(control, atoms) > 0.9).float().mean()) <= 0.05


def test_training_is_deterministic_and_leaves_its_data_alone() -> None:
    _, _, states = planted(500, 7, 9, 2)
    before = states.clone()
    first, again = (train_topk(states, 16, 2, 30, 3, batch=64) for _ in range(2))
    assert first.sha256 == again.sha256
    assert train_topk(states, 16, 2, 30, 4, batch=64).sha256 != first.sha256
    assert torch.equal(states, before)


def test_auxk_teaches_the_dead_and_only_them() -> None:
    _, _, states = planted(64, 16, 24, 2)
    student = _Student.start(states, 40, torch.Generator().manual_seed(0))
    dead = torch.arange(40) >= 25
    missed = states - states.mean(0)
    _aux_loss(student, states, missed, dead).backward()  # type: ignore[no-untyped-call]
    assert student.b_dec.grad is None
    for tensor in (student.w_enc, student.w_dec, student.b_enc):
        assert tensor.grad is not None
        assert not bool(tensor.grad[~dead].any())
        assert bool(tensor.grad[dead].any())


def test_scale_of_the_states_does_not_matter() -> None:
    _, _, states = planted(4000, 16, 20, 2)
    small, large = (train_topk(s, 32, 2, 300, 0, batch=128, rate=1e-2) for s in (states, states * 64))
    assert large.meta["unexplained"] == pytest.approx(small.meta["unexplained"], abs=0.02)
    torch.testing.assert_close(
        large.encode(states[:20] * 64), small.encode(states[:20]) * 64, rtol=0.05, atol=1.0
    )


@pytest.mark.parametrize("width", [1, 7, 65])
def test_awkward_widths(width: int, tmp_path: Path) -> None:
    states = torch.randn(200, width) + 3
    sae = train_topk(states, 5, 1, 20, 0, batch=16, meta={"layer": 0})
    sae.save(tmp_path)
    assert SAE.load(tmp_path).encode(states).shape == (200, 5)


@pytest.mark.parametrize(
    ("states", "d_sae", "k", "said"),
    [
        (torch.ones(10, 2), 4, 5, "k 5"),
        (torch.ones(10, 2), 4, 0, "k 0"),
        (torch.ones(1, 2), 4, 1, "1 states"),
        (torch.ones(4), 4, 1, r"\[4\]"),
        (torch.full((4, 2), float("nan")), 4, 1, "not finite"),
    ],
)
def test_bad_training_is_refused(states: torch.Tensor, d_sae: int, k: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train_topk(states, d_sae, k, 5, 0)


# -- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor], tmp_path: Path) -> Path:
    trained[0].save(tmp_path)
    return tmp_path


def test_layout_is_saelens_six(folder: Path) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae_weights.safetensors")
    assert {k: tuple(v.shape) for k, v in weights.items()} == {
        "W_enc": (WIDTH, 64),
        "W_dec": (64, WIDTH),
        "b_enc": (64,),
        "b_dec": (WIDTH,),
        "threshold": (64,),
    }
    assert (config["architecture"], config["d_in"], config["d_sae"]) == ("jumprelu", WIDTH, 64)
    assert config["apply_b_dec_to_input"] is False
    assert config["normalize_activations"] == config["reshape_activations"] == "none"
    assert config["metadata"]["sae_lens_version"].split(".")[0] == "6"
    assert config["metadata"]["hook_name"] == "blocks.2.hook_resid_post"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_round_trip(
    trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor], tmp_path: Path, dtype: str
) -> None:
    sae, _, _, states = trained
    sae.save(tmp_path, dtype)
    again = SAE.load(tmp_path, states[:500])
    assert (again.layer, again.fingerprint) == (2, "a" * 64)
    tolerance = 1e-6 if dtype == "float32" else 0.02
    torch.testing.assert_close(again.W_dec, sae.W_dec, atol=tolerance, rtol=0)
    assert again.unexplained(states[:500]) == pytest.approx(sae.unexplained(states[:500]), abs=tolerance)


def test_input_bias_convention_is_honoured(folder: Path) -> None:
    """`apply_b_dec_to_input` files encode x - b_dec; folded, they must give the same latents."""
    weights = load_file(folder / "sae_weights.safetensors")
    weights["b_dec"] = torch.randn(WIDTH)
    weights["b_enc"] = torch.randn(64)
    save_file(weights, folder / "sae_weights.safetensors")
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"apply_b_dec_to_input": True}))
    x = torch.randn(50, WIDTH)
    pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    wanted = torch.where(pre > weights["threshold"], pre.relu(), torch.zeros(()))
    rebuilt = wanted @ weights["W_dec"] + weights["b_dec"]
    save_file({"states": x, "reconstruction": rebuilt}, folder / "check.safetensors")
    torch.testing.assert_close(SAE.load(folder).encode(x), wanted, atol=1e-4, rtol=1e-4)


def rescaled(weights: dict[str, torch.Tensor]) -> None:
    weights["W_enc"] *= 3


def unfolded(weights: dict[str, torch.Tensor]) -> None:
    weights["W_dec"] *= 0.1


def transposed(weights: dict[str, torch.Tensor]) -> None:
    weights["W_enc"], weights["W_dec"] = weights["W_enc"].T.contiguous(), weights["W_dec"].T.contiguous()


def shuffled(weights: dict[str, torch.Tensor]) -> None:
    weights["W_dec"] = weights["W_dec"].flip(0).contiguous()


def without_threshold(weights: dict[str, torch.Tensor]) -> None:
    del weights["threshold"]


def not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["b_dec"][0] = float("nan")


@pytest.mark.parametrize("spoil", [rescaled, unfolded, transposed, shuffled, without_threshold, not_finite])
def test_spoilt_weights_are_caught(folder: Path, spoil: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "sae_weights.safetensors")
    spoil(weights)
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(ArtifactError, match=str(folder)):
        SAE.load(folder)


def test_square_transposition_is_caught(tmp_path: Path) -> None:
    """Where D = S the shapes cannot tell; the check sample does."""
    _, _, states = planted(2000, 16, 16, 2)
    train_topk(states, 16, 2, 200, 0, batch=128, rate=1e-2, meta={"layer": 0}).save(tmp_path)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    transposed(weights)
    save_file(weights, tmp_path / "sae_weights.safetensors")
    with pytest.raises(ArtifactError, match="check sample"):
        SAE.load(tmp_path)


def test_states_catch_what_a_foreign_folder_cannot_tell(
    folder: Path, trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    """Without our check sample, states of the right layer reveal a dictionary on another scale."""
    states = trained[3][:500]
    (folder / "check.safetensors").unlink()
    assert SAE.load(folder, states).unexplained(states) < 0.1
    good = load_file(folder / "sae_weights.safetensors")
    for spoil in (rescaled, shuffled):
        weights = {name: tensor.clone() for name, tensor in good.items()}
        spoil(weights)
        save_file(weights, folder / "sae_weights.safetensors")
        with pytest.raises(ArtifactError, match="misses"):
            SAE.load(folder, states)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "gated"}, "'gated'"),
        ({"normalize_activations": "expected_average_only_in"}, "expected_average_only_in"),
        ({"d_in": 64, "d_sae": WIDTH}, "transposed"),
    ],
)
def test_unreadable_configurations_are_refused(folder: Path, change: dict[str, object], said: str) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | change))
    with pytest.raises(ArtifactError, match=said):
        SAE.load(folder)


def test_nothing_is_trusted_unverified(folder: Path) -> None:
    (folder / "check.safetensors").unlink()
    with pytest.raises(ArtifactError, match="verify"):
        SAE.load(folder)


def test_bad_input_is_refused(trained: tuple[SAE, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    sae = trained[0]
    for x, said in (
        (torch.ones(2, WIDTH + 1), "shape"),
        (torch.full((1, WIDTH), float("inf")), "not finite"),
    ):
        with pytest.raises(UsageError, match=said):
            sae.encode(x)
    with pytest.raises(UsageError, match="transpose"):
        SAE(sae.W_dec, sae.b_enc, sae.W_enc, sae.b_dec, sae.threshold)
    with pytest.raises(UsageError, match="thresholds are 0 or more"):
        SAE(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, -sae.threshold - 1)
    with pytest.raises(UsageError, match="names no layer"):
        _ = SAE(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, sae.threshold).layer
