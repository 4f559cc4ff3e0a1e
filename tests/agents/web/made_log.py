"""A log with something in every field, and an audit application over it that needs no model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from pilothouse.agents.service.app import create_app
from pilothouse.agents.voyage import Ship
from pilothouse.router.features.label import Label
from pilothouse.router.policy import OutOfDistribution, Policy
from pilothouse.specialists.card import Card
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import (
    Artifact,
    Check,
    FeatureContribution,
    Generation,
    Hop,
    Message,
    Outcome,
    Part,
    Reading,
    Request,
    SteeringEntry,
    SteeringPlan,
    Timings,
)

NAMES = ("arithmetic", "facts", "translate", "stories")
ASKS = {
    "arithmetic": ("What is {a} + {b}?", "{a}"),
    "facts": ("What is the capital of country number {a}?", "Oslo"),
    "translate": ("Translate 'good morning {a}' into French.", "bonjour"),
    "stories": ("Tell me a story about {a} dogs.", "Once upon a time there were {a} dogs."),
    "outside": ("zxq {a} wvu {b} @@", ""),
}
POLICY = Policy(
    lam=0.05,
    prices={"arithmetic": 1.0, "facts": 0.4, "translate": 0.5, "stories": 1.2},
    threshold=0.5,
    ood=OutOfDistribution(reading="outside"),
)
LABELS = {
    7: Label(feature=7, text="digits, sums", examples=("What is 12 + 5", "add 7 to", "how much is 3 x")),
    11: Label(feature=11, text="capitals, cities", examples=("the capital of France", "city of")),
}


def part_of(kind: str, prompt: str, answer: str, rng: random.Random, steered: bool = False) -> Part:
    """A part as the controller would have made it."""
    chances = {name: rng.uniform(0.01, 0.3) for name in NAMES}
    if kind != "outside":
        chances[kind] = rng.uniform(0.35, 0.99)
    readings = (
        _reading("outside", rng.uniform(0.7, 0.99) if kind == "outside" else rng.uniform(0.0, 0.2)),
        _reading("harm", rng.uniform(0.0, 0.1)),
        _reading("reply-fr", 0.9 if kind == "translate" else rng.uniform(0.0, 0.2)),
    )
    decision, candidates = POLICY.decide(chances, readings)
    plan = SteeringPlan(entries=_entries() if steered else ())
    made = Generation(
        specialist=decision.chosen,
        prompt_tokens=len(prompt.split()) + 4,
        completion_tokens=len(answer.split()) + 1 if decision.chosen else 0,
        mean_logprob=-rng.uniform(0.05, 1.0) if decision.chosen else None,
        finish_reason="stop" if decision.chosen else "abstained",
        timings=timings(rng),
        first_token_ms=rng.uniform(15, 40) if decision.chosen else None,
    )
    return Part(
        prompt=prompt,
        readings=readings,
        candidates=candidates,
        features=features(decision.chosen or candidates[0].specialist, rng),
        decision=decision,
        steering=plan,
        generation=made,
        checks=(Check(verdict="answer", reason="no loop at the end"),) if decision.chosen else (),
        answer=answer if decision.chosen else "I would rather not answer.",
    )


def _reading(name: str, probability: float) -> Reading:
    return Reading(
        probe=name,
        site="L4.last",
        score=8 * probability - 4,
        probability=probability,
        threshold=0.5,
        fired=probability >= 0.5,
    )


def features(specialist: str, rng: random.Random) -> tuple[FeatureContribution, ...]:
    """Eight features and the four rows that are none."""
    found = [
        FeatureContribution(
            specialist=specialist,
            feature=feature,
            label=LABELS[feature].text if feature in LABELS else f"feature {feature}",
            activation=rng.uniform(0.2, 5.0),
            contribution=rng.gauss(0.5, 1.2),
        )
        for feature in rng.sample((7, 11, 23, 42, 57, 101, 190, 256, 333, 512), 8)
    ]
    rest = ("other features", "sae bias", "unexplained remainder", "probe bias")
    found += [
        FeatureContribution(
            specialist=specialist, feature=None, label=label, activation=0.0, contribution=rng.gauss(0, 0.4)
        )
        for label in rest
    ]
    return tuple(found)


def timings(rng: random.Random) -> Timings:
    """Some milliseconds, and their sum."""
    spent = {
        "probe_ms": rng.uniform(1, 3),
        "route_ms": rng.uniform(0.2, 1),
        "prefill_ms": rng.uniform(6, 14),
        "decode_ms": rng.uniform(20, 400),
        "log_ms": rng.uniform(1, 6),
    }
    return Timings(**spent, total_ms=sum(spent.values()))


def _entries() -> tuple[SteeringEntry, ...]:
    first = SteeringEntry(
        name="reply-fr",
        kind="add",
        layer=4,
        coefficient=2.5,
        scope="generation",
        reading="reply-fr",
        gate="reply-fr",
        sha256="cd" * 32,
    )
    second = SteeringEntry(
        name="calm",
        kind="clamp_feature",
        layer=2,
        coefficient=0.0,
        scope="both",
        reading="harm",
        feature=57,
        sha256="ef" * 32,
    )
    third = SteeringEntry(
        name="focus",
        kind="add",
        layer=1,
        coefficient=-1.0,
        scope="prompt",
        reading="the caller",
        sha256="ab" * 32,
    )
    return first, second, third


WEIGHTS = (
    Artifact(kind="trunk", name="made", sha256="11" * 32),
    Artifact(kind="probe", name="correct-arithmetic", sha256="22" * 32),
    Artifact(kind="policy", name="policy", sha256="33" * 32),
)


def fill(ledger: Ledger, count: int, seed: int = 0) -> list[str]:
    """Write `count` records: every specialist, abstentions, failures, escalations, steering, outcomes."""
    rng, names = random.Random(seed), []
    threads = [f"conversation-{number}" for number in range(max(1, count // 4))]
    for number in range(count):
        kind = rng.choice((*NAMES, *NAMES, "outside"))
        ask, answer = ASKS[kind]
        values = {"a": rng.randint(1, 99), "b": rng.randint(1, 99)}
        prompt, answer = ask.format(**values), answer.format(**values)
        request = Request(thread_id=rng.choice(threads), messages=(Message(role="user", content=prompt),))
        name = ledger.begin(request)
        names.append(name)
        part = part_of(kind, prompt, answer, rng, steered=kind == "translate")
        if number % 17 == 5:
            ledger.finish(name, "failed", error="AnswerError: the engine stopped", artifacts=WEIGHTS)
            continue
        if number % 11 == 3 and part.specialist is not None:
            part = escalated(part)
        status = "abstained" if part.specialist is None else "completed"
        ledger.finish(name, status, parts=[part], answer=part.answer, artifacts=WEIGHTS)  # type: ignore[arg-type]
        if part.specialist is not None and number % 2 == 0:
            belief = next(c.p_correct for c in part.candidates if c.specialist == part.specialist)
            right = float(rng.random() < belief)
            ledger.note(
                Outcome(record_id=name, source="verifier", verdict="right" if right else "wrong", score=right)
            )
    return names


def escalated(part: Part) -> Part:
    """The part after a first attempt that failed its check."""
    assert part.decision is not None
    assert part.generation is not None
    wrong = Hop(
        decision=part.decision,
        steering=part.steering,
        generation=part.generation,
        checks=(Check(verdict="escalate", reason="wrong sum: computed again and differs", score=0.0),),
        answer="a first try",
    )
    other = next(c.specialist for c in part.candidates if c.specialist != part.decision.chosen)
    decision = part.decision.model_copy(
        update={
            "chosen": other,
            "reason": f"{part.decision.chosen} failed its check, so the next best is asked.",
        }
    )
    made = part.generation.model_copy(update={"specialist": other})
    return part.model_copy(update={"hops": (wrong,), "decision": decision, "generation": made})


def application(ledger: Ledger, labels: Mapping[int, Label] = LABELS) -> FastAPI:
    """The service's application over a log, with a ship that has everything but an engine."""
    cards: dict[str, Any] = {
        name: Card(name=name, kind="adapter", title=name, description=name) for name in NAMES
    }
    scout: Any = SimpleNamespace(labels={4: dict(labels)}, saes={4: SimpleNamespace(layer=4)}, layers=(4,))
    engine: Any = SimpleNamespace(context=256)
    ship = Ship(
        engine=engine,
        scout=scout,
        policy=POLICY,
        cards=cards,
        vectors={},
        layers=(4,),
        context=256,
        artifacts=WEIGHTS,
        log=ledger,
    )
    pilot: Any = SimpleNamespace(ship=ship)
    app = create_app(pilot)
    app.state.desk.state = "ready"
    return app


def local(app: object) -> TestClient:
    """A client on the same machine, which asks for pages."""
    made = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))  # type: ignore[arg-type]
    made.headers["accept"] = "text/html"
    return made
