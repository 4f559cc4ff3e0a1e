"""Surface templates of the four operations: ``{e}`` is an expression, ``{a}`` and ``{b}`` the operands."""

from __future__ import annotations

GENERIC: tuple[str, ...] = (
    "{e}", "What is {e}?", "{e} = ?", "Let me have {e}.", "Could you figure out {e}?", "{e} =",
    "Calculate {e}.", "How much is {e}?", "Result of {e}?", "I want to know {e}.", "Compute {e}.",
    "What's {e}?", "Work out {e}.", "Do this sum for me: {e}", "Give the value of {e}.", "Solve {e}.",
    "Can you calculate {e}?", "Please compute {e}.", "Quick maths: {e}", "Help me with {e}, please.", "{e}=",
    "Tell me what {e} is.", "Find {e}.", "Determine {e}.", "What do you get for {e}?",
    "What does {e} equal?", "Evaluate {e}.", "{e} equals", "Answer this: {e}",
    "My homework says {e}. What is it?",
)  # fmt: skip

EXPRESSIONS: dict[str, tuple[str, ...]] = {
    "add": ("{a} + {b}", "{a}+{b}", "{a} plus {b}", "{a} + {b}"),
    "sub": ("{a} - {b}", "{a}-{b}", "{a} minus {b}", "{a} - {b}"),
    "mul": ("{a} * {b}", "{a}*{b}", "{a} times {b}", "{a} x {b}", "{a} multiplied by {b}"),
    "div": ("{a} / {b}", "{a}/{b}", "{a} divided by {b}", "{a} / {b}"),
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "add": (
        *GENERIC,
        "Add {a} and {b}.", "What is the sum of {a} and {b}?", "The sum of {a} and {b}",
        "Put {a} and {b} together.", "{a} and {b} together make what?", "Add {b} to {a}.",
        "What is {b} more than {a}?", "Sum {a} and {b}.", "Increase {a} by {b}.",
        "Which number is {b} bigger than {a}?", "How much do {a} and {b} make?", "Total of {a} and {b}",
        "What is the total of {a} and {b}?", "{a} increased by {b}", "If I add {a} and {b}, what do I get?",
    ),
    "sub": (
        *GENERIC,
        "Subtract {b} from {a}.", "What is the difference between {a} and {b}?", "Take {b} away from {a}.",
        "Reduce {a} by {b}.", "If I take {b} off {a}, what is left?", "The difference of {a} and {b}",
        "What is {b} less than {a}?", "Take {b} from {a}.", "{a} decreased by {b}",
        "What remains of {a} after removing {b}?", "{a} take away {b}", "How much is {a} less {b}?",
        "Subtract {b} from {a} please.", "{a} reduced by {b}", "Start at {a} and go down by {b}.",
    ),
    "mul": (
        *GENERIC,
        "Multiply {a} by {b}.", "What is the product of {a} and {b}?", "{a} times {b}",
        "Take {a} {b} times.", "Find {b} lots of {a}.", "Multiply {a} and {b}.",
        "The product of {a} and {b}", "How much is {a} times {b}?", "{a} by {b}, multiplied",
        "What do {a} and {b} give when multiplied?", "Multiply {a} with {b}.", "Product of {a} and {b}?",
        "What is {a} multiplied by {b}?", "{a} groups of {b}", "If I multiply {a} by {b}, what do I get?",
    ),
    "div": (
        *GENERIC,
        "Divide {a} by {b}.", "What is the quotient of {a} and {b}?", "{a} over {b}", "Split {a} by {b}.",
        "How often does {b} fit into {a}?", "How many times does {b} go into {a}?",
        "What is {a} divided by {b}?", "{a} shared by {b}", "{a} split into {b} equal parts",
        "Share {a} equally among {b}.", "Divide {a} by {b} please.", "The quotient of {a} and {b}",
        "{a} divided by {b}", "Quotient of {a} by {b}?", "If I divide {a} by {b}, what do I get?",
    ),
}  # fmt: skip

FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "add": (
        "Now add {b}.", "And plus {b}?", "Add {b} to that.", "And with {b} more?",
        "What if I add {b} to it?", "plus {b}", "+ {b}", "And if you add {b}?", "Then add {b}.",
        "Put {b} on top of that.",
    ),
    "sub": (
        "Now subtract {b}.", "And minus {b}?", "Take {b} away from that.", "Less {b}?",
        "What if I subtract {b} from it?", "minus {b}", "- {b}", "And if you take away {b}?",
        "Then subtract {b}.", "Remove {b} from that.",
    ),
    "mul": (
        "Now multiply by {b}.", "And times {b}?", "Multiply that by {b}.", "{b} times that?",
        "What if I multiply it by {b}?", "times {b}", "* {b}", "And if you multiply by {b}?",
        "Then multiply it by {b}.", "Take that {b} times.",
    ),
    "div": (
        "Now divide by {b}.", "And divided by {b}?", "Divide that by {b}.", "Split that by {b}.",
        "What if I divide it by {b}?", "divided by {b}", "/ {b}", "And if you divide by {b}?",
        "Then divide it by {b}.", "Share that among {b}.",
    ),
}  # fmt: skip
