"""Recipe steps that make the trunk: teacher stories, tokenizer, token streams, pretraining."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from ..improve.pretrain import Schedule, Stage, Streams, Turns, pretrain
from . import corpus
from .skills import sources, translate
from .teacher import Teacher
from .tokenizer import ASSISTANT, END, PAD, USER, save_tokenizer, train_tokenizer
from .work import Work

STORIES = 6144
VOCABULARY = 6144
STREAM_TOKENS = {
    "english": 5_000_000,
    "echo": 1_000_000,
    "tales": 1_000_000,
    "instructions": 600_000,
    "arithmetic": 5_000_000,
    "translate": 4_000_000,
    "facts": 2_500_000,
    "words": 2_000_000,
    "stories": 1_000_000,
    "emotion": 800_000,
    "screening": 1_000_000,
}
ENGLISH = Stage("english", 2_048_000, {"english": 0.8, "echo": 0.2})
MIXTURE = {
    "arithmetic": 0.26,
    "translate": 0.20,
    "facts": 0.14,
    "words": 0.12,
    "emotion": 0.06,
    "screening": 0.03,
    "stories": 0.05,
    "tales": 0.05,
    "english": 0.06,
    "instructions": 0.01,
    "echo": 0.02,
}
MIXED = Stage("mixed", 7_372_800, MIXTURE)
COPYING = Stage("copying", 1_228_800, {**MIXTURE, "echo": 1.0})  # half of the rows
SKILLS = Stage("skills", 11_878_400, {**MIXTURE, "echo": 0.04})
TRUNK = Schedule(
    rows=16,
    length=256,
    rate=3e-3,
    warmup=100,
    decay=0.4,
    every=50,
    stages=(ENGLISH, MIXED, COPYING, SKILLS),
)
# Two more passes: new rows of every skill, the weakest most, from a lower rate that falls almost throughout.
SECOND_MIXTURE = {
    "arithmetic": 0.25,
    "translate": 0.24,
    "words": 0.17,
    "facts": 0.13,
    "english": 0.05,
    "stories": 0.04,
    "tales": 0.03,
    "emotion": 0.03,
    "echo": 0.03,
    "screening": 0.02,
    "instructions": 0.01,
}
SECOND = Schedule(
    rows=16,
    length=256,
    rate=2e-3,
    warmup=60,
    decay=0.85,
    every=50,
    stages=(Stage("second", 14_336_000, SECOND_MIXTURE),),
)
THIRD_MIXTURE = {**SECOND_MIXTURE, "arithmetic": 0.29, "translate": 0.30, "words": 0.11, "facts": 0.09}
THIRD = replace(SECOND, decay=0.9, stages=(Stage("third", 11_468_800, THIRD_MIXTURE),))
FULL = "trunk.bf16"  # the trained trunk's folder; `trunk` is its quantized twin
PASSES = {"second": SECOND, "third": THIRD}  # after the trunk's first, in this order, each over new rows


def sample_stories(work: Work) -> None:
    """Sample the teacher's stories into ``data/stories.txt``; a kill starts it over."""
    teacher, done = Teacher(work.data / "models" / "tinystories-ple-c3M"), 0
    part, target = work.sources / "stories.part", work.sources / "stories.txt"
    begun = time.monotonic()
    with part.open("w") as out:
        for batch in teacher.stories(STORIES, seed=17 + work.seed, length=288):
            out.writelines(story + corpus.STORY_BREAK for story in batch)
            done += 256
            seconds = (time.monotonic() - begun) / done * (STORIES - done)
            work.say(f"teacher stories {min(done, STORIES)}/{STORIES}, {seconds / 60:.0f} min left")
    part.replace(target)


def tokenizer_texts(work: Work) -> Iterator[str]:
    """Yield the tokenizer's training text: English of all sources, teacher stories, messages, three other
    languages.
    """
    documents = list(islice(sources.english_text(work.sources), 12_556))
    yield from random.Random(work.seed).sample(documents, min(1500, len(documents)))
    yield (work.sources / "stories.txt").read_text().replace(corpus.STORY_BREAK, "\n")
    messages = (work.sources / "emotion_misinfo/goemotions_single_label/train.tsv.gz").read_bytes()
    yield gzip.decompress(messages).decode("utf-8")
    for language in ("fr", "es", "de"):
        yield "\n".join(translate.monolingual(language, 8000, work.seed))


