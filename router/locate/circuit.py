"""Circuits: which edges between parts carry an answer, found by edge attribution, judged by edge patching.

Syed, Rager and Conmy, 'Attribution Patching Outperforms Automated Circuit Discovery' (2023): an edge from a
writer (embedding, head, MLP) to a reader (the attention or MLP of a later layer, or the final norm) scores
the change of what is written from the clean to the corrupt prompt, times the gradient of the measure at the
reader's input.

Faithfulness of a circuit: the share of the answer that stands when all other edges carry the corrupt prompt's
values. Completeness: the share that falls when only the circuit's edges do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from .anatomy import Anatomy, hooks, matrix_of, unflatten
from .case import Case, need
from .causal import twin_runs
from .finding import Finding, Found, Grid
from .options import Options
from .run import Run, device_of, prompt_row


class Edge(NamedTuple):
    """From writer to reader, by name: `L1.H2` -> `L3.mlp`."""

    writer: str
    reader: str

    @property
    def name(self) -> str:
        """`L1.H2->L3.mlp`."""
        return f"{self.writer}->{self.reader}"


def writers(anatomy: Anatomy) -> list[str]:
    """All writers, in the order in which they write."""
    names = ["embed"]
    for layer in range(anatomy.layers):
        names += [f"L{layer}.H{head}" for head in range(anatomy.heads)] + [f"L{layer}.mlp"]
    return names


def readers(anatomy: Anatomy) -> list[str]:
    """All readers, in the order in which they read. Where attention and MLP share a norm, they are one."""
    names = []
    for layer, block in enumerate(anatomy.blocks):
        names += [f"L{layer}.attn"] + ([] if block.before is block.before_mlp else [f"L{layer}.mlp"])
    return [*names, "logits"]


def _earlier(anatomy: Anatomy, reader: str) -> int:
    """How many of `writers` a reader can read."""
    each = anatomy.heads + 1
    if reader == "logits":
        return 1 + anatomy.layers * each
    layer = int(reader[1:].split(".")[0])
    parallel = getattr(getattr(anatomy.model, "config", None), "use_parallel_residual", False)
    return 1 + layer * each + (anatomy.heads if reader.endswith("mlp") and not parallel else 0)


def _norms(anatomy: Anatomy) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for layer, block in enumerate(anatomy.blocks):
        found[f"L{layer}.attn"] = block.before
        if block.before is not block.before_mlp:
            found[f"L{layer}.mlp"] = block.before_mlp
    return found | {"logits": anatomy.norm}


def written_by(anatomy: Anatomy, run: Run) -> Tensor:
    """Return what every writer adds to the stream, [W,T,D]. Raises UsageError for kinds with norms after the
    parts (Gemma 2 and 3): there a head's share depends on the others; and for layers that add more than
    attention and an MLP.
    """
    if run.besides is not None:
        raise UsageError(
            "circuits know two writers a layer, attention and MLP; the layers of this model have a third"
        )
    if any(block.attention_norm is not None for block in anatomy.blocks):
        raise UsageError(
            "circuits need parts that add up without a norm after them; this kind has one (Gemma)"
        )
    rows = [run.stream[0]]
    for layer, block in enumerate(anatomy.blocks):
        rows += list(_heads(anatomy, block.mix, run.mixed[layer]))
        # the projection's bias belongs to no head; it is the same in every run and cancels
        rows.append(run.mlp[layer])
    return torch.stack(rows)


def _heads(anatomy: Anatomy, mix: nn.Module, mixed: Tensor) -> Tensor:
    out = unflatten(matrix_of(mix), 0, (anatomy.heads, anatomy.head_size))
    z = unflatten(mixed, -1, (anatomy.heads, anatomy.head_size))
    return torch.einsum("...hd,hde->h...e", z, out)


def edge_scores(anatomy: Anatomy, case: Case) -> dict[Edge, float]:
    """Return each edge's attribution: how much the measure would fall, to first order, were it corrupted."""
    clean, corrupt = twin_runs(anatomy, case)
    change = written_by(anatomy, corrupt) - written_by(anatomy, clean)
    gradients = _reader_gradients(anatomy, case)
    names = writers(anatomy)
    found: dict[Edge, float] = {}
    for reader, gradient in gradients.items():
        count = _earlier(anatomy, reader)
        scores = -torch.einsum("wtd,td->w", change[:count], gradient)
        found |= {Edge(names[i], reader): float(score) for i, score in enumerate(scores)}
    return found


def _reader_gradients(anatomy: Anatomy, case: Case) -> dict[str, Tensor]:
    """d measure / d input of each reader [T,D], with nothing else of the stream changed."""
    probes: dict[str, Tensor] = {}

    def probe(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any) -> Any:
            probes[name] = torch.zeros_like(inputs[0]).requires_grad_()
            return (inputs[0] + probes[name], *inputs[1:])

        return hook

    handles = [module.register_forward_pre_hook(probe(name)) for name, module in _norms(anatomy).items()]
    with torch.enable_grad(), hooks(*handles):
        logits = anatomy.model(prompt_row(case.ids, device_of(anatomy))).logits[0, -1].float()
        names = list(probes)
        gradients = torch.autograd.grad(case.measure(logits), [probes[name] for name in names])
    return {name: g[0].float() for name, g in zip(names, gradients, strict=True)}


