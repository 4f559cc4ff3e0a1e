"""Probes: linear read-outs of the residual stream with a calibrated probability.

logit = weight . x + bias over the pooled vector x [F] of the probe's site. A `correct` probe is named after
a specialist and says how likely that specialist answers correctly; a `reading` probe is named after what
it detects.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ...store.plugins import Group
from ...store.records import Reading
from ..checks import finite, vector
from ..files import head_field, read_json, read_tensors, sha256_of, write_json, write_tensors
from ..fingerprint import require
from ..taps import Site
from .calibrate import Calibration, calibration_from_json
from .joint import log_odds, log_odds_of

Kind = Literal["correct", "reading"]
FORMAT = 1
PROBES = Group("pilothouse.probes", "probe type")


@dataclass(frozen=True, eq=False)
class Probe:
    """One linear probe. `weight` [F] float32; `threshold` is a probability; `fingerprint` names the model.

    Standardisation is folded into weight and bias when the probe is fitted. `meta` is free JSON: data,
    metrics, seed. competes: its probability also depends on what the bank's other competing probes say; the
    logit does not (see `joint`). Raises UsageError when a field breaks these rules.

    A package adds a type of probe with a subclass that has a `type` of its own, what is `beyond` the linear
    part, and `load` and `save`; it declares the class in the entry point group `pilothouse.probes`.
    """

    name: str
    kind: Kind
    weight: Tensor
    bias: float
    calibration: Calibration
    threshold: float
    site: Site
    fingerprint: str
    meta: dict[str, Any] = field(default_factory=dict)
    competes: bool = False
    type: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", self.weight.detach().cpu().float())
        vector(f"the weight of probe {self.name!r}", self.weight)
        if not self.name or self.kind not in get_args(Kind):
            raise UsageError(
                f"probe {self.name!r} of kind {self.kind!r}: give a name and a kind of {get_args(Kind)}"
            )
        if self.weight.numel() % len(self.site.blocks):
            raise UsageError(
                f"probe {self.name!r} has {self.weight.numel()} weights, no multiple of the "
                f"{len(self.site.blocks)} blocks of its site {self.site.name}; fit it on that site's vectors"
            )
        if not 0 <= self.threshold <= 1:
            raise UsageError(
                f"probe {self.name!r} has threshold {self.threshold}; it is a probability, 0 to 1"
            )
        finite(f"the bias of probe {self.name!r}", torch.tensor(float(self.bias)))

    @property
    def width(self) -> int:
        """The model's width D."""
        return self.weight.numel() // len(self.site.blocks)

    def beyond(self, x: Tensor) -> Tensor | None:
        """What the logit has beyond weight . x + bias, for vectors [N,F] float64: [N]; None where it has
        nothing, as here. An explanation counts it to what no feature explains.
        """
        return None

    def logit(self, x: Tensor) -> float:
        """Return weight . x + bias (and what a probe of another type has beyond) for one pooled vector [F],
        in float64.
        """
        checked = vector("the pooled vector", x, self.weight.numel()).double().cpu()
        beyond = self.beyond(checked[None])
        return float(self.weight.double() @ checked) + self.bias + (0.0 if beyond is None else float(beyond))

    def probability(self, x: Tensor) -> float:
        """Return the calibrated probability for one pooled vector [F]; of a probe that competes, were there
        no others.
        """
        return self.calibration.one(self.logit(x))

    def head(self) -> dict[str, Any]:
        """Return every field but the weight, as plain values."""
        other: dict[str, Any] = {} if self.type == "linear" else {"type": self.type}
        other |= {"competes": True} if self.competes else {}
        return other | {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "bias": self.bias,
            "calibration": self.calibration.to_json(),
            "threshold": self.threshold,
            "site": self.site.to_json(),
            "fingerprint": self.fingerprint,
            "meta": self.meta,
        }

    @cached_property
    def sha256(self) -> str:
        """Digest of everything in this probe that can change a reading or its story."""
        return sha256_of(self.head(), {"weight": self.weight})

    def save(self, folder: Path | str) -> None:
        """Write `probe.json` and `probe.safetensors` into `folder`."""
        write_tensors(Path(folder) / "probe.safetensors", {"weight": self.weight})
        write_json(Path(folder) / "probe.json", self.head())

    @classmethod
    def load(cls, folder: Path | str) -> Probe:
        """Read a probe back. Raises ArtifactError when a file is missing, damaged or of another format."""
        path = Path(folder) / "probe.json"
        head = read_json(path)
        if head.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} has format {head.get('format')!r}; this version reads {FORMAT}; fit it again"
            )
        weight = read_tensors(Path(folder) / "probe.safetensors", ("weight",))["weight"]
        fields = {
            name: head_field(head, name, path)
            for name in ("name", "kind", "threshold", "fingerprint", "meta")
        }
        try:
            return cls(
                weight=weight,
                bias=float(head_field(head, "bias", path)),
                calibration=calibration_from_json(head_field(head, "calibration", path)),
                site=Site(**head_field(head, "site", path)),
                competes=bool(head.get("competes", False)),
                **fields,
            )
        except (UsageError, TypeError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path} is no probe: {error}; restore the file") from error


