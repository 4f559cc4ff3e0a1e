"""A sparse autoencoder of one layer's residual stream, kept in the layout of SAELens 6.

x is written as sum_j a_j W_dec[j] + b_dec + remainder, with a = JumpReLU(x W_enc + b_enc, threshold), or with
the k largest latents only. The layout is `cfg.json` (architecture `jumprelu` or `topk`) and
`sae_weights.safetensors` (W_enc [D,S], W_dec [S,D], b_enc [S], b_dec [D], threshold [S]); a third file,
`check.safetensors`, holds a few states and what they must decode to, because a transposed or rescaled
dictionary still loads and computes nonsense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...kernels.sae import decode, encode_jumprelu, encode_subset, encode_topk
from ...store.errors import ArtifactError, UsageError
from ..checks import finite, matrix
from ..files import head_field, read_json, read_tensors, sha256_of, write_json, write_tensors

KEYS = ("W_enc", "W_dec", "b_enc", "b_dec")
ARCHITECTURES = ("jumprelu", "standard", "topk")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Which SAELens writes this layout; the reader there rejects configurations without a version.
_SAELENS = "6.54.12"
_CHECK_ROWS = 8


@dataclass(frozen=True, eq=False)
class SAE:
    """W_enc [D,S], b_enc [S], W_dec [S,D], b_dec [D], threshold [S], float32. b_dec is never subtracted from
    the input (`apply_b_dec_to_input` false). `check` holds a few states [n,D] of the kind it was made for.

    With `k`, only the k largest latents of a state count (TopK), and thresholds are 0. `meta` is the
    `metadata` of the layout; `layer` and `fingerprint` are read from it. Raises UsageError when shapes do not
    fit or numbers are not finite.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor
    check: Tensor | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    k: int | None = None

    def __post_init__(self) -> None:
        for name in (*KEYS, "threshold"):
            object.__setattr__(self, name, finite(name, getattr(self, name).detach().cpu().float()))
        d_in, d_sae = self.W_enc.shape if self.W_enc.ndim == 2 else (0, 0)
        for name, shape in (
            ("W_dec", (d_sae, d_in)),
            ("b_enc", (d_sae,)),
            ("b_dec", (d_in,)),
            ("threshold", (d_sae,)),
        ):
            if tuple(getattr(self, name).shape) != shape or not d_in:
                raise UsageError(
                    f"{name} has shape {list(getattr(self, name).shape)} beside W_enc "
                    f"{list(self.W_enc.shape)}; it must be {list(shape)}; W_enc is [D,S], W_dec [S,D]: "
                    "transpose what the file keeps the other way"
                )
        if bool((self.threshold < 0).any()):
            raise UsageError(
                f"threshold holds {float(self.threshold.min()):g}; JumpReLU thresholds are 0 or more"
            )
        if self.k is not None and (not 1 <= self.k <= d_sae or bool(self.threshold.any())):
            raise UsageError(
                f"k is {self.k} with {d_sae} latents and thresholds up to {float(self.threshold.max()):g}; k "
                "is "
                "within 1 and the number of latents, and a TopK dictionary has no thresholds"
            )

    @property
    def d_in(self) -> int:
        """Width D of the states."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number S of latents."""
        return self.W_enc.shape[1]

    @property
    def layer(self) -> int:
        """The decoder layer whose output this decomposes. Raises UsageError when the metadata lacks it."""
        layer = self.meta.get("layer")
        if not isinstance(layer, int):
            raise UsageError(f"this SAE's metadata names no layer (it has {sorted(self.meta)}); add 'layer'")
        return layer

    @property
    def fingerprint(self) -> str:
        """The model it was trained on; empty when unknown."""
        return str(self.meta.get("fingerprint", ""))

    def encode(self, x: Tensor) -> Tensor:
        """Return latents: x [B,D] -> [B,S]. Raises UsageError for other shapes and numbers not finite."""
        rows = matrix("x", x, self.d_in).float()
        if self.k is None:
            return encode_jumprelu(rows, self.W_enc, self.b_enc, self.threshold)
        values, indices = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        return rows.new_zeros(rows.shape[0], self.d_sae).scatter_(1, indices, values)

    def encode_features(self, x: Tensor, features: Tensor) -> Tensor:
        """Return only some latents: x [B,D], features [n] -> [B,n]. TopK must look at all of them to know."""
        if self.k is not None:
            return self.encode(x)[:, features]
        rows = matrix("x", x, self.d_in).float()
        return encode_subset(rows, self.W_enc, self.b_enc, self.threshold, features)

    def decode(self, a: Tensor) -> Tensor:
        """Return the reconstruction: a [B,S] -> [B,D]."""
        return decode(matrix("a", a, self.d_sae), self.W_dec, self.b_dec)

    def unexplained(self, x: Tensor) -> float:
        """Return the share of the variance of x [B,D] that the reconstruction misses (0 perfect, 1 no better
        than the mean).
        """
        error = (x - self.decode(self.encode(x))).square().sum()
        return float(error / (x - x.mean(0)).square().sum().clamp_min(1e-12))

    def verify(self, states: Tensor, limit: float = 0.9) -> None:
        """Raises ArtifactError when the dictionary misses more than `limit` of the variance of states [B,D]:
        it was made for other states, or is scaled or transposed wrongly.
        """
        missed = self.unexplained(states)
        if not missed <= limit:
            raise ArtifactError(
                f"this SAE misses {missed:.0%} of the variance of the states it should decompose (at most "
                f"{limit:.0%} is allowed); check the layer, the scaling and the orientation of its weights"
            )

    @cached_property
    def sha256(self) -> str:
        """Digest of everything in this dictionary that can change an explanation."""
        head = self.meta if self.k is None else self.meta | {"topk": self.k}
        return sha256_of(head, {name: getattr(self, name) for name in (*KEYS, "threshold")})

    # -- files -------------------------------------------------------------------------------------------

    def rounded(self, dtype: str) -> SAE:
        """Return the dictionary as it will be after a trip through `dtype`. Raises UsageError if unknown."""
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
        weights = {name: getattr(self, name).to(DTYPES[dtype]) for name in (*KEYS, "threshold")}
        return SAE(**weights, check=self.check, meta=self.meta, k=self.k)

    def save(self, folder: Path | str, dtype: str = "float32") -> None:
        """Write the layout into `folder`, weights in `dtype`. Raises UsageError when there is no `check`."""
        if self.check is None:
            raise UsageError(
                "this SAE holds no check states, so nobody could verify it on load; give it `check`"
            )
        folder, kept = Path(folder), self.rounded(dtype)
        states = matrix("check", self.check, self.d_in)[:_CHECK_ROWS].float()
        names = KEYS if self.k is not None else (*KEYS, "threshold")
        tensors = {name: getattr(kept, name).to(DTYPES[dtype]) for name in names}
        write_tensors(folder / "sae_weights.safetensors", tensors, {"format": "pt"})
        rebuilt = kept.decode(kept.encode(states))
        write_tensors(folder / "check.safetensors", {"states": states, "reconstruction": rebuilt})
        write_json(folder / "cfg.json", kept._config(dtype))

    def _config(self, dtype: str) -> dict[str, Any]:
        layer = self.meta.get("layer")
        standard = {
            "sae_lens_version": _SAELENS,
            "sae_lens_training_version": _SAELENS,
            "model_name": self.meta.get("model_name", ""),
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "hf_hook_name": f"model.layers.{layer}",
            "hook_head_index": None,
            "prepend_bos": False,
        }
        activation: dict[str, Any] = {"architecture": "jumprelu"}
        if self.k is not None:
            activation = {"architecture": "topk", "k": self.k, "rescale_acts_by_decoder_norm": False}
        return activation | {
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "dtype": dtype,
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": standard | self.meta,
        }

    @classmethod
    def load(cls, folder: Path | str, states: Tensor | None = None) -> SAE:
        """Read a SAELens 6 folder (architectures `jumprelu`, `standard`, `topk`) and verify what it decodes
        to.

        The stored check sample must come out as it was stored; `states` [B,D], where given, must be explained
        too (`verify`). Raises ArtifactError when a file is missing, damaged or of another architecture, when
        activations would need a scaling that the file does not hold, when a check fails, and when there is
        neither a check sample nor `states`.
        """
        folder = Path(folder)
        path = folder / "cfg.json"
        config = read_json(path)
        _readable(config, path)
        jump = config["architecture"] == "jumprelu"
        weights = read_tensors(folder / "sae_weights.safetensors", (*KEYS, "threshold") if jump else KEYS)
        tensors = {name: tensor.float() for name, tensor in weights.items()}
        check = _check_sample(folder)
        try:
            found = cls(
                W_enc=tensors["W_enc"],
                b_enc=_input_bias(tensors, bool(head_field(config, "apply_b_dec_to_input", path))),
                W_dec=tensors["W_dec"],
                b_dec=tensors["b_dec"],
                threshold=tensors["threshold"] if jump else torch.zeros_like(tensors["b_enc"]),
                check=check["states"] if check else None,
                meta=dict(config.get("metadata", {})),
                k=int(head_field(config, "k", path)) if config["architecture"] == "topk" else None,
            )
        except (UsageError, RuntimeError) as error:
            raise ArtifactError(f"{folder} is no dictionary: {error}") from error
        _verified(found, config, check, states, folder)
        return found


