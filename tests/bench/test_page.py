"""The page: tables, targets, verdicts."""

import pytest

from pilothouse.bench.estimates import Estimate
from pilothouse.bench.page import Goal, Report, Section, cell, show, signed, table

GOOD = Estimate(0.96, 0.93, 0.99, 200)


def test_table_keeps_cells_apart() -> None:
    assert table(("a", "b"), [("1|2", "x\ny")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | x y |"
    with pytest.raises(ValueError, match="1 cells, the header 2"):
        table(("a", "b"), [("1",)])


def test_values_in_their_units() -> None:
    assert show(0.961, "%") == "96.1 %"
    assert show(3e-6, "e") == "3.0e-06"
    assert show(1.0384, "×") == "1.038×"
    assert show(float("nan"), "%") == "–"
    assert cell(GOOD, "%") == "96.0 % [93.0, 99.0]"
    assert cell(Estimate(2.5, 2.0, 3.0, 9), "ms") == "2.50 ms [2.00, 3.00]"
    assert cell(Estimate(1.05, 1.01, 1.09, 9), "×") == "1.050× [1.010, 1.090]"
    assert cell(Estimate(1.5, 1.25, 1.75, 5), "s") == "1.50 s [1.25, 1.75]"
    assert cell(None, "%") == "–"


def test_differences_that_leave_out_zero_stand_out() -> None:
    assert signed(Estimate(0.02, 0.01, 0.03, 9)) == "**+2.0 [+1.0, +3.0]**"
    assert signed(Estimate(0.02, -0.01, 0.05, 9)) == "+2.0 [-1.0, +5.0]"


@pytest.mark.parametrize(
    ("way", "bound", "met"),
    [
        ("at least", 0.95, True),
        ("at least", 0.97, False),
        ("at most", 0.96, True),
        ("at most", 0.95, False),
        ("clearly above", 0.95, False),
        ("clearly above", 0.92, True),
    ],
)
def test_verdicts(way: str, bound: float, met: bool) -> None:
    assert Goal("x", way, bound, "%", GOOD).met is met  # type: ignore[arg-type]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert Goal("x", "at least", 0.9, "%", None, "needs --data").met is None
    assert Goal("x", "at most", 0.9, "%", Estimate(float("nan"), 0, 0, 0)).met is None


def test_missed_targets_are_said_on_top() -> None:
    goals = (
        Goal("sums", "at least", 0.97, "%", GOOD),
        Goal("routing", "at least", 0.9, "%", GOOD),
        Goal("emotion", "at least", 0.9, "%", None, "needs --data"),
    )
    report = Report("T", "About.", (("seed", "0"),), (Section("S", "Text.", ("a",), (("1",),), goals),))
    page = report.markdown()
    assert "1 of 3 targets met, 1 missed, 1 not measured." in page
    assert "| sums | at least 97.0 % | 96.0 % [93.0, 99.0] | 200 | **missed** |" in page
    assert "| emotion | at least 90.0 % | needs --data |  | not measured |" in page
    assert page.index("## Targets") < page.index("## S")
    assert [goal.what for goal in report.missed] == ["sums"]
