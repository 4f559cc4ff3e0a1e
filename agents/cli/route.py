"""`pilothouse route`: fit a routing policy from a labelled table, judge it, compare heads, decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import visible
from . import console
from .console import JsonOption, QuietOption
from .refit import register

if TYPE_CHECKING:
    from ...router.routing.artifact import RoutingPolicy
    from ...router.routing.fitting import Options
    from ...router.routing.table import Table

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)

register(app)

Tables = Annotated[
    list[Path], typer.Argument(metavar="TABLE…", help="CSV, JSON Lines or Parquet; several are joined.")
]
PolicyFolder = Annotated[Path, typer.Argument(metavar="POLICY", help="A folder that `route fit` wrote.")]
WideOption = Annotated[
    str, typer.Option(metavar="A,B,…", help="These columns are models, each with its labels.")
]
ModelsOption = Annotated[str, typer.Option(metavar="A,B,…", help="Only these models.")]
ScoutOption = Annotated[
    str, typer.Option(metavar="NAME|DIR", help="A family, a model folder, or none.", show_default=True)
]
LayersOption = Annotated[
    str, typer.Option(metavar="I,J,…", help="Layers of the scout to read (else its usual).")
]
PoolOption = Annotated[str, typer.Option(metavar="HOW,…", help="last, mean, max_rolling_mean, attention.")]
HeadsOption = Annotated[str, typer.Option(metavar="A,B,…", help="Heads to stack (else all that work).")]
ObjectiveOption = Annotated[str, typer.Option(help="gain, correct or auto.")]
PriceOption = Annotated[list[str] | None, typer.Option("--price", metavar="MODEL=P", help="Else mean costs.")]
CacheOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Keep what the scout saw here.")]
LeaksOption = Annotated[
    bool, typer.Option("--drop-leaks", help="Drop training prompts that are in the test.")
]
SeedOption = Annotated[int, typer.Option(help="Of folds and resamples.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where it goes.")]
LamOption = Annotated[float | None, typer.Option(help="Utility lost per unit of price.")]
BudgetOption = Annotated[float | None, typer.Option(help="Mean price a prompt: sets lam.")]


@app.callback()
def route() -> None:
    """Fit routing policies from labelled tables, judge and compare them."""


@app.command()
def fit(
    tables: Tables,
    out: OutOption,
    scout: ScoutOption = "starter",
    wide: WideOption = "",
    models: ModelsOption = "",
    layers: LayersOption = "",
    pool: PoolOption = "",
    heads: HeadsOption = "",
    objective: ObjectiveOption = "auto",
    price: PriceOption = None,
    lam: LamOption = None,
    budget: BudgetOption = None,
    risk: Annotated[
        float | None, typer.Option(help="Abstain so that this share of answers is wrong.")
    ] = None,
    drop_leaks: LeaksOption = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Skip the comparison with baselines.")
    ] = False,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fit a routing policy and write it, with its report.

    Rows of the split `test` are kept for judging.
    """
    from ...router.routing import fitting
    from ...router.routing.artifact import make
    from ...router.routing.recipes import STACKED
    from ...router.routing.scouts import read_table_with
    from ..routers import open_reader

    say = _say(quiet)
    train, test = _split(_read(tables, wide, models, drop_leaks))
    reader = open_reader(scout, _numbers(layers), _names(pool))
    say(f"{len(train)} prompts, {len(train.models)} models; the scout reads")
    seen = read_table_with(reader, train, cache)
    options = fitting.Options(_names(heads) or STACKED, objective, seed=seed)
    fitted = fitting.fit(train, seen, options, say)
    for name, why in fitted.left_out.items():
        say(f"left out {name}: {why}")
    policy = _aimed(make(fitted, train, reader.spec, _prices(price)), lam, budget, risk)
    policy.save(out)
    _save_probes(policy, train, out, say)
    found: dict[str, Any] = {"folder": str(out), "objective": fitted.objective, "sha256": policy.sha256}
    if not no_report:
        found["verdict"] = _report(train, seen, policy, options, fitted.heads_out_of_fold, out, say)
    if test is not None:
        found["test"] = _judged(policy, test, read_table_with(reader, test, cache), out / "test")
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
    table = _unknown_models(policy, _read(tables, wide, "", False))
    table = _without_known(policy, table, drop_leaks)
    seen = read_table_with(reopen(policy.scout), table, cache)
    _show(_judged(policy, table, seen, out), as_json)


