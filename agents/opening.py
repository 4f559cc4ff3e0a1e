"""Open what a Pilot needs: family, engine, instruments, log, conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..specialists.family import Family
from ..store.errors import NotFoundError
from ..store.records import Message
from .controller import Graph, build_graph
from .voyage import Limits, Log, Ship, Turns

if TYPE_CHECKING:
    from ..router.features.label import Label
    from ..router.features.sae import SAE
    from ..router.policy import Policy
    from ..router.scout import Scout
    from ..specialists.engines.base import Engine
    from ..specialists.engines.remote import RemoteEngine
    from ..store.payloads import Redact
    from ..store.sinks import Sink
    from .refits import Refit


def open_ship(
    family: str | Path | Family,
    log: Log | None,
    engine: Engine | str | None,
    policy: Policy | None,
    *,
    device: str,
    cores: int | None,
    limits: Limits,
    keep_text: bool,
    redact: Redact | None = None,
    sinks: Sequence[str | Sink] = (),
    owned: list[Any],
) -> Ship:
    """Open a family with its instruments; what is opened here is added to `owned`.

    Raises NotFoundError, ArtifactError, StoreError or UsageError, as the thing that cannot be opened does.
    """
    if log is None:
        from ..store.ledger import Ledger

        log = Ledger.open(keep_text=keep_text, redact=redact, sinks=sinks)
        owned.append(log)
    opened = family if isinstance(family, Family) else Family.open(family)
    if engine is None or isinstance(engine, str):
        from ..specialists.engines.choose import open_engine

        engine = open_engine(opened, engine or "auto", device, cores)
        owned.append(engine)
    from .refits import in_force

    refit = in_force(opened)
    rules, scout = instruments(opened, policy or (refit.policy if refit is not None else None), refit)
    return Ship(
        engine=engine,
        scout=scout,
        policy=rules,
        cards=opened.cards,
        vectors=opened.vectors,
        layers=scout.layers if scout is not None else (),
        context=engine.context,
        artifacts=(*opened.artifacts(), *([refit.artifact] if refit is not None else [])),
        remotes=remotes_of(opened, owned),
        log=log,
        fallback=opened.fallback,
        limits=limits,
    )


def instruments(
    family: Family, policy: Policy | None, refit: Refit | None
) -> tuple[Policy | None, Scout | None]:
    """The policy in force and what reads a prompt: the family's router if one was installed, else its probes;
    nothing for a family that has neither.
    """
    from .helm import RoutedScout, router_in, rules_with

    router = router_in(family)
    if router is not None:
        rules = rules_with(router, family, policy)
        bank = refit.applied(family.bank) if refit is not None and family.bank is not None else family.bank
        return rules, RoutedScout(router, rules, bank)
    bound = bound_policy(family, policy)
    return bound, scout_of(family, bound, refit) if bound is not None else None


def remotes_of(family: Family, owned: list[Any]) -> RemoteEngine | None:
    """The family's specialists elsewhere; None where it has none. Nothing is connected yet."""
    if all(card.kind != "remote" for card in family.cards.values()):
        return None
    from ..specialists.engines.remote import RemoteEngine

    owned.append(found := RemoteEngine(family))
    return found


def bound_policy(family: Family, given: Policy | None) -> Policy | None:
    """The policy in force, checked against the family; None for a family without probes.

    Raises UsageError when it names what the family does not have.
    """
    if family.bank is None:
        return None
    from ..router.policy import Policy

    policy = given or family.policy or Policy()
    readings = [probe.name for probe in family.bank.probes if probe.kind == "reading"]
    policy.require(family.cards, readings)
    return policy.with_vectors(family.vectors)


def scout_of(family: Family, policy: Policy, refit: Refit | None = None) -> Scout:
    """The family's probes (corrected by a refit) and dictionaries, as one instrument."""
    from ..router.scout import Scout

    assert family.bank is not None, "a policy comes with probes"
    bank = refit.applied(family.bank) if refit is not None else family.bank
    saes: dict[int, SAE] = {}
    labels: dict[int, Mapping[int, Label]] = {}
    for site, sae in family.saes.items():
        saes[sae.layer] = sae
        labels[sae.layer] = family.labels.get(site, {})
    return Scout(bank, policy, saes, labels)


def open_graph(ship: Ship, threads: Any, owned: list[Any]) -> Graph:
    """Compile the controller over a checkpointer (None: the data folder's, or memory if no text is kept)."""
    if threads is None and not ship.log.keep_text:
        from langgraph.checkpoint.memory import InMemorySaver

        threads = InMemorySaver()
    elif threads is None:
        from .threads import open_threads

        threads = open_threads()
        owned.append(threads)
    return build_graph(threads)


def turns_in_log(log: Log, thread_id: str) -> Turns:
    """A conversation as the log has it: the exchanges that were answered and not erased.

    Raises NotFoundError when the log does not know the thread.
    """
    from ..store.audit import Audit
    from ..store.ledger import Ledger

    if not isinstance(log, Ledger):
        raise NotFoundError(f"there is no conversation {thread_id!r}; nothing is kept here")
    turns: list[Message] = []
    with Audit.open(str(log.place.path or log.place.url)) as audit:
        for page in audit.thread(thread_id):
            if page.prompt is not None and page.answer is not None and page.record.status != "failed":
                turns += [
                    Message(role="user", content=page.prompt),
                    Message(role="assistant", content=page.answer),
                ]
    return tuple(turns)
