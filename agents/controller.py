"""The controller: one LangGraph graph from prompt to record.

plan -> probe -> route -> steer -> generate -> check -> (escalate | answer) -> record

`plan` fans the parts of a prompt out with `Send`; each part walks through the nodes by itself (several in one
super-step, see `as_graph_node`), and `record` waits for all of them. Most prompts have one part, for which
nothing waits: it walks from `plan` to `record` in one super-step. The state holds what is worth keeping:
the conversation (checkpointed, so threads survive a restart) and the parts' records. Tensors and the log live
in the runtime context, a `Voyage`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from ..store.records import Message, Part, Role
from .nodes.check import check
from .nodes.escalate import escalate
from .nodes.generate import generate
from .nodes.plan import plan
from .nodes.probe import probe
from .nodes.record import record
from .nodes.route import route
from .nodes.steer import steer
from .nodes.step import Node, as_graph_node, at_of, walk
from .voyage import Turns, Voyage

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

# supersteps: plan, record, probe and route, then steer to escalate for each attempt; a little to spare
RECURSION_LIMIT = 32

PART_NODES: dict[str, tuple[Node, tuple[str, ...]]] = {
    "probe": (probe, ("route",)),
    "route": (route, ("steer", "record")),
    "steer": (steer, ("generate",)),
    "generate": (generate, ("check",)),
    "check": (check, ("escalate", "record")),
    "escalate": (escalate, ("steer", "record")),
}


def gather(old: list[Part], new: list[Part] | None) -> list[Part]:
    """Join the parts as they end; None starts the next request."""
    return [] if new is None else [*old, *new]


class State(TypedDict, total=False):
    """What the graph keeps. `turns` is the conversation so far, as (role, text) pairs."""

    turns: list[tuple[str, str]]
    parts: Annotated[list[Part], gather]


Graph = CompiledStateGraph[State, Voyage, State, State]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None) -> Graph:
    """Build the controller. Its runtime context is a `Voyage`; its custom stream carries `Event`s."""
    graph: StateGraph[State, Voyage, State, State] = StateGraph(State, context_schema=Voyage)
    graph.add_node("plan", _plan, destinations=("probe", END))
    nodes = _nodes()
    for name, (_, destinations) in PART_NODES.items():
        graph.add_node(name, as_graph_node(name, nodes), destinations=destinations)  # type: ignore[call-overload]
    graph.add_node("record", _record, defer=True)
    graph.add_edge(START, "plan")
    graph.add_edge("record", END)
    return graph.compile(checkpointer=checkpointer, name="pilothouse")


def _nodes() -> dict[str, Node]:
    return {name: node for name, (node, _) in PART_NODES.items()}


def _plan(state: State, runtime: Runtime[Voyage]) -> Command[str]:
    voyage = runtime.context
    history = turns_of(state.get("turns") or []) if voyage.ask.use_history else ()
    parts = plan(voyage, history)
    if len(parts) == 1 and not voyage.stepwise:
        part, _ = walk(parts[0], "probe", _nodes(), at_of(runtime))
        return Command(update=_recorded(voyage, [part]), goto=END)
    return Command(update={"parts": None}, goto=[Send("probe", {"part": part}) for part in parts])


def _record(state: State, runtime: Runtime[Voyage]) -> dict[str, Any]:
    return _recorded(runtime.context, state["parts"])


def _recorded(voyage: Voyage, parts: list[Part]) -> dict[str, Any]:
    return {"turns": pairs_of(record(voyage, parts)), "parts": None}


def turns_of(pairs: list[tuple[str, str]]) -> Turns:
    """Read turns back from the state."""
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    return tuple(Message(role=roles[role], content=text) for role, text in pairs)


def pairs_of(turns: Turns) -> list[tuple[str, str]]:
    """The state's form of turns."""
    return [(turn.role, turn.content) for turn in turns]
