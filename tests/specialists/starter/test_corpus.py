"""Token streams: what the trunk reads is encoded as the engine encodes it, and holds no test prompt."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pilothouse.specialists.starter import corpus
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.tokenizing import ChatCodec

ROW = Example("Capital of France?", "Paris", "facts", "capital", "t", "exact")


def stream(folder: Path, name: str) -> list[int]:
    found: list[int] = np.load(folder / f"{name}.npy").tolist()
    return found


def test_a_chat_is_trained_on_as_it_is_asked(tiny_folder: Path) -> None:
    """The training text and the running codec must give the same tokens, or the trunk meets strangers."""
    codec = ChatCodec.load(tiny_folder)
    for row in (ROW, replace(ROW, history=(("hi", "Hello."), ("2 + 2", "4")))):
        prompt = codec.encode_prompt(row.prompt, row.history)
        wanted = (*prompt, *codec.invocation, *codec.encode_text(row.answer), codec.end)
        assert tuple(codec.parser.encode(corpus.chat_text(row)).ids) == wanted


def test_encoding_stops_at_the_limit_and_closes_each_text(tiny_tokenizer: Tokenizer) -> None:
    one = tiny_tokenizer.encode("a boat").ids
    closed = corpus.encode(["a boat", "a boat"], tiny_tokenizer, 1000, close=True)
    assert closed.tolist() == [*one, 3, *one, 3]
    assert closed.dtype == np.uint16
    assert corpus.encode(["a boat"] * 2, tiny_tokenizer, 1000, close=False).tolist() == one * 2
    assert corpus.encode(["a boat"] * 2, tiny_tokenizer, 4, close=True).tolist() == [*one, 3, *one][:4]


def test_encoding_reads_no_more_than_it_needs(tiny_tokenizer: Tokenizer) -> None:
    read = []

    def endless() -> object:
        while True:
            read.append(1)
            yield "a boat went down the river"

    texts: object = endless()
    assert len(corpus.encode(texts, tiny_tokenizer, 50, close=False)) == 50  # type: ignore[arg-type]
    assert len(read) <= corpus.CHUNK


def test_streams_hold_what_their_names_say(
    tiny_data: Path, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    budget = dict.fromkeys(("english", "tales", "instructions", "arithmetic", "screening"), 2400)
    lengths = corpus.write_streams(tmp_path, tiny_data, tiny_tokenizer, budget, 0, tuple(corpus.SKILLS))
    assert {name: len(stream(tmp_path, name)) for name in budget} == lengths
    assert all(0 < length <= 2400 for length in lengths.values())
    opened = {name: stream(tmp_path, name).count(1) for name in budget}  # <|user|> tokens
    assert opened["english"] == opened["tales"] == 0
    assert min(opened["instructions"], opened["arithmetic"], opened["screening"]) > 5
    assert stream(tmp_path, "tales").count(3) >= 5
    tales = tiny_tokenizer.decode(stream(tmp_path, "tales"))
    assert tales.startswith("One day a brave rabbit number 0")
    assert "endoftext" not in tales


def test_echoes_repeat_what_was_said_from_some_place_on() -> None:
    user, assistant, end = specials = (1, 2, 3)
    ids = corpus.echo_chats(500, specials, 20_000, 7).tolist()
    assert len(ids) == 20_000
    chats, whole = 0, 0
    for chat in _split_at(ids, user)[1:-1]:
        said, answer = _split_at(chat[1:], assistant)
        assert said[-1] == answer[-1] == end
        assert answer[1:-1] == said[:-1][-len(answer[1:-1]) :]
        assert len(answer) > 2
        assert min(said[:-1]) > max(specials)
        chats += 1
        whole += len(answer) == len(said) + 1
    assert chats > 150
    assert 0.4 < whole / chats < 0.65


def _split_at(ids: list[int], mark: int) -> list[list[int]]:
    """Cut before every ``mark``."""
    cuts = [0, *(i for i, token in enumerate(ids) if token == mark), len(ids)]
    return [ids[a:b] for a, b in pairwise(cuts)]


def test_streams_are_a_function_of_the_seed(
    tiny_data: Path, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        corpus.write_streams(tmp_path / name, tiny_data, tiny_tokenizer, {"facts": 600}, seed, ("facts",))
    a, b, c = (stream(tmp_path / name, "facts") for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("skill", list(corpus.SKILLS))
def test_no_test_prompt_is_seen_before(tiny_data: Path, skill: str) -> None:
    tested = {(row.prompt, row.history) for row in corpus.draw(skill, "test", 150, 0, tiny_data)}
    assert tested
    for split in ("train", "fit", "calibrate"):
        seen = {(row.prompt, row.history) for row in corpus.draw(skill, split, 400, 1, tiny_data)}
        assert not seen & tested, split


def test_an_unknown_skill_is_refused(tiny_data: Path) -> None:
    with pytest.raises(KeyError, match="poetry"):
        corpus.draw("poetry", "train", 1, 0, tiny_data)


def test_long_instructions_are_left_out(tiny_data: Path) -> None:
    found = list(corpus.instruction_chats(tiny_data, longest=300))
    assert "<|user|>Which animal is number 7?<|end|><|assistant|>cat<|end|>" in found
    assert len(list(corpus.instruction_chats(tiny_data, longest=10))) == 0


def test_a_missing_source_is_named(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(FileNotFoundError, match="asp_source_stories"):
        corpus.write_streams(tmp_path / "s", tmp_path, tiny_tokenizer, {"english": 10}, 0, ())
