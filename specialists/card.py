"""The card of a specialist: what it does, what it was made from and how well it does it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..store.errors import ArtifactError
from ..store.records import Count, Digest
from .toml import dumps

M = TypeVar("M", bound=BaseModel)
Kind = Literal["adapter", "student", "cards", "trunk", "remote"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Strict(BaseModel):
    """A value read from a file: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Strict):
    """Data that something was trained on."""

    name: str
    licence: str
    source: str = ""


class Remote(Strict):
    """The `[remote]` table of a card: an OpenAI-compatible endpoint. `url` ends before `/chat/completions`.

    `key_from` names the environment variable that holds the key; the key itself is never in a file.
    `patience` is how many seconds of silence are borne, `timeout` how long an answer may take in all;
    `attempts` counts tries before the first token. `logprobs` asks for log-probabilities: turn it off where
    an endpoint refuses.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")]
    model: Annotated[str, Field(min_length=1)]
    key_from: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    timeout: Annotated[float, Field(gt=0)] = 120.0
    patience: Annotated[float, Field(gt=0)] = 30.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 4
    logprobs: bool = True

    @model_validator(mode="after")
    def _private(self) -> Remote:
        """A key goes over the network encrypted, or stays on this machine."""
        parts = urlsplit(self.url)
        near = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if self.key_from is not None and parts.scheme != "https" and not near:
            raise ValueError(
                f"the key in {self.key_from} would be sent in the clear to {parts.hostname}: use https"
            )
        return self


class Card(Strict):
    """card.toml. `description` is one line for users; `examples` are prompts that show the specialist at its
    best.

    `kind`: `adapter` acts on the trunk; `student` is a model of its own with the trunk's tokenizer; `cards`
    answers from the family's cards and has no weights; `trunk` is the bare trunk; `remote` is an endpoint
    elsewhere (and only it has a `remote` table): it is routed to and logged, not steered. `parent_sha256` is
    the fingerprint of the model it was made from. `metrics` are held-out figures, singly or in named groups.
    """

    name: Name
    kind: Kind
    title: str
    description: str
    examples: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    data: tuple[Source, ...] = ()
    method: str = ""
    parent_sha256: Digest | None = None
    quantization: str | None = None
    metrics: dict[str, float | dict[str, float]] = {}
    max_tokens: Annotated[Count, Field(ge=1)] = 256
    out_of_domain: str = ""
    remote: Remote | None = None

    @model_validator(mode="after")
    def _whole(self) -> Card:
        if (self.kind == "remote") != (self.remote is not None):
            raise ValueError(
                f"a card of kind {self.kind!r}: exactly those of kind 'remote' have a [remote] table"
            )
        return self

    def save(self, folder: Path) -> None:
        """Write `card.toml`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "card.toml").write_text(dumps(self.model_dump(exclude_none=True)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Card:
        """Read `card.toml`; its name must be the folder's.

        Raises:
            ArtifactError: it is missing, no TOML, has unknown or missing keys, or another name.
        """
        card = parse(cls, folder / "card.toml")
        if card.name != folder.name:
            raise ArtifactError(f"{folder / 'card.toml'} says name {card.name!r}: it must be {folder.name!r}")
        return card


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ArtifactError: it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: restore it, or reinstall the family") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as TOML ({error}): correct or restore it") from error


def parse(model: type[M], path: Path) -> M:
    """Read a TOML file into `model`.

    Raises:
        ArtifactError: the file is missing or damaged, or a key is unknown, missing or of the wrong kind.
    """
    try:
        return model.model_validate(read_toml(path))
    except ValidationError as error:
        raise ArtifactError(f"{path}: {described(error)}: correct or restore it") from error


def described(error: ValidationError) -> str:
    """Say in one line what is wrong, key by key."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(map(str, fault["loc"])) or "the file"
        message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{key}: {message}")
    return "; ".join(faults)