@torch.no_grad()
def with_corrupt_edges(anatomy: Anatomy, case: Case, corrupted: Sequence[Edge]) -> Tensor:
    """Return the last token's logits [V] when the `corrupted` edges carry the corrupt prompt's values."""
    clean, corrupt = twin_runs(anatomy, case)
    del clean
    theirs = written_by(anatomy, corrupt)
    index = {name: i for i, name in enumerate(writers(anatomy))}
    into: dict[str, list[int]] = {}
    for edge in corrupted:
        into.setdefault(edge.reader, []).append(index[edge.writer])
    current = torch.zeros_like(theirs)
    handles = _watchers(anatomy, current)
    for name, module in _norms(anatomy).items():
        if name in into:
            handles.append(module.register_forward_pre_hook(_swap(current, theirs, into[name])))
    with hooks(*handles):
        return torch.as_tensor(anatomy.model(prompt_row(case.ids, device_of(anatomy))).logits[0, -1].float())


def _swap(current: Tensor, theirs: Tensor, rows: list[int]) -> Any:
    def hook(_module: nn.Module, inputs: Any) -> Any:
        change = (theirs[rows] - current[rows]).sum(0).to(inputs[0])
        return (inputs[0] + change, *inputs[1:])

    return hook


def _watchers(anatomy: Anatomy, current: Tensor) -> list[Any]:
    """Keep what each writer writes in the pass that runs."""
    each = anatomy.heads + 1

    def embed(_module: nn.Module, inputs: Any) -> None:
        current[0] = inputs[0][0]

    def mix(layer: int) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            current[1 + layer * each : layer * each + each] = _heads(anatomy, module, inputs[0][0].float())

        return hook

    def mlp(layer: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            current[(layer + 1) * each] = output[0]

        return hook

    handles = [anatomy.blocks[0].before.register_forward_pre_hook(embed)]
    for layer, block in enumerate(anatomy.blocks):
        handles.append(block.mix.register_forward_pre_hook(mix(layer)))
        handles.append(block.down.register_forward_hook(mlp(layer)))
    return handles


class Verdict(NamedTuple):
    """Shares of the answer: what a circuit alone keeps, and what falls when only it is corrupted."""

    faithfulness: float
    completeness: float


def judge(anatomy: Anatomy, case: Case, circuit: Sequence[Edge], edges: Sequence[Edge]) -> Verdict:
    """Patch edges: first all of `edges` outside the circuit, then only those inside."""
    clean, corrupt = twin_runs(anatomy, case)
    high, low = float(case.measure(clean.logits[-1])), float(case.measure(corrupt.logits[-1]))
    if not high - low > 1e-4:
        raise UsageError(
            "the corrupt prompt is answered no worse than the clean one; there is no circuit to judge"
        )
    inside = set(circuit)
    alone = with_corrupt_edges(anatomy, case, [edge for edge in edges if edge not in inside])
    without = with_corrupt_edges(anatomy, case, list(inside))
    kept, left = float(case.measure(alone)), float(case.measure(without))
    return Verdict((kept - low) / (high - low), 1 - (left - low) / (high - low))


def locate_circuit(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank edges by mean attribution, with its sign: edges that speak for the answer lead. (Sizes alone rank
    the strongest wires first in any prompt, also where the corrupt prompt says the same.) Judge the circuit
    of the `top` edges, and as many random ones.
    """
    need(cases, "corrupt")
    every = [edge_scores(anatomy, case) for case in cases]
    mean = {edge: sum(one[edge] for one in every) / len(every) for edge in every[0]}
    order = sorted(mean, key=lambda edge: (-mean[edge], edge.name))
    circuit = order[: options.top]
    generator = torch.Generator().manual_seed(options.seed)
    drawn = [order[i] for i in torch.randperm(len(order), generator=generator)[: options.top].tolist()]
    ours = [judge(anatomy, case, circuit, order) for case in cases]
    control = [judge(anatomy, case, drawn, order) for case in cases]
    names, columns = writers(anatomy), readers(anatomy)
    table = torch.tensor([[mean.get(Edge(w, r), 0.0) for r in columns] for w in names])
    count = len(cases)
    return Finding(
        "circuit",
        "mean edge attribution (what the answer loses were the edge corrupted)",
        tuple(Found(edge.name, mean[edge]) for edge in circuit),
        {
            "prompts": count,
            "edges": len(order),
            "faithfulness": sum(v.faithfulness for v in ours) / count,
            "completeness": sum(v.completeness for v in ours) / count,
            "faithfulness of random edges": sum(v.faithfulness for v in control) / count,
            "completeness of random edges": sum(v.completeness for v in control) / count,
        },
        (Grid("Attribution of edges, writer by reader", tuple(names), tuple(columns), table),),
        fingerprint=anatomy.fingerprint,
    )