def make_tokenizer(work: Work) -> None:
    """Train and save the tokenizer."""
    save_tokenizer(train_tokenizer(tokenizer_texts(work), VOCABULARY), work.path("tokenizer"))


def tokenizer_of(work: Work) -> Tokenizer:
    """Load the tokenizer that this run trained."""
    return Tokenizer.from_file(str(work.path("tokenizer", "tokenizer.json")))


def make_streams(work: Work) -> None:
    """Write the token streams: ``streams/`` for the first pass, ``streams.NAME/`` with other rows for each of
    `PASSES`.
    """
    for seed, folder in enumerate(("streams", *(f"streams.{name}" for name in PASSES)), work.seed):
        lengths = corpus.write_streams(
            work.path(folder), work.sources, tokenizer_of(work), STREAM_TOKENS, seed, tuple(corpus.SKILLS)
        )
        counts = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
        work.say(f"tokens of {folder}: {counts}")


def trunk_config(tokenizer: Tokenizer) -> Qwen3Config:
    """The trunk's shape: 8.26 million parameters, width 256, 8 layers, 8 heads on 4 key-value heads."""
    return Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=832,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


def train_trunk(work: Work, start: Path | None = None) -> None:
    """Pretrain the trunk, on a GPU where there is one, and save it as a bf16 Hugging Face folder.

    ``start`` is a trunk folder of the same shape and tokenizer to go on from, instead of random weights.

    Raises:
        ValueError: ``start`` has another tokenizer.
    """
    torch.manual_seed(work.seed)
    if start is not None:
        same_tokenizer(work, start)
    weights = None if start is None else start / "model.safetensors"
    _read_streams(work, "streams", TRUNK, "trunk.run", weights)
    save_trunk(work, "trunk.run")


def train_on(work: Work, name: str) -> None:
    """Go on from the checkpoint of the pass before ``name``, one of `PASSES`, and save the trunk again."""
    torch.manual_seed(work.seed)
    order = ("trunk", *PASSES)
    weights = work.path(f"{order[order.index(name) - 1]}.run", "weights.safetensors")
    _read_streams(work, f"streams.{name}", PASSES[name], f"{name}.run", weights)
    save_trunk(work, f"{name}.run")


def _read_streams(work: Work, streams: str, schedule: Schedule, run: str, weights: Path | None) -> None:
    tokenizer = tokenizer_of(work)
    model = Qwen3ForCausalLM(trunk_config(tokenizer))
    if weights is not None:
        model.load_state_dict(load_file(weights), strict=False)
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    turns = Turns(int(tokenizer.token_to_id(USER) or 0), int(tokenizer.token_to_id(ASSISTANT) or 0))
    pretrain(model, Streams(work.path(streams)), schedule, work.path(run), work.say, turns=turns)


def same_tokenizer(work: Work, start: Path) -> None:
    """Raises ValueError when a trunk to go on from was trained with another tokenizer than this run's."""
    if (start / "tokenizer.json").read_bytes() != work.path("tokenizer", "tokenizer.json").read_bytes():
        raise ValueError(
            f"{start} has another tokenizer than {work.path('tokenizer')}: copy its tokenizer.json and "
            "tokenizer_config.json there before the streams are written, or start from random weights"
        )


def save_trunk(work: Work, run: str) -> None:
    """Round a run's last checkpoint to bf16 and write it with its tokenizer as `FULL`."""
    model = Qwen3ForCausalLM(trunk_config(tokenizer_of(work)))
    model.load_state_dict(load_file(work.path(run, "weights.safetensors")), strict=False)
    rounded = nn.Module.to(model, torch.bfloat16)
    assert isinstance(rounded, Qwen3ForCausalLM)
    rounded.save_pretrained(work.path(FULL))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copy_file(work.path("tokenizer", name), work.path(FULL, name))


def copy_file(source: Path, target: Path) -> None:
    """Copy one file, making the target's folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
