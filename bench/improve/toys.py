"""The small world of the experiments: a language of letters and tasks, and decoders trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from ...specialists.improve.answering import answer_all
from ...specialists.improve.data_tasks import LETTERS, TASKS, symbols
from ...specialists.improve.distill import student_pass
from ...specialists.improve.finetune import Row, collate, encode_rows, targets_of
from ...specialists.improve.finetune_full import Sft, tune
from ...specialists.improve.finetune_step import Plain
from ...specialists.starter.skills.example import Split
from ...specialists.starter.tokenizer import SPECIALS, save_tokenizer
from ...specialists.tokenizing import ChatCodec

EQUALS = "="
Pairs = Sequence[tuple[str, str]]


def codec_in(folder: Path) -> ChatCodec:
    """Write the language's tokenizer (a word a token) into ``folder`` and return its codec."""
    words = [*SPECIALS, "<|unknown|>", EQUALS, *LETTERS, *TASKS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIALS))
    save_tokenizer(tokenizer, folder)
    return ChatCodec.load(folder)


def decoder(codec: ChatCodec, layers: int, width: int, seed: int) -> PreTrainedModel:
    """Return a Qwen3 decoder with random weights."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=codec.parser.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=width // 4,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config)


def draw(tasks: Sequence[str], split: Split, count: int, seed: int) -> list[tuple[str, str]]:
    """Draw (prompt, answer) pairs of tasks in turn."""
    return [(r["prompt"], r["answer"]) for r in symbols(split, count, seed, tasks)]


def rows_of(codec: ChatCodec, pairs: Iterable[tuple[str, str]]) -> list[Row]:
    """Tokenize pairs."""
    return encode_rows(codec, [Plain(p, a) for p, a in pairs])


def trained(
    codec: ChatCodec, model: PreTrainedModel, pairs: Pairs, sft: Sft, folder: Path
) -> PreTrainedModel:
    """Train a model on pairs, in place; resumes from ``folder``."""
    tune(model, rows_of(codec, pairs), len(codec.invocation), sft, folder)
    return model


def right(codec: ChatCodec, model: PreTrainedModel, pairs: Pairs, longest: int = 20) -> list[float]:
    """Whether each answer is right, as 0 or 1; what stands before an equals sign does not count."""
    prompts = [codec.encode_prompt(p) for p, _ in pairs]
    found = answer_all(model, prompts, codec.invocation[0], codec.end, longest, rows=256)
    texts = [codec.decode(a.tokens) if a.ended else "" for a in found]
    return [float(final(t) == final(a)) for t, (_, a) in zip(texts, pairs, strict=True)]


@torch.no_grad()
def known(codec: ChatCodec, model: PreTrainedModel, rows: Sequence[Row], size: int = 512) -> list[float]:
    """Whether the greedy answer to each row's prompt is the row's, token by token and ended, as 0 or 1.

    ``right`` without the writing: an answer comes out greedily exactly where each of its tokens is the
    likeliest behind those before it, so one reading of prompt and answer tells.
    """
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].answer)))
    found = [0.0] * len(rows)
    for start in range(0, len(order), size):
        some = order[start : start + size]
        batch = collate([rows[i] for i in some], len(codec.invocation), model.device)
        hits = student_pass(model, batch)[1].argmax(-1) == targets_of(batch)
        for i, one in zip(some, torch.split(hits, batch.loss.sum(1).tolist()), strict=True):
            found[i] = float(one.all())
    return found


def final(text: str) -> str:
    """Return what stands after the last equals sign."""
    return text.rsplit(EQUALS, 1)[-1].strip()


def accuracy(values: Sequence[float]) -> float:
    """The mean of zeros and ones."""
    return sum(values) / max(1, len(values))


def state_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A copy of a model's weights."""
    return {n: p.detach().clone() for n, p in model.named_parameters()}


@torch.no_grad()
def put_back(model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> None:
    """Set a model's weights to a copy of them."""
    for name, parameter in model.named_parameters():
        parameter.copy_(state[name])
