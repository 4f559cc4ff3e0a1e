"""Findings are saved, read back and drawn; prompt files are read with plain errors."""

import json
from pathlib import Path

import pytest
import torch

from pilothouse.router.locate.case import Case, read_cases
from pilothouse.router.locate.finding import Finding, Found, Grid, ranked
from pilothouse.router.locate.picture import colour, draw, html
from pilothouse.router.locate.place import Place
from pilothouse.store.errors import ArtifactError, UsageError


def finding() -> Finding:
    values = torch.tensor([[0.5, -1.0], [0.0, 2.0]])
    texts = (("a", "<script>"), ("\x1b[31m", "$d$"))
    return Finding(
        "heads",
        "nats",
        (Found("L1.H0", 2.5, "a note"), Found("L0.H1", -0.5)),
        {"prompts": 2, "share": 0.25},
        (Grid("Heads & more", ("L0", "L1"), ("H0", "<H1>"), values, texts),),
        {"scores": values.clone()},
        "f" * 64,
    )


def test_a_finding_reads_back(tmp_path: Path) -> None:
    one = finding()
    one.save(tmp_path)
    again = Finding.load(tmp_path)
    assert (again.method, again.score, again.found, again.facts) == (
        one.method,
        one.score,
        one.found,
        one.facts,
    )
    assert again.fingerprint == one.fingerprint
    assert torch.equal(again.grids[0].values, one.grids[0].values)
    assert again.grids[0].texts == one.grids[0].texts
    assert torch.equal(again.tensors["scores"], one.tensors["scores"])
    assert again.places[0] == Place("head", 1, 0)


def test_one_tensor_may_be_drawn_and_kept(tmp_path: Path) -> None:
    values = torch.ones(1, 1)
    Finding("m", "s", (), {}, (Grid("g", ("r",), ("c",), values),), {"x": values}).save(tmp_path)
    assert torch.equal(Finding.load(tmp_path).tensors["x"], values)


@pytest.mark.parametrize(
    "spoil", ["{", '{"method": "m"}', '{"method":"m","score":"s","found":[1],"facts":{},"grids":[]}']
)
def test_damaged_findings_are_refused(tmp_path: Path, spoil: str) -> None:
    finding().save(tmp_path)
    (tmp_path / "finding.json").write_text(spoil)
    with pytest.raises(ArtifactError):
        Finding.load(tmp_path)


def test_the_page_escapes_what_it_shows_and_loads_nothing() -> None:
    page = html(finding())
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "http" not in page
    assert "L1.H0" in page
    assert page.count("<td style=") == 4


def test_colours_run_from_red_over_white_to_blue() -> None:
    assert colour(0, 1) == colour(3, 0) == "rgb(255,255,255)"
    assert colour(2, 1) == colour(1, 1) == "rgb(42,111,151)"
    assert colour(-1, 1) == "rgb(178,58,72)"


def test_pictures_by_suffix(tmp_path: Path) -> None:
    assert draw(finding(), tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert draw(finding(), tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"\.gif"):
        draw(finding(), tmp_path / "a.gif")


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"L0\.H1"):
        ranked({Place("head", 0, 1): float("nan")})
    with pytest.raises(UsageError, match="must be the same"):
        Grid("g", ("a",), ("b", "c"), torch.ones(2, 2))


# -- prompts: one letter a token ---------------------------------------------------------------------------


def read(path: Path, text: str) -> list[Case]:
    path.write_text(text)
    return read_cases(path, lambda t: [ord(c) for c in t], chr)


RICH = {"prompt": "xyz", "answer": "Q", "against": "R", "corrupt": "xyw", "subject": "y", "label": 1}


def test_prompt_files(tmp_path: Path) -> None:
    plain, rich = read(tmp_path / "p.jsonl", f"abc\n\n{json.dumps(RICH)}\n")
    assert (plain.ids, plain.answer) == ((97, 98, 99), -1)
    assert (rich.answer, rich.against, rich.label) == (ord("Q"), ord("R"), 1)
    assert rich.corrupt == (120, 121, 119)
    assert rich.subject == (1, 2)
    assert rich.words() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 prompts"),
        ('{"prompt": 3}', '"prompt" text'),
        ('{"prompt": ', "not JSON"),
        ('{"prompt": "a", "answer": ""}', "no token"),
        ('{"prompt": "a", "subject": "zz"}', "does not stand"),
    ],
)
def test_bad_prompt_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path / "p.jsonl", text)
    with pytest.raises(UsageError, match="cannot be read"):
        read_cases(tmp_path / "none.txt", lambda t: [], str)
