"""Gates: probes inside the forward pass decide, request by request, which steering rows act.

A table `open` [slots, probes] persists between steps. When a request's deciding token (as a rule its last
prompt token) passes a probe's layer, `decide` writes the verdicts into the request's slot; layers above and
all later steps read them. Earlier chunks of the prompt are not rewritten. Everything fails closed: a slot
that was reset and has not decided keeps gated rows out, and slot 0 (tokens of no request) all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checks import FLOATS, INDEX, expect


@dataclass(frozen=True, eq=False)
class Gates:
    """Probes of one layer and what they said of each request.

    weight [P,D], bias [P], threshold [P], float32: probe p opens its gate where weight . x + bias >=
    threshold. mine [P] bool: the probes that this layer holds; it writes their verdicts only, so layers may
    share one `open` [Q,P] bool. Probe 0 is no probe, its gate is open for every request; slot 0 stays closed.
    """

    weight: Tensor
    bias: Tensor
    threshold: Tensor
    mine: Tensor
    open: Tensor

    @classmethod
    def empty(cls, probes: int, requests: int, width: int, device: torch.device | str = "cpu") -> Gates:
        """Return room for probes 1 to `probes` and slots 1 to `requests` at a layer of width D.

        Raises ValueError for fewer than 0 probes, or than 1 request or column.
        """
        if probes < 0 or requests < 1 or width < 1:
            raise ValueError(
                f"gates for {probes} probes, {requests} requests, width {width}: requests and width are 1 "
                "or more"
            )
        gates = cls(
            weight=torch.zeros(probes + 1, width, device=device),
            bias=torch.zeros(probes + 1, device=device),
            threshold=torch.zeros(probes + 1, device=device),
            mine=torch.zeros(probes + 1, dtype=torch.bool, device=device),
            open=torch.zeros(requests + 1, probes + 1, dtype=torch.bool, device=device),
        )
        gates.open[1:, 0] = True
        return gates

    def beside(self, width: int | None = None) -> Gates:
        """Return room for the same probes at another layer (of `width`, else as wide) with this `open`."""
        other = Gates.empty(
            len(self.bias) - 1, len(self.open) - 1, width or self.weight.shape[1], self.open.device
        )
        return replace(other, open=self.open)

    def put(self, probe: int, weight: Tensor, bias: float, threshold: float = 0.0) -> None:
        """Write a probe, weight [D], in place. Raises ValueError for probe 0, another width and numbers that
        are not finite.
        """
        if not 0 < probe < self.bias.shape[0]:
            raise ValueError(f"probe {probe}: there is room for probes 1 to {self.bias.shape[0] - 1}")
        expect("weight", weight, self.weight.shape[1:], FLOATS, "a probe fits one layer's width")
        if not bool(torch.isfinite(weight).all()) or bias != bias or threshold != threshold:
            raise ValueError("the probe holds numbers that are not finite; fit it again")
        self.weight[probe] = weight.to(self.weight)
        self.bias[probe] = bias
        self.threshold[probe] = threshold
        self.mine[probe] = True

    def reset(self, slot: int) -> None:
        """Close a slot's gates for its next request. Raises ValueError for slot 0 and those beyond."""
        if not 0 < slot < self.open.shape[0]:
            raise ValueError(f"slot {slot}: requests have the slots 1 to {self.open.shape[0] - 1}")
        self.open[slot, 1:] = False


def decide(gates: Gates, x: Tensor, slots: Tensor, decides: Tensor) -> Tensor:
    """Read the probes at the tokens flagged in `decides` [N] bool and write their slots; return scores [N,P].

    x [N,D], slots [N] int64. A request flags one token a step. A score that is not a number opens nothing.
    Raises ValueError when shapes or types do not fit. No data-dependent shape: it compiles and captures.
    """
    expect("x", x, ("N", gates.weight.shape[1]), FLOATS, "probes read the width they were made for")
    expect("slots", slots, x.shape[:1], INDEX, "one slot a token")
    expect("decides", decides, x.shape[:1], (torch.bool,), "one flag a token")
    scores = torch.addmm(gates.bias, x.float(), gates.weight.T)
    # Tokens that decide nothing write into slot 0, which is closed again at once.
    target = torch.where(decides, slots, torch.zeros_like(slots))
    verdict = torch.where(gates.mine, scores >= gates.threshold, gates.open[target])
    gates.open.index_put_((target,), verdict)
    gates.open[0] = False
    return scores


def allowed(rows: Tensor, gate: Tensor, gates: Gates | None, slots: Tensor | None) -> Tensor:
    """Return rows [N] with 0 where the row's gate, gate [R], is closed for the token's slot [N]."""
    if gates is None or slots is None:
        return rows
    return torch.where(gates.open[slots, gate[rows]], rows, torch.zeros_like(rows))
