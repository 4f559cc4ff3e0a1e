"""`pilothouse steer`: make a steering entry, put it before the validation gate, enter it into a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ...store.errors import UsageError
from ...store.printable import visible
from . import console
from .console import FamilyOption, JsonOption, QuietOption

if TYPE_CHECKING:
    from ...router.steer.admission import Admission
    from ...router.steer.crl import Masking
    from ...router.steer.making import Found
    from ...specialists.improve.subject import Exercise, Subject

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)
METHODS = ("corrsteer", "crl")
BUDGET = 0.05  # nats a token

Entry = Annotated[Path, typer.Argument(metavar="DIR", help="An entry's folder, as `find` left it.")]
Tasks = Annotated[
    Path, typer.Option(metavar="FILE", help='JSON lines {"prompt", "answer", "check"}; see docs/steering.md.')
]
Neutral = Annotated[
    Path, typer.Option(metavar="FILE", help="Neutral text, one a line: what must not change.")
]
Specialist = Annotated[str, typer.Option("--specialist", "-s", help="Whose answers.")]
Budget = Annotated[float, typer.Option(min=0, help="KL on the neutral text, nats a token, at most.")]
Longest = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer.")]
Seed = Annotated[int, typer.Option(help="Of shuffles, random directions and policies.")]


@app.callback()
def steer() -> None:
    """Make steering entries, admit them, enter them into a family's policy."""


@app.command()
def find(
    method: Annotated[str, typer.Argument(help=" or ".join(METHODS))],
    specialist: Specialist,
    tasks: Tasks,
    neutral: Neutral,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the entry.")],
    family: FamilyOption = None,
    name: Annotated[str | None, typer.Option(help="The entry's name (else METHOD-SPECIALIST).")] = None,
    budget: Budget = BUDGET,
    pool: Annotated[str, typer.Option(help="CorrSteer: max or mean over an answer's tokens.")] = "max",
    mask: Annotated[str, typer.Option(help="CRL: none, active or weighted.")] = "none",
    updates: Annotated[int, typer.Option(min=1, help="CRL: batches to learn from.")] = 100,
    max_tokens: Longest = 32,
    seed: Seed = 0,
    quiet: QuietOption = False,
) -> None:
    """Make an entry: find features, choose layer and strength under the budget; make the gate's rivals."""
    _one_of("method", method, METHODS)
    _one_of("--pool", pool, ("max", "mean"))
    _one_of("--mask", mask, ("none", "active", "weighted"))
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; name a new folder for the entry")
    subject, exercises = _subject(family, specialist, tasks)
    say = console.noter(quiet)
    found = _made(
        method,
        subject,
        exercises,
        _lines(neutral),
        name or f"{method}-{specialist}",
        budget,
        pool,
        mask,
        updates,
        max_tokens,
        seed,
        say,
    )
    found.save(out)
    from ...router.steer.picture import draw

    draw(found.choice, out / "choice.svg")
    for one in found.choice.tried:
        typer.echo(
            f"{one.option:<8} x {one.strength:<5g} effect {one.effect:.3f}  side effect {one.side_effect:.4f}"
        )
    typer.echo(visible(f"{'chosen' if found.vectors else 'nothing'}: {found.choice.reason}", keep=""))
    say(f"saved {out}")
    if not found.vectors:
        raise typer.Exit(1)


