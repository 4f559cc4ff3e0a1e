"""Turn a conversation into tokens and tokens into text: user text can never become a special token.

The chat template is rendered once per pattern of roles around marks; the pieces between the marks are encoded
with special tokens, the contents without. So `<|assistant|>` typed by a user is just eleven or so ordinary
characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from ..store.errors import ArtifactError
from ..store.records import Message
from .weights import read_json

MARK = re.compile("\ue000(\\d+)\ue001")
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ {'user': 'User: ', 'assistant': 'Assistant: ', 'system': ''}[m['role']] }}"
    "{{ m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
PLAIN_STOPS = ("\nUser:", "\nAssistant:")


@dataclass(frozen=True)
class Skeleton:
    """A rendered template cut at its marks: literal texts, and between them the numbers of the messages."""

    literals: tuple[str, ...]
    order: tuple[int, ...]
    invocation: str


class ChatCodec:
    """The tokenizer of one model folder together with its chat template.

    ``prompt`` tokens end where the last turn ends; ``invocation`` is what the template adds to call for an
    answer (empty for templates that add nothing); ``end`` closes an answer, ``stops`` are all tokens that do.
    """

    def __init__(self, tokenizer: Tokenizer, config: dict[str, Any], stops: Sequence[int] = ()) -> None:
        self.parser, self.config = tokenizer, config
        self.plain = Tokenizer.from_str(tokenizer.to_str())
        for each in (self.parser, self.plain):
            each.no_padding()
            each.no_truncation()
        self.plain.encode_special_tokens = True
        self.template = template_of(config)
        self.stop_texts = PLAIN_STOPS if self.template is PLAIN_TEMPLATE else ()
        self.start = () if self.template is not PLAIN_TEMPLATE else tuple(self.parser.encode("").ids)
        self.end = self._end(stops)
        self.stops = frozenset({self.end, *stops})
        self._skeleton = lru_cache(maxsize=64)(self._render)

    @classmethod
    def load(cls, folder: Path) -> ChatCodec:
        """Read the tokenizer of a Hugging Face folder.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        config = read_json(folder / "tokenizer_config.json")
        template = folder / "chat_template.jinja"
        if template.is_file():
            config["chat_template"] = template.read_text(encoding="utf-8")
        path = folder / "tokenizer.json"
        if not path.is_file():
            return cls(_converted(folder), config, eos_of(folder))
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises bare Exception
            raise ArtifactError(f"{path} is no tokenizer file ({error}): restore it") from error
        return cls(tokenizer, config, eos_of(folder))

    def _end(self, stops: Sequence[int]) -> int:
        name = token_text(self.config.get("eos_token"))
        found = self.parser.token_to_id(name) if name else None
        if found is None and not stops:
            raise ArtifactError(
                f"the tokenizer names no end token (eos_token is {name!r}): add it to its config"
            )
        return int(stops[0] if found is None else found)

    @property
    def invocation(self) -> tuple[int, ...]:
        """The tokens between a prompt and its answer."""
        return self._special(self._skeleton(("user",)).invocation)

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Encode a conversation up to the end of its last turn (the invocation is not included).

        Raises:
            ArtifactError: the chat template refuses these roles.
        """
        skeleton = self._skeleton(tuple(m.role for m in messages))
        tokens = [*self.start, *self._special(skeleton.literals[0])]
        for number, literal in zip(skeleton.order, skeleton.literals[1:], strict=True):
            tokens.extend(self.encode_text(messages[number].content))
            tokens.extend(self._special(literal))
        return tuple(tokens)

    def encode_prompt(self, prompt: str, history: Sequence[tuple[str, str]] = ()) -> tuple[int, ...]:
        """Encode earlier (user, assistant) turns and a prompt."""
        messages: list[Message] = []
        for user, assistant in history:
            messages += [Message(role="user", content=user), Message(role="assistant", content=assistant)]
        return self.encode_chat([*messages, Message(role="user", content=prompt)])

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode plain text, in which nothing is a special token. Lone surrogates become U+FFFD."""
        clean = text.encode("utf-8", "replace").decode() if not text.isascii() else text
        return tuple(self.plain.encode(clean, add_special_tokens=False).ids)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Encode an answer, end token included."""
        return (*self.encode_text(text), self.end)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special tokens left out."""
        return str(self.parser.decode(list(tokens), skip_special_tokens=True))

    def _special(self, text: str) -> tuple[int, ...]:
        return tuple(self.parser.encode(text, add_special_tokens=False).ids) if text else ()

    def _render(self, roles: tuple[str, ...]) -> Skeleton:
        messages = [{"role": r, "content": f"\ue000{i}\ue001"} for i, r in enumerate(roles)]
        try:
            bare = self._jinja(messages, False)
            called = self._jinja(messages, True)
        except Exception as error:
            if "system" not in roles:
                raise ArtifactError(
                    f"the chat template refuses the turns {', '.join(roles)}: {error}"
                ) from error
            return self._without_system(roles)
        parts = MARK.split(bare)
        invocation = called[len(bare) :] if called.startswith(bare) else ""
        return Skeleton(tuple(parts[::2]), tuple(int(p) for p in parts[1::2]), invocation)

    def _without_system(self, roles: tuple[str, ...]) -> Skeleton:
        """Templates such as Gemma's know no system turn: its text goes in front of the user's."""
        kept = [i for i, role in enumerate(roles) if role != "system"]
        inner = self._render(tuple(roles[i] for i in kept))
        first, order = inner.literals[0], tuple(kept[i] for i in inner.order)
        system = [i for i, role in enumerate(roles) if role == "system"]
        literals = (first, *("\n\n" for _ in system), *inner.literals[1:])
        return Skeleton(literals, (*system, *order), inner.invocation)

    def _jinja(self, messages: list[dict[str, str]], call: bool) -> str:
        from .template import render

        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        tokens = {n: token_text(self.config.get(n)) or "" for n in names}
        return render(self.template, messages, call, tokens)


