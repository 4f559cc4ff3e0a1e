"""A tiny data folder in the layout the generators read: same archive names and formats, a few rows each."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest


def pack(path: Path, files: dict[str, str]) -> None:
    """Write a tar archive (compression by suffix) that holds the given texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as tar:
        for name, text in files.items():
            raw = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def _relation(rows: dict[str, str] | list[tuple[str, str]]) -> str:
    pairs = rows.items() if isinstance(rows, dict) else rows
    return json.dumps({"name": "r", "samples": [{"subject": s, "object": o} for s, o in pairs]})


def _facts(data: Path) -> None:
    capitals = {f"Land{i}": f"Town{i}" for i in range(60)} | {"France": "Paris", "Spain": "Madrid"}
    pack(
        data / "probing/relations_lre/relations_47.tar.gz",
        {
            "data/factual/country_capital_city.json": _relation(capitals),
            "data/factual/country_currency.json": _relation(dict.fromkeys(capitals, "Dollar")),
            "data/factual/product_by_company.json": _relation(
                [("Widget", "Acme"), ("Clang", "A"), ("Clang", "B")]
            ),
            "data/factual/superhero_person.json": _relation([("Bat", "Bruce"), ("Bat", "Other")]),
            "data/factual/company_hq.json": _relation({f"Firm {i}": "Bras\\u00edlia" for i in range(300)}),
            "data/commonsense/object_superclass.json": _relation([("apple", "plant"), ("apple", "fruit")]),
        },
    )
    countries = [{"input": "Albania", "output": "Tirana"}, {"input": "France", "output": "Wrong"}]
    money = [{"input": "Albania", "output": "Albanian Lek (ALL)"}]
    pack(
        data / "probing/function_vectors/function_vectors_datasets.tar.gz",
        {"a/country-capital.json": json.dumps(countries), "a/country-currency.json": json.dumps(money)},
    )
    states = json.dumps({"capitals": [{"capital": "Juneau", "state": "Alaska"}]})
    pack(
        data / "probing/word_lists/dariusk_corpora.tar.gz", {"data/geography/us_state_capitals.json": states}
    )


