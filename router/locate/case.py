"""What is asked of a model: a prompt, the answer that is explained, and what it is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy
from .run import device_of, prompt_row

Encode = Callable[[str], list[int]]
LIMIT = 4096  # prompts of one file


@dataclass(frozen=True)
class Case:
    """Token ids of a prompt and of the answer's first token.

    `against`: another answer; then the measure is the difference of both logits, else log P(answer).
    `corrupt`: a prompt of the same length with another answer, for patching. `label`: a class for probing.
    `language`: for language subspaces. `subject`: where in the prompt the subject stands, first and
    past-the-last token. `bridge`: the first token of what the first of two hops leads to.
    """

    ids: tuple[int, ...]
    answer: int
    against: int | None = None
    corrupt: tuple[int, ...] | None = None
    label: int | None = None
    language: str = ""
    subject: tuple[int, int] | None = None
    tokens: tuple[str, ...] = field(default=(), compare=False)
    bridge: int | None = None

    def measure(self, logits: Tensor) -> Tensor:
        """Return how strongly logits [...,V] say the answer: log P(answer), or logit(answer) -
        logit(against).
        """
        if self.against is None:
            return logits[..., self.answer] - logits.logsumexp(-1)
        return logits[..., self.answer] - logits[..., self.against]

    def words(self) -> list[str]:
        """One word a token, for pictures."""
        return list(self.tokens) or [str(i) for i in self.ids]


def need(cases: Sequence[Case], what: str) -> Sequence[Case]:
    """Return `cases`; raises UsageError when there is none, or one lacks the field `what`."""
    if not cases:
        raise UsageError("there are no prompts; give at least one")
    for index, one in enumerate(cases):
        if what and getattr(one, what) in (None, ""):
            raise UsageError(
                f'prompt {index + 1} has no "{what}", which this method needs; write each prompt as a JSON '
                f'object a line with "prompt" and "{what}"'
            )
    return cases


def read_cases(path: Path, encode: Encode, word: Callable[[int], str]) -> list[Case]:
    """Read prompts: one JSON object a line (`prompt`, and optionally `answer`, `against`, `corrupt`, `label`,
    `language`, `subject`, `bridge`), or one plain prompt a line. Where there is no answer, `answer` is -1
    (see `settle`).

    Raises UsageError naming the line that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the prompts {str(path)!r} cannot be read ({error}); give a UTF-8 text file"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_case(line, f"{path.name}:{number}", encode, word))
    if not 1 <= len(found) <= LIMIT:
        raise UsageError(f"{path.name} holds {len(found)} prompts; give 1 to {LIMIT}")
    return found


def _case(line: str, where: str, encode: Encode, word: Callable[[int], str]) -> Case:
    row: object = {"prompt": line}
    if line.lstrip().startswith("{"):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where} is not JSON ({error}); write one object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise UsageError(f'{where} has no "prompt" text; write {{"prompt": "…", "answer": "…"}}')
    ids = tuple(encode(row["prompt"]))

    def token(name: str) -> int | None:
        text = row.get(name)
        if text is None:
            return None
        # the answer's first token is the one that follows the prompt's
        both = encode(row["prompt"] + str(text))
        more = both[len(ids) :] if tuple(both[: len(ids)]) == ids else encode(str(text))
        if not more:
            raise UsageError(f'{where}: "{name}" {text!r} is no token; give a word')
        return more[0]

    answer = token("answer")
    corrupt, label = row.get("corrupt"), row.get("label")
    return Case(
        ids,
        -1 if answer is None else answer,
        token("against"),
        tuple(encode(corrupt)) if isinstance(corrupt, str) else None,
        int(label) if isinstance(label, int | bool) else None,
        str(row.get("language", "")),
        _span(ids, row.get("subject"), encode, where),
        tuple(map(word, ids)),
        token("bridge"),
    )


def _span(ids: tuple[int, ...], subject: object, encode: Encode, where: str) -> tuple[int, int] | None:
    """Where the subject's tokens stand, as alone or after a space."""
    if subject is None:
        return None
    for text in (str(subject), f" {subject}"):
        wanted = tuple(encode(text))
        for start in range(len(ids) - len(wanted) + 1):
            if wanted and ids[start : start + len(wanted)] == wanted:
                return start, start + len(wanted)
    raise UsageError(f"{where}: the subject {subject!r} does not stand in the prompt as whole tokens")


@torch.no_grad()
def settle(anatomy: Anatomy, cases: Sequence[Case]) -> list[Case]:
    """Give each case without an answer the model's own first choice; raises UsageError for foreign tokens."""
    found = []
    size = anatomy.unembed.shape[1]
    for one in need(cases, ""):
        used = [*one.ids, *(one.corrupt or ()), one.answer, one.against or 0, one.bridge or 0]
        if max(used) >= size:
            raise UsageError(
                f"token {max(used)} is outside this model's vocabulary of {size}; use its tokenizer"
            )
        if one.answer < 0:
            row = prompt_row(one.ids, device_of(anatomy))
            one = replace(one, answer=int(anatomy.model(row).logits[0, -1].argmax()))
        found.append(one)
    return found
