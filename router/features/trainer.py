"""One trainer for every recipe: streams its states, bounds its memory, stops and goes on, tells its
progress.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...store.errors import ArtifactError, UsageError
from ..checks import finite
from ..files import head_field, read_json, read_tensors, write_json, write_tensors
from .recipe import Recipe, Weights, loss_of
from .sae import SAE
from .stream import Stream

SAMPLE = 4096  # states that fix the scale and, at the end, the threshold
HEAD, BODY = "training.json", "training.safetensors"


class Progress(NamedTuple):
    """Where training stands: `loss` of the last batch, latents that are dead."""

    step: int
    steps: int
    loss: float
    dead: int


@dataclass(eq=False)
class Trainer:
    """A dictionary in training. `silent` [S]: states since each latent fired. Adam's moments are
    `moments`.
    """

    recipe: Recipe
    weights: Weights
    scale: float
    silent: Tensor
    moments: list[Tensor]
    step: int = 0

    @classmethod
    def start(cls, recipe: Recipe, stream: Stream) -> Trainer:
        """Begin: the scale and the start are taken from the stream's first states."""
        sample = finite("the first states", stream.batch(0, SAMPLE))
        scale = float(sample.square().mean().sqrt())
        if not scale > 0:
            raise UsageError("the first states are all zero; check the layer they are read from")
        weights = Weights.start(sample / scale, recipe)
        moments = [torch.zeros_like(t, requires_grad=False) for t in weights.all for _ in range(2)]
        return cls(recipe, weights, scale, torch.zeros(recipe.d_sae, dtype=torch.long), moments)

    @property
    def dead(self) -> Tensor:
        """Which latents have been silent for too long, [S] bool."""
        return self.silent >= self.recipe.dead_after

    def advance(self, x: Tensor) -> float:
        """Take one step on states x [B,D]; return its loss. Raises UsageError when a state is not finite."""
        rows = finite("states", x) / self.scale
        loss, fired = loss_of(self.recipe, self.weights, rows, self.dead, self.step)
        gradients = torch.autograd.grad(loss, self.weights.all, allow_unused=True)
        with torch.no_grad():
            self._adam(
                [
                    torch.zeros_like(t) if g is None else g
                    for t, g in zip(self.weights.all, gradients, strict=True)
                ]
            )
            self.silent += len(x)
            self.silent[fired] = 0
            every = self.recipe.resample_every
            if every and (self.step + 1) % every == 0 and self.step + 1 < self.recipe.steps * 4 // 5:
                self._resample(rows)
        self.step += 1
        return float(loss.detach())

    def _adam(self, gradients: list[Tensor]) -> None:
        """Adam with the decoder's rows kept at unit length and its gradient free of the part along them."""
        decoder = self.weights.w_dec
        along = (gradients[2] * decoder).sum(1, keepdim=True)
        gradients[2] = gradients[2] - along * decoder
        norm = torch.stack([g.norm() for g in gradients]).norm()
        shrink = (1.0 / norm.clamp_min(1e-12)).clamp_max(1.0)
        rate, count = self.recipe.rate_at(self.step), self.step + 1
        first = 0.0 if self.recipe.kind == "jumprelu" else 0.9
        for i, (tensor, gradient) in enumerate(zip(self.weights.all, gradients, strict=True)):
            g, (mean, square) = gradient * shrink, self.moments[2 * i : 2 * i + 2]
            mean.mul_(first).add_(g, alpha=1 - first)
            square.mul_(0.999).addcmul_(g, g, value=0.001)
            size = (square / (1 - 0.999**count)).sqrt() + 6.25e-10
            tensor -= rate * (mean / (1 - first**count)) / size
        decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
        self.weights.theta.clamp_min_(0)

    def _resample(self, rows: Tensor) -> None:
        """Give dead latents the inputs that are reconstructed worst (drawn by their loss)."""
        lost = torch.nonzero(self.silent >= self.recipe.resample_every * self.recipe.batch // 2)[:, 0]
        if not len(lost):
            return
        weights = self.weights
        acts = weights.pre(rows).relu()
        error = (rows - acts @ weights.w_dec - weights.b_dec).square().sum(1)
        generator = torch.Generator().manual_seed((self.recipe.seed << 32) + self.step)
        chosen = torch.multinomial(error + 1e-12, len(lost), replacement=True, generator=generator)
        directions = normalize(rows[chosen] - weights.b_dec)
        alive = torch.ones(self.recipe.d_sae, dtype=torch.bool)
        alive[lost] = False
        size = weights.w_enc[alive].norm(dim=1).mean() if bool(alive.any()) else torch.tensor(1.0)
        weights.w_enc[lost], weights.w_dec[lost], weights.b_enc[lost] = (
            0.2 * size * directions,
            directions,
            0.0,
        )
        for moment in (*self.moments[0:6],):
            moment[lost] = 0
        self.silent[lost] = 0

    # -- stop and go on --------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Keep the state of training, so that `load` goes on exactly here."""
        folder = Path(folder)
        tensors = dict(zip(Weights.NAMES, self.weights.all, strict=True))
        body = tensors | {f"moment.{i}": m for i, m in enumerate(self.moments)} | {"silent": self.silent}
        # the body carries its step: were the two files of different steps, `load` would see it
        write_tensors(folder / BODY, body | {"step": torch.tensor(self.step)})
        write_json(folder / HEAD, {"recipe": self.recipe.to_json(), "scale": self.scale, "step": self.step})

    @classmethod
    def load(cls, folder: Path | str, recipe: Recipe) -> Trainer:
        """Go on from a folder. Raises ArtifactError when it is damaged or was another recipe's."""
        path = Path(folder) / HEAD
        head = read_json(path)
        kept = head_field(head, "recipe", path)
        if Recipe(**{**kept, "groups": tuple(kept["groups"])}) != recipe:
            raise ArtifactError(f"{path} belongs to another recipe; give another folder, or remove this one")
        names = (*Weights.NAMES, *(f"moment.{i}" for i in range(2 * len(Weights.NAMES))), "silent", "step")
        t = read_tensors(Path(folder) / BODY, names)
        moments = [t[f"moment.{i}"] for i in range(2 * len(Weights.NAMES))]
        weights = Weights({name: t[name] for name in Weights.NAMES})
        return cls(recipe, weights, float(head["scale"]), t["silent"], moments, int(t["step"]))

    # -- the result ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def finish(self, sample: Tensor, meta: dict[str, Any] | None = None) -> SAE:
        """Return the dictionary in the states' own scale, as a JumpReLU one; `sample` [N,D] fixes the
        threshold of the TopK kinds: the value that k latents a state exceed on average.
        """
        weights, recipe = self.weights, self.recipe
        bias = (weights.b_enc - weights.w_enc @ weights.b_dec) * self.scale
        threshold = torch.zeros_like(bias)
        if recipe.kind == "jumprelu":
            threshold = weights.theta * self.scale
        elif recipe.kind != "standard":
            pre = (sample @ weights.w_enc.T + bias).flatten()
            count = min(recipe.k * len(sample), pre.numel() - 1)
            threshold = threshold + max(float(pre.topk(count + 1).values[-1]), 0.0)
        found = SAE(
            weights.w_enc.T.contiguous(),
            bias,
            weights.w_dec.clone(),
            weights.b_dec * self.scale,
            threshold,
            sample[:8].clone(),
            dict(meta or {}) | {"recipe": recipe.kind, "k": recipe.k},
        )
        acts = found.encode(sample)
        facts = {
            "unexplained": found.unexplained(sample),
            "l0": float((acts > 0).sum(1).float().mean()),
            "dead": int((acts == 0).all(0).sum()),
        }
        return replace(found, meta=found.meta | facts)


def train(
    recipe: Recipe,
    stream: Stream,
    *,
    meta: dict[str, Any] | None = None,
    folder: Path | str | None = None,
    every: int = 500,
    report: Callable[[Progress], None] | None = None,
) -> SAE:
    """Train a dictionary on a stream and return it.

    With `folder`, the state is kept there every `every` steps and training goes on from what it finds.
    `report` is called about 20 times. Deterministic in `recipe.seed` on one machine and thread count, stopped
    or not.
    """
    kept = Path(folder) / HEAD if folder is not None else None
    if kept is not None and kept.exists():
        trainer = Trainer.load(kept.parent, recipe)
    else:
        trainer = Trainer.start(recipe, stream)
    while trainer.step < recipe.steps:
        loss = trainer.advance(stream.batch(trainer.step, recipe.batch))
        if report is not None and trainer.step % max(recipe.steps // 20, 1) == 0:
            report(Progress(trainer.step, recipe.steps, loss, int(trainer.dead.sum())))
        if kept is not None and (trainer.step % every == 0 or trainer.step == recipe.steps):
            trainer.save(kept.parent)
    return trainer.finish(stream.batch(recipe.steps, SAMPLE), meta)