def _texts(data: Path) -> None:
    pack(
        data / "multilingual/african_storybook/asp_source_stories.tar.gz",
        {
            "en/0001_free.md": "# A free story\n\nThe “goat” ran.\n\n* License: [CC-BY]\n* Text: Ann\n",
            "en/0002_nc.md": "# Not free\n\n##\nThe cow ran.\n\n##\n* License: [CC-BY-NC]\n* Text: Bob\n",
            "en/0003_none.md": "# Unknown\n\n##\nThe hen ran.\n",
            "fr/0001_libre.md": "# Libre\n\n##\nLa vache court.\n\n##\n* License: [CC-BY]\n",
            "en/README.md": "Story ID | Title | License",
        },
    )
    tale = 'section,text\n1,"The king of tale {n} had a golden crown and a garden full of old apple trees."\n'
    root = "FairytaleQA_Dataset/split_for_training"
    tales = {f"{root}/train/t{n}-story.csv": tale.replace("{n}", str(n)) for n in range(40)}
    tales |= {f"{root}/test/t{n}-story.csv": tale.replace("{n}", str(n)) for n in range(40, 60)}
    pack(data / "text/fairytaleqa.tar.gz", tales | {f"{root}/train/t0-questions.csv": "q\nwhy?\n"})
    head = "# Title: {t}\n\n## Author: A\n\n## Year: {y}\n\n-------\n"
    hard = (
        "Notwithstanding considerable circumspection, extraordinarily complicated deliberations followed.\n\n"
        * 3
    )
    easy = "The cat sat. It was fat.\n\nThe cat ate. A coon sang.\n\n## Chapter\n\nThe _end_ came.\n"
    pack(
        data / "text/classic_books_easier_subset.tar.xz",
        {
            "b/A/hard.md": head.format(t="Hard", y=1850) + hard,
            "b/A/late.md": head.format(t="Late", y=1958) + "Too late for this list.\n",
            "b/A/easy.md": head.format(t="Easy", y="600 BC") + easy,
            "b/A/broken.md": "no header here",
        },
    )
    rows = [{"prompt": f"Which animal is number {i}?", "completion": "cat<|endoftext|>"} for i in range(40)]
    rows += [
        {"prompt": "x" * 500, "completion": "long"},
        {"prompt": "Translate this: hi", "completion": "salut"},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    pack(data / "instruct/t0_per_template/t0_train_data_per_template.tar.gz", {"d/one.jsonl": lines})


def _labelled(data: Path) -> None:
    emotion = data / "emotion_misinfo/goemotions_single_label"
    emotion.mkdir(parents=True)
    (emotion / "emotions.txt").write_text("anger\njoy\nneutral\n")
    train = "".join(f"I feel message {i}\t{('anger', 'joy', 'neutral')[i % 3]}\n" for i in range(300))
    (emotion / "train.tsv.gz").write_bytes(gzip.compress(f"text\tlabel\n{train}".encode()))
    (emotion / "dev.tsv").write_text("text\tlabel\nA new text\tjoy\nI feel message 1\tjoy\nOther\tneutral\n")
    spam = data / "malware_url/sms_spam"
    spam.mkdir(parents=True)
    sms = "".join(f"{'spam' if i % 3 == 0 else 'ham'}\tsms &amp; number {i}\n" for i in range(300))
    (spam / "SMSSpamCollection").write_text(sms)
    files: dict[str, str] = {}
    for part in ("train", "test"):
        attacks = {"Kind": [f"Do the {part} thing number {i}." for i in range(60)]}
        mails = "\n".join(json.dumps({"context": f"Mail {part} {i}. Bye now."}) for i in range(60))
        files |= {
            f"benchmark/text_attack_{part}.json": json.dumps(attacks),
            f"benchmark/email/{part}.jsonl": mails,
        }
    pack(data / "safety/prompt_injection_bipia/bipia_benchmark.tar.gz", files)
    splits = data / "safety/refusal_splits"
    splits.mkdir(parents=True)
    for name in ("harmful_train", "harmful_val", "harmless_train", "harmless_val"):
        raw = json.dumps(
            [{"instruction": f"{name} request {i}", "category": None} for i in range(60)]
        ).encode()
        packed = name.startswith("harmless")
        (splits / f"{name}.json{'.gz' if packed else ''}").write_bytes(gzip.compress(raw) if packed else raw)


def _outside(data: Path) -> None:
    clinc = [f"intent{i}" for i in range(30)] + ["translate"]
    files = {
        f"data/clinc/{part}.tsv": "text\tlabel\n"
        + "".join(f"{part} ask {i} {c}\t{c}\n" for c in clinc for i in range(9))
        for part in ("train", "test", "dev")
    }
    files |= {
        f"data/{name}/{part}.tsv": "text\tlabel\n" + "".join(f"{name} {part} {i}\tx\n" for i in range(60))
        for name in ("banking", "stackoverflow")
        for part in ("train", "test")
    }
    pack(data / "intent/clinc150_banking77_stackoverflow/glean_intents.tar.gz", files)
    pack(
        data / "knowledge/mmlu/mmlu_dev_test_csv.tar.gz",
        {
            "data/mmlu/test/law_test.csv": "question,choice0\n"
            + "".join(f"Is law {i} valid?,a\n" for i in range(50)),
            "data/mmlu/dev/law_dev.csv": "question,choice0\nIs dev used?,a\n",
            "data/mmlu/test/elementary_mathematics_test.csv": "question,choice0\nWhat is 1 + 1?,2\n",
        },
    )
    code = data / "code/mbpp"
    code.mkdir(parents=True)
    rows = [
        {"text": f"Write function {i}.", "code": f"def f{i}():\r\n  pass", "task_id": i}
        for i in range(560, 640)
    ]
    (code / "mbpp.jsonl").write_text("\n".join(map(json.dumps, rows)))
    languages = {
        "ell": "Αυτή είναι η πρόταση",
        "heb": "משפט מספר",
        "rus": "Это предложение",
        "hin": "यह वाक्य है",
        "fra": "phrase",
    }
    pack(
        data / "multilingual/tatoeba_laser/tatoeba_v1_112_languages.tar.gz",
        {f"v1/tatoeba.{c}-eng.{c}": "".join(f"{s} {i}\n" for i in range(40)) for c, s in languages.items()}
        | {"v1/tatoeba.ell-eng.eng": "This is a sentence.\n"},
    )


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few made-up rows in every file that the generators read."""
    data = tmp_path_factory.mktemp("data")
    for fill in (_facts, _texts, _labelled, _outside):
        fill(data)
    stories = [
        f"One day a brave rabbit number {i} found a red ball in the park. He ran to his friend the owl. "
        "They played with the ball all day long. At night they went home and slept well."
        for i in range(60)
    ]
    (data / "stories.txt").write_text("\n<|endoftext|>\n".join(stories))
    return data
