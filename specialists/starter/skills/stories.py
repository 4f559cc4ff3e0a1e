"""Stories: write a short tale about a subject, or continue an opening.

Training text is a file of children's stories that the training recipe samples from a teacher; without it
there are no training rows. Prompts of the other splits need no text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .asking_freely import FREE_STORIES
from .example import Example, Split, numbered_pool, row_split, template_pool

STORIES = "stories.txt"
SEPARATOR = "<|endoftext|>"
WORD_LIMIT = 90
CONTINUE_SHARE = 0.15
PAIR_SHARE = 0.35


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NOUNS = _words(
    """rabbit dog cat bird fish bear lion tiger mouse fox wolf frog duck hen cow horse pig sheep goat
monkey elephant giraffe zebra owl turtle snake bee ant butterfly spider squirrel deer kitten puppy
chick lamb pony donkey whale dolphin shark crab penguin dragon unicorn dinosaur fairy witch wizard
king queen prince princess giant monster robot ghost angel pirate knight farmer baker doctor teacher
nurse firefighter policeman sailor fisherman clown girl boy mom dad mommy daddy grandma grandpa baby
brother sister friend family neighbor child ball doll kite book box hat coat shoe dress bag cup
plate spoon bowl toy car truck train boat ship plane bike wagon swing slide drum bell lamp candle
clock key door window bed chair table house castle tent cave tree flower leaf apple banana orange
berry cake cookie candy pie bread cheese milk soup egg honey carrot potato pumpkin garden park
forest farm zoo beach sea river lake pond mountain hill island road bridge school store market
kitchen sun moon star cloud rain snow rainbow wind storm rock stone stick sand mud grass seed nest
feather shell jewel crown ring treasure map gift balloon bubble picture crayon paint puzzle game
song dance story dream wish secret magic party birthday picnic trip race sandwich blanket pillow
mirror rope bucket ladder basket stew lollipop tooth nose tail wing"""
)

ADJECTIVES = _words(
    """brave little big small tiny happy sad kind lazy clever lonely old young shy silly naughty curious
hungry friendly funny pretty angry gentle red blue green yellow pink white black brown lost magic
noisy quiet proud greedy sleepy wise strong fast slow good bad mean nice scared new tall fat fluffy
shiny soft special golden grumpy thirsty"""
)

# these take no article
MASS = _words(
    "milk soup bread cheese honey rain snow mud grass sand paint magic treasure mom dad mommy daddy"
)

TEMPLATES = """Tell me a story about {a}.
Write a short tale about {a}.
Can you tell a story about {a}?
I want to hear about {a}.
Write a bedtime story with {a}.
Please write a little story about {a}.
tell me a story about {a}
Make up a story about {a}.
My son likes stories with {a}. Tell one.
Once upon a time there was {a}. What happened?
story about {a}
Give me a short story about {a}.
Write a children's story about {a}.
Read me a tale of {a}.
Imagine {a} and write down the story.
Do you know a story about {a}?
Write a few sentences about {a}, as a story.
A story with {a}, please.
Could you invent a tale in which we meet {a}?
Let's have a bedtime tale: {a}.
Write about {a}.
I'd like a simple story with {a} in it.
Tell the children a story about {a}.
My class needs a short story about {a}.
What would a fairy tale about {a} sound like?
Compose a small story on {a}.
write a story with {a}
Tell me something nice about {a}, like a story.
Please entertain my daughter with a tale about {a}.
Start a story in which {a} plays a part.
Tell a short tale for kids about {a}.
Create a story around {a}.
Today the story should be about {a}.
I can't sleep. Is there a story about {a}?
Write me a little fable that has {a} in it.""".splitlines()

CONTINUATIONS = """Continue this story: {o}
Finish the story: {o}
What happens next? {o}
Please carry on with this tale: {o}
Here is a beginning: {o} Go on.
Write on from here: {o}
{o} Then what happened?
Continue: {o}
This is how my story starts: {o} Please finish it.
Take this opening and tell the rest: {o}""".splitlines()

OPENINGS = """One sunny day, a little girl named Lily went to the park with her mom.
Once upon a time, there was a small bird who could not fly.
Tom had a red ball that he loved very much.
A big bear lived alone in a cave in the forest.
One morning, Ben woke up and saw snow outside.
There was a farmer who had a very lazy donkey.
Sara and her brother found a box under the bed.
A boy named Max wanted to build a tall tower.
The little fish swam away from home.
Anna lost her favorite doll in the garden.
Once there was a king who never smiled.
It was raining, and the cat wanted to go out.
Two friends found a key in the grass.
The old tree in the park could talk.
A puppy followed Jack all the way to school.
One night, the moon came down to the pond.
Grandma baked a cake and left it on the table.
There was once a dragon who was afraid of fire.
Mia got a kite for her birthday.
A tiny ant wanted to climb the highest hill.
The train stopped in the middle of the forest.
Sam and his dad went to the lake to fish.
A clever fox met a hungry wolf.
The toys woke up when the children slept.
A duck and a frog wanted to see the sea.""".splitlines()


def article(phrase: str) -> str:
    """Put ``a`` or ``an`` before a phrase, unless it names a substance or a parent."""
    if phrase.split()[-1] in MASS:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def cut(text: str, words: int = WORD_LIMIT) -> str:
    """Cut a text after its last sentence that ends within ``words`` words; empty if there is none."""
    kept: list[str] = []
    total = 0
    for sentence in re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"'])\s+", " ".join(text.split())):
        total += len(sentence.split())
        if total > words or not re.search(r"[.!?][\"']?$", sentence):
            break
        kept.append(sentence)
    return " ".join(kept)


def subjects(text: str) -> list[str]:
    """Return child-level nouns of a text's first three sentences, with the adjective before each."""
    words = re.findall(r"[a-z]+", " ".join(re.split(r"(?<=[.!?])\s+", text)[:3]).lower())
    found: dict[str, str] = {}
    for before, word in zip(["", *words], words, strict=False):
        noun = word if word in NOUNS else word.removesuffix("s")
        if noun in NOUNS and noun not in found:
            found[noun] = f"{before} {noun}" if before in ADJECTIVES else noun
    return list(found.values())


