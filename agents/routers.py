"""Open scouts and routers by name: a family's trunk, a model folder, or no model at all.

router = Router.open("my-router")
decision, candidates = router.decide("What is 12 + 30?")
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..store.errors import ArtifactError, UsageError
from ..store.records import Candidate, Decision, Message

if TYPE_CHECKING:
    from torch import Tensor

    from ..router.routing.artifact import RoutingPolicy, Second
    from ..router.routing.scouts import Reader, Turns
    from ..router.routing.seen import Seen
    from ..router.taps import Span
    from ..specialists.family import Family

NONE = "none"
_CONTEXT = 1024
_LONGEST_ENCODED = 512
EXACT = "float32"


def open_reader(
    scout: str,
    layers: Sequence[int] = (),
    poolings: Sequence[str] = (),
    precision: str = "",
    span: Span | None = None,
) -> Reader:
    """Open a scout: `none`, a family by name or folder, or the folder of a Hugging Face model.

    layers and poolings empty: what the family's probes read; else half and three quarters down a decoder
    (last token and rolling means), a third, two thirds and the end of an encoder (mean). span: what of a
    conversation a decoder pools; None: what the family's probes do, else its last turn. precision: of a
    decoder `float32` (the default) or `int8`; of an encoder `bfloat16` (the default where the processor
    multiplies it faster) or `float32`. The reader's spec says what was taken, and by what it is read.

    Raises:
        NotFoundError: there is no such family or folder.
        UsageError: layers, poolings or a precision that do not exist.
        ArtifactError: weights or tokenizer are missing or damaged.
    """
    if scout == NONE:
        from ..router.routing.scouts import TextReader

        return TextReader({"kind": NONE})
    folder = Path(scout).expanduser()
    if (folder / "config.json").is_file():
        return _open_folder(folder, tuple(layers), tuple(poolings), precision, span)
    from ..specialists.family import Family

    return _open_family(Family.open(scout), scout, tuple(layers), tuple(poolings), span, precision)


def _open_family(
    family: Family,
    name: str,
    layers: tuple[int, ...],
    poolings: tuple[str, ...],
    span: Span | None,
    precision: str = "",
) -> Reader:
    from ..router.routing.scouts import DecoderReader
    from ..router.taps import Site

    usual = family.bank.site if family.bank is not None else Site.usual(family.scout_layers)
    site = Site(layers or usual.layers, poolings or usual.poolings, span or usual.span)
    spec: dict[str, Any] = {
        "kind": "family",
        "place": name,
        "fingerprint": family.trunk_fingerprint,
        "site": site.name,
    }
    spec |= site.to_json()
    reader = _decoder(family.trunk_folder, site, spec, precision)
    sae = next((one for one in family.saes.values() if one.layer in site.layers), None)
    if sae is not None and isinstance(reader, DecoderReader):
        pool = Site(
            (sae.layer,),
            ("max_rolling_mean",) if "max_rolling_mean" in site.poolings else site.poolings[:1],
            site.span,
        )
        reader.codes = lambda states, turn: sae.encode(pool.vector(states, turn)[None])[0]
        spec |= {"dictionary": sae.layer}
    return reader


def _open_folder(
    folder: Path, layers: tuple[int, ...], poolings: tuple[str, ...], precision: str, span: Span | None
) -> Reader:
    from ..router.fingerprint import fingerprint
    from ..router.taps import LAYER_PATHS, Site
    from ..specialists.create import check_trunk, scout_layers
    from ..specialists.leanencoder import fast_bfloat16
    from ..specialists.weights import read_json

    config = read_json(folder / "config.json")
    kind = "decoder" if config.get("model_type") in LAYER_PATHS else "encoder"
    spec = {"kind": kind, "place": str(folder), "fingerprint": fingerprint(folder)}
    if kind == "decoder":
        usual = Site.usual(layers or scout_layers(check_trunk(folder)))
        chosen = Site(usual.layers, poolings or usual.poolings, span or usual.span)
        return _decoder(folder, chosen, spec | {"site": chosen.name} | chosen.to_json(), precision)
    spec |= {"precision": precision or ("bfloat16" if fast_bfloat16() else EXACT)}
    return _encoder(folder, config, layers, poolings or ("mean",), spec)


def _decoder(folder: Path, site: Any, spec: dict[str, Any], precision: str) -> Reader:
    """A decoder as a scout; `spec` is told how it is read."""
    from ..router.routing.scouts import DecoderReader
    from ..specialists.scouting import open_forward
    from ..specialists.tokenizing import ChatCodec

    opened = open_forward(folder, precision or EXACT)
    for layer in site.layers:
        opened.require(layer)
    spec |= {"precision": opened.precision, "read_by": opened.read_by}
    context = min(_CONTEXT, opened.context)
    return DecoderReader(opened.forward, ChatCodec.load(folder).encode_chat, site, spec, context)


def _encoder(
    folder: Path,
    config: Mapping[str, Any],
    layers: tuple[int, ...],
    poolings: tuple[str, ...],
    spec: dict[str, Any],
) -> Reader:
    from tokenizers import Tokenizer

    from ..router.routing.scouts import EncoderReader, text_of
    from ..specialists.scouting import open_hidden

    depth = int(config.get("num_hidden_layers") or config.get("n_layers") or config.get("num_layers") or 0)
    chosen = layers or tuple(sorted({max(1, round(depth * share)) for share in (1 / 3, 2 / 3, 1)}))
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise ArtifactError(f"{path} is no tokenizer file ({error}); restore it") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    places = "+".join(f"H{layer}" for layer in chosen)
    spec |= {"layers": list(chosen), "poolings": list(poolings), "site": f"{places}:{'+'.join(poolings)}"}
    spec |= {"core": True}  # of the text, see `core_of`: what was kept of whole texts is not taken for it
    context = min(_LONGEST_ENCODED, int(config.get("max_position_embeddings", _LONGEST_ENCODED)))

    def encode(turns: Turns) -> Sequence[int]:
        return tokenizer.encode(text_of(turns)).ids

    hidden, spec["read_by"] = open_hidden(folder, spec["precision"])
    return EncoderReader(hidden, encode, chosen, poolings, spec, context)


def reopen(spec: Mapping[str, Any]) -> Reader:
    """Open the scout of a saved policy. Raises ArtifactError when the model there is another one by now."""
    if spec.get("kind") == NONE:
        return open_reader(NONE)
    reader = open_reader(
        str(spec["place"]),
        spec.get("layers", ()),
        spec.get("poolings", ()),
        spec.get("precision", ""),
        spec.get("span", "conversation"),
    )
    if reader.spec.get("fingerprint") != spec.get("fingerprint"):
        raise ArtifactError(
            f"the scout at {spec['place']} is the model {str(reader.spec.get('fingerprint'))[:12]}…, the "
            f"policy was "
            f"fitted on {str(spec.get('fingerprint'))[:12]}…; restore that model or fit the policy again"
        )
    return reader


@dataclass(eq=False)
class Router:
    """A saved routing policy with its scout, ready to decide."""

    policy: RoutingPolicy
    reader: Reader

    @classmethod
    def open(cls, folder: Path | str, family: Family | None = None) -> Router:
        """Open a policy folder; a scout that is the trunk of `family` is taken from there. Raises
        ArtifactError when it, or its scout, is missing or damaged.
        """
        from ..router.routing.artifact import RoutingPolicy
        from ..router.taps import Site

        policy = RoutingPolicy.load(folder)
        if family is None or policy.scout.get("fingerprint") != family.trunk_fingerprint:
            return cls(policy, reopen(policy.scout))
        site = Site.of(policy.scout)
        place, precision = str(policy.scout["place"]), str(policy.scout.get("precision", EXACT))
        return cls(policy, _open_family(family, place, site.layers, site.poolings, site.span, precision))

    def read(self, turns: Turns, states: Mapping[int, Tensor] | None = None, turn: int = 0) -> Seen:
        """What the scout sees of a conversation; from states of the same trunk [T,D] by layer where these
        are all that its heads read, so that it need not be read twice.
        """
        from ..router.routing.scouts import text_of
        from ..router.routing.seen import Seen

        if states is None or not set(self.shared) <= set(states) or not self.shared:
            return self.reader.read([turns])
        return Seen((text_of(turns),), self.reader.site.vector(states, turn)[None])  # type: ignore[attr-defined]

    @cached_property
    def shared(self) -> tuple[int, ...]:
        """The layers of a decoder that are all its heads read of it; none where they read more, another
        scout, or the same one rounded.
        """
        from ..router.routing.heads import Plain

        more = any(isinstance(head, Plain) for head in self.policy.fitted.heads.values())
        exact = self.policy.scout.get("precision", EXACT) == EXACT
        if more or not exact or self.policy.scout.get("kind") not in ("family", "decoder"):
            return ()
        return tuple(self.policy.scout["layers"])

    def decide(
        self,
        prompt: str | Sequence[Message],
        *,
        previous: str | None = None,
        stickiness: float = 0.0,
        tolerance: float | None = None,
        rng: random.Random | None = None,
    ) -> tuple[Decision, tuple[Candidate, ...]]:
        """Decide who answers a prompt or conversation; as `RoutingPolicy.decide`. Raises UsageError for
        none.
        """
        seen = self.reader.read([turns_of(prompt)])
        return self.policy.decide(
            seen, previous=previous, stickiness=stickiness, tolerance=tolerance, rng=rng
        )

    def after(self, prompt: str | Sequence[Message], answered: str, signals: Mapping[str, float]) -> Second:
        """Whom to ask next, now that `answered` has answered; as `RoutingPolicy.after`."""
        return self.policy.after(self.reader.read([turns_of(prompt)]), answered, signals)

    def stability(self, prompt: str, count: int = 3) -> float:
        """The share of typing errors, paraphrases and wrappers of a prompt that get the same decision."""
        from ..router.routing.perturb import PERTURBATIONS, variants

        asked = [prompt, *(text for kind in PERTURBATIONS for text in variants(prompt, kind, count))]
        seen = self.reader.read([turns_of(text) for text in asked])
        chosen = [self.policy.decide(seen.take([i]))[0].chosen for i in range(len(asked))]
        return sum(one == chosen[0] for one in chosen[1:]) / len(chosen[1:])


def turns_of(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """A conversation of one prompt, or the one given. Raises UsageError when there is no text in it."""
    turns = (Message(role="user", content=prompt),) if isinstance(prompt, str) else tuple(prompt)
    if not any(turn.content.strip() for turn in turns):
        raise UsageError("the prompt is empty; there is nothing to route")
    return turns