def _readable(config: dict[str, Any], path: Path) -> None:
    architecture = head_field(config, "architecture", path)
    if architecture not in ARCHITECTURES:
        raise ArtifactError(
            f"{path} says architecture {architecture!r}; this version reads {', '.join(ARCHITECTURES)}"
        )
    if config.get("rescale_acts_by_decoder_norm"):
        raise ArtifactError(f"{path} rescales latents by decoder norms; read it with layouts.load_dictionary")
    scaling = config.get("normalize_activations", "none")
    if scaling not in ("none", None):
        raise ArtifactError(
            f"{path} says normalize_activations {scaling!r}, whose scale the file does not hold; fold it "
            "into the weights (SAELens: fold_activation_norm_scaling_factor) and save again"
        )


def _input_bias(tensors: dict[str, Tensor], subtracts: bool) -> Tensor:
    """Fold `x - b_dec` into the encoder's bias: (x - b) W + e = x W + (e - b W)."""
    if not subtracts:
        return tensors["b_enc"]
    return tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"]


def _check_sample(folder: Path) -> dict[str, Tensor] | None:
    path = folder / "check.safetensors"
    return read_tensors(path, ("states", "reconstruction")) if path.exists() else None


def _verified(
    sae: SAE, config: dict[str, Any], check: dict[str, Tensor] | None, states: Tensor | None, folder: Path
) -> None:
    if (config.get("d_in"), config.get("d_sae")) != (sae.d_in, sae.d_sae):
        raise ArtifactError(
            f"{folder} says d_in {config.get('d_in')} and d_sae {config.get('d_sae')}, its W_enc is "
            f"[{sae.d_in}, {sae.d_sae}]; the weights are transposed or of another dictionary"
        )
    if check is None and states is None:
        raise ArtifactError(
            f"{folder} has no check.safetensors; pass states of the layer to verify it against"
        )
    if check is not None:
        wanted = check["reconstruction"]
        off = float(
            (sae.decode(sae.encode(check["states"])) - wanted).norm() / wanted.norm().clamp_min(1e-12)
        )
        if not off <= 1e-3:
            raise ArtifactError(
                f"{folder} decodes its own check sample {off:.1%} away from what was stored; its weights "
                "were changed, rescaled or transposed; restore them"
            )
    if states is not None:
        sae.verify(states)
