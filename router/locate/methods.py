"""The table of methods: one interface, a model, prompts and options in, a ranked finding out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple, cast

from ...store.errors import UsageError
from .anatomy import Anatomy
from .case import Case, settle
from .finding import Finding
from .options import Options

Method = Callable[[Anatomy, Sequence[Case], Options], Finding]


class Entry(NamedTuple):
    """Where a method lives, and one line about it. `kinds` and `hows` are what its options may say."""

    module: str
    function: str
    help: str
    kinds: tuple[str, ...] = ()
    hows: tuple[str, ...] = ()


METHODS: dict[str, Entry] = {
    "lens": Entry(
        "lens", "locate_lens", "read every layer and position in words", (), ("probability", "logit")
    ),
    "neurons": Entry("attribute", "locate_neurons", "FFN neurons that raise the answer's probability"),
    "channels": Entry("attribute", "locate_channels", "attention neurons that raise it"),
    "queries": Entry("attribute", "locate_queries", "earlier FFN neurons that feed those attention neurons"),
    "heads": Entry("attribute", "locate_heads", "heads that raise it"),
    "layers": Entry("attribute", "locate_layers", "attention and MLP layers that raise it"),
    "gradient": Entry(
        "gradient",
        "locate_gradient",
        "activation x gradient",
        ("neurons", "heads", "states"),
        ("plain", "integrated"),
    ),
    "ablate": Entry(
        "causal",
        "locate_ablate",
        "what is lost without a part",
        ("heads", "layers", "neurons"),
        ("zero", "mean"),
    ),
    "patch": Entry(
        "causal",
        "locate_patch",
        "what brings the answer back into a corrupt prompt",
        ("heads", "layers", "neurons", "states"),
    ),
    "compare": Entry(
        "compare", "locate_compare", "neurons that change with a head silenced, or between models", ("L0.H0",)
    ),
    "flow": Entry(
        "flow", "locate_flow", "where the answer's logit comes from; with a bridge, which of two hops fails"
    ),
    "sinks": Entry(
        "sinks",
        "locate_sinks",
        "heads that look at the first token whatever it is",
        (),
        ("norm", "coordinates", "direction", "random"),
    ),
    "circuit": Entry(
        "circuit", "locate_circuit", "edges between parts that carry the answer, and how faithfully"
    ),
    "probe": Entry(
        "decoding",
        "locate_probe",
        "layers where a label can be read, against a control task",
        (),
        ("last", "mean"),
    ),
    "magnitude": Entry(
        "magnitude",
        "locate_magnitude",
        "what is large",
        ("neurons", "heads"),
        ("written", "weights", "contrast"),
    ),
    "languages": Entry(
        "languages",
        "locate_languages",
        "where languages lie apart, and the band they share",
        (),
        ("own", "plain"),
    ),
    "contrast": Entry("contrast", "locate_contrast", "neurons that tip the answer between two words"),
    "incontext": Entry("incontext", "locate_incontext", "heads that carry labels from demonstrations"),
}


def locate(method: str, anatomy: Anatomy, cases: Sequence[Case], options: Options | None = None) -> Finding:
    """Run a method of `METHODS`. Cases without an answer are explained for the model's own first choice.

    Raises UsageError for an unknown method or option, and for prompts that lack what the method needs.
    """
    entry, chosen = entry_of(method), options or Options()
    for name, value, allowed in (
        ("kind", chosen.kind, entry.kinds),
        ("how", chosen.how, entry.hows),
    ):
        if value is not None and value not in allowed and method != "compare":
            raise UsageError(
                f"{method} takes no {name} {value!r}; "
                + (
                    f"choose one of {', '.join(allowed)}"
                    if allowed
                    else f"it has no such choice: leave {name} out"
                )
            )
    run = cast(Method, getattr(import_module(f".{entry.module}", __package__), entry.function))
    return run(anatomy, settle(anatomy, cases), chosen)


def entry_of(method: str) -> Entry:
    """Look a method up. Raises UsageError naming those that exist."""
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method]
