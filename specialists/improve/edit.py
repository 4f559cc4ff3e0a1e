"""Edit located neurons for good: scale what they write, or rewrite it until other answers come; and revert.

After the gender-bias study of Yu and Ananiadou (zero the neurons that pass a logit and a causal test) and
their neuron-level attribution; how much is changed is a reconstruction. Only the columns that neurons write
with change, every other weight keeps its bits, and the columns as they were are kept for a bit-exact way
back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...router.denormals import as_zero
from ...router.fingerprint import fingerprint
from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.place import Place
from ...store.errors import ArtifactError, UsageError
from ..weights import SINGLE, read_json, read_model_tensors
from .edit_kept import Kept, answers
from .quantize import carry

HEAD, BODY = "edit.json", "before.safetensors"
Columns = Mapping[str, tuple[Tensor, Tensor]]  # weight name -> (neurons [n], columns [D,n])


def down_of(anatomy: Anatomy, place: Place) -> str:
    """Return the name of the weight [D,F] whose column `place`, a neuron, writes with.

    Raises UsageError for a place that is no neuron, or a kind that keeps its maps the other way round.
    """
    if place.kind != "neuron" or place.unit < 0:
        raise UsageError(f"{place.name} is no neuron: edits are of neurons, L3.N120")
    down = anatomy.blocks[anatomy.check_layer(place.layer)].down
    if not isinstance(down, nn.Linear):
        raise UsageError(f"{type(down).__name__} is not edited: use a model whose maps are linear modules")
    return next(f"{name}.weight" for name, module in anatomy.model.named_modules() if module is down)


def columns_of(anatomy: Anatomy, places: Sequence[Place]) -> dict[str, Tensor]:
    """Return the neurons [n] of each down projection that `places` name, under the name of its weight.

    Raises UsageError as `down_of` does.
    """
    found: dict[str, set[int]] = {}
    for place in places:
        found.setdefault(down_of(anatomy, place), set()).add(place.unit)
    return {name: torch.tensor(sorted(units)) for name, units in found.items()}


@torch.no_grad()
def scaled(
    anatomy: Anatomy, places: Sequence[Place], scale: float | Sequence[float] = 0.0
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the columns of the named neurons times `scale`, one for all or one for each: 0 silences them, 1
    changes nothing.
    """
    scales = [scale] * len(places) if isinstance(scale, int | float) else scale
    each = {(down_of(anatomy, place), place.unit): one for place, one in zip(places, scales, strict=True)}
    found = {}
    for name, units in columns_of(anatomy, places).items():
        factors = torch.tensor([each[name, unit] for unit in units.tolist()])
        found[name] = (units, anatomy.model.get_parameter(name)[:, units].float() * factors)
    return found


@dataclass(frozen=True)
class Rewriting:
    """How to rewrite: optimizer steps, rate in units of the columns' own size, weight of the divergence on
    other prompts, and of the columns' movement. It stops before that, once every new answer has the
    probability `until` (1: never).
    """

    steps: int = 40
    rate: float = 0.1
    keep: float = 1.0
    still: float = 0.01
    until: float = 1.0


