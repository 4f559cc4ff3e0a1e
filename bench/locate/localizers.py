"""The six families of localizers on planted facts: does each find what was planted, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ...router.locate.anatomy import Anatomy
from ...router.locate.attribute import head_increase, query_neurons, value_neurons
from ...router.locate.case import Case
from ...router.locate.causal import ablation_effects, candidates, without
from ...router.locate.circuit import Edge, edge_scores, judge
from ...router.locate.decoding import control_labels, selectivity
from ...router.locate.flow import STAGES, flow_of, stages
from ...router.locate.gradient import neuron_gradients
from ...router.locate.magnitude import contrast
from ...router.locate.place import Place
from ...router.locate.run import record
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from .planted import ANSWER, FACTS, NEURONS, SUBJECT, Planted, empty_model, planted_model

REPEATS = 6
Score = Callable[[Anatomy, Planted, int, bool, int], float]


def auc(scores: torch.Tensor, truth: int) -> float:
    """Share of other units that the true one outranks; ties count half."""
    flat = scores.flatten()
    mine = flat[truth]
    others = torch.cat([flat[:truth], flat[truth + 1 :]])
    return float(((others < mine).float() + 0.5 * (others == mine).float()).mean())


def _unit(place: Place) -> int:
    return place.layer * NEURONS + place.unit


def _case(planted: Planted, fact: int, shuffled: bool, seed: int) -> Case:
    """The fact's prompt; shuffled: with the answers of two other facts."""
    case = planted.case(fact, seed)
    if not shuffled:
        return case
    answer, against = ((fact + step + seed) % (FACTS - 1) for step in (0, 3))
    answer, against = (other + (other >= fact) for other in (answer, against))  # neither is the fact's own
    return replace(case, answer=planted.case(answer).answer, against=planted.case(against).answer)


