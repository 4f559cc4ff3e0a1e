"""Helpdesk: prompts about the assistant itself, greetings and thanks; code answers them, so rows hold no
answer.
"""

from __future__ import annotations

import random
from pathlib import Path

from .example import Example, Split, row_split

_PROMPTS = {
    "abilities": """What can you do?
help
Which specialists do you have?
What are you able to do?
How can you help me?
What can I ask you?
list your skills
Show me what you can do.
What kind of questions do you answer?
Give me some examples of what I can ask.
What tasks do you handle?
Can you show me a list of your abilities?
which topics do you know
What are your features?
What is this tool for?
How do I use this?
I need help
Help me please
What do your specialists do?
Who are your experts?
Which experts can I talk to?
List the specialists.
Tell me about your specialists.
What are you good at?
What are you bad at?
What can't you do?
What are your limits?
Do you speak other languages?
Which languages can you translate?
Can you do math?
Can you tell stories?
Are you able to translate?
Can you check a message for spam?
Do you know facts?
Can you sort a list for me?
How many specialists are there?
What should I try first?
Give me a tour.
show help
commands
What commands are there?
menu
options
What options do I have here?
Where do I start?
I don't know what to ask.
What is possible here?
Explain what you offer.
What services do you provide?
How does this work?
What do you know?
Which jobs can I give you?
Tell me your capabilities.
Is there a manual?
Do you have instructions?
What sort of help do you offer?
How many things can you do?
Which skills do you have?
Describe your abilities.
Can you give me an overview?
What do people use you for?
Suggest something I could ask.
What would you like me to ask?
Can you do more than one thing?
Please explain how I can use you.""",
    "greeting": """hello
hi
hey
Hello there!
Hi there
Good morning
Good afternoon
Good evening
hey, how are you?
How are you?
How are you doing today?
What's up?
Hello, nice to meet you.
Nice to meet you!
Greetings
howdy
hi, are you there?
Anybody there?
Hello again
Hey there, friend
Good day
morning!
hiya
Hello, can you hear me?
Welcome back
How's it going?
How is your day?
Pleased to meet you.
yo
Are you awake?
Hi, I'm back.
Good to see you.
Hello my friend
Hi, my name is Sam.
Hello, I'm new here.
bye
Goodbye!
See you later
Good night
Have a nice day
See you tomorrow
Talk to you soon
I have to go now, bye
Take care!
Hello, let's begin.""",
    "thanks": """thanks
Thank you!
Thank you very much.
thanks a lot
Many thanks
Thanks for your help.
That was helpful, thank you.
thx
Great, thanks!
I appreciate it.
Thank you so much for the answer
Perfect, thank you
Thanks, that's all.
cheers
Well done!
Good job
Nice work
You are very helpful.
That's exactly what I needed, thanks.
Awesome, thank you!
ty
Thanks again
Much appreciated
You helped me a lot.
That's great, thank you kindly.
ok thanks
Wonderful, thanks
I'm grateful for your help.
You're the best!
Thanks, you saved me time.
Very good answer, thank you.
Thank you, that will be all for today.""",
    "identity": """Who are you?
What are you?
What is your name?
Are you a robot?
Are you human?
Who made you?
Are you an AI?
Tell me about yourself.
What should I call you?
Do you have a name?
Introduce yourself.
Am I talking to a machine?
Who built you?
How do you work?
Which model are you?
Are you a language model?
How big are you?
How many parameters do you have?
Where do you run?
Where do you come from?
Do you run on my computer?
Are you open source?
What version are you?
Do you remember me?
Do you store what I say?
Do you learn from me?
Are you connected to the internet?
Who is in charge here?
Who is answering me?
Which specialist answered that?
Are you one model or many?
How were you trained?
What is your purpose?
Do you have feelings?
How old are you?
Are you real?
Is anybody reading this?
What makes you different?
Are you a person or a program?
What kind of AI are you?
who am i talking to""",
}

# (prefix, suffix) of small changes that keep the meaning
_CHANGES = (
    ("", ""),
    ("", ""),
    ("hey, ", ""),
    ("", " please"),
    ("ok, ", ""),
    ("so ", ""),
    ("", " :)"),
    ("um, ", ""),
)


def rows() -> list[tuple[str, str]]:
    """Return all (prompt, kind) rows."""
    return [(prompt, kind) for kind, text in _PROMPTS.items() for prompt in text.splitlines()]


def _changed(prompt: str, rng: random.Random) -> tuple[str, str]:
    """Return (prompt, change id) in another spelling: case, final mark, a word in front or behind."""
    form = rng.randrange(4)
    if form == 0:
        prompt = prompt.lower()
    elif form == 1:
        prompt = prompt.rstrip("?!. ")
    elif form == 2:
        prompt = prompt.lower().rstrip("?!. ")
    number = rng.randrange(len(_CHANGES))
    before, after = _CHANGES[number]
    if after == "..." and prompt[-1] in "?!.":
        prompt = prompt[:-1]
    if before and not prompt.startswith("I"):
        prompt = prompt[0].lower() + prompt[1:]
    return f"{before}{prompt}{after}", f"{form}.{number}"


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return up to ``count`` prompts; a hand-written prompt and all its spellings belong to one split.

    ``data`` is not used. The first rows are the prompts as written, then come distinct spellings.
    """
    rng = random.Random(f"helpdesk/{split}/{seed}")
    mine = [row for row in rows() if row_split(row[0].lower()) == split]
    rng.shuffle(mine)
    found = {
        prompt: Example(prompt, "", "help", kind, f"help-{prompt}", "open") for prompt, kind in mine[:count]
    }
    for _ in range(20 * count):
        if len(found) >= count:
            break
        prompt, kind = rng.choice(mine)
        spelling, change = _changed(prompt, rng)
        found.setdefault(spelling, Example(spelling, "", "help", kind, f"help-{prompt}/{change}", "open"))
    return list(found.values())
