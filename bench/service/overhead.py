"""What the service and its log cost over the engine alone, with many clients at once.

Three arms answer the same prompts by the same specialists, in turns, round after round: the engine alone
(read the prompt, generate), the pilot (probes, policy, steering, checks, log), and the service in a process
of its own with clients over HTTP. The third against the first is the overhead.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from ...store.errors import PilothouseError
from ..estimates import Estimate
from ..page import Goal, Section
from ..serving import serving

if TYPE_CHECKING:
    from ...agents.pilot import Pilot

ARMS = ("engine alone", "pilot", "service")
ALLOWED_SHARE, ALLOWED_MS = 0.05, 10.0
Work = Callable[[int], int]  # from a prompt's number to the tokens that were generated


class Plan(NamedTuple):
    """A prompt, who answers it, and with how many tokens at most."""

    prompt: str
    specialist: str


class Run(NamedTuple):
    """One arm's answers: seconds that each took, their tokens, and the seconds of all together."""

    seconds: list[float]
    tokens: int
    wall: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.wall

    def quantile(self, share: float) -> float:
        """Milliseconds that this share of the answers does not exceed."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def section(home: Path, family: str, clients: int, seconds: float, rounds: int, seed: int) -> Section:
    """Measure the arms, and the overhead against its targets."""
    found = run(home, family, clients, seconds, rounds, seed)
    together = {
        arm: Run(
            [s for run in runs for s in run.seconds], sum(r.tokens for r in runs), sum(r.wall for r in runs)
        )
        for arm, runs in found.items()
    }
    rows = tuple(
        (
            arm,
            str(len(run.seconds)),
            f"{run.rate:.0f}",
            f"{run.quantile(0.5):.0f}",
            f"{run.quantile(0.99):.0f}",
            ", ".join(f"{one.rate:.0f}" for one in found[arm]),
        )
        for arm, run in together.items()
    )
    lost = [1 - b.rate / a.rate for a, b in zip(found["engine alone"], found["service"], strict=True)]
    added = [
        b.quantile(0.99) - a.quantile(0.99)
        for a, b in zip(found["engine alone"], found["service"], strict=True)
    ]
    alone, served = together["engine alone"], together["service"]
    share, more = 1 - served.rate / alone.rate, served.quantile(0.99) - alone.quantile(0.99)
    count = len(served.seconds)
    goals = (
        Goal(
            f"throughput lost, {clients} clients", "at most", ALLOWED_SHARE, "%", spread(share, lost, count)
        ),
        Goal(f"added at p99, {clients} clients", "at most", ALLOWED_MS, "ms", spread(more, added, count)),
    )
    return Section(
        "Overhead of service and log over the engine alone",
        f"{clients} clients ask at once, each the next prompt when it has its answer. The service runs in a "
        "process of its own; the clients share the machine with it. Intervals run from the least to the most "
        f"of {rounds} rounds.",
        ("arm", "answers", "tokens/s", "p50, ms", "p99, ms", "tokens/s by round"),
        rows,
        goals,
    )


def spread(value: float, by_round: Sequence[float], count: int) -> Estimate:
    """A value with the least and the most of its rounds."""
    return Estimate(value, min(value, *by_round), max(value, *by_round), count)


def run(
    home: Path, family: str, clients: int, seconds: float, rounds: int, seed: int
) -> dict[str, list[Run]]:
    """Run the arms in turns; every round has its own order."""
    from ...agents.pilot import Pilot
    from ...store.ledger import Ledger

    rng, found = random.Random(seed), {arm: list[Run]() for arm in ARMS}
    with Ledger.open(home / "pilot.db") as ledger, Pilot(family, ledger) as pilot:
        plans = planned(pilot, rng)
        with serving(home, family) as port:
            arms = {
                "engine alone": _engine_work(pilot, plans),
                "pilot": _pilot_work(pilot, plans),
                "service": _service_work(port, plans),
            }
            for arm in ARMS:
                run_for(arms[arm], clients, min(2.0, seconds), len(plans), seed)  # what loads late is loaded
            for count in range(rounds):
                for arm in rng.sample(ARMS, len(ARMS)):
                    one = run_for(arms[arm], clients, seconds, len(plans), seed + count)
                    found[arm].append(one)
                    typer.echo(f"round {count + 1}: {arm}: {one.rate:.0f} tokens/s", err=True)
    return found


def planned(pilot: Pilot, rng: random.Random) -> list[Plan]:
    """The cards' own examples that the policy gives to a specialist with a model, in one part, shuffled."""
    cards = pilot.warm().ship.cards
    prompts = [example for card in cards.values() if card.kind != "cards" for example in card.examples]
    plans = []
    for prompt in prompts:
        course = pilot.route(prompt)
        name = course.specialist
        if name is not None and name in cards and cards[name].kind != "cards":
            answer = pilot.ask(prompt, remember=False)
            if answer.specialist == name and not answer.abstained:  # no check sent it on
                plans.append(Plan(prompt, name))
    if not plans:
        raise PilothouseError("no example of this family's cards is answered at once; nothing to measure")
    rng.shuffle(plans)
    return plans


def run_for(work: Work, clients: int, seconds: float, prompts: int, seed: int) -> Run:
    """Let `clients` threads work for some seconds; what is begun is finished, and counts."""
    spent: list[float] = []
    tokens: list[int] = []
    faults: list[BaseException] = []
    begun = time.perf_counter()

    def client(number: int) -> None:
        rng = random.Random(f"{seed}:{number}")
        try:
            while time.perf_counter() - begun < seconds:
                start = time.perf_counter()
                tokens.append(work(rng.randrange(prompts)))
                spent.append(time.perf_counter() - start)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return Run(spent, sum(tokens), time.perf_counter() - begun)


def _engine_work(pilot: Pilot, plans: list[Plan]) -> Work:
    from ...specialists.engines.base import Sampling
    from ...store.records import Message

    ship = pilot.ship

    def work(number: int) -> int:
        plan = plans[number]
        tokens = ship.engine.encode_chat([Message(role="user", content=plan.prompt)])
        prefill = ship.engine.probe(tokens, ship.layers)
        sampling = Sampling(max_tokens=min(256, ship.cards[plan.specialist].max_tokens))
        return sum(1 for _ in ship.engine.generate(prefill, plan.specialist, sampling))

    return work


def _pilot_work(pilot: Pilot, plans: list[Plan]) -> Work:
    return lambda number: pilot.ask(plans[number].prompt, remember=False).usage.completion_tokens


def _service_work(port: int, plans: list[Plan]) -> Work:
    mine = threading.local()

    def work(number: int) -> int:
        if not hasattr(mine, "line"):
            mine.line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        message = {"role": "user", "content": plans[number].prompt}
        body = json.dumps({"model": "auto", "messages": [message]})
        mine.line.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = mine.line.getresponse()
        read = json.loads(answer.read())
        if answer.status != 200:
            raise PilothouseError(f"the service answered {answer.status}: {read}")
        return int(read["usage"]["completion_tokens"])

    return work