def magnitude(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """Contrast of activations between prompts with the fact and the others, or drawn groups."""
    rows = [
        record(anatomy, planted.case(i % FACTS, seed + i // FACTS).ids).neurons[:, -1]
        for i in range(4 * FACTS)
    ]
    mine = torch.tensor([i % FACTS == fact for i in range(4 * FACTS)])
    if shuffled:
        mine = mine[torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))]
    acts = torch.stack(rows)
    return auc(contrast(acts[mine], acts[~mine]), _unit(planted.value[fact]))


def causal(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """What the answer loses when the neuron is zeroed."""
    places = candidates(anatomy, "neurons")
    effects = ablation_effects(anatomy, _case(planted, fact, shuffled, seed), places)
    return auc(effects, _unit(planted.value[fact]))


def gradient(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """Activation times gradient of the answer."""
    scores = neuron_gradients(anatomy, _case(planted, fact, shuffled, seed)).sum(1)
    return auc(scores, _unit(planted.value[fact]))


def vocabulary(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """Log-probability increase of the answer."""
    case = _case(planted, fact, shuffled, seed)
    return auc(value_neurons(anatomy, record(anatomy, case.ids), case.answer), _unit(planted.value[fact]))


def probing(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """Accuracy of a probe for the fact's parity on the last state of the layer where it must be readable."""
    cases = [planted.case((i + fact) % FACTS, seed + i // FACTS) for i in range(REPEATS * FACTS)]
    states = torch.stack([record(anatomy, case.ids).stream[2, -1] for case in cases])
    y = torch.tensor([float(case.label or 0) for case in cases])
    right, wrong = selectivity(states, y, control_labels(cases, seed + fact), seed)
    return wrong if shuffled else right


def circuit(anatomy: Anatomy, planted: Planted, fact: int, shuffled: bool, seed: int) -> float:
    """Rank of the edge from the head to the last MLP among all edges."""
    case = planted.case(fact, seed)
    if shuffled:  # the corrupt prompt says the same thing in other fillers
        other = planted.case(fact, seed + 77)
        at = case.subject[0] if case.subject else 0
        ids = [i for i in other.ids if not SUBJECT <= i < ANSWER][: len(case.ids) - 1]
        case = replace(case, corrupt=(*ids[:at], case.ids[at], *ids[at:]))
    scores = edge_scores(anatomy, case)
    edge = Edge(planted.head.name, "L2.mlp")
    return auc(torch.tensor(list(scores.values())), list(scores).index(edge))


FAMILIES: dict[str, Score] = {
    "magnitude analysis": magnitude,
    "causal attribution": causal,
    "gradient detection": gradient,
    "probing (accuracy)": probing,
    "vocabulary projection": vocabulary,
    "circuit discovery": circuit,
}


def section(seeds: Sequence[int], seed: int) -> Section:
    """AUC of the planted object for each family, with its control."""
    models = [(s, planted_model(s)) for s in seeds]
    header = ("localizer", "planted object", "shuffled labels", "empty model")
    rows, goals = [], []
    for name, score in FAMILIES.items():
        values = {
            kind: estimates.mean(_each(score, models, kind), seed) for kind in ("truth", "shuffled", "empty")
        }
        rows.append((name, *(cell(values[kind], "") for kind in ("truth", "shuffled", "empty"))))
        goals.append(Goal(f"{name} finds the planted object (AUC)", "at least", 0.9, "", values["truth"]))
        goals.append(Goal(f"{name} fails on shuffled labels (AUC)", "at most", 0.65, "", values["shuffled"]))
    return Section(
        "Six families of localizers",
        "AUC of the planted neuron (layer 2), head-to-MLP edge, or held-out accuracy of the probe, over "
        f"{FACTS} facts and {len(seeds)} models. Shuffled: the answers of two "
        "other facts, drawn labels, a control task, or a corrupt prompt that says the same. Empty model: the "
        "same "
        "places in a model with nothing wired.",
        header,
        tuple(rows),
        tuple(goals),
    )


def _each(score: Score, models: Sequence[tuple[int, Planted]], kind: str) -> list[float]:
    found = []
    for s, planted in models:
        anatomy = Anatomy.of(empty_model(s + 100) if kind == "empty" else planted.model)
        facts = range(0, FACTS, 4) if score is probing or score is magnitude else range(FACTS)
        found += [score(anatomy, planted, fact, kind == "shuffled", s) for fact in facts]
    return found


# -- facts ---------------------------------------------------------------------------------------------------


def facts_section(seeds: Sequence[int], seed: int) -> Section:
    """Neurons, query neurons, heads, stages and circuits on the planted facts, each against random units."""
    rows: dict[str, list[float]] = {}
    layers: list[list[float]] = []
    for s in seeds:
        planted = planted_model(s)
        anatomy = Anatomy.of(planted.model)
        for fact in range(FACTS):
            for name, value in _fact(anatomy, planted, fact, s).items():
                rows.setdefault(name, []).append(value)
            case = planted.case(fact, s)
            assert case.subject is not None
            layers.append(stages(flow_of(anatomy, case), case.subject)[:, 1].tolist())
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    table = [
        (name, cell(value, "%" if "share" in name or "cut" in name else "")) for name, value in found.items()
    ]
    table += [
        (f"mean layer of stage {STAGES[i]}", cell(estimates.mean([row[i] for row in layers], seed), ""))
        for i in (0, 1, 3)
    ]
    ordered = [float(row[0] < row[1] < row[3]) for row in layers]
    return Section(
        "One-hop facts",
        "A neuron of layer 0 at the subject, a head of layer 1 and a neuron of layer 2, wired by hand. "
        "Neurons "
        "are "
        "found on one wording and tried on another of another length. Cuts are shares of the answer's "
        "probability.",
        ("measured", "mean, 95 % interval"),
        tuple(table),
        (
            Goal(
                "10 value neurons cut the answer, other wording",
                "at least",
                0.5,
                "%",
                found["cut by 10 value neurons, other wording"],
            ),
            Goal("10 random neurons cut it", "at most", 0.05, "%", found["cut by 10 random neurons"]),
            Goal(
                "query neurons at the subject cut it",
                "at least",
                0.5,
                "%",
                found["cut by 3 query neurons at the subject"],
            ),
            Goal(
                "random neurons at the subject cut it",
                "at most",
                0.05,
                "%",
                found["cut by 3 random neurons at the subject"],
            ),
            Goal("the stages stand in order", "at least", 0.95, "%", estimates.mean(ordered, seed)),
            Goal("faithfulness of the 5-edge circuit", "at least", 0.8, "%", found["circuit share kept"]),
            Goal(
                "completeness of the 5-edge circuit",
                "at least",
                0.8,
                "%",
                found["circuit share lost without it"],
            ),
        ),
    )


def _fact(anatomy: Anatomy, planted: Planted, fact: int, seed: int) -> dict[str, float]:
    first, second = planted.case(fact, seed), planted.case(fact, seed + 50, length=10)
    run = record(anatomy, first.ids, weights=True)
    scores = value_neurons(anatomy, run, first.answer).flatten()
    found = [Place("neuron", *divmod(at, NEURONS)) for at in scores.topk(10).indices.tolist()]
    generator = torch.Generator().manual_seed(1000 * seed + fact)
    free = [
        i
        for i in torch.randperm(3 * NEURONS, generator=generator).tolist()
        if i not in (_unit(planted.value[fact]), _unit(planted.query[fact]))
    ]
    random = [Place("neuron", *divmod(at, NEURONS)) for at in free[:10]]
    queries = query_neurons(anatomy, run, first.answer, positions=first.subject).sum(1).flatten()
    assert first.subject is not None
    at = first.subject[0]
    feeding = [Place("neuron", i // NEURONS, i % NEURONS, at) for i in queries.topk(3).indices.tolist()]
    anywhere = [place._replace(position=at) for place in random[:3]]
    heads = head_increase(anatomy, run, first.answer)
    edges = edge_scores(anatomy, first)
    order = sorted(edges, key=lambda edge: -abs(edges[edge]))
    verdict = judge(anatomy, first, order[:5], order)
    return {
        "share of facts whose value neuron is first": float(scores.argmax() == _unit(planted.value[fact])),
        "share of facts whose query neuron is first": float(queries.argmax() == _unit(planted.query[fact])),
        "share of facts whose head is first": float(
            heads.argmax() == planted.head.layer * 4 + planted.head.unit
        ),
        "cut by 10 value neurons, other wording": cut(anatomy, second, found),
        "cut by 10 random neurons": cut(anatomy, second, random),
        "cut by 3 query neurons at the subject": cut(anatomy, first, feeding),
        "cut by 3 random neurons at the subject": cut(anatomy, first, anywhere),
        "circuit share kept": verdict.faithfulness,
        "circuit share lost without it": verdict.completeness,
    }


def cut(anatomy: Anatomy, case: Case, places: Sequence[Place]) -> float:
    """Share of the answer's probability that goes when places are zeroed."""
    before = record(anatomy, case.ids).logits[-1].softmax(-1)[case.answer]
    return float(1 - without(anatomy, case, places).softmax(-1)[case.answer] / before)


def as_estimate(values: Sequence[float], seed: int) -> Estimate:
    """The mean with its interval."""
    return estimates.mean(values, seed)
