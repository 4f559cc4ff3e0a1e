"""Features: what each seems to be about, and the recent decisions it weighed in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ...store.errors import NotFoundError
from ...store.records import FeatureContribution, Page, Part
from ..voyage import Ship
from . import charts
from .decision import layer_of

Body = dict[str, Any]
SAMPLE = 1000  # newest records that are looked through
SHOWN = 100


class Weighed(NamedTuple):
    """One contribution to one decision."""

    page: Page
    part: Part
    row: FeatureContribution


def weighed(pages: Iterable[Page]) -> Iterator[Weighed]:
    """Every named contribution in these pages."""
    for page in pages:
        for part in page.record.parts:
            yield from (Weighed(page, part, row) for row in part.features if row.feature is not None)


def index_of(pages: list[Page]) -> Body:
    """The features of these pages, those that weighed most first."""
    groups: dict[tuple[int | None, int], list[FeatureContribution]] = defaultdict(list)
    for one in weighed(pages):
        groups[layer_of(one.row.label), int(one.row.feature or 0)].append(one.row)
    rows = [_line(layer, feature, group) for (layer, feature), group in groups.items()]
    rows.sort(key=lambda row: (-row["weight"], row["feature"]))
    return {"records": len(pages), "features": rows[: 2 * SHOWN]}


def _line(layer: int | None, feature: int, group: list[FeatureContribution]) -> Body:
    return {
        "feature": feature,
        "layer": layer,
        "label": group[0].label,
        "decisions": len(group),
        "mean": sum(row.contribution for row in group) / len(group),
        "weight": sum(abs(row.contribution) for row in group),
    }


def feature_of(pages: list[Page], feature: int, layer: int | None, ship: Ship) -> Body:
    """One feature: its label and examples in the family now, and where it weighed.

    Raises NotFoundError where neither the family nor these pages know it.
    """
    found = [one for one in weighed(pages) if one.row.feature == feature and layer_of(one.row.label) == layer]
    label = _label(ship, feature, layer)
    if not found and label is None:
        raise NotFoundError(
            f"feature {feature} is neither in the family nor in the newest {len(pages)} records"
        )
    found.sort(key=lambda one: -abs(one.row.contribution))
    by_specialist: dict[str, list[float]] = defaultdict(list)
    for one in found:
        by_specialist[one.row.specialist].append(one.row.contribution)
    return {
        "feature": feature,
        "layer": layer,
        "label": label.text if label is not None else found[0].row.label,
        "examples": list(label.examples) if label is not None else [],
        "records": len(pages),
        "decisions": len(found),
        "activations": [one.row.activation for one in found],
        "contributions": [one.row.contribution for one in found],
        "specialists": [
            {"specialist": name, "decisions": len(values), "mean": sum(values) / len(values)}
            for name, values in sorted(by_specialist.items(), key=lambda item: -len(item[1]))
        ],
        "where": [_place(one) for one in found[:SHOWN]],
    }


def _place(one: Weighed) -> Body:
    return {
        "record_id": one.page.record.id,
        "part": one.part.index,
        "created_at": one.page.record.created_at,
        "prompt": one.part.prompt if one.part.prompt is not None else one.page.prompt,
        "specialist": one.row.specialist,
        "activation": one.row.activation,
        "contribution": one.row.contribution,
    }


def _label(ship: Ship, feature: int, layer: int | None) -> Any:
    """The family's label; without a layer, the one of the only layer there is."""
    if ship.scout is None:
        return None
    labels: Any = ship.scout.labels
    nested = any(isinstance(one, dict) for one in labels.values())
    if not nested:
        return labels.get(feature)
    chosen = labels.get(layer) if layer is not None else next(iter(labels.values()), {})
    return (chosen or {}).get(feature)


def drawn(body: Body) -> Body:
    """The feature page's pictures."""
    widest = max((abs(row["contribution"]) for row in body["where"]), default=0.0)
    return {
        "activations": charts.histogram(body["activations"], "how strongly the feature was active"),
        "contributions": charts.histogram(body["contributions"], "what the feature added to the logit"),
        "where": [charts.diverging(row["contribution"], widest) for row in body["where"]],
    }
