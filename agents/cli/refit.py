"""`pilothouse route refit`, `promote`, `rollback`, `refits`: learn from the log, and take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ...store.errors import PilothouseError, UsageError
from . import console
from .logs import Json, Log, Since, moment, opened, print_json, print_lines

if TYPE_CHECKING:
    from ...router.policy import Policy
    from ...router.probes.probe import ProbeBank
    from ...specialists.family import Family
    from ...store.audit import Filter
    from ..refit import Judgement
    from ..refits import Refit, Refits

RefitName = Annotated[
    str, typer.Argument(metavar="[REFIT]", help="A refit's name, its beginning, or 'last'.")
]
Source = Annotated[str | None, typer.Option(help="Only outcomes of this source (user, verifier, …).")]


class RefusedError(PilothouseError):
    """A refit was judged and is not to be promoted."""


def register(app: typer.Typer) -> None:
    """Add these verbs to a group."""
    for verb in (refit, shadow, promote, rollback, refits):
        app.command()(verb)


def refit(
    log: Log = None,
    as_json: Json = False,
    since: Since = None,
    source: Source = None,
    family: console.FamilyOption = None,
) -> None:
    """Correct the probabilities by the log's outcomes and judge the change. Nothing is changed yet."""
    from ...store.records import utc_now
    from ..refit import judge, split
    from ..refit import refit as learn
    from ..refits import Refit, digests
    from ..trials import trials_of

    opened_family, kept = _family(family)
    bank, serving, now = _serving(opened_family)
    with opened(log) as audit:
        trials = trials_of(
            audit.pages(_since(moment(since))), serving, now.name if now is not None else None, source
        )
    teaching, judging = split(trials.kept)
    found = learn(teaching, serving)
    made = Refit(
        family=opened_family.name,
        made_at=utc_now(),
        probes=digests(bank),
        serving=serving,
        over=now.name if now is not None else None,
        base=now.whole if now is not None else {},
        judgement=judge(judging, found, serving, trials),
        **{name: getattr(found, name) for name in type(found).model_fields},
    )
    kept.save(made)
    if as_json:
        print_json({"name": made.name, "left_out": trials.left_out} | made.model_dump(mode="json"))
        return
    for why, count in trials.left_out.items():
        typer.echo(f"left out: {count} records, {why}", err=True)
    _tell(made, made.judgement)


def shadow(
    name: RefitName = "last",
    log: Log = None,
    as_json: Json = False,
    source: Source = None,
    family: console.FamilyOption = None,
) -> None:
    """Judge a refit by what was logged since it was taught: what it would have done, and what that would have
    earned.
    """
    opened_family, kept = _family(family)
    made = kept.get(name)
    found = _judged(made, opened_family, log, source)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _tell(made, found)


def promote(
    name: RefitName = "last",
    log: Log = None,
    as_json: Json = False,
    source: Source = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it whatever the judgement says.")] = False,
    family: console.FamilyOption = None,
) -> None:
    """Put a refit in force, unless what was logged since it was taught speaks against it (then exit 1)."""
    opened_family, kept = _family(family)
    made = kept.get(name)
    found = _judged(made, opened_family, log, source)
    if not as_json:
        _tell(made, found)
    if found.reasons and not force:
        raise RefusedError(f"refit {made.name} is not promoted: {'; '.join(found.reasons)}")
    kept.promote(made)
    if as_json:
        print_json({"promoted": made.name} | found.model_dump(mode="json"))
    else:
        typer.echo(
            f"promoted {made.name}, in force from the next start; `pilothouse route rollback` undoes it"
        )


def rollback(as_json: Json = False, family: console.FamilyOption = None) -> None:
    """Take the last promotion back."""
    opened_family, kept = _family(family)
    now = kept.rollback()
    if as_json:
        print_json({"in_force": now})
    else:
        typer.echo(f"in force: {now or f'{opened_family.name} as it was made'}")


def refits(as_json: Json = False, family: console.FamilyOption = None) -> None:
    """List the refits of a family."""
    _, kept = _family(family)
    current = kept.state().current
    if as_json:
        print_lines(kept.all())
        return
    for one in kept.all():
        mark = "in force" if one.name == current else "promote" if one.judgement.promote else "refused"
        typer.echo(f"{one.name}\t{one.made_at[:19]}\t{mark}\t{one.taught_by} outcomes\t{', '.join(one.maps)}")


def _family(name: str | None) -> tuple[Family, Refits]:
    from ...specialists.family import Family
    from ..refits import Refits

    found = Family.open(console.settings_with(family=name).family)
    return found, Refits(found.name)


def _serving(family: Family) -> tuple[ProbeBank, Policy, Refit | None]:
    """The family's probes, the policy in force, and the refit in force."""
    from ...router.policy import Policy
    from ..refits import in_force

    if family.bank is None:
        raise UsageError(f"the family {family.name} has no probes, so nothing can be learned for its routing")
    now = in_force(family)
    return family.bank, now.policy if now is not None else family.policy or Policy(), now


def _since(time: str | None) -> Filter:
    from ...store.audit import Filter

    return Filter(since=time)


def _judged(made: Refit, family: Family, log: str | None, source: str | None) -> Judgement:
    """Judge by what was logged after the outcomes that taught the refit.

    Raises UsageError for a family whose probes are other ones now.
    """
    from ..refit import Refitted, judge
    from ..trials import trials_of

    if family.bank is None or not made.fits(family.bank):
        raise UsageError(f"refit {made.name} was made for other probes of {family.name}; make a new one")
    with opened(log) as audit:
        pages = audit.pages(_since(made.taught_until))
        trials = trials_of(pages, made.serving, made.over, source)
    later = [one for one in trials.kept if one.at > made.taught_until]
    found = Refitted(**{name: getattr(made, name) for name in Refitted.model_fields})
    return judge(later, found, made.serving, trials)


def _tell(made: Refit, found: Judgement) -> None:
    typer.echo(f"refit     {made.name}, taught by {made.taught_by} outcomes until {made.taught_until[:19]}")
    for name, one in made.maps.items():
        typer.echo(f"map       {name}: logit P times {one.a:.3f}, plus {one.b:+.3f}")
    typer.echo(f"threshold {made.serving.threshold:g}, now {made.policy.threshold:g}")
    for note in made.notes:
        typer.echo(f"note      {note}")
    losses = found.losses
    change = f"change {losses.low:+.3f} to {losses.high:+.3f} on {losses.n} outcomes"
    typer.echo(f"log-loss  {losses.before:.3f}, now {losses.after:.3f}; {change}")
    for guess in found.gains:
        how = f"{guess.method}, effective sample {guess.effective:.0f}"
        typer.echo(f"gain      {guess.value:+.3f} a decision, {guess.low:+.3f} to {guess.high:+.3f} ({how})")
    typer.echo(f"decisions {found.moved:.1%} would be other ones; of {found.untold:.1%} the log cannot tell")
    for reason in found.reasons:
        typer.echo(f"against   {reason}")
    typer.echo(f"verdict   {'promote' if found.promote else 'do not promote'}")