def token_text(value: Any) -> str | None:
    """Return the text of a token in a tokenizer config: a string, or an object with `content`."""
    return value.get("content") if isinstance(value, dict) else value


def template_of(config: dict[str, Any]) -> str:
    """Return the chat template of a tokenizer's config; base models get `User: … / Assistant:`."""
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {t["name"]: t["template"] for t in template}
        template = named.get("default", next(iter(named.values()), None))
    return template or PLAIN_TEMPLATE


def eos_of(folder: Path) -> tuple[int, ...]:
    """Return the end tokens that the model's own files name."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        found += value if isinstance(value, list) else [] if value is None else [value]
    return tuple(dict.fromkeys(int(v) for v in found))


def _converted(folder: Path) -> Tokenizer:
    """Convert a tokenizer without `tokenizer.json` (SentencePiece, vocab and merges) through transformers."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cast(Tokenizer, found.backend_tokenizer)
    except Exception as error:
        raise ArtifactError(
            f"{folder} holds no tokenizer that can be read ({error}): add tokenizer.json"
        ) from error


class Detokenizer:
    """Text of a growing token sequence, piece by piece; a character split over tokens waits until it is
    whole.

    Keeps a short window of decoded tokens as context, because some tokenizers decode a token differently at
    the start of a text (a leading space is dropped).
    """

    def __init__(self, codec: ChatCodec) -> None:
        self.codec = codec
        self.tokens: list[int] = []
        self.context = self.done = 0

    def push(self, token: int) -> str:
        """Add a token and return the text that became certain, often empty within a character."""
        self.tokens.append(token)
        before = self.codec.decode(self.tokens[self.context : self.done])
        after = self.codec.decode(self.tokens[self.context :])
        if len(after) <= len(before) or after.endswith("\ufffd"):
            return ""
        self.context, self.done = self.done, len(self.tokens)
        return after[len(before) :]

    def flush(self) -> str:
        """Return what is left at the end: half characters come out as U+FFFD."""
        before = self.codec.decode(self.tokens[self.context : self.done])
        after = self.codec.decode(self.tokens[self.context :])
        self.context = self.done = len(self.tokens)
        return after[len(before) :]


class StopTexts:
    """Hold back text that may be the start of a stop string, and cut at the first stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(s for s in stops if s)
        self.held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Add text and return what may be shown; after a stop string was met, nothing more."""
        if self.stopped or not self.stops:
            return "" if self.stopped else text
        self.held += text
        found = [at for at in (self.held.find(s) for s in self.stops) if at >= 0]
        if found:
            self.stopped = True
            shown, self.held = self.held[: min(found)], ""
            return shown
        keep = max(overlap(self.held, stop) for stop in self.stops)
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def flush(self) -> str:
        """Return what was held back, once no more text comes."""
        shown, self.held = self.held, ""
        return shown


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of ``text`` that begins ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
