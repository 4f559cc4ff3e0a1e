"""Streaming readers for the data folder: plain-English documents, instruction pairs and rows inside archives.

The folder is laid out by topic (``text/``, ``multilingual/``, ``instruct/`` …); archives stay packed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

STORYBOOK = "multilingual/african_storybook/asp_source_stories.tar.gz"
FAIRYTALES = "text/fairytaleqa.tar.gz"
BOOKS = "text/classic_books_easier_subset.tar.xz"
T0 = "instruct/t0_per_template/t0_train_data_per_template.tar.gz"

DOCUMENT_CHARACTERS = 3000
LAST_CLEAR_YEAR = 1929  # later printings are only sometimes free of rights, so they are left out

_PLAIN = {"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "\u00a0": " ", "—": " - ", "\u2013": "-"}
_QUOTES = str.maketrans(_PLAIN | {"\ufeff": ""})
_NOT_PROSE = re.compile(r"https?://|www\.|\||\[\d+\]|!\[|</?\w+|^\s*[-*_=#]{3,}\s*$")
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])[_*]{1,3}(?=\S)|(?<=\S)[_*]{1,3}(?![A-Za-z0-9])")
# Old books hold slurs that no small model should learn to write; a paragraph with one is dropped.
_SLUR = re.compile(
    r"\b(nigg\w*|dark(?:ey|y|ies)|coons?|chinam[ae]n|chinks?|kikes?|wops?|dagoe?s?|injuns?|japs?)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+")


def required(data: Path, relative: str) -> Path:
    """Return the path of one source file.

    Raises:
        FileNotFoundError: the data folder does not hold it.
    """
    path = data / relative
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: pass a data folder that holds {relative}")
    return path


def members(archive: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of every archive file whose name ends in ``suffix``, in archive order."""
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(suffix):
                handle = tar.extractfile(member)
                if handle is not None:
                    yield member.name, handle.read()


def text_of(path: Path) -> str:
    """Read a UTF-8 text file, gzip-compressed or not."""
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def clean(paragraph: str) -> str:
    """Straighten quotes and dashes, drop emphasis marks and put the paragraph on one line."""
    return " ".join(_EMPHASIS.sub("", paragraph.translate(_QUOTES)).split())


def paragraphs(text: str) -> Iterator[str]:
    """Yield clean prose paragraphs of a plain or Markdown text, without headings, links, tables and slurs."""
    for block in re.split(r"\n\s*\n", text):
        not_prose = block.lstrip().startswith(("#", ">", "|", "* ", "- ")) or _NOT_PROSE.search(block)
        if not_prose or _SLUR.search(block):
            continue
        line = clean(block)
        if len(line) >= 2 and any(c.islower() for c in line):
            yield line


def documents(text: str, limit: int = DOCUMENT_CHARACTERS) -> Iterator[str]:
    """Group paragraphs into documents of about ``limit`` characters, one paragraph a line."""
    held: list[str] = []
    size = 0
    for line in paragraphs(text):
        held.append(line)
        size += len(line) + 1
        if size >= limit:
            yield "\n".join(held)
            held, size = [], 0
    if held:
        yield "\n".join(held)


def storybook_files(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (title, author, text) of English African Storybook files whose licence line is plain CC BY."""
    for name, raw in members(required(data, STORYBOOK), ".md"):
        if not re.search(r"(^|/)en/\d", name):
            continue
        text = raw.decode("utf-8")
        licence = re.search(r"^\* License: *(.+?) *$", text, re.M)
        if licence is None or licence.group(1).strip("[]") != "CC-BY":
            continue
        author = re.search(r"^\* Text: *(.+?) *$", text, re.M)
        title = re.match(r"#\s*(.+)", text)
        body = re.sub(r"^(#.*|\* .*)$", "", text, flags=re.M)
        yield (title.group(1) if title else name), (author.group(1) if author else "unknown"), body


def storybook_credits(data: Path) -> list[str]:
    """Return the attribution lines (``title, author``) that CC BY asks for."""
    return [f"{clean(title)}, {clean(author)}" for title, author, _ in storybook_files(data)]


def storybook_text(data: Path) -> Iterator[str]:
    """Yield African Storybook stories (CC BY only)."""
    for _, _, body in storybook_files(data):
        yield from documents(body)


def _unwrapped(section: str) -> str:
    """Make each line a paragraph, except that a line broken in mid-sentence continues the paragraph."""
    return re.sub(r"(?<=[.!?:\"'])\n", "\n\n", section)


def fairytale_text(data: Path, part: str = "train") -> Iterator[str]:
    """Yield the tales of one FairytaleQA split (Apache-2.0), their sections joined in order."""
    for name, raw in members(required(data, FAIRYTALES), "-story.csv"):
        if f"/{part}/" in f"/{name}":
            sections = [row["text"] for row in csv.DictReader(io.StringIO(raw.decode("utf-8")))]
            yield from documents("\n\n".join(_unwrapped(section) for section in sections))


def reading_effort(text: str) -> float:
    """Score how hard prose is to read: low is simple.

    Words per sentence, plus 3 times letters per word, plus 40 times the share of distinct
    words, which keeps clipped but difficult prose from passing for simple.
    """
    words = [w.strip(".,;:!?'\"()-").lower() for w in text.split()]
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    total = max(1, len(words))
    return total / sentences + 3 * sum(map(len, words)) / total + 40 * len(set(words)) / total


def _book(raw: bytes) -> str | None:
    """Return the body of a book old enough to be free of rights, or None; a rule ends the header."""
    head, rule, body = raw.decode("utf-8", errors="replace").partition("\n-------\n")
    year = re.search(r"^#+ *Year: *(\d{3,4})( *BC)?", head, re.M)
    if not rule or year is None or (int(year.group(1)) > LAST_CLEAR_YEAR and not year.group(2)):
        return None
    return body


def book_text(data: Path) -> Iterator[str]:
    """Yield documents of public-domain books, simplest book first (about 150 MB are held while ordering)."""
    ranked: list[tuple[float, str, bytes]] = []
    for name, raw in members(required(data, BOOKS), ".md"):
        body = _book(raw)
        if body is not None:
            middle = len(body) // 3
            ranked.append((reading_effort(body[middle : middle + 40_000]), name, body.encode()))
    for _, _, encoded in sorted(ranked, key=lambda row: row[:2]):
        yield from documents(encoded.decode())


def english_text(data: Path) -> Iterator[str]:
    """Yield plain-English training documents of about 3,000 characters, simplest sources first.

    Children's stories (CC BY), then fairy tales (Apache-2.0), then public-domain books easiest to read first.

    Raises:
        FileNotFoundError: one of the three archives is missing.
    """
    yield from storybook_text(data)
    yield from fairytale_text(data)
    yield from book_text(data)


def instructions(data: Path, prompt_limit: int = 400, answer_limit: int = 200) -> Iterator[tuple[str, str]]:
    """Yield short (prompt, completion) pairs of the T0 training subset (Apache-2.0), in archive order."""
    for _, raw in members(required(data, T0), ".jsonl"):
        for line in raw.decode("utf-8").splitlines():
            row = json.loads(line)
            prompt, completion = row["prompt"].strip(), row["completion"].replace("<|endoftext|>", "").strip()
            if 0 < len(prompt) <= prompt_limit and 0 < len(completion) <= answer_limit:
                yield prompt, completion