@as_zero()
def rewritten(
    anatomy: Anatomy,
    places: Sequence[Place],
    cases: Sequence[Case],
    others: Sequence[Sequence[int]],
    how: Rewriting | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return columns under which each case gives its `answer`, while next tokens after `others` stay.

    Descends -log P(answer) + keep * KL(before || after) on `others` + still * |change|^2 / |columns|^2 by
    Adam on the columns alone. The model is left as it was.
    """
    how = how or Rewriting()
    model, chosen = anatomy.model, columns_of(anatomy, places)
    start = {n: model.get_parameter(n).detach()[:, u].clone() for n, u in chosen.items()}
    change = {n: torch.zeros_like(c, requires_grad=True) for n, c in start.items()}
    size = torch.cat([c.flatten() for c in start.values()]).square().mean().sqrt()
    kept = Kept(model, others)
    optimizer = torch.optim.Adam(list(change.values()), lr=how.rate)
    for _ in range(how.steps):
        weights = {
            n: model.get_parameter(n).detach().index_add(1, u, size * change[n]) for n, u in chosen.items()
        }
        said = answers(model, cases, weights)[0]
        if float(said.detach().exp().min()) >= how.until:
            break
        loss = how.keep * kept.divergence(weights) - said.mean()
        loss = loss + how.still * sum((x.square().mean() for x in change.values()), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {n: (u, (start[n] + size * change[n]).detach()) for n, u in chosen.items()}


@torch.no_grad()
def put(model: nn.Module, columns: Columns) -> dict[str, tuple[Tensor, Tensor]]:
    """Set columns in place; return those that were there, which `put` sets back bit for bit."""
    before = {}
    for name, (units, values) in columns.items():
        weight = model.get_parameter(name)
        before[name] = (units, weight[:, units].clone())
        weight[:, units] = values.to(weight.dtype)
    return before


# -- folders -------------------------------------------------------------------------------------------------


def write_edit(source: Path, columns: Columns, out: Path, about: Mapping[str, Any]) -> None:
    """Write `out`: the model folder `source` with these columns, and below `revert/` what undoes it.

    Only named columns differ from the source's bits.
    """
    tensors = read_model_tensors(source)
    before: dict[str, Tensor] = {}
    for name, (units, values) in columns.items():
        before |= {f"{name}.units": units, f"{name}.columns": tensors[name][:, units].contiguous()}
        tensors[name] = tensors[name].clone()
        tensors[name][:, units] = values.to(tensors[name].dtype)
    out.mkdir(parents=True, exist_ok=True)
    carry(source, out)
    save_file({n: t.contiguous() for n, t in tensors.items()}, out / SINGLE, metadata={"format": "pt"})
    revert = out / "revert"
    revert.mkdir(exist_ok=True)
    save_file(before, revert / BODY)
    head = {"format": 1, "edited": fingerprint(out), "weights": sorted(columns), **about}
    (revert / HEAD).write_text(json.dumps(head, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def revert_edit(edited: Path, out: Path) -> None:
    """Write `out`: an edited folder with its columns as they were before the edit, bit for bit.

    Raises:
        ArtifactError: the folder is not the one that the revert file was written for.
    """
    head = read_json(edited / "revert" / HEAD)
    found = fingerprint(edited)
    if head.get("edited") != found:
        raise ArtifactError(
            f"{edited} changed after the edit ({found[:12]}…, the revert file is for "
            f"{str(head.get('edited'))[:12]}…): revert the folder that the edit wrote"
        )
    before, tensors = load_file(edited / "revert" / BODY), read_model_tensors(edited)
    for name in head["weights"]:
        tensors[name] = tensors[name].clone()
        tensors[name][:, before[f"{name}.units"]] = before[f"{name}.columns"].to(tensors[name].dtype)
    out.mkdir(parents=True, exist_ok=True)
    carry(edited, out)
    save_file({n: t.contiguous() for n, t in tensors.items()}, out / SINGLE, metadata={"format": "pt"})


# -- what an edit did ----------------------------------------------------------------------------------------


@torch.no_grad()
def first_choices(anatomy: Anatomy, rows: Sequence[Sequence[int]]) -> list[int]:
    """The model's next token after each prompt."""
    return [int(anatomy.model(torch.tensor([list(row)])).logits[0, -1].argmax()) for row in rows]


def share_of(cases: Sequence[Case], choices: Sequence[int]) -> float:
    """Share of cases whose answer is the first choice; 0 for none."""
    return sum(c.answer == t for c, t in zip(cases, choices, strict=True)) / max(1, len(cases))


def share_same(before: Sequence[int], after: Sequence[int]) -> float:
    """Share of prompts whose first choice stayed; 1 for none."""
    return sum(a == b for a, b in zip(before, after, strict=True)) / len(before) if before else 1.0
