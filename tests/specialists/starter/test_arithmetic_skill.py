"""Arithmetic rows: every written line is checked by an independent reader, and the splits stay apart."""

from __future__ import annotations

import re
from random import Random

import pytest

from pilothouse.specialists.starter.skills.arithmetic import KINDS, _hard_difference, examples, row_key
from pilothouse.specialists.starter.skills.arithmetic_steps import worked
from pilothouse.specialists.starter.skills.arithmetic_templates import FOLLOW_UPS, TEMPLATES
from pilothouse.specialists.starter.skills.example import SPLITS, Example, Split, row_split
from pilothouse.specialists.starter.skills.grading import chrf, correct, last_number
from pilothouse.specialists.starter.skills.word_problem_templates import SCENES

RETRY = re.compile(r"(\d+)(<|>=)(\d+)")
TRIAL = re.compile(r"\d+/\d+~\d")
HEAD = re.compile(r"0*(\d+)([+*/-])0*(\d+)")
COMPARED = re.compile(r"(\d[<=>]\d,)*\d[<=>]\d")


def line_holds(line: str) -> bool:
    """Judge a line by the rules of arithmetic, without the code that wrote it."""
    compared = RETRY.fullmatch(line.split("|")[0])
    if compared:
        left, sign, right = compared.groups()
        return int(left) < int(right) if sign == "<" else int(left) >= int(right)
    if COMPARED.fullmatch(line):
        return all(_said(pair) for pair in line.split(","))
    if TRIAL.fullmatch(line) or "=" not in line or "(" in line:
        return True
    values = [_value(part) for part in line.split("|")[0].split("=")]
    carried = re.fullmatch(r"\d\*\d=(\d\d)\+(\d)=(\d\d)", line.split("|")[0])
    if carried:
        product, carry, total = map(int, carried.groups())
        return values[0] == product and product + carry == total
    return len(set(values)) == 1


def _said(pair: str) -> bool:
    left, sign, right = int(pair[0]), pair[1], int(pair[2])
    return {"<": left < right, "=": left == right, ">": left > right}[sign]


def _value(text: str) -> int:
    total = 0
    for term in re.findall(r"[+-]?[\d*]+", text):
        product = 1
        for factor in term.lstrip("+-").split("*"):
            product *= int(factor)
        total += -product if term.startswith("-") else product
    return total


