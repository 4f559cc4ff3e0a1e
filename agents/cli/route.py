"""`pilothouse route`: fit a routing policy from a labelled table, judge it, compare heads, decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import visible
from . import console
from .console import JsonOption
from .refit import register
from .tables import (
    CacheOption,
    Job,
    LeaksOption,
    OutOption,
    Tables,
    WideOption,
    facts_of,
    read,
    sharing,
    split,
)

if TYPE_CHECKING:
    from ...router.routing.artifact import RoutingPolicy
    from ...router.routing.table import Table
    from ..routers import Router

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)

register(app)

PolicyFolder = Annotated[Path, typer.Argument(metavar="POLICY", help="A folder that `route fit` wrote.")]
LamOption = Annotated[float | None, typer.Option(help="Utility lost per unit of price.")]
BudgetOption = Annotated[float | None, typer.Option(help="Mean price a prompt: sets lam.")]


@app.callback()
def route() -> None:
    """Fit routing policies from labelled tables, judge and compare them."""


@app.command()
@sharing
def fit(
    job: Job,
    objective: Annotated[str, typer.Option(help="gain, correct or auto.")] = "auto",
    lam: LamOption = None,
    budget: BudgetOption = None,
    risk: Annotated[
        float | None, typer.Option(help="Abstain so that this share of answers is wrong.")
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Skip the comparison with baselines.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a routing policy and write it, with its report.

    Rows of the split `test` are kept for judging.
    """
    from ...router.routing import fitting
    from ...router.routing.artifact import make
    from ...router.routing.scouts import read_table_with

    train, test = split(job.table())
    job.say(f"{len(train)} prompts, {len(train.models)} models; the scout reads")
    seen = read_table_with(job.reader, train, job.cache)
    fitted = fitting.fit(train, seen, job.options(objective), job.say)
    for name, why in fitted.left_out.items():
        job.say(f"left out {name}: {why}")
    policy = _aimed(make(fitted, train, job.reader.spec, job.prices()), lam, budget, risk)
    policy.save(job.out)
    _save_probes(policy, train, job)
    found: dict[str, Any] = {"folder": str(job.out), "objective": fitted.objective, "sha256": policy.sha256}
    if not no_report:
        found |= _report(job, train, seen, policy)
    if test is not None:
        found["test"] = _judged(
            policy, test, read_table_with(job.reader, test, job.cache), job.reader, job.out / "test"
        )
    _show(found, as_json)


