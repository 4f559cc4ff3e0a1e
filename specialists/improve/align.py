"""Align a language that a model knows little with the one that it knows best: shift, train under it, shift
back.

ShifCon (Zhang et al., ACL 2025): between two layers the states of a non-dominant language move by the
difference of language vectors, so that the middle layers see them where the dominant language lies; a
contrastive loss draws the moved sentences to their translations. The formulas are followed, not the released
code's running sums, unit-length vectors and index shift. The distance that picks the layers is a
reconstruction (`locate.languages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...router.locate.anatomy import Anatomy, first
from ...router.locate.case import Case
from ...router.locate.languages import band, clouds, distance, vectors
from ...router.taps import decoder_layers
from ...store.errors import UsageError

Vectors = Mapping[str, Tensor]  # language -> [L,D], its mean state after each layer
# Which parts of ShifCon act; `msft` is plain multilingual fine-tuning, `afp` pulls early states together as
# they are.
Method = Literal["shifcon", "msft", "shift", "contrast", "afp"]


@dataclass(frozen=True)
class Band:
    """States are shifted after decoder layer `first` and back after layer `last`; between them they lie
    where the dominant language's do. One layer twice is no shift at all.
    """

    first: int
    last: int

    def check(self, layers: int) -> Band:
        """Return the band; raises UsageError where the model has no such layers."""
        if not 0 <= self.first <= self.last < layers:
            raise UsageError(f"band {self.first} to {self.last}: layers go from 0 to {layers - 1}, in order")
        return self


def language_vectors(model: nn.Module, rows: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Tensor]:
    """Return each language's vector [L,D]: the mean over sentences of their mean state, the first token left
    out.

    Raises UsageError for fewer than two languages, or fewer than three sentences of one.
    """
    return vectors(clouds(Anatomy.of(model), _cases(rows)))


def _cases(rows: Mapping[str, Sequence[Sequence[int]]]) -> list[Case]:
    return [Case(tuple(ids), -1, language=name) for name, some in rows.items() for ids in some]


def shared_band(
    model: nn.Module, rows: Mapping[str, Sequence[Sequence[int]]], dominant: str, share: float = 0.3
) -> tuple[Band, list[float]]:
    """Return the contiguous `share` of layers in which languages lie least far from the dominant one, and
    the mean distance at every layer, in units of its states' spread.
    """
    found = clouds(Anatomy.of(model), _cases(rows))
    if dominant not in found:
        raise UsageError(
            f"there is no text in the dominant language {dominant!r}: there is {', '.join(found)}"
        )
    distances = []
    for layer in range(found[dominant].shape[1]):
        states = {name: cloud[:, layer] for name, cloud in found.items()}
        spread = torch.cat([x - x.mean(0) for x in states.values()]).norm(dim=1).mean().clamp_min(1e-9)
        others = [distance(states[dominant] / spread, states[n] / spread) for n in found if n != dominant]
        distances.append(sum(others) / len(others))
    start, end = band(distances, share)
    return Band(start, end), distances


class Shift:
    """Context manager: while it is open and `say` has named languages, forward passes of `model` are shifted.

    `back` False leaves out the way back: the ablation that makes a model answer in the dominant language.
    """

    def __init__(
        self, model: nn.Module, vectors: Vectors, dominant: str, band: Band, *, back: bool = True
    ) -> None:
        if dominant not in vectors:
            raise UsageError(f"there is no vector of the dominant language {dominant!r}")
        self.vectors, self.dominant, self.back = vectors, dominant, back
        layers = decoder_layers(model)
        self.band = band.check(len(layers))
        self._layers, self._handles = layers, list[Any]()
        self._languages: tuple[str, ...] | None = None

    def say(self, *languages: str) -> None:
        """Name the language of each row of the coming passes, one for all rows, or none at all: no shift.

        Raises UsageError for a language without a vector.
        """
        unknown = [name for name in languages if name not in self.vectors]
        if unknown:
            raise UsageError(f"language {unknown[0]!r} has no vector: there are {', '.join(self.vectors)}")
        foreign = any(name != self.dominant for name in languages)
        # rows of the dominant language alone keep their bits: nothing is added at all
        self._languages = languages if foreign and self.band.first != self.band.last else None

    def __enter__(self) -> Shift:
        ends = [(self.band.first, 1.0), *([(self.band.last, -1.0)] if self.back else [])]
        self._handles = [self._layers[at].register_forward_hook(self._hook(at, sign)) for at, sign in ends]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, layer: int, sign: float) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if self._languages is None:
                return None
            state = first(output)
            moved = state + sign * self._change(layer, state)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return hook

    def _change(self, layer: int, state: Tensor) -> Tensor:
        """v_dominant - v_language of each row, [B or 1, 1, D]."""
        assert self._languages is not None
        rows = [self.vectors[self.dominant][layer] - self.vectors[name][layer] for name in self._languages]
        return torch.stack(rows)[:, None].to(state)


# -- the contrastive loss ------------------------------------------------------------------------------------


def contrast(ours: Tensor, theirs: Tensor, scale: float = 1.0, *, recentre: bool = True) -> Tensor:
    """Return the loss of telling the pairs of a batch apart: sentence states [B,D] of the dominant language,
    and of their translations.

    Unit vectors; `recentre` moves the translations by the difference of both means, which is the shift of the
    batch; the mean of the cross-entropies over rows and over columns of scale * ours theirs^T.
    """
    e, t = F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1)
    if recentre:
        t = t - t.mean(0) + e.mean(0)
    logits, right = scale * e @ t.T, torch.arange(len(e), device=e.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


@contextmanager
def watched(model: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Keep the states [B,T,D] after some layers of the passes inside, with their gradients."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        return lambda _module, _inputs, output: kept.__setitem__(layer, first(output))

    handles = [decoder_layers(model)[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """Mean [B,D] of states [B,T,D] over the tokens of mask [B,T], the first left out where there are more."""
    seen = mask.clone()
    seen[:, 0] = torch.where(mask.sum(1) > 1, torch.zeros_like(mask[:, 0]), mask[:, 0])
    weights = seen.to(states)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids [B,T], and which are tokens [B,T]."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(list(row)) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()


def pair_loss(
    model: Any,
    ours: Sequence[Sequence[int]],
    theirs: Sequence[Sequence[int]],
    layers: Sequence[int],
    scale: float = 1.0,
    *,
    recentre: bool = True,
) -> Tensor:
    """The contrastive loss of translation pairs, the mean over layers; both sides run unshifted, in one
    pass.
    """
    ids, mask = (one.to(next(model.parameters()).device) for one in padded([*ours, *theirs]))
    with watched(model, layers) as states:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    both, count = [pooled(states[at], mask) for at in layers], len(ours)
    losses = [contrast(one[:count], one[count:], scale, recentre=recentre) for one in both]
    return torch.stack(losses).mean()


def loss_layers(method: Method, band: Band) -> tuple[int, ...]:
    """The layers of the contrastive loss: from the shift up to, not including, the shift back; the first
    layer for the AFP-like one; none where there is no such loss.
    """
    if method == "afp":
        return (0,)
    if method in ("shifcon", "contrast"):
        return tuple(range(band.first, max(band.last, band.first + 1)))
    return ()


def shifts(method: Method) -> bool:
    """Whether a method trains and answers under the shift."""
    return method in ("shifcon", "shift")