@app.command()
def gate(
    entry: Entry,
    specialist: Specialist,
    tasks: Tasks,
    neutral: Neutral,
    family: FamilyOption = None,
    budget: Budget = BUDGET,
    max_tokens: Longest = 32,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge an entry on held-out prompts against no steering, random directions and shuffled labels.

    Leaves admission.json beside it. Exit code 1: refused.
    """
    from ...router.steer.admission import admit
    from ...router.steer.making import load_rivals, load_vectors

    vectors = load_vectors(entry / "vectors")
    if not vectors:
        raise UsageError(f"{entry} holds no entry under vectors/; `pilothouse steer find` makes one")
    rivals = load_rivals(entry)
    subject, exercises = _subject(family, specialist, tasks)
    verdict = admit(
        subject.model,
        subject.task(exercises, "test", max_tokens),
        vectors,
        rivals,
        subject.cost(_lines(neutral)),
        budget=budget,
        seed=seed,
    )
    verdict.save(entry / "admission.json")
    _print(verdict, as_json)
    if not verdict.admitted:
        raise typer.Exit(1)


@app.command()
def add(
    entry: Entry,
    specialist: Annotated[
        list[str], typer.Option("--specialist", "-s", help="For these specialists' answers only.")
    ],
    family: FamilyOption = None,
    reading: Annotated[
        str | None, typer.Option(help="Only when this reading fired (else for every answer).")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Enter an admitted entry into a family's folder and policy; a refused or changed one is not taken."""
    from ...router.steer.admission import Admission
    from ...router.steer.making import load_vectors
    from ...specialists.family import Family
    from ...specialists.improve.subject import enter

    if not (entry / "admission.json").is_file():
        raise UsageError(
            f"{entry} has not been before the gate; run `pilothouse steer gate {entry} ...` first"
        )
    vectors, verdict = load_vectors(entry / "vectors"), Admission.load(entry / "admission.json")
    opened = Family.open(family or console.settings_with().family)
    policy = enter(opened, vectors, verdict, reading, specialist)
    say = console.noter(quiet)
    say(f"entered {', '.join(verdict.names)} into {opened.folder}; policy {policy.hash[:12]}")


# -- parts ---------------------------------------------------------------------------------------------------


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{what} is {value!r}; use one of {', '.join(allowed)}")


def _lines(path: Path) -> list[str]:
    try:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give a file of neutral text") from error
    if not found:
        raise UsageError(f"{path} is empty; give neutral text, one a line")
    return found


def _subject(family: str | None, specialist: str, tasks: Path) -> tuple[Subject, list[Exercise]]:
    from ...specialists.family import Family
    from ...specialists.improve.subject import Subject, read_exercises

    exercises = read_exercises(tasks)
    opened = Family.open(family or console.settings_with().family)
    return Subject.open(opened, specialist), exercises


def _made(
    method: str,
    subject: Subject,
    exercises: list[Exercise],
    neutral: list[str],
    name: str,
    budget: float,
    pool: str,
    mask: str,
    updates: int,
    max_tokens: int,
    seed: int,
    say: Callable[[str], None],
) -> Found:
    from ...router.steer.making import corrsteer_entry, crl_entry, usual_strengths
    from ...router.steer.ppo import Recipe

    fit, validate = (subject.task(exercises, part, max_tokens) for part in ("fit", "validate"))
    saes, cost, print_ = subject.saes(), subject.cost(neutral), subject.family.trunk_fingerprint
    if method == "corrsteer":
        return corrsteer_entry(
            subject.model,
            fit,
            validate,
            saes,
            cost,
            name=name,
            budget=budget,
            pool="mean" if pool == "mean" else "max",
            seed=seed,
            fingerprint=print_,
        )
    sae = saes[max(saes)]
    return crl_entry(
        subject.model,
        fit,
        validate,
        sae,
        usual_strengths(subject.model, fit, sae),
        cost,
        name=name,
        budget=budget,
        recipe=Recipe(updates=updates, rows=64),
        masking=cast("Masking", mask),
        seed=seed,
        fingerprint=print_,
        say=say,
    )


def _print(verdict: Admission, as_json: bool) -> None:
    if as_json:
        arms = [vars(one) for one in verdict.arms]
        console.print_json({**vars(verdict), "arms": arms, "admitted": verdict.admitted})
        return
    typer.echo(
        f"with the entry: {verdict.right:.3f} right, {verdict.valid:.3f} valid, {verdict.prompts} prompts"
    )
    for one in verdict.arms:
        typer.echo(f"{one.name:<18} {one.right:.3f} right, {one.valid:.3f} valid; gain {one.said}")
    typer.echo(f"side effect {verdict.side_effect:.4f} of {verdict.budget:g} nats a token")
    typer.echo("admitted" if verdict.admitted else f"refused: {'; '.join(verdict.reasons)}")
