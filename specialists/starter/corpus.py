"""Token streams for the trunk: plain English, teacher stories, and chats of every skill, each in one
``NAME.npy`` file.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .skills import arithmetic, dress, emotion, facts, helpdesk, screening, sources, stories, translate, words
from .skills.example import Example, Split
from .tokenizer import ASSISTANT, END, USER

SKILLS = {
    "arithmetic": arithmetic.examples,
    "facts": facts.examples,
    "translate": translate.examples,
    "emotion": emotion.examples,
    "screening": screening.examples,
    "words": words.examples,
    "stories": stories.examples,
    "help": helpdesk.examples,
}
STORY_BREAK = "\n<|endoftext|>\n"
CHUNK = 512
ASIDES = 0.12  # of the lessons follow an exchange on something else
DONORS = 400  # rows of each skill that such exchanges are drawn from


def chat_text(example: Example) -> str:
    """Write an example as the chat the model is trained on, earlier turns first."""
    turns = [*example.history, (example.prompt, example.answer)]
    return "".join(f"{USER}{ask}{END}{ASSISTANT}{reply}{END}" for ask, reply in turns)


def draw(skill: str, split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Draw ``count`` examples of a skill (fewer where its data is finite), some dressed in small talk.

    Raises:
        KeyError: no such skill.
    """
    return dress.dressed(SKILLS[skill](split, count, seed, data), split, seed)


def exchanges(split: Split, seed: int, data: Path | None) -> list[Example]:
    """Draw rows of every skill, to put before `ASIDES` of another's lessons: people change the topic."""
    return [row for skill in SKILLS for row in draw(skill, split, DONORS, seed + 3, data)]


def encode(texts: Iterable[str], tokenizer: Tokenizer, limit: int, *, close: bool) -> np.ndarray:
    """Encode texts one after another to at most ``limit`` token ids (uint16); ``close`` ends each with the
    end token.
    """
    end: list[int] = [int(tokenizer.token_to_id(END) or 0)] if close else []
    ids: list[int] = []
    for chunk in _chunks(texts):
        for encoding in tokenizer.encode_batch(chunk):
            ids += encoding.ids + end
        if len(ids) >= limit:
            break
    return np.array(ids[:limit], dtype=np.uint16)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    source = iter(texts)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _story_texts(path: Path) -> list[str]:
    return [story for story in path.read_text().split(STORY_BREAK) if story.strip()]


def instruction_chats(data: Path, longest: int = 600) -> Iterator[str]:
    """Yield short general instructions with their answers, as chats."""
    for prompt, completion in sources.instructions(data):
        if len(prompt) + len(completion) <= longest:
            yield f"{USER}{prompt.strip()}{END}{ASSISTANT}{completion.strip()}{END}"


def echo_chats(vocabulary: int, specials: Sequence[int], limit: int, seed: int) -> np.ndarray:
    """Chats whose answer repeats the prompt's random tokens, from its start or from within: copying lessons.

    Half of the prompts favour low ids, which byte-pair merging gives to frequent tokens; some chats come up
    to three times. ``specials``: the ids that open a user's turn, open an answer and end either. Returns
    ``[limit]`` ids (uint16).
    """
    rng = np.random.default_rng(seed)
    user, assistant, end = specials
    lowest, parts, written = max(specials) + 1, [], 0
    while written < limit:
        drawn = rng.random(int(rng.integers(3, 40))) ** rng.choice((1, 3))
        content = lowest + (drawn * (vocabulary - lowest)).astype(int)
        start = int(rng.integers(0, len(content) - 1)) if rng.random() < 0.4 else 0
        chat = np.concatenate([[user], content, [end, assistant], content[start:], [end]])
        parts += [chat] * int(rng.choice((1, 1, 2, 3)))
        written += len(chat)
    return np.concatenate(parts)[:limit].astype(np.uint16)


def write_streams(
    folder: Path, data: Path, tokenizer: Tokenizer, tokens: dict[str, int], seed: int, skills: Sequence[str]
) -> dict[str, int]:
    """Write one stream a source and return its length in tokens.

    ``tokens`` gives the budget of ``english``, ``echo`` (copying), ``tales`` (the teacher's stories),
    ``instructions`` and each skill.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {}
    others = exchanges("train", seed, data) if set(skills) & set(tokens) else []
    for name, budget in tokens.items():
        if name in skills:
            rows = draw(name, "train", budget // 12, seed, data)
            rows = dress.after_exchanges(rows, others, seed, ASIDES)
            random.Random(seed).shuffle(rows)
            stream = encode(map(chat_text, rows), tokenizer, budget, close=False)
        elif name == "echo":
            specials = [int(tokenizer.token_to_id(t) or 0) for t in (USER, ASSISTANT, END)]
            stream = echo_chats(tokenizer.get_vocab_size(), specials, budget, seed)
        elif name == "tales":
            stream = encode(_story_texts(data / "stories.txt"), tokenizer, budget, close=True)
        elif name == "instructions":
            stream = encode(instruction_chats(data), tokenizer, budget, close=False)
        else:
            stream = encode(sources.english_text(data), tokenizer, budget, close=True)
        np.save(folder / f"{name}.npy", stream)
        lengths[name] = len(stream)
    return lengths