def load_probe(folder: Path | str) -> Probe:
    """Read a probe of any type: `type` in its probe.json names an entry of `pilothouse.probes`.

    Raises ArtifactError when the probe is damaged, or no installed package brings its type; PluginError when
    that package is broken.
    """
    path = Path(folder) / "probe.json"
    name = str(read_json(path).get("type", "linear"))
    try:
        PROBES.require(name)
    except UsageError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    found: Probe = PROBES.load(name).load(folder)
    return found


class ProbeBank:
    """All probes of a family, read together: one product of the stacked weights [P,F] with x [F].

    Raises UsageError when there is no probe, when two share kind and name, or when sites, lengths or
    fingerprints differ: they would not be reading the same vector.
    """

    def __init__(self, probes: Iterable[Probe]) -> None:
        self.probes: tuple[Probe, ...] = tuple(probes)
        if not self.probes:
            raise UsageError("the probe bank is empty; give it at least one probe")
        keys = [(probe.kind, probe.name) for probe in self.probes]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise UsageError(f"the probe bank holds {twice[0]} twice; kind and name together must be unique")
        for what, kinds in (
            ("sites", {probe.site.name for probe in self.probes}),
            ("lengths", {str(probe.weight.numel()) for probe in self.probes}),
            ("fingerprints", {probe.fingerprint for probe in self.probes}),
        ):
            if len(kinds) > 1:
                raise UsageError(
                    f"the probes have {what} {sorted(kinds)}; a bank reads one vector; fit them alike"
                )
        self.site = self.probes[0].site
        self.fingerprint = self.probes[0].fingerprint
        self._weight = torch.stack([probe.weight for probe in self.probes]).double()
        self._bias = torch.tensor([probe.bias for probe in self.probes], dtype=torch.float64)
        self._rivals = [at for at, probe in enumerate(self.probes) if probe.competes]
        self._beyond = [at for at, probe in enumerate(self.probes) if probe.type != "linear"]

    @classmethod
    def load(cls, folder: Path | str) -> ProbeBank:
        """Read every probe below `folder` (`P/probe.json`), in the order of their folder names.

        Raises ArtifactError when there is none, or one is damaged.
        """
        folders = sorted(path.parent for path in Path(folder).glob("*/probe.json"))
        if not folders:
            raise ArtifactError(f"{folder} holds no probe (NAME/probe.json); restore the family")
        return cls(load_probe(path) for path in folders)

    def save(self, folder: Path | str) -> None:
        """Write every probe to `folder/KIND-NAME/`."""
        for probe in self.probes:
            probe.save(Path(folder) / f"{probe.kind}-{probe.name}")

    @property
    def size(self) -> int:
        """Length F of the vector that this bank reads."""
        return self._weight.shape[1]

    @property
    def specialists(self) -> tuple[str, ...]:
        """The specialists that have a `correct` probe."""
        return tuple(probe.name for probe in self.probes if probe.kind == "correct")

    def require(self, found: str) -> None:
        """Raises ArtifactError when the bank was fitted for another model than `found`."""
        require(self.fingerprint, found, "the probe bank")

    def probe(self, name: str, kind: Kind = "correct") -> Probe:
        """Return one probe. Raises UsageError when there is none."""
        for probe in self.probes:
            if (probe.kind, probe.name) == (kind, name):
                return probe
        have = sorted(probe.name for probe in self.probes if probe.kind == kind)
        raise UsageError(f"there is no {kind} probe {name!r}; this family has {', '.join(have) or 'none'}")

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of one vector, [F] -> [P], or of many, [N,F] -> [N,P]; float64."""
        if x.ndim not in (1, 2) or x.shape[-1] != self.size:
            raise UsageError(
                f"the pooled vector has shape {list(x.shape)}; site {self.site.name} gives {self.size}; "
                "pool with this bank's site"
            )
        finite("the pooled vector", x)
        values = x.double().cpu()
        found = values @ self._weight.T + self._bias
        for at in self._beyond:
            if (more := self.probes[at].beyond(values.reshape(-1, self.size))) is not None:
                found[..., at] += more.reshape(found[..., at].shape)
        return found

    def scores(self, x: Tensor) -> Tensor:
        """Return what calibrations map: logits as `logits` gives them, of probes that compete their log-odds
        against each other and nobody.
        """
        found = self.logits(x)
        if self._rivals:
            found[..., self._rivals] = log_odds(found[..., self._rivals])
        return found

    def scores_of(self, x: Tensor) -> list[float]:
        """`scores` of one vector [F] as plain numbers: a prompt waits for this, and of fifteen numbers each
        call on tensors costs more than the arithmetic.
        """
        if x.shape != self._weight.shape[1:]:
            vector("the pooled vector", x, self.size)
        plain = x if x.dtype == torch.float32 and x.device.type == "cpu" else x.double().cpu()
        values = plain.detach().numpy().astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite is refused below, by name
            found: list[float] = (self._weight.numpy().dot(values) + self._bias.numpy()).tolist()
        for at in self._beyond:
            more = self.probes[at].beyond(torch.from_numpy(values)[None])
            found[at] += 0.0 if more is None else float(more)
        if not all(map(math.isfinite, found)):  # so is x, if the scores are
            vector("the pooled vector", x, self.size)
        if self._rivals:
            odds = log_odds_of([found[at] for at in self._rivals])
            for at, score in zip(self._rivals, odds, strict=True):
                found[at] = score
        return found

    def evaluate(self, x: Tensor) -> tuple[tuple[Reading, ...], dict[str, float]]:
        """Return the readings and each specialist's P(correct) for one vector [F]."""
        pairs = list(zip(self.probes, self.scores_of(x), strict=True))
        readings = tuple(_reading(probe, score) for probe, score in pairs if probe.kind == "reading")
        correct = {
            probe.name: probe.calibration.one(score) for probe, score in pairs if probe.kind == "correct"
        }
        return readings, correct

    def read(self, x: Tensor) -> tuple[Reading, ...]:
        """Return what every `reading` probe says of one vector [F]."""
        return self.evaluate(x)[0]

    def correct(self, x: Tensor) -> dict[str, float]:
        """Return {specialist: calibrated P(correct)} for one vector [F]."""
        return self.evaluate(x)[1]

    def probabilities(self, x: Tensor) -> dict[tuple[Kind, str], Tensor]:
        """Return {(kind, name): probabilities [N]} for many vectors [N,F]."""
        scores = self.scores(x)
        return {(p.kind, p.name): p.calibration(scores[:, i]) for i, p in enumerate(self.probes)}


def _reading(probe: Probe, score: float) -> Reading:
    probability = probe.calibration.one(score)
    return Reading(
        probe=probe.name,
        site=probe.site.name,
        score=score,
        probability=probability,
        threshold=probe.threshold,
        fired=probability >= probe.threshold,
    )
