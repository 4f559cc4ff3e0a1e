"""Nothing that a record holds becomes markup: with any text in every field, a page has the same shape."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from fastapi.testclient import TestClient
from hostile import CORPUS, HARMLESS, pages_of, write
from made_log import application, local

from pilothouse.router.features.label import Label
from pilothouse.store.hashes import digest
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Message, Request

Shape = list[tuple[str, tuple[str, ...]]]


class Shaped(HTMLParser):
    """Tags with the names of their attributes, and every address that a page leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shape: Shape = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [
            str(value) for name, value in attrs if name in ("href", "src", "action", "data-url")
        ]

    def handle_endtag(self, tag: str) -> None:
        self.shape.append((f"/{tag}", ()))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], tuple[TestClient, str]]:
    """A service over a log with one record that holds a text everywhere, the family's labels too."""

    empty = tmp_path / "empty.db"
    Ledger.open(empty).close()

    def make(text: str) -> tuple[TestClient, str]:
        place = shutil.copy(empty, tmp_path / f"{digest(text)}.db")
        ledger = Ledger.open(place, code=text)
        name = write(ledger, text)
        labels = {7: Label(feature=7, text=text, examples=(text, text, text))}
        return local(application(ledger, labels)), name

    return make


def fetched(client: TestClient, name: str) -> list[tuple[str, str]]:
    found = []
    for path in pages_of(name):
        page = client.get(path)
        assert page.status_code == 200, (path, page.text[-300:])
        found.append((path, page.text))
    return found


def test_no_text_changes_the_shape_of_a_page(opened: Callable[[str], tuple[TestClient, str]]) -> None:
    plain = [Shaped(text).shape for _, text in fetched(*opened(HARMLESS))]
    assert sum(map(len, plain)) > 1000
    for text in CORPUS:
        for (path, page), shape in zip(fetched(*opened(text)), plain, strict=True):
            seen = Shaped(page)
            assert seen.shape == shape, (path, text)
            for address in seen.addresses:
                assert urlsplit(address).scheme == "", (path, address)
                assert not address.startswith("//"), (path, address)
            assert "\x1b" not in page
            assert "\u202e" not in page
            assert "\x00" not in page


def test_a_text_in_the_query_changes_nothing_either(opened: Callable[[str], tuple[TestClient, str]]) -> None:
    client, _ = opened(HARMLESS)
    for key in (
        "specialist",
        "thread",
        "text",
        "status",
        "since",
        "before",
        "left",
        "tip",
        "id",
        "price",
        "lam",
    ):
        for path in (
            "/audit",
            "/audit/overview",
            "/audit/diff",
            "/audit/whatif",
            "/audit/verify",
            "/audit/features",
        ):
            shapes = []
            for text in ("found nowhere", CORPUS[1], CORPUS[5]):
                page = client.get(f"{path}?{key}={quote(text)}")
                assert page.status_code < 500
                shapes.append((page.status_code, Shaped(page.text).shape))
            assert shapes[0] == shapes[1] == shapes[2], (path, key)


def test_the_twin_holds_the_very_text(opened: Callable[[str], tuple[TestClient, str]]) -> None:
    """Escaping is for pages: JSON gives back what was kept, and no character a terminal obeys."""
    for text in CORPUS[:1] + CORPUS[9:10]:
        client, name = opened(text)
        answer = client.get(f"/audit/records/{name}?format=json")
        assert json.loads(answer.text)["page"]["prompt"] == text
        assert "\x1b" not in answer.text
        assert "\u202e" not in answer.text


def test_a_long_prompt_is_shown_whole_and_listed_short(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(10_000))
    with Ledger.open(tmp_path / "long.db") as ledger:
        name = ledger.begin(Request(messages=(Message(role="user", content=text),)))
        ledger.finish(name, "failed", error="too long")
        client = local(application(ledger))
        assert text in client.get(f"/audit/records/{name}").text
        assert len(client.get("/audit").text) < 20_000