def result_of(operation: str, left: int, right: int) -> str:
    if operation == "div":
        return f"{left // right} remainder {left % right}" if left % right else str(left // right)
    return str({"add": left + right, "sub": left - right, "mul": left * right}[operation])


@pytest.mark.parametrize(
    ("operation", "left", "right", "expected"),
    [
        ("add", 347, 586, ["347+586", "7+6=13", "4+8+1=13|3", "3+5+1=09|33"]),
        ("sub", 933, 586, ["933-586", "9>5", "13-6=7", "13-8-1=4|7", "09-5-1=3|47"]),
        ("sub", 47, 586, ["047-586", "0<5", "-(586-047)", "16-7=9", "08-4-1=3|9", "05-0-0=5|39"]),
        ("sub", 1649, 1732, ["1649-1732", "1=1,6<7", "-(1732-1649)", "12-9=3", "13-4-1=8|3", "07-6-1=0|83",
                             "01-1-0=0|083"]),
        ("sub", 2, 9, ["2-9", "2<9", "-(9-2)", "09-2=7"]),
        ("sub", 9, 2, ["9-2=7"]),
        ("mul", 34, 12, ["34*12", "4*2=08", "3*2=06+0=06|8", "4*1=04", "3*1=03+0=03|4",
                         "6+4=10|8", "0+3+1=04|08", "0+0=0|408"]),
        ("mul", 6, 384, ["384*6", "4*6=24", "8*6=48+2=50|4", "3*6=18+5=23|04"]),
        ("div", 944, 8, ["944/8", "9=8*1+1|1", "14=8*1+6|11", "64=8*8+0|118"]),
        ("div", 918, 34, ["918/34", "91/34~2", "4*2=08", "3*2=06+0=06|8", "91>=68", "11-8=3", "09-6-1=2|3",
                          "23<34|2", "238/34~7", "4*7=28", "3*7=21+2=23|8", "238>=238", "08-8=0",
                          "03-3-0=0|0", "00<34|27"]),
        ("div", 687, 66, ["687/66", "68/66~1", "6*1=06", "6*1=06+0=06|6", "68>=66", "08-6=2", "06-6-0=0|2",
                          "02<66|1", "27/66~0", "27<66|10"]),
        ("mul", 7, 8, ["7*8=56"]),
    ],
)  # fmt: skip
def test_the_written_out_steps_are_these(operation: str, left: int, right: int, expected: list[str]) -> None:
    lines, result = worked(operation, left, right)
    assert lines == expected
    assert result == result_of(operation, left, right)


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
def test_every_line_of_many_problems_is_true_and_short(operation: str) -> None:
    rng = Random(operation)
    for _ in range(1500):
        left, right = rng.randrange(10 ** rng.randint(1, 4)), rng.randrange(10 ** rng.randint(1, 4))
        if operation == "mul":
            left, right = (left % 100, right % 100) if rng.random() < 0.5 else (left, right % 10)
        if operation == "div":
            right = right % 99 + 1
            left = right * rng.randrange(100) + rng.randrange(right)
        lines, result = worked(operation, left, right, rng)
        assert all(line_holds(line) for line in lines), (left, right, lines)
        assert result == result_of(operation, left, right)


def test_the_line_reader_sees_a_wrong_line() -> None:
    assert not line_holds("4+8+1=14|3")
    assert not line_holds("3*2=06+1=06|8")
    assert not line_holds("14=8*1+5")
    assert not line_holds("91<68")
    assert not line_holds("67<67|4")
    assert not line_holds("1=1,7<6")


def test_settled_digits_and_carries_are_copied_from_the_line_above() -> None:
    lines, _ = worked("add", 9999, 1)
    assert lines[1:] == ["9+1=10", "9+0+1=10|0", "9+0+1=10|00", "9+0+1=10|000"]


@pytest.mark.parametrize(("left", "right"), [(944, 8), (918, 34), (3060, 30), (7, 9), (5, 20)])
def test_a_division_ends_in_its_quotient(left: int, right: int) -> None:
    lines, _ = worked("div", left, right)
    assert int(lines[-1].partition("|")[2]) == left // right


def test_impossible_operations_are_refused() -> None:
    with pytest.raises(ValueError, match="7/0"):
        worked("div", 7, 0)
    with pytest.raises(ValueError, match="123\\*456"):
        worked("mul", 123, 456)
    with pytest.raises(ValueError, match="'pow'"):
        worked("pow", 2, 3)


def test_long_division_shows_corrected_guesses_only_with_a_generator() -> None:
    def guesses(rng: Random | None) -> list[tuple[int, str]]:
        return [(n, line) for n in range(300) for line in worked("div", n * 17, 23, rng)[0] if "~" in line]

    right = guesses(None)
    assert all(int(line[-1]) == int(line.split("/")[0]) // 23 for _, line in right)
    shown = guesses(Random(0))
    assert set(shown) > set(right)
    wrong = [line for n, line in shown if (n, line) not in right]
    gaps = {int(line[-1]) - int(line.split("/")[0]) // 23 for line in wrong}
    assert gaps == {-1, 1}
    assert 0.05 < len(wrong) / len(right) < 0.25


def test_a_rest_is_written_with_two_digits_and_fits_the_answer() -> None:
    for n in range(400):
        for line in worked("div", n * 23 % 9800, 23 + n % 70, Random(n))[0]:
            rest = re.fullmatch(r"(\d+)(<|>=)(\d\d)(\|\d+)?", line)
            assert rest is None or len(rest[1]) in (2, 3)


@pytest.fixture(scope="module")
def rows() -> dict[Split, list[Example]]:
    return {split: examples(split, 1500, 0, None) for split in SPLITS}


def test_rows_are_reproducible_and_differ_by_seed(rows: dict[Split, list[Example]]) -> None:
    assert examples("train", 1500, 0, None) == rows["train"]
    assert examples("train", 1500, 1, None) != rows["train"]


def test_all_kinds_appear_and_every_answer_ends_with_its_result(rows: dict[Split, list[Example]]) -> None:
    for found in rows.values():
        assert {row.kind for row in found} == set(KINDS)
        assert all(re.search(r"\nAnswer: -?\d+( remainder \d+)?$", row.answer) for row in found)


def test_answers_fit_the_operands_of_the_prompt(rows: dict[Split, list[Example]]) -> None:
    checked = 0
    for row in (row for found in rows.values() for row in found if row.kind in ("add", "sub", "mul", "div")):
        head = HEAD.match(row.answer)
        assert head, row.answer
        left, sign, right = head.groups()
        kind = {"+": "add", "-": "sub", "*": "mul", "/": "div"}[sign]
        assert kind == row.kind
        assert last_number(row.answer) == result_of(kind, int(left), int(right))
        checked += 1
        if not row.history:
            asked = sorted(int(n) for n in re.findall(r"\d+", row.prompt.replace(",", "")))
            assert asked == sorted((int(left), int(right))), row.prompt
    assert checked > 3000


def test_operands_and_templates_belong_to_one_split(rows: dict[Split, list[Example]]) -> None:
    for split, found in rows.items():
        for row in found:
            if row.kind in ("add", "sub", "mul", "div"):
                left, _, right = HEAD.match(row.answer).groups()  # type: ignore[union-attr]
                assert row_split(row_key(row.kind, int(left), int(right))) == split
    seen = {split: {row.template for row in found} for split, found in rows.items()}
    assert not seen["test"] & (seen["train"] | seen["fit"] | seen["calibrate"])
    assert not seen["calibrate"] & (seen["train"] | seen["fit"])


def test_every_word_problem_line_is_true(rows: dict[Split, list[Example]]) -> None:
    problems = [row for found in rows.values() for row in found if row.kind in ("word1", "word2")]
    assert len(problems) > 1000
    assert all(line_holds(line) for row in problems for line in row.answer.split("\n")[:-1])
    assert all("{" not in row.prompt for row in problems)
    assert all(int(last_number(row.answer) or -1) >= 0 for row in problems)


def test_templates_are_many_and_distinct() -> None:
    assert all(len(set(TEMPLATES[kind])) == len(TEMPLATES[kind]) >= 30 for kind in TEMPLATES)
    assert all(len(set(FOLLOW_UPS[kind])) == len(FOLLOW_UPS[kind]) >= 10 for kind in FOLLOW_UPS)
    scenes = [scene for group in SCENES.values() for scene in group]
    assert len(set(scenes)) == len(scenes) >= 60


def test_some_rows_continue_an_earlier_turn(rows: dict[Split, list[Example]]) -> None:
    continued = [row for row in rows["train"] if row.history]
    assert 0.02 < len(continued) / len(rows["train"]) < 0.1
    for row in continued:
        left = HEAD.match(row.answer).group(1)  # type: ignore[union-attr]
        assert last_number(row.history[0][1]) == left


def graded(answer: str, reference: str, check: str = "number", kind: str = "x") -> bool:
    return correct(Example("", reference, "s", kind, "t", check), answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("Answer: 933", True),
        ("it is 1,933", False),
        ("7+6=13\nAnswer: 933.", True),
        ("-933", False),
        ("", False),
    ],
)
def test_number_grading(answer: str, passes: bool) -> None:
    assert graded(answer, "3+5=933\nAnswer: 933") is passes


def test_number_grading_knows_remainders_signs_and_separators() -> None:
    assert graded("Answer: 8 remainder 3", "Answer: 8 remainder 3")
    assert graded("8 r 3", "Answer: 8 remainder 3")
    assert not graded("Answer: 8", "Answer: 8 remainder 3")
    assert graded("8 remainder 0", "Answer: 8")
    assert graded("Answer: -1,234", "Answer: -1234")
    assert graded("007", "7")
    assert graded("2.50", "2.5")


def test_exact_and_label_grading() -> None:
    assert graded(" Mice. ", "mice", "exact")
    assert not graded("mouse", "mice", "exact")
    assert graded("c-a-t", "c-a-t", "exact")
    assert not graded("cat", "c-a-t", "exact")
    assert graded("House", "House", "exact", "capitalize")
    assert not graded("house", "House", "exact", "capitalize")
    assert graded("Very happy, I think", "very happy", "label")
    assert not graded("unhappy", "happy", "label")
    with pytest.raises(ValueError, match="'guess'"):
        graded("a", "a", "guess")


def test_open_grading_wants_english_on_topic_without_loops() -> None:
    text = "The little cat sat on the wall and looked at the moon for a very long time."
    assert graded(text, "ref", "open", "about:cat+dog")
    assert not graded(text, "ref", "open", "about:horse")
    assert graded(text, "", "open", "about:horse")
    assert not graded("the cat is the cat is the cat is the cat is the cat is", "ref", "open", "about:cat")
    assert not graded("A cat.", "ref", "open", "about:cat")
    assert not graded("le chat noir dort sous une table rouge avec cinq petits amis gris", "", "open")


def test_chrf_agrees_with_values_worked_out_by_hand() -> None:
    assert chrf("abc def", "abcdef") == pytest.approx(1.0)
    assert chrf("abc", "xyz") == 0.0
    assert chrf("abc", "") == 0.0
    # n=1: precision 2/2, recall 2/4; n=2: 1/1 and 1/3; F2 of the means 1 and 5/12
    assert chrf("abcd", "ab") == pytest.approx(5 * (5 / 12) / (4 + 5 / 12))
    assert graded("the cat sat there", "the cat sat here", "chrf")
    assert not graded("un chien", "the cat sat here", "chrf")


def test_training_meets_differences_that_are_told_apart_late_or_borrow_far() -> None:
    hard = [_hard_difference(Random(seed)) for seed in range(400)]
    late = [(a, b) for a, b in hard if len(str(a)) == len(str(b)) and str(a)[0] == str(b)[0] and a != b]
    assert all(0 <= number <= 9999 for pair in hard for number in pair)
    assert len(late) > 150
    assert 0.3 < sum(a < b for a, b in late) / len(late) < 0.7
    assert sum("00" in str(a) for a, _ in hard) > 40
