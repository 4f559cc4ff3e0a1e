"""States whose dictionary is known: sparse sums of random directions, and a hierarchy of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...store.errors import UsageError
from .sae import SAE


@dataclass(frozen=True, eq=False)
class Planted:
    """`atoms` [A,D] of unit length, of which `active` are on in each state, with strengths 0.5 to 1.5."""

    atoms: Tensor
    active: int
    noise: float = 0.01

    @classmethod
    def draw(cls, atoms: int, width: int, active: int, seed: int, noise: float = 0.01) -> Planted:
        """Draw atoms by a seed."""
        if not 1 <= active <= atoms:
            raise UsageError(f"{active} of {atoms} atoms cannot be active; give 1 to {atoms}")
        generator = torch.Generator().manual_seed(seed)
        return cls(normalize(torch.randn(atoms, width, generator=generator)), active, noise)

    def codes(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw strengths [size, A]."""
        count = len(self.atoms)
        chosen = torch.rand(size, count, generator=generator).topk(self.active, 1).indices
        strength = torch.rand(size, self.active, generator=generator) + 0.5
        return torch.zeros(size, count).scatter_(1, chosen, strength)

    def __call__(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw states [size, D]."""
        states = self.codes(size, generator) @ self.atoms
        return states + self.noise * torch.randn(states.shape, generator=generator)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Parents with children: a child is on only with its parent, so a dictionary is tempted to write parent
    and child as one latent and leave the parent's silent (absorption, Chanin et al., 2024).

    `parents` [P,D], `children` [P,C,D], orthogonal where D allows. A parent is on in `share` of the states,
    then one of its children in `child_share` of those.
    """

    parents: Tensor
    children: Tensor
    share: float = 0.15
    child_share: float = 0.7

    @classmethod
    def draw(cls, parents: int, children: int, width: int, seed: int) -> Hierarchy:
        """Draw directions by a seed."""
        count = parents * (children + 1)
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(max(count, width), width, generator=generator)
        basis = torch.linalg.qr(rows[:width].T).Q.T if count <= width else normalize(rows)
        return cls(basis[:parents], basis[parents:count].reshape(parents, children, width))

    def draws(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return which parents are on [size,P], and which child of each [size,P] (-1 none)."""
        shape = (size, len(self.parents))
        on = torch.rand(shape, generator=generator) < self.share
        with_child = on & (torch.rand(shape, generator=generator) < self.child_share)
        child = torch.randint(self.children.shape[1], shape, generator=generator)
        return on, torch.where(with_child, child, torch.full_like(child, -1))

    def __call__(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw states [size, D]."""
        on, child = self.draws(size, generator)
        return self.states(on, child)

    def states(self, on: Tensor, child: Tensor) -> Tensor:
        """Add up parents and children: [size, D]."""
        hot = torch.nn.functional.one_hot(child + 1, self.children.shape[1] + 1)[..., 1:].float()
        return on.float() @ self.parents + torch.einsum("npc,pcd->nd", hot, self.children)

    def absorption(self, sae: SAE, seed: int = 0, size: int = 4000) -> float:
        """Return how often a parent's latent is silent although the parent is on, with a child: 0 is perfect.

        A parent's latent is the one whose decoder is closest to it.
        """
        on, child = self.draws(size, torch.Generator().manual_seed(seed))
        latent = (normalize(sae.W_dec) @ self.parents.T).argmax(0)
        fired = sae.encode(self.states(on, child))[:, latent] > 0
        both = on & (child >= 0)
        return float((both & ~fired).sum() / both.sum().clamp_min(1))


def recovery(sae: SAE, atoms: Tensor, cosine: float = 0.9) -> tuple[float, float]:
    """Return (share of atoms [A,D] that a latent's decoder matches above `cosine`, mean best cosine)."""
    best = (normalize(atoms) @ normalize(sae.W_dec).T).amax(1)
    return float((best > cosine).float().mean()), float(best.mean())