@lru_cache(maxsize=2)
def _stories(path: Path) -> tuple[str, ...]:
    """Read the story file: texts between separator lines, cut to the word limit."""
    texts = path.read_text(encoding="utf-8").split(SEPARATOR)
    return tuple(dict.fromkeys(story for story in map(cut, texts) if len(story.split()) >= 20))


def _kind(chosen: list[str]) -> str:
    return "about:" + "+".join(phrase.split()[-1] for phrase in chosen)


def _ask(chosen: list[str], template: tuple[str, str]) -> tuple[str, str, str]:
    """Return (prompt, kind, template id) of a request about one or two subjects."""
    prompt = template[1].replace("{a}", " and ".join(article(phrase) for phrase in chosen))
    return prompt, _kind(chosen), f"stories-{template[0]}"


def _written(stories: tuple[str, ...], rng: random.Random) -> Iterator[Example]:
    """Yield endless training rows: a story, and a request that fits it."""
    asks = numbered_pool(TEMPLATES, FREE_STORIES, "train")
    goes_on = template_pool(list(enumerate(CONTINUATIONS)), "train")
    while True:
        for story in rng.sample(stories, len(stories)):
            opening, _, rest = story.partition(". ")
            if rng.random() < CONTINUE_SHARE and len(rest.split()) >= 15 and f"{opening}." not in OPENINGS:
                i, template = rng.choice(goes_on)
                prompt = template.replace("{o}", f"{opening}.")
                yield Example(prompt, rest, "stories", "continue", f"continue-{i}", "open")
                continue
            found = subjects(story)
            chosen = (
                rng.sample(found, 2 if len(found) > 1 and rng.random() < PAIR_SHARE else 1) if found else []
            )
            if chosen:
                prompt, kind, name = _ask(chosen, rng.choice(asks))
                if row_split(prompt) != "fit":  # train and fit share templates, never a prompt
                    yield Example(prompt, story, "stories", kind, name, "open")


def _prompts(split: Split, rng: random.Random) -> Iterator[Example]:
    """Yield endless prompts without an answer."""
    nouns, adjectives = sorted(NOUNS), sorted(ADJECTIVES)
    asks = numbered_pool(TEMPLATES, FREE_STORIES, split)
    goes_on = template_pool(list(enumerate(CONTINUATIONS)), split)
    openings = template_pool(OPENINGS, split)
    while True:
        if rng.random() < CONTINUE_SHARE:
            i, template = rng.choice(goes_on)
            prompt = template.replace("{o}", rng.choice(openings))
            yield Example(prompt, "", "stories", "continue", f"continue-{i}", "open")
            continue
        chosen = rng.sample(nouns, 2 if rng.random() < PAIR_SHARE else 1)
        chosen = [f"{rng.choice(adjectives)} {noun}" if rng.random() < 0.5 else noun for noun in chosen]
        prompt, kind, name = _ask(chosen, rng.choice(asks))
        if split != "fit" or row_split(prompt) == "fit":
            yield Example(prompt, "", "stories", kind, name, "open")


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return ``count`` story requests; train rows carry a story: none without ``stories.txt``."""
    rng = random.Random(f"stories/{split}/{seed}")
    if split != "train":
        source = _prompts(split, rng)
        found: dict[str, Example] = {}
        for row, _ in zip(source, range(40 * count + 100), strict=False):
            if len(found) == count:
                break
            found.setdefault(row.prompt, row)
        return list(found.values())
    if data is None or not (data / STORIES).is_file():
        return []
    stories = tuple(s for s in _stories(data / STORIES) if subjects(s))
    rows = _written(stories, rng)
    return [next(rows) for _ in range(count)] if stories else []
