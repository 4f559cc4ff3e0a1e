"""What the passes of a vLLM model read and change at its decoder layers: steering, gates and taps.

Before a pass the host fills an index: which table row steers each token, in each of a few rounds. On a CPU
a layer's work is looked up from it, and a layer without work returns at once. On a GPU the layers read it in
the forward pass, and every instrumented one launches all its kernels, whatever the index says, so that a
captured graph holds them. A batch that goes on by one token each is planned once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ....kernels.gates import decide
from ....kernels.steer import steer_
from ....store.errors import UsageError
from ..plan import Reading, Span, readings
from .sites import Settings, Sites
from .work import Work, work_of

BOARDS: WeakValueDictionary[int, Board] = WeakValueDictionary()
_library: list[Any] = []


class Board:
    """The instruments of one model and the plan of its pass. Not thread-safe: one pass at a time."""

    def __init__(
        self,
        model: nn.Module,
        config: Any,
        settings: Settings,
        tokens: int,
        device: torch.device,
        compiled: bool,
    ) -> None:
        """Hook the decoder layers of a vLLM model (`config` is its Hugging Face text config), for passes of
        up to `tokens` tokens.
        """
        layers, width = decoder_layers(model, config), int(config.hidden_size)
        wanted = range(len(layers)) if settings.layers is None else settings.layers
        self.sites = Sites(wanted, width, tokens, settings, device)
        self.device, self.captured = device, device.type != "cpu"
        self._host = torch.zeros_like(self.sites.rows, device="cpu")
        self.dtype = next(model.parameters()).dtype
        if self.captured:
            for site in self.sites.of.values():
                site.kept = torch.zeros(tokens, width, device=device, dtype=self.dtype)
            self._host = self._host.pin_memory()
        else:
            self._host = self.sites.rows
        self._index = self._host.numpy()
        self._used = 0
        self._work: dict[int, Work] = {}
        # on a CPU: the streams after the layers that are read, as many as ever were at once
        self._streams = torch.empty(0, tokens, width, dtype=self.dtype)
        self._bytes = _bytes(self._streams)
        self._kept: dict[int, Tensor] = {}
        self._tapping: list[tuple[Span, list[int] | slice]] = []
        self._going: tuple[list[str], Any, bytes] | None = None
        self._steps = 0
        self._reads: tuple[int, ...] = ()
        self._asked: list[Reading] = []
        self._answered: list[Reading] = []
        self._drawing: list[tuple[int, Any]] = []
        self.order: list[Span | None] = []
        self.spans: list[Span] = []
        # an engine row for each number that requests carry in `extra_args`
        self.rows: dict[int, Any] = {}
        BOARDS[settings.number] = self
        for layer in self.sites.of:
            hook = _compiled_hook(settings.number, layer) if compiled else self._hook(layer)
            layers[layer].register_forward_hook(hook)

    @property
    def tokens(self) -> int:
        """How many tokens the pass has."""
        return self._used

    # -- before a pass -------------------------------------------------------------------------------------

    def goes_on(self, ids: Sequence[str], firsts: Any, counts: Any) -> bool:
        """Whether a pass is that of `begin` but for one token more of each request: nothing new is planned.

        `ids` are the batch's, `firsts` and `counts` (NumPy) where each goes on and by how many tokens.
        """
        if self._going is None:
            return False
        names, expected, ones = self._going
        # bytes, for a comparison in NumPy costs more than all of this
        same = list(ids) == names and counts.tobytes() == ones
        if not same or firsts[: len(names)].tobytes() != expected.tobytes():
            return False
        expected += 1
        self._steps += 1
        return True

    def may_go_on(self, ids: Sequence[str], firsts: Any, counts: Any) -> None:
        """Say of the pass of `begin` who is in it, from where on; if all draw from one generated token it may
        go on.
        """
        steady = len(self.spans) == len(self.order) and all(
            span.count == 1 and span.draws and span.first >= span.row.boundary for span in self.spans
        )
        self._going = (list(ids), firsts[: len(ids)] + 1, counts.tobytes()) if steady else None

    @torch.inference_mode()
    def begin(self, order: Sequence[Span | None], tokens: int) -> None:
        """Plan a pass of so many tokens over these spans, in the batch's order; None stands for requests of
        others.
        """
        self.order = list(order)
        self.spans = [span for span in order if span is not None]
        self._going, self._steps = None, 0
        self._drawing = [
            (at, span.row)
            for at, span in enumerate(order)
            if span is not None and span.draws and not span.row.plain
        ]
        self._reads = tuple(sorted({layer for span in self.spans for layer in _row(span).reads}))
        self._tapping = [
            (span, _places(span.row.request.taps, self._reads))
            for span in self.spans
            if span.row.request.taps
        ]
        self._asked, self._answered = readings(self.spans, asking=True), readings(self.spans, asking=False)
        self._steer(tokens)

    def _steer(self, tokens: int) -> None:
        """Fill the index, and what follows from it."""
        self._index[:, :, : self._used] = 0
        self._used = tokens
        for site in self.sites.of.values():
            site.turns = 0
        for span in self.spans:
            for act in _row(span).acts:
                places, site = span.places(act.scope), self.sites.of[act.layer]
                if places:
                    self._index[self.sites.numbers[act.layer], act.turn, places.start : places.stop] = act.row
                    site.turns = max(site.turns, act.turn + 1)
        if self.captured:
            self.sites.rows.copy_(self._host, non_blocking=True)
        else:
            if len(self._reads) > len(self._streams):
                self._streams = self._streams.new_empty(len(self._reads), *self._streams.shape[1:])
                self._bytes = _bytes(self._streams)
            self._kept = dict(zip(self._reads, self._streams[:, :tokens], strict=False))
            self._work = work_of(self.sites, self._index, tokens, self._kept)

    # -- in a pass -----------------------------------------------------------------------------------------

    def act(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Steer hidden [N, D] in place. Gates, readers and taps see hidden + residual, where vLLM carries the
        residual apart.
        """
        if self.captured:
            self._act_captured(layer, hidden, residual)
            return
        work = self._work.get(layer)
        if work is not None and hidden.shape[0] >= self._used:
            work.act(hidden[: self._used], None if residual is None else residual[: self._used])

    def _act_captured(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        site, sites, n = self.sites.of[layer], self.sites, hidden.shape[0]
        x = hidden if residual is None else hidden + residual
        slots = sites.slots[:n]
        decide(site.gates, x, slots, sites.every[:n])
        for turn in range(sites.settings.rounds):
            steer_(
                hidden, site.tables, site.rows[turn, :n], site.gates, slots, None if residual is None else x
            )
            x = hidden if residual is None else hidden + residual
        assert site.kept is not None
        site.kept[:n] = x

    def _hook(self, layer: int) -> Any:
        def act(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.act(layer, *_parts(output))

        return act

    # -- after a pass --------------------------------------------------------------------------------------

    def harvest(self) -> None:
        """Hand out what was read: taps and prompt heads at once, other heads with the token that follows."""
        if self._reads:
            self._hand_out()

    @torch.inference_mode()
    def _hand_out(self) -> None:
        seen = self._seen()
        for heads, members, places in self._asked:
            for index, logits in zip(members, heads.logits(seen, places), strict=True):
                for head, logit in zip(heads.heads, logits, strict=True):
                    self.spans[index].row.stream.read(head.name, logit)
        for heads, members, places in self._answered:
            for index, logits in zip(members, heads.logits(seen, places), strict=True):
                _row(self.spans[index]).pending = logits
        if self._tapping:
            states = _bytes(torch.stack(list(seen.values()))) if self.captured else self._bytes
            for span, taps in self._tapping:
                _row(span).keep(states, taps, self.dtype, span, span.first + self._steps)

    def _seen(self) -> dict[int, Tensor]:
        """The states [N, D] after each layer that is read."""
        if self.captured:
            kept = {layer: self.sites.of[layer].kept for layer in self._reads}
            return {layer: states[: self._used] for layer, states in kept.items() if states is not None}
        for layer in self._reads:
            if not self._work[layer].done:
                raise RuntimeError(f"decoder layer {layer} ran without the plugin's hook")
            self._work[layer].done = False
        return self._kept

    def draw(self, logits: Tensor) -> Tensor:
        """Leave only the token that its request draws in each row of logits [B, V] that is not greedy."""
        if self._drawing and len(self.order) == logits.shape[0]:
            with torch.inference_mode():
                for at, row in self._drawing:
                    token = row.choose(logits[at], 0)
                    logits[at] = -torch.inf
                    logits[at, token] = 0.0
        return logits


def _row(span: Span) -> Any:
    """The row as this engine has it."""
    return span.row


def _parts(output: Any) -> tuple[Tensor, Tensor | None]:
    """A decoder layer gives (hidden, residual), whose sum is the residual stream, or the stream itself."""
    return (output[0], output[1]) if isinstance(output, tuple) else (output, None)


def _places(taps: Sequence[int], reads: Sequence[int]) -> list[int] | slice:
    """Where tapped layers are among those that are read; a slice where they come first, in order."""
    first = tuple(taps) == tuple(reads[: len(taps)])
    return slice(len(taps)) if first else [reads.index(layer) for layer in taps]


def _bytes(states: Tensor) -> Any:
    """States [L, N, D] as NumPy's [L, N, bytes]: it copies few rows faster than torch, and knows no bf16."""
    return states.cpu().view(torch.uint8).numpy()


def decoder_layers(model: nn.Module, config: Any) -> nn.ModuleList:
    """Find a vLLM model's decoder layers: the first list of as many modules as its config has layers.

    Raises UsageError where there is none.
    """
    wanted = int(config.num_hidden_layers)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise UsageError(
        f"no list of {wanted} decoder layers in {type(model).__name__}: the plugin cannot steer this kind of "
        "model; use the torch engine"
    )


# -- inside a compiled graph -------------------------------------------------------------------------------


def _act(hidden: Tensor, residual: Tensor | None, board: int, layer: int) -> None:
    found = BOARDS.get(board)
    if found is not None:
        found.act(layer, hidden, residual)


def _compiled_hook(board: int, layer: int) -> Any:
    """A hook that a compiler can trace: one opaque operator, which finds its board by number when it runs."""
    if not _library:
        untyped: Any = torch.library
        library = untyped.Library("pilothouse", "DEF")
        library.define("act(Tensor(a!) hidden, Tensor? residual, int board, int layer) -> ()")
        library.impl("act", _act, "CompositeExplicitAutograd")
        untyped.register_fake("pilothouse::act", lambda hidden, residual, board, layer: None, lib=library)
        _library.append(library)

    def act(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden, residual = (output[0], output[1]) if isinstance(output, tuple) else (output, None)
        torch.ops.pilothouse.act(hidden, residual, board, layer)

    return act