@app.command()
def compare(
    tables: Tables,
    out: OutOption,
    scout: ScoutOption = "starter",
    wide: WideOption = "",
    models: ModelsOption = "",
    layers: LayersOption = "",
    pool: PoolOption = "",
    heads: HeadsOption = "",
    price: PriceOption = None,
    drop_leaks: LeaksOption = False,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare all heads with the baselines, rows and then whole groups left out; nothing is kept but a
    report.
    """
    from ...router.routing.comparing import Judge, contenders
    from ...router.routing.fitting import Options
    from ...router.routing.recipes import STACKED
    from ...router.routing.report import Report
    from ...router.routing.scouts import read_table_with
    from ..routers import open_reader

    say = _say(quiet)
    table = _read(tables, wide, models, drop_leaks)
    reader = open_reader(scout, _numbers(layers), _names(pool))
    seen = read_table_with(reader, table, cache)
    options = Options(_names(heads) or STACKED, seed=seed)
    inside = contenders(table, seen, options, say=say)
    outside = contenders(table, seen, options, by_group=True, say=say) if table.groups else []
    judge = Judge.of(table, table.prices() | _prices(price), seed)
    report = Report.of(_facts(table, reader.spec), judge, inside, outside)
    report.save(out)
    _show({"folder": str(out), "verdict": report.sentence, "groups left out": report.sentence_out}, as_json)


@app.command()
def decide(
    folder: PolicyFolder,
    prompt: Annotated[str, typer.Argument(help="What is asked.")],
    lam: LamOption = None,
    budget: BudgetOption = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="The cheapest within this of the best P(correct).")
    ] = None,
    stability: Annotated[
        bool, typer.Option("--stability", help="Ask again with typing errors and so on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide who would answer one prompt."""
    from ..routers import Router

    opened = Router.open(folder)
    router = Router(_aimed(opened.policy, lam, budget, None), opened.reader)
    decision, candidates = router.decide(prompt, tolerance=tolerance)
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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(text))
    except ValueError as error:
        raise UsageError(f"the layers {text!r} are no numbers; write them as 2,4,6") from error


def _prices(pairs: list[str] | None) -> dict[str, float]:
    found = {}
    for pair in pairs or []:
        name, _, value = pair.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name or not 0 <= found[name] < float("inf"):
            raise UsageError(f"the price {pair!r} is not MODEL=NUMBER with a number from 0 up; correct it")
    return found


def _read(paths: list[Path], wide: str, models: str, drop_leaks: bool) -> Table:
    from ...router.routing.reading import read_table
    from ...router.routing.table import joined, require_apart, without_leaks

    tables = [read_table(path, _names(wide)) for path in paths]
    table = tables[0] if len(tables) == 1 else joined(tables)
    table = table.with_models(_names(models)) if models else table
    if drop_leaks:
        table = without_leaks(table)
    require_apart(table)
    return table


def _split(table: Table) -> tuple[Table, Table | None]:
    """What is fitted on, and the split `test` if there is one."""
    if "test" not in table.splits:
        return table, None
    parts = [[i for i, s in enumerate(table.splits) if (s == "test") is wanted] for wanted in (False, True)]
    if not parts[0]:
        raise UsageError("every row of the table is in the split 'test'; rows to fit on are needed too")
    return table.take(parts[0]), table.take(parts[1])


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


def _save_probes(policy: RoutingPolicy, table: Table, out: Path, say: Any) -> None:
    """The linear head as probes, where there can be some."""
    from ...router.routing.probed import probes_of

    try:
        probes = probes_of(policy.fitted, table.quality, policy.scout)
    except UsageError as reason:
        say(f"no probes for the controller: {reason}")
        return
    for probe in probes:
        probe.save(out / "probes" / f"correct-{probe.name.replace('/', '_')}")


def _facts(table: Table, spec: Any) -> dict[str, Any]:
    labels = int(table.labelled.sum())
    notes = "; ".join(table.notes) or "none"
    site = f" at {spec['site']}" if "site" in spec else ""
    return {
        "prompts": len(table),
        "models": len(table.models),
        "labels": labels,
        "duplicates (case, spacing and punctuation aside)": len(table) - len(set(table.keys)),
        "noticed while reading": notes,
        "scout": f"{Path(str(spec.get('place', 'none'))).name}{site}",
    }


def _report(
    table: Table, seen: Any, policy: RoutingPolicy, options: Options, ready: Any, out: Path, say: Any
) -> str:
    from ...router.routing.comparing import Judge, contenders
    from ...router.routing.report import Report

    inside = contenders(table, seen, options, ready=ready, say=say)
    outside = contenders(table, seen, options, by_group=True, say=say) if table.groups else []
    judge = Judge.of(table, policy.policy.prices, options.seed)
    report = Report.of(_facts(table, policy.scout), judge, inside, outside)
    report.save(out)
    return report.sentence


def _judged(policy: RoutingPolicy, table: Table, seen: Any, out: Path) -> dict[str, Any]:
    from ...router.routing.judging import judged

    report, found = judged(policy, table, seen, _facts(table, policy.scout))
    report.save(out)
    return found | {"report": str(out)}


def _say(quiet: bool) -> Any:
    return (lambda line: None) if quiet else console.note


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(found)
        return
    for name, value in found.items():
        typer.echo(visible(f"{name}\t{value}", keep="\t"))
