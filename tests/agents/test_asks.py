"""Cutting a prompt into asks, and re-computing sums."""

from __future__ import annotations

import pytest

from pilothouse.agents import sums
from pilothouse.agents.asks import leans, pieces, split

CUT = [
    ("What is 3+4? And translate dog into French.", ("What is 3+4?", "Translate dog into French.")),
    ("What is 2+2?\nWhat is the capital of France?", ("What is 2+2?", "What is the capital of France?")),
    ("1. What is 2+2?\n2. Spell cat", ("What is 2+2?", "Spell cat")),
    ("Answer these:\n- What is 2+2?\n- Spell cat", ("What is 2+2?", "Spell cat")),
    (
        "What is 12 + 30, and also what is the plural of mouse?",
        ("What is 12 + 30", "What is the plural of mouse?"),
    ),
    ("What is 2+2; what is 3+3?", ("What is 2+2", "What is 3+3?")),
    ("Spell cat and then also spell dog", ("Spell cat", "Spell dog")),
    ("what is 5*6 and what is the capital of peru", ("What is 5*6", "What is the capital of peru")),
    (
        'How do you say "good night" in French, and spell eagle',
        ('How do you say "good night" in French', "Spell eagle"),
    ),
    ("What's 8 minus 3, who painted Guernica?", ("What's 8 minus 3", "Who painted Guernica?")),
    ("Some sums: 1) what is 2+2 2) what is 4+4", ("What is 2+2", "What is 4+4")),
    ("First spell cat, then tell me the plural of ox.", ("Spell cat", "Tell me the plural of ox.")),
    (
        "Hi! Two things. What is 3+4? And what is the opposite of hot?",
        ("Hi! Two things. What is 3+4?", "What is the opposite of hot?"),
    ),
    (
        "What is the first letter of dog? What is the last letter of cat?",
        ("What is the first letter of dog?", "What is the last letter of cat?"),
    ),
    (
        'What is 2+2?\n\nAlso, is this message safe? "You won! Call now. What are you waiting for?"',
        ("What is 2+2?", 'Is this message safe? "You won! Call now. What are you waiting for?"'),
    ),
    (
        "Tell me a story about a fox; then give me the plural of fox, please",
        ("Tell me a story about a fox", "Give me the plural of fox, please"),
    ),
    (
        "Could you add 12 and 30 for me and could you name the capital of Chile?",
        ("Could you add 12 and 30 for me", "Could you name the capital of Chile?"),
    ),
]
WHOLE = [
    "What is 3+4?",
    "Tom has 3 apples. He buys 4. How many does he have?",
    "Who wrote Hamlet? What language did he write in?",
    "What is 3+4? Add 5 to that.",
    "Translate into French: Where is the dog? What is your name?",
    "Please translate to German:\n- What is a dog\n- What is a cat",
    'Say "Who are you? What do you want?" in Spanish.',
    "Hello there. How are you?",
    "bread and butter; and also jam",
    "",
    "???",
    "1.",
    "What is this? " * 300,
    "Take 5 and add 3 and multiply by 2",
    "What is the difference between big and large?",
    "Tell me a story about a dog and a cat, and how they became friends",
    "Say 'what is this and what is that' in German",
    "Tell me who wrote Hamlet and when he died",
    "Is this spam: win a prize, what are you waiting for?",
    "If I have 3 apples and buy 4, how many do I have?",
    "My sister said 'I can't come, what a pity'. How does she feel?",
    "Translate and spell the word dog",
    "Is he angry, what do you think?",
    'Would you let this pass? "What is the capital of France, and where is it?"',
    "Which sport did Pele play? Tell me!",
    "What do you get when you add 3 and 4, and what is the sum of the digits of that?",
    "How many days are there in 3 weeks, and how many hours is that?",
    "What is the capital of the country where people eat sushi and speak Japanese?",
    "Please can you tell me what happened next? The fox ran. The dog slept.",
]


@pytest.mark.parametrize(("prompt", "parts"), CUT)
def test_independent_asks_are_cut(prompt: str, parts: tuple[str, ...]) -> None:
    assert split(prompt) == parts


@pytest.mark.parametrize("prompt", WHOLE)
def test_everything_else_stays_whole(prompt: str) -> None:
    assert split(prompt) == (prompt,)


@pytest.mark.parametrize("prompt", [*WHOLE, *(prompt for prompt, _ in CUT)])
def test_pieces_are_the_prompt_again(prompt: str) -> None:
    assert "".join(pieces(prompt)) == prompt


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("Plural of ox. Sum of 3 and 4.", 2),
        ("ox in the plural\n3 plus 4", 2),
        ('How does "I am sad. I cry." feel?', 1),
        ("In French: I am here. You are there.", 1),
        ("In French: I am here. And 3 plus 4.", 2),
        ("In French: I am here.\n3 plus 4", 2),
        ("bread and butter, milk and honey", 1),
    ],
)
def test_pieces_end_where_an_ask_might(prompt: str, count: int) -> None:
    assert len(pieces(prompt)) == count


