"""How a node of one part looks: a plain function from a part to the next part and the next node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypedDict

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from ...store.records import Part
from ..answer import Event
from ..voyage import Voyage

Emit = Callable[[Event], None]


class PartState(TypedDict):
    """What travels with one part from node to node."""

    part: Part


class Step(NamedTuple):
    """The part after a node, and the node that is next."""

    part: Part
    goto: str


class At(NamedTuple):
    """Where a node runs: the request under way, and the way out for text."""

    voyage: Voyage
    emit: Emit


Node = Callable[[Part, At], Step]


def walk(part: Part, begin: str, nodes: Mapping[str, Node], at: At) -> Step:
    """Take a part from the node `begin` on, to the first that is not of `nodes`; keep its newest state.

    With `stepwise` in the voyage it goes one node far.
    """
    goto = begin
    while goto in nodes:
        at.voyage.stop_if_cancelled()
        part, goto = nodes[goto](part, at)
        at.voyage.parts[part.index] = part
        if at.voyage.stepwise:
            break
    return Step(part, goto)


def at_of(runtime: Runtime[Voyage]) -> At:
    """Where a node of the graph runs.

    Text leaves by the voyage's own `emit` where there is one (a queue, the short way), else by the graph's
    custom stream, so that a graph embedded in another streams too.
    """
    return At(runtime.context, runtime.context.emit or runtime.stream_writer)


def as_graph_node(
    name: str, nodes: Mapping[str, Node]
) -> Callable[[PartState, Runtime[Voyage]], Command[str]]:
    """Wrap the node `name` for the graph: it keeps the part's newest state, and sends it on or joins it.

    A part walks on through `nodes` in the same super-step, for nothing else waits for it between two of them,
    and each of the graph's own super-steps costs an answer about half a millisecond (measured with the native
    engine). With `stepwise` in the voyage it goes back to the graph after every node; a test holds the two
    against each other.
    """

    def run(state: PartState, runtime: Runtime[Voyage]) -> Command[str]:
        part, goto = walk(state["part"], name, nodes, at_of(runtime))
        if goto in nodes:
            return Command(goto=Send(goto, {"part": part}))
        return Command(update={"parts": [part]}, goto=goto)

    return run
