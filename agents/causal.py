"""Why an answer came about: the page from the log, and, when asked, an experiment on the scout.

The log's contributions are exact but observational: they say what the logit is made of. The experiment is
causal: it holds the top features at zero inside the scout's forward pass, reads the probes again and routes
again. As a control, as many other active features are held at zero; a decision that flips there too hangs
on no particular feature.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..store.errors import UsageError
from ..store.records import FeatureContribution, Frozen, Message, Page, Part

if TYPE_CHECKING:
    from ..router.features.sae import SAE
    from ..router.scout import ScoutReading
    from ..specialists.engines.torch import TorchEngine
    from .voyage import Ship, Turns

TOP = 3  # features held at zero
SAME = 1e-3  # a P(correct) that differs by less is the recorded one


class Arm(Frozen):
    """One run of the scout with some features held at zero: what it said, and who was chosen."""

    features: tuple[tuple[int, int], ...]  # (layer, feature)
    p_correct: float
    logit: float
    chosen: str | None


class Effect(Frozen):
    """What holding a part's top features at zero does. `flips` says whether the choice changes.

    `note` says what keeps the experiment from being about the recorded answer, if anything.
    """

    part: int
    specialist: str
    labels: tuple[str, ...]
    before: Arm
    ablated: Arm
    control: Arm
    note: str = ""

    @property
    def flips(self) -> bool:
        """Whether the choice changes without the top features."""
        return self.ablated.chosen != self.before.chosen


class Why(Frozen):
    """A record's page, with one effect per part where the experiment was asked for."""

    page: Page
    effects: tuple[Effect, ...] = ()


def read_page(log: object, name: str) -> Page:
    """The page of a record, from a ledger's place or the usual one. Raises NotFoundError, StoreError."""
    from ..store.audit import Audit
    from ..store.ledger import Ledger

    place = str(log.place.path or log.place.url) if isinstance(log, Ledger) else None
    with Audit.open(place) as audit:
        return audit.page(name)


def explain(page: Page, ship: Ship | None) -> Why:
    """The page; with a ship, also the effect of the top features on every routed part.

    Raises UsageError when the texts are gone, or the family has no probes, dictionaries or trunk here.
    """
    if ship is None:
        return Why(page=page)
    parts = [part for part in page.record.parts if part.candidates and part.specialist is not None]
    if not parts:
        raise UsageError(
            f"record {page.record.id} has no routed part ({page.record.status}); there is nothing to ablate"
        )
    return Why(page=page, effects=tuple(_effect(page, part, ship) for part in parts))


class _Bench(NamedTuple):
    """What the experiment runs on."""

    ship: Ship
    engine: TorchEngine
    saes: Mapping[int, SAE]


def _effect(page: Page, part: Part, ship: Ship) -> Effect:
    bench, name = _bench(ship), str(part.specialist)
    turns, note = _turns(page, part, bench)
    reading = _read(bench, turns, ())
    if name not in reading.p_correct:
        raise UsageError(f"{name!r} has no probe that says how likely it is to be right; nothing to ablate")
    scout = ship.scout
    assert scout is not None
    rows = [row for row in scout.explain(name, reading.x, 1 << 20) if row.feature is not None]
    if not rows:
        raise UsageError("no feature was active in the scout; there is nothing to ablate")
    top = [_place(row, bench.saes) for row in rows[:TOP]]
    others = [_place(row, bench.saes) for row in rows[TOP:]]
    control = random.Random(page.record.id).sample(others, min(len(top), len(others)))
    arms = [_arm(bench, name, turns, features) for features in ((), top, control)]
    labels = tuple(row.label for row in rows[:TOP])
    return Effect(
        part=part.index,
        specialist=name,
        labels=labels,
        before=arms[0],
        ablated=arms[1],
        control=arms[2],
        note=note,
    )


def _bench(ship: Ship) -> _Bench:
    from ..specialists.engines.torch import TorchEngine

    if ship.scout is None or ship.policy is None or not ship.scout.saes:
        raise UsageError("--causal needs a family with probes and sparse autoencoders; this one has none")
    engine = ship.engine
    if not isinstance(engine, TorchEngine):
        # The experiment holds features at zero inside the scout's own pass, whichever engine answers.
        family = getattr(engine, "family", None)
        if family is None:
            raise UsageError("--causal needs the scout's weights, which this engine does not have here")
        engine = TorchEngine(family, "cpu", verify=False)
    return _Bench(ship, engine, ship.scout.saes)


def _turns(page: Page, part: Part, bench: _Bench) -> tuple[Turns, str]:
    """The turns that the scout read for this part, found by reading again; a note if none fits the record."""
    if part.prompt is None or page.erased_at is not None:
        raise UsageError(
            f"the texts of record {page.record.id} were erased or never kept; --causal needs them"
        )
    line = Message(role="user", content=part.prompt)
    readings = [(*page.messages[:-1], line), (line,)]
    for turns in readings:
        found = _weighed(bench, _read(bench, turns, ()))
        if all(abs(found.get(c.specialist, -1.0) - c.p_correct) < SAME for c in part.candidates):
            return turns, ""
    return readings[0], "the scout or its probes have changed since: it no longer says what the record says"


def _weighed(bench: _Bench, reading: ScoutReading) -> dict[str, float]:
    """P(correct) as the policy weighs it: scaled by the out-of-distribution reading where it says so."""
    assert bench.ship.policy is not None
    found = bench.ship.policy.candidates(reading.p_correct, reading.readings)
    return {one.specialist: one.p_correct for one in found}


def _place(row: FeatureContribution, saes: Mapping[int, SAE]) -> tuple[int, int]:
    """(layer, feature) of a contribution; with several dictionaries the label begins with `L3: `."""
    assert row.feature is not None
    layer = int(row.label[1:].partition(":")[0]) if len(saes) > 1 else next(iter(saes))
    return layer, row.feature


def _arm(bench: _Bench, name: str, turns: Turns, features: Sequence[tuple[int, int]]) -> Arm:
    ship = bench.ship
    assert ship.policy is not None
    assert ship.scout is not None
    reading = _read(bench, turns, features)
    # unforced, also where the record was forced: the question is what the features make the policy do
    decision, _ = ship.policy.decide(reading.p_correct, reading.readings, rng=random.Random(0))
    return Arm(
        features=tuple(features),
        p_correct=_weighed(bench, reading)[name],
        logit=ship.scout.bank.probe(name).logit(reading.x),
        chosen=decision.chosen,
    )


def _read(bench: _Bench, turns: Turns, features: Sequence[tuple[int, int]]) -> ScoutReading:
    """Read the prompt with the bare trunk, these features held at zero at every token; read the probes."""
    import torch

    from ..router.steer.make import feature_vector
    from ..router.steer.runtime import Steering
    from ..router.taps import Taps
    from ..router.turns import turn_of

    vectors = [
        feature_vector(bench.saes[layer], feature, 0.0, f"L{layer}#{feature}", scope="prompt")
        for layer, feature in features
    ]
    model: Any = bench.engine.trunk
    engine, layers = bench.ship.engine, bench.ship.layers
    tokens = engine.encode_chat(turns)
    ids = torch.tensor([list(tokens)], device=model.device)
    with torch.inference_mode(), Steering(model, vectors), Taps(model, layers) as taps:
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    assert bench.ship.scout is not None
    states = {layer: taps.states[layer][0].cpu() for layer in layers}
    return bench.ship.scout.read(states, turn_of(turns, tokens, engine.encode_chat))
