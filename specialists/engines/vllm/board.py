"""What the passes of a vLLM model read and change at its decoder layers: steering, gates and taps.

Before a pass the host fills an index: which table row steers each token, in each of a few rounds. The layers
read it inside the forward pass. On a CPU a layer without work returns at once. On a GPU every instrumented
layer launches all its kernels, whatever the index says, so that a captured graph holds them.
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
from ..plan import Span, read_heads
from .sites import Settings, Sites

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
        if self.captured:
            dtype = next(model.parameters()).dtype
            for site in self.sites.of.values():
                site.kept = torch.zeros(tokens, width, device=device, dtype=dtype)
            self._host = self._host.pin_memory()
        else:
            self._host = self.sites.rows
        self._index = self._host.numpy()
        self._used = 0
        self._steady: tuple[int, ...] | None = None
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

    @torch.inference_mode()
    def begin(self, order: Sequence[Span | None], tokens: int) -> None:
        """Plan a pass of so many tokens over these spans, in the batch's order; None stands for requests of
        others.
        """
        self.order = list(order)
        self.spans = [span for span in order if span is not None]
        key = self._key()
        if key is not None and key == self._steady:
            return
        self._steady = key
        self._index[:, :, : self._used] = 0
        self._used = tokens
        for site in self.sites.of.values():
            site.turns, site.keeps = 0, False
        for span in self.spans:
            self._plan(span)
        if self.captured:
            self.sites.rows.copy_(self._host, non_blocking=True)

    def _key(self) -> tuple[int, ...] | None:
        """Name a pass in which all go on by one generated token: it is steered like the one before."""
        if len(self.spans) < len(self.order):
            return None
        if any(span.count != 1 or span.first < span.row.boundary for span in self.spans):
            return None
        return tuple(span.row.serial for span in self.spans)

    def _plan(self, span: Span) -> None:
        row: Any = span.row
        for act in row.acts:
            places = span.places(act.scope)
            if places:
                self._index[self.sites.numbers[act.layer], act.turn, places.start : places.stop] = act.row
                site = self.sites.of[act.layer]
                site.turns = max(site.turns, act.turn + 1)
        for layer in row.reads:
            self.sites.of[layer].keeps = True

    # -- in a pass -----------------------------------------------------------------------------------------

    def act(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Steer hidden [N, D] in place. Gates, readers and taps see hidden + residual, where vLLM carries the
        residual apart.
        """
        site, sites, n = self.sites.of[layer], self.sites, hidden.shape[0]
        turns = sites.settings.rounds if self.captured else site.turns
        probes = self.captured or site.probes > 0
        if not (turns or probes or site.keeps):
            return
        x = hidden if residual is None else hidden + residual
        slots = sites.slots[:n]
        if probes:
            decide(site.gates, x, slots, sites.every[:n])
        for turn in range(turns):
            steer_(
                hidden, site.tables, site.rows[turn, :n], site.gates, slots, None if residual is None else x
            )
            x = hidden if residual is None else hidden + residual
        if self.captured:
            assert site.kept is not None
            site.kept[:n] = x
        elif site.keeps:
            site.kept = x.clone() if residual is None else x

    def _hook(self, layer: int) -> Any:
        def act(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.act(layer, *_parts(output))

        return act

    # -- after a pass --------------------------------------------------------------------------------------

    @torch.inference_mode()
    def harvest(self) -> None:
        """Hand out what was read: taps and prompt heads at once, other heads with the token that follows."""
        seen: dict[int, Tensor] = {}
        for layer in {layer for span in self.spans for layer in _reads(span)}:
            kept = self.sites.of[layer].kept
            if kept is None:
                raise RuntimeError(f"decoder layer {layer} ran without the plugin's hook")
            seen[layer] = kept[: self._used]
        if not seen:
            return
        asked = read_heads(self.spans, seen, asking=True)
        answered = read_heads(self.spans, seen, asking=False)
        for index, span in enumerate(self.spans):
            row: Any = span.row
            begin, end = span.at + row.fresh(span), span.at + span.count
            for layer in row.request.taps:
                row.stream.tap(layer, seen[layer][begin:end].to("cpu", copy=True))
            for head, logit in zip(
                row.asking.heads if index in asked else (), asked.get(index, ()), strict=True
            ):
                row.stream.read(head.name, logit)
            row.pending = answered.get(index, ())

    @torch.inference_mode()
    def draw(self, logits: Tensor) -> Tensor:
        """Leave only the token that its request draws in each row of logits [B, V] that is not greedy."""
        if len(self.order) != logits.shape[0]:
            return logits
        for at, span in enumerate(self.order):
            if span is not None and span.draws and not span.row.plain:
                token = span.row.choose(logits[at], 0)
                logits[at] = -torch.inf
                logits[at, token] = 0.0
        return logits


def _reads(span: Span) -> tuple[int, ...]:
    row: Any = span.row
    return row.reads  # type: ignore[no-any-return]


def _parts(output: Any) -> tuple[Tensor, Tensor | None]:
    """A decoder layer gives (hidden, residual), whose sum is the residual stream, or the stream itself."""
    return (output[0], output[1]) if isinstance(output, tuple) else (output, None)


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
