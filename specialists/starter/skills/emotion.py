"""Emotion: name the one emotion of a message, out of 27.

Rows are the single-label part of GoEmotions (Demszky et al., 2020).
"""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

from .asking_freely import FREE_EMOTION
from .example import Example, Split
from .sources import required, text_of
from .wrap import clip, own_split, wrapped

FOLDER = "emotion_misinfo/goemotions_single_label"
TEXT_LIMIT = 260  # characters; comments are shorter than this but for a handful

TEMPLATES = """What emotion is in this message: "{t}"
How does this person feel? "{t}"
Which emotion does this text show? {t}
Name the emotion: "{t}"
What feeling is expressed here? "{t}"
Detect the emotion in: {t}
"{t}" What emotion is that?
Someone wrote: "{t}" How do they feel?
Classify the emotion of this comment: "{t}"
Tell me the emotion behind these words: "{t}"
emotion: {t}
Label the feeling in this sentence. "{t}"
What is the mood of the writer? "{t}"
Please read this and name the feeling it expresses: {t}
My friend sent me this: "{t}" What might my friend be feeling?
Which feeling does the author have in "{t}"?
Read the comment and give the emotion: {t}
{t} -- what emotion is this?
Give one word for the feeling in this post: "{t}"
In one word, what does the person who wrote this feel? {t}
What does the writer of "{t}" feel?
Emotion of this reply? "{t}"
I got this message: "{t}" Which emotion is it?
Identify the emotional tone: "{t}"
How would you describe the emotion here: "{t}"
feeling in this text? "{t}\"""".splitlines()


@lru_cache(maxsize=4)
def _rows(data: Path, name: str) -> tuple[tuple[str, str], ...]:
    """Read (text, label) rows of a file, without the neutral ones."""
    labels = set(text_of(required(data, f"{FOLDER}/emotions.txt")).split()) - {"neutral", "none"}
    lines = text_of(required(data, f"{FOLDER}/{name}")).splitlines()[1:]
    rows = (line.rsplit("\t", 1) for line in lines if "\t" in line)
    return tuple(
        (clip(text.strip().strip('"'), TEXT_LIMIT), label.strip())
        for text, label in rows
        if label.strip() in labels
    )


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return up to ``count`` rows; test rows come from the dev file only, all others from the train file.

    Raises:
        ValueError: no data folder was given.
        FileNotFoundError: a file is missing from it.
    """
    if data is None:
        raise ValueError("the emotion skill reads GoEmotions from a data folder: pass data=<folder>")
    if split == "test":
        known = {text for text, _ in _rows(data, "train.tsv.gz")}
        rows = [row for row in _rows(data, "dev.tsv") if row[0] not in known]
    else:
        rows = [row for row in _rows(data, "train.tsv.gz") if own_split(row[0]) == split]
    rng = random.Random(f"emotion/{split}/{seed}")
    return wrapped(rows, TEMPLATES, split, count, rng, "emotion", more=FREE_EMOTION)