@app.command("eval")
def evaluate(
    folder: PolicyFolder,
    tables: Tables,
    out: OutOption,
    wide: WideOption = "",
    lam: LamOption = None,
    budget: BudgetOption = None,
    drop_leaks: LeaksOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a policy on a table that it was not fitted on."""
    from ...router.routing.artifact import RoutingPolicy
    from ...router.routing.scouts import read_table_with
    from ..routers import reopen

    policy = _aimed(RoutingPolicy.load(folder), lam, budget, None)
    table = _unknown_models(policy, read(tables, wide, "", False))
    table = _without_known(policy, table, drop_leaks)
    reader = reopen(policy.scout)
    _show(_judged(policy, table, read_table_with(reader, table, cache), reader, out), as_json)


@app.command()
@sharing
def compare(job: Job, as_json: JsonOption = False) -> None:
    """Compare all heads with the baselines, rows and then whole groups left out; nothing is kept but a
    report.
    """
    from ...router.routing.scouts import read_table_with

    table = job.table()
    _show(
        {"folder": str(job.out)} | _report(job, table, read_table_with(job.reader, table, job.cache)), as_json
    )


@app.command()
def decide(
    folder: PolicyFolder,
    prompt: Annotated[str, typer.Argument(help="What is asked.")],
    lam: LamOption = None,
    budget: BudgetOption = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="The cheapest within this of the best P(correct).")
    ] = None,
    previous: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who answered last in this conversation.")
    ] = None,
    stickiness: Annotated[
        float, typer.Option(min=0, help="Who answered last keeps it unless another is better by this.")
    ] = 0.05,
    answered: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who has answered: ask another, or not?")
    ] = None,
    signal: Annotated[
        list[str] | None, typer.Option(metavar="NAME=X", help="A signal of that answer, for --answered.")
    ] = None,
    stability: Annotated[
        bool, typer.Option("--stability", help="Ask again with typing errors and so on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide who would answer one prompt, or with --answered whether another should."""
    from ..routers import Router

    opened = Router.open(folder)
    router = Router(_aimed(opened.policy, lam, budget, None), opened.reader)
    if answered is not None:
        _show(router.after(prompt, answered, _signals(signal))._asdict(), as_json)
        return
    decision, candidates = router.decide(
        prompt, tolerance=tolerance, previous=_known(router, previous), stickiness=stickiness
    )
    found: dict[str, Any] = {"chosen": decision.chosen, "reason": decision.reason}
    found |= (
        {"candidates": [one.model_dump() for one in candidates]}
        if as_json
        else {
            f"  {one.specialist}": f"P(correct) {one.p_correct:.3f}, price {one.cost:g}" for one in candidates
        }
    )
    if stability:
        found["stability"] = router.stability(prompt)
    _show(found, as_json)


@app.command()
def install(
    folder: PolicyFolder,
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where the new family goes.")],
    family: Annotated[str, typer.Option("--family", "-f", metavar="NAME|DIR")] = "starter",
    linear: Annotated[
        bool, typer.Option("--linear", help="Its linear probes alone, so that features explain decisions.")
    ] = False,
) -> None:
    """Copy a family, with this policy in it: the controller then routes by it."""
    from ..installing import install_policy

    made = install_policy(folder, family, into, linear)
    typer.echo(visible(str(made.folder), keep=""))


# -- what the commands share -------------------------------------------------------------------------------


def _unknown_models(policy: RoutingPolicy, table: Table) -> Table:
    unknown = [name for name in table.models if name not in policy.models]
    if unknown:
        raise UsageError(
            f"the table has the model {unknown[0]!r}, which the policy was not fitted for (it has "
            f"{', '.join(policy.models)}); fit again on all, or leave its rows out"
        )
    return table.with_models([name for name in policy.models if name in table.models])


def _without_known(policy: RoutingPolicy, table: Table, drop: bool) -> Table:
    known = set(policy.known.tolist())
    fresh = [i for i, number in enumerate(table.key_numbers.tolist()) if number not in known]
    leaked = len(table) - len(fresh)
    if leaked and not drop:
        raise UsageError(
            f"the policy was fitted on {leaked} of these {len(table)} prompts, so this would be no test; "
            "remove them, or give --drop-leaks"
        )
    if not fresh:
        raise UsageError(
            "the policy was fitted on every prompt of this table; nothing is left to judge it on"
        )
    return table.take(fresh) if leaked else table


def _aimed(
    policy: RoutingPolicy, lam: float | None, budget: float | None, risk: float | None
) -> RoutingPolicy:
    from ...router.routing.risk import with_risk

    if lam is not None and budget is not None:
        raise UsageError(f"lam {lam:g} and budget {budget:g} were both given; a budget sets lam, so give one")
    policy = policy.with_lam(lam) if lam is not None else policy
    policy = policy.with_budget(budget) if budget is not None else policy
    return with_risk(policy, risk) if risk is not None else policy


def _known(router: Router, model: str | None) -> str | None:
    if model is not None and model not in router.policy.models:
        raise UsageError(f"there is no model {model!r}; the policy has {', '.join(router.policy.models)}")
    return model


def _signals(pairs: list[str] | None) -> dict[str, float]:
    found = {}
    for pair in pairs or []:
        name, _, value = pair.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(f"the signal {pair!r} is not NAME=NUMBER; correct it") from error
    return found


def _save_probes(policy: RoutingPolicy, table: Table, job: Job) -> None:
    """The linear head as probes, where there can be some."""
    from ...router.routing.probed import probes_of

    try:
        probes = probes_of(policy.fitted, table.quality, policy.scout)
    except UsageError as reason:
        job.say(f"no linear probes: {reason}")
        return
    for probe in probes:
        probe.save(job.out / "probes" / f"correct-{probe.name.replace('/', '_')}")


def _report(job: Job, table: Table, seen: Any, policy: RoutingPolicy | None = None) -> dict[str, Any]:
    """Write the report of a table, with a fitted policy's prices and predictions where there is one."""
    from ...router.routing.comparing import Judge, contenders
    from ...router.routing.report import Report, cascades_of

    ready = policy.fitted.heads_out_of_fold if policy is not None else None
    prices = policy.policy.prices if policy is not None else table.prices() | job.prices()
    inside = contenders(table, seen, job.options(), ready=ready, say=job.say)
    outside = contenders(table, seen, job.options(), by_group=True, say=job.say) if table.groups else []
    judge = Judge.of(table, prices, job.seed)
    report = Report.of(facts_of(table, job.reader), judge, inside, outside, cascades_of(table, judge, inside))
    report.save(job.out)
    found = {"verdict": report.sentence}
    return found | ({"groups left out": report.sentence_out} if outside else {})


def _judged(policy: RoutingPolicy, table: Table, seen: Any, reader: Any, out: Path) -> dict[str, Any]:
    from ...router.routing.judging import judged

    report, found = judged(policy, table, seen, facts_of(table, reader))
    report.save(out)
    return found | {"report": str(out)}


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(found)
        return
    for name, value in found.items():
        typer.echo(visible(f"{name}\t{value}", keep="\t"))