def test_a_cut_is_bounded() -> None:
    assert len(split("\n".join(f"{n}. What is {n} + {n}?" for n in range(1, 7)))) == 6
    many = "\n".join(f"{n}. What is {n} + {n}?" for n in range(1, 9))
    assert split(many) == (many,)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3+4*2", "11"),
        ("(3+4)*2", "14"),
        ("-(5-2)", "-3"),
        ("7/2", "7/2"),
        ("2×3−1", "5"),
        ("0.5+0.25", "3/4"),
    ],
)
def test_value(text: str, number: str) -> None:
    assert str(sums.value(text)) == number


@pytest.mark.parametrize(
    "text", ["", "3+", "(3", "3 4", "1/0", "__import__", "9" * 19, "1+" * 40 + "1", "2**3"]
)
def test_no_value(text: str) -> None:
    with pytest.raises(sums.NotArithmetic):
        sums.value(text)


@pytest.mark.parametrize(
    ("prompt", "answer", "fault"),
    [
        ("What is 3 + 4?", "3+4=7\nAnswer: 7", None),
        ("What is 3 + 4?", "Answer: 8", "3 + 4 is 7, the answer says 8"),
        ("What is 3 + 4?", "3+4=8\nAnswer: 8", "3+4 = 8 is wrong: 3+4 is 7"),
        ("What is 58 times 9?", "58*9\n8*9=72\n5*9=45+7=52|2\nAnswer: 522", None),
        ("What is 58 times 9?", "58*9\n8*9=72\n5*9=45+7=53|2\nAnswer: 532", "45+7 = 53"),
        ("What is 58 times 9?", "58*9\nAnswer: 523", "58*9 is 522, the answer says 523"),
        ("29 / 3", "29/3\n29=3*9+2\nAnswer: 9 remainder 2", None),
        ("29 / 3", "29/3\n29=3*9+2\nAnswer: 9 remainder 1", "the answer says"),
        ("What is 1,200 + 5?", "1205", None),
        ("Who ruled from 1914-1918?", "George V, for 4 years", None),
        ("Say what is 3 + 4 in French", "qu'est-ce que 3 + 4", None),
        ("What is 2 - 9?", "-7", None),
        ("What is 2 - 9?", "minus 7", None),
        ("Take 30 from 12.", "12-30=-(30-12)\n10-2=8|8\n3-1-1=1|18\nAnswer: -18", None),
        ("Take 30 from 12.", "12-30=-(30-12)\n10-2=8|8\n3-1-1=1|18\nAnswer: -17", "12-30 is -18"),
        ("Take 30 from 12.", "12-30=-(30-12)\n10-2=8|8\n3-1-1=1|18\nAnswer: 18", "12-30 is -18"),
        ("Take 30 from 12.", "12-30\n1<3\n-(30-12)\n10-2=8\n03-1-1=1|8\nAnswer: -18", None),
        ("Take 30 from 12.", "12-30\n1<3\n-(30-12)\n10-2=8\n03-1-1=1|8\nAnswer: 18", "12-30 is -18"),
        ("Split 91 by 34.", "91/34\n91/34~2\n91>=68\n11-8=3\n09-6-1=2|3\n23<34|2\nAnswer: 2", "91/34 is"),
    ],
)
def test_wrong_sums(prompt: str, answer: str, fault: str | None) -> None:
    found = sums.wrong(prompt, answer)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_nothing_to_check() -> None:
    assert not sums.checkable("What is the capital of France?", "Paris")
    assert not sums.checkable("What is 3 + 4?", "no idea")
    assert sums.checkable("What is 3 + 4?", "7")


def test_our_own_arithmetic_is_never_faulted() -> None:
    from pilothouse.specialists.starter.skills import arithmetic

    rows = arithmetic.examples("calibrate", 800, 5, None)
    assert [row for row in rows if sums.wrong(row.prompt, row.answer)] == []


def test_a_changed_result_is_found() -> None:
    """The control: the same answers with their last digit changed."""
    from pilothouse.specialists.starter.skills import arithmetic

    rows = arithmetic.examples("calibrate", 800, 5, None)
    assert any("\n-(" in row.answer for row in rows), "results below zero too"
    changed = [(row.prompt, f"{row.answer[:-1]}{(int(row.answer[-1]) + 1) % 10}") for row in rows]
    found = sum(sums.wrong(prompt, answer) is not None for prompt, answer in changed)
    assert found >= 0.95 * len(rows)


@pytest.mark.parametrize(
    ("ask", "alone"),
    [
        ('"WINNER!! Claim your prize now, call 0900 123"', False),
        ("“You won!” «Call now»", False),
        ('Is this message safe? "You won!"', True),
        ("And what is its plural?", False),
        ("What is the plural of mouse?", True),
    ],
)
def test_what_leans_on_its_neighbour_means_nothing_alone(ask: str, alone: bool) -> None:
    assert leans(ask) != alone
