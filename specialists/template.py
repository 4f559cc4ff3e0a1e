"""Render a chat template as transformers does, without importing it: templates come from strangers, so in a
sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here they are rendered as they are."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class GuardedNamespace(Namespace):
    """`namespace()` without underscored names, through which a template could reach Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # As Jinja's own: `self` is taken from `args`, so that `namespace(self=...)` is possible.
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_hidden(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_hidden(name)
        super().__setitem__(name, value)


def _refuse_hidden(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template sets {name!r}: names in a namespace start with a letter")


class GuardedDict:
    """`dict` as a template may use it: a call and `fromkeys`, no attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


def render(
    template: str, messages: Sequence[Mapping[str, str]], call: bool, tokens: Mapping[str, str]
) -> str:
    """Return the text of a conversation; `call` adds what asks for an answer, the template knows `tokens`.

    Raises:
        jinja2.exceptions.TemplateError: the template is broken, refuses these messages, or does what the
            sandbox forbids.
    """
    plain = [dict(message) for message in messages]
    return _compiled(template).render(
        messages=plain, tools=None, documents=None, add_generation_prompt=call, **tokens
    )


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_refuse, strftime_now=_now, dict=GuardedDict(), namespace=GuardedNamespace
    )
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON without Jinja's escapes for HTML."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
