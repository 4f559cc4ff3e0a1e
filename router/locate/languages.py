"""Language subspaces: where languages lie apart, and in which band of layers they come together.

Zhang et al., 'ShifCon' (ACL 2025): per layer, the mean state of each language; the distance between the
clouds of two languages is sqrt(sum ln^2 lambda) + |mean difference|, lambda the generalised eigenvalues of
their covariances (the metric of Chang et al., 2022; that ShifCon uses exactly this one is a reconstruction).
The layers with the least distance, made contiguous, are the shared band; `share` of them (30 %) is the
paper's best.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy
from .case import Case, need
from .finding import Finding, Found, Grid, layer_names
from .options import Options
from .run import record

RANK = 8  # common directions in which covariances are compared


def clouds(anatomy: Anatomy, cases: Sequence[Case]) -> dict[str, Tensor]:
    """Return each language's mean-pooled states, {language: [N,L,D]}, position 0 left out."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for case in need(cases, "language"):
        stream = record(anatomy, case.ids).stream[1:]
        found[case.language].append((stream[:, 1:] if stream.shape[1] > 1 else stream).mean(1))
    few = [name for name, rows in found.items() if len(rows) < 3]
    if few or len(found) < 2:
        raise UsageError(
            f"languages {sorted(found)}, of which {few} have fewer than 3 prompts; give two languages or "
            "more, "
            "with "
            "at least 3 prompts each"
        )
    return {name: torch.stack(rows) for name, rows in sorted(found.items())}


def distance(one: Tensor, two: Tensor, rank: int = RANK, *, mean: bool = True) -> float:
    """Return the distance of two clouds [N,D] and [M,D]; `mean` False leaves the means' part out.

    Covariances are compared in the `rank` main directions of both together, with a small ridge.
    """
    both = torch.cat([one - one.mean(0), two - two.mean(0)]).double()
    basis = torch.linalg.svd(both, full_matrices=False).Vh[: min(rank, len(both) - 2)].T
    a, b = (_covariance((x - x.mean(0)).double() @ basis) for x in (one, two))
    ridge = 1e-3 * (a.trace() + b.trace()) / (2 * len(a)) * torch.eye(len(a), dtype=a.dtype)
    root = torch.linalg.cholesky(b + ridge)
    whitened = torch.linalg.solve_triangular(root, a + ridge, upper=False)
    whitened = torch.linalg.solve_triangular(root, whitened.T, upper=False)
    spread = torch.linalg.eigvalsh((whitened + whitened.T) / 2).clamp_min(1e-12).log().square().sum().sqrt()
    apart = (one.double().mean(0) - two.double().mean(0)).norm() if mean else 0.0
    return float(spread + apart)


def _covariance(x: Tensor) -> Tensor:
    return x.T @ x / max(len(x) - 1, 1)


def vectors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each language's vector at each layer: {language: [L,D]}, the mean of its states."""
    return {name: rows.mean(0) for name, rows in found.items()}


def band(distances: Sequence[float], share: float = 0.3) -> tuple[int, int]:
    """Return the contiguous block of `share` of the layers with the least total distance: first, last."""
    size = max(1, round(share * len(distances)))
    starts = range(len(distances) - size + 1)
    start = min(starts, key=lambda i: sum(distances[i : i + size]))
    return start, start + size - 1


def locate_languages(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank layers by how far languages lie apart, in units of the layer's own spread of states; save the
    languages' vectors, `vector.LANGUAGE` [L,D]. `how` = plain measures in the states' own units, as the
    paper.
    """
    found = clouds(anatomy, cases)
    names = sorted(found)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    rows = []
    for layer in range(anatomy.layers):
        states = {name: found[name][:, layer] for name in names}
        spread = torch.cat([x - x.mean(0) for x in states.values()]).norm(dim=1).mean().clamp_min(1e-9)
        size = 1.0 if options.how == "plain" else float(spread)
        rows.append([distance(states[a] / size, states[b] / size) for a, b in pairs])
    table = torch.tensor(rows)
    means = table.mean(1).tolist()
    first, last = band(means)
    order = sorted(range(len(means)), key=lambda i: -means[i])
    return Finding(
        "languages",
        "distance between languages",
        tuple(
            Found(f"L{i}.resid", means[i], "in the shared band" if first <= i <= last else "") for i in order
        ),
        {"prompts": len(cases), "languages": ", ".join(names), "shared band": f"L{first} to L{last}"},
        (Grid("Distance by layer", layer_names(anatomy.layers), tuple(f"{a}-{b}" for a, b in pairs), table),),
        {f"vector.{name}": v for name, v in vectors(found).items()},
        anatomy.fingerprint,
    )
