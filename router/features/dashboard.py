"""A page a feature: how often and how strongly it fires, where, and what it says in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError
from ...store.printable import one_line
from ..checks import matrix
from ..files import replace
from .label import Label
from .sae import SAE

BINS, SHOWN = 24, 12
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#222;margin:2em auto;max-width:64em;padding:0 1em}
section{border-top:1px solid #ddd;padding:.6em 0}h2{font-size:16px}small{color:#666}
.two{display:flex;gap:2em;flex-wrap:wrap}ol{padding-left:1.4em}.up{color:#2a6f97}.down{color:#b23a48}
"""


class Effects(NamedTuple):
    """Tokens that a feature's direction raises most, and those it lowers most, with the logits it adds."""

    raised: tuple[tuple[str, float], ...]
    lowered: tuple[tuple[str, float], ...]


def logit_effects(sae: SAE, feature: int, read: Tensor, word: Callable[[int], str], top: int = 8) -> Effects:
    """Read a feature's decoder direction in words, through `read` [D,V] (final norm's gain times the
    head).
    """
    if read.shape[0] != sae.d_in:
        raise UsageError(f"the head reads states of width {read.shape[0]}, the SAE's are {sae.d_in} wide")
    logits = sae.W_dec[feature] @ read
    logits = logits - logits.mean()
    order = logits.argsort(descending=True).tolist()

    def told(some: Sequence[int]) -> tuple[tuple[str, float], ...]:
        return tuple((word(i), float(logits[i])) for i in some)

    return Effects(told(order[:top]), told(order[: -top - 1 : -1]))


def dashboard(
    sae: SAE,
    features: Sequence[int],
    states: Tensor,
    contexts: Sequence[str],
    *,
    labels: Mapping[int, Label] | None = None,
    effects: Callable[[int], Effects] | None = None,
) -> str:
    """Return a self-contained HTML page on some features, from states [N,D] and the text of each.

    Raises UsageError when a feature does not exist, or there is not one context a state.
    """
    rows = matrix("states", states, sae.d_in)
    if len(contexts) != len(rows):
        raise UsageError(f"{len(contexts)} contexts for {len(rows)} states; give one context a state")
    wrong = [feature for feature in features if not 0 <= feature < sae.d_sae]
    if wrong:
        raise UsageError(f"feature {wrong[0]} does not exist; this SAE has 0 to {sae.d_sae - 1}")
    acts = sae.encode_features(rows, torch.tensor(list(features)))
    parts = [
        _section(
            feature, acts[:, i], contexts, (labels or {}).get(feature), effects(feature) if effects else None
        )
        for i, feature in enumerate(features)
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Features</title>"
        f"<style>{_STYLE}</style><body><h1>Features</h1>{''.join(parts)}</body></html>\n"
    )


def save_dashboard(path: Path | str, page: str) -> None:
    """Write the page."""
    replace(Path(path), page)


def histogram(act: Tensor, bins: int = BINS) -> Tensor:
    """Count activations [N] above 0 in equal bins up to the largest: [bins]."""
    fired = act[act > 0]
    if not len(fired):
        return torch.zeros(bins)
    return torch.histc(fired.float(), bins, 0.0, float(fired.max()))


def _section(
    feature: int, act: Tensor, contexts: Sequence[str], label: Label | None, effects: Effects | None
) -> str:
    fired = float((act > 0).float().mean())
    name = escape(one_line(label.text, 80)) if label else "no label"
    often = f"fires in {fired:.2%} of states, at most {float(act.max()):.3g}"
    head = f"<h2>#{feature}: {name}</h2><small>{often}</small>"
    sides = [f"<div><b>Activations</b><br>{_bars(histogram(act))}</div>"]
    if effects is not None:
        sides.append(f"<div><b>Says</b>{_words(effects.raised, 'up')}{_words(effects.lowered, 'down')}</div>")
    order = act.argsort(descending=True).tolist()
    best = dict.fromkeys(contexts[at] for at in order[: 4 * SHOWN] if float(act[at]) > 0)
    strongest = {
        text: max(float(act[at]) for at in order[: 4 * SHOWN] if contexts[at] == text) for text in best
    }
    items = "".join(
        f"<li>{escape(one_line(text, 120))} <small>{strongest[text]:.3g}</small></li>"
        for text in list(best)[:SHOWN]
    )
    return (
        f"<section>{head}<div class=two>{''.join(sides)}</div><b>Top contexts</b><ol>{items}</ol></section>"
    )


def _bars(counts: Tensor) -> str:
    most = float(counts.max().clamp_min(1))
    bars = "".join(
        f'<rect x="{8 * i}" y="{60 - 58 * c / most:.1f}" '
        f'width="7" height="{58 * c / most:.1f}" fill="#2a6f97"/>'
        for i, c in enumerate(counts.tolist())
    )
    return f'<svg width="{8 * len(counts)}" height="62" role="img" aria-label="histogram">{bars}</svg>'


def _words(some: Sequence[tuple[str, float]], way: str) -> str:
    said = ", ".join(f"{escape(one_line(text, 24))} {value:+.2g}" for text, value in some)
    return f"<p class={way}>{said}</p>"
