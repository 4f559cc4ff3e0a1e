"""The benchmark of the kernels: every case compares two ways to the same result."""

from pathlib import Path

import pytest
import torch

from pilothouse.bench.kernels import Case, Scale, cases, make, measured
from pilothouse.store.errors import UsageError

TINY = Scale(width=24, latents=96, few=5, k=3, model=64, inner=70, rounds=2)


def test_both_ways_of_every_case_agree() -> None:
    torch.manual_seed(0)
    found = list(cases(TINY, torch.device("cpu")))
    assert len({(one.what, one.sizes, one.path) for one in found}) == len(found) > 20
    for one in found:
        torch.testing.assert_close(
            one.ours(), one.theirs(), atol=2e-3, rtol=1e-3, msg=f"{one.what} {one.sizes}"
        )


def test_the_faster_way_is_seen_to_be() -> None:
    small, large = torch.ones(8, 8), torch.ones(700, 700)
    case = Case("", "", "", "", lambda: large @ large, lambda: small @ small)
    found = measured(case._replace(theirs=lambda: (large @ large)[:8, :8]), 3, torch.device("cpu"))
    assert max(found.ours) < min(found.theirs)
    assert found.apart == pytest.approx(692 / 700)


def test_the_page_names_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.bench import kernels

    monkeypatch.setattr(kernels, "_ROUND_S", 0.0)
    monkeypatch.setattr(kernels, "copy_speed", lambda device: 1e9)
    page = make(TINY, "cpu", 0, (("command", "here"),), lambda line: None).markdown()
    assert "1 of 3 targets met" in page or "0 of 3 targets met" in page
    assert page.count("needs a GPU") == 2
    assert "| Product, 3 bits |" in page


def test_other_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="'tpu' cannot be used"):
        make(TINY, "tpu", 0, (), lambda line: None)
