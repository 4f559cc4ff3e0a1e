"""What a control policy's choices did: where an answer hung on one, what the critic expected, and the policy
as plain gated entries.

After Cho, Wu, Koshiyama (arXiv 2602.10437): branch points are tokens at which another feature changes the
reward; critic trajectories are V(x_t) by what became of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..features.sae import SAE
from ..probes.fit import fit_logistic
from .crl import NOBODY, Control
from .task import Answer, Task, play
from .vector import Gate, SteeringVector

RIDGE = 1e-3  # of a gate's fit, per token: rare picks leave too few for folds
Outcome = Literal["correct", "corrected", "misguided", "incorrect"]


class Branch(NamedTuple):
    """A token of an answer at which some other features would have changed the verdict."""

    row: int
    token: int
    feature: int
    instead: tuple[int, ...]


def branch_points(control: Control, task: Task, alternatives: int = 4) -> list[Branch]:
    """Answer as the policy would, then again with each of its next `alternatives` choices at one token, all
    other tokens left to the policy; list the tokens where the verdict changes.
    """
    base = _greedy(control)
    answers = play(base.model, task, hand=base)
    ranked = _ranked(base, len(task), alternatives + 1)
    found = []
    for t in range(ranked.shape[1]):
        changed: dict[int, list[int]] = {}
        live = [row for row, one in enumerate(answers) if one.draws > t]
        for k in range(1, ranked.shape[2]):
            other = ranked[:, t, k].clone()
            again = play(base.model, task, hand=replace(_greedy(control), forced={t: other}))
            for row in live:
                if int(other[row]) != NOBODY and again[row].right != answers[row].right:
                    changed.setdefault(row, []).append(int(other[row]))
        found += [Branch(row, t, int(ranked[row, t, 0]), tuple(said)) for row, said in changed.items()]
    return found


def _greedy(control: Control) -> Control:
    """The same policy without draws, and with a memory of its own."""
    return replace(control, generator=None, forced={}, moves=[], phase="prompt")


def _ranked(control: Control, count: int, top: int) -> Tensor:
    """The likeliest features of each answer at each token, [count, T, top]; -1 where masked or past the
    end.
    """
    longest = max(len(moves) for _, moves in control.moves)
    found = torch.full((count, longest, top), NOBODY)
    for rows, moves in control.moves:
        for t, move in enumerate(moves):
            best = control.net.log_probabilities(move.states, move.bias).topk(top)
            found[rows, t] = torch.where(best.values > -1e30, best.indices, NOBODY)
    return found


def outcome(before: Answer, after: Answer) -> Outcome:
    """What the policy made of an answer."""
    if after.right:
        return "correct" if before.right else "corrected"
    return "misguided" if before.right else "incorrect"


def critic_trajectories(
    control: Control, task: Task, before: Sequence[Answer]
) -> dict[Outcome, list[tuple[float, int]]]:
    """Mean V(x_t) and number of answers at each token t, by what the policy made of the unsteered answers
    `before`.
    """
    base = _greedy(control)
    answers = play(base.model, task, hand=base)
    sums: dict[Outcome, dict[int, list[float]]] = {}
    for rows, moves in base.moves:
        for t, move in enumerate(moves):
            for row, value in zip(rows, move.values.tolist(), strict=True):
                if answers[row].draws > t:
                    kind = outcome(before[row], answers[row])
                    sums.setdefault(kind, {}).setdefault(t, []).append(value)
    return {
        kind: [(sum(v) / len(v), len(v)) for _, v in sorted(steps.items())] for kind, steps in sums.items()
    }


def diversity(chosen: Tensor) -> tuple[int, float]:
    """How many features were picked, and the entropy of the picks in nats; chosen [N,T], -1 for none."""
    counts = chosen[chosen != NOBODY].bincount().float()
    share = counts[counts > 0] / counts.sum()
    return int((counts > 0).sum()), float(-(share * share.log()).sum())


# -- into a plan -------------------------------------------------------------------------------------------


def gated_entries(
    control: Control, task: Task, name: str, top: int = 8, least: float = 0.02, fingerprint: str = ""
) -> tuple[SteeringVector, ...]:
    """Write the policy as entries that every engine can run: its most picked features, each behind a linear
    gate on the same state, fitted to when the policy picks it.

    Features picked at fewer than `least` of the tokens are left out. A feature picked at (almost) every token
    needs no gate. What is lost against the policy must be measured: compare both on a task. Raises UsageError
    when no feature is picked often enough.
    """
    base = _greedy(control)
    answers = play(base.model, task, hand=base)
    batch = base.batch(answers, [0.0] * len(answers))
    shares = batch.actions.bincount(minlength=base.sae.d_sae).float() / len(batch.actions)
    kept = [
        int(i)
        for i in shares.argsort(descending=True, stable=True)[:top]
        if shares[i] > 0 and shares[i] >= least
    ]
    if not kept:
        raise UsageError(
            f"no feature is picked at {least:.0%} of the tokens or more; there is no entry to write"
        )
    return tuple(
        _entry(base.sae, base.strength, f, batch.states, batch.actions, name, fingerprint) for f in kept
    )


def _entry(
    sae: SAE, strength: Tensor, feature: int, states: Tensor, actions: Tensor, name: str, fingerprint: str
) -> SteeringVector:
    picked = (actions == feature).double()
    gate = None
    if float(picked.mean()) < 0.98:
        weight, bias = fit_logistic(states, picked, l2=RIDGE)
        gate = Gate(sae.layer, weight.float(), float(bias), name=f"{name}-{feature}")
    return SteeringVector(
        name=f"{name}-{feature}",
        kind="add",
        layer=sae.layer,
        coefficient=float(strength[feature]),
        scope="generation",
        vector=sae.W_dec[feature],
        feature=feature,
        gate=gate,
        fingerprint=fingerprint or sae.fingerprint,
        meta={"picked": float(picked.mean())},
    )


def sweep(model: nn.Module, task: Task, sae: SAE, strength: Tensor, features: Sequence[int]) -> Tensor:
    """Verdicts [F,N] under each feature held on alone: what the best static feature, and an oracle that picks
    one feature a prompt, would reach.
    """
    rows = []
    for feature in features:
        one = SteeringVector(
            "static", "add", sae.layer, float(strength[feature]), "generation", sae.W_dec[feature]
        )
        rows.append([one.right for one in play(model, task, [one])])
    return torch.tensor(rows)
