"""Recipe steps that make the specialists: activated-LoRA adapters over the trunk, and what each really
answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..adapters import AdapterBank
from ..improve.answering import answer_all
from ..improve.finetune import Tuning, train_adapter
from ..lean import LeanDecoder
from ..models import load_decoder, load_model_folder
from ..tokenizing import ChatCodec
from . import corpus
from .language import FULL
from .quantizing import quantize_adapter
from .skills import dress, freeform, outside, translate
from .skills.example import Example, Split
from .skills.grading import correct
from .work import Work


@dataclass(frozen=True)
class Course:
    """What one adapter learns from: how many lessons, its tuning, and the translator's drills beside."""

    lessons: int
    tuning: Tuning
    longest: int
    drills: int = 0


STUDENT = "screening"
JUDGED = 800  # prompts of a skill, free phrasings beside, on which a second part is compared with the first
SWITCHES = 0.3  # of the prompts that probes are fitted on
TELL_EVERY = 256  # answers between progress lines
COURSES = {
    "arithmetic": Course(60_000, Tuning(rank=32, steps=1000, rate=2e-3, rows=32), 224),
    "facts": Course(40_000, Tuning(rank=32, steps=450, rate=3e-3, rows=64), 24),
    "translate": Course(60_000, Tuning(rank=32, steps=900, rate=2e-3, rows=64), 40),
    "emotion": Course(36_000, Tuning(rank=16, steps=420, rate=1.5e-3, rows=64), 6),
    "screening": Course(20_000, Tuning(rank=16, steps=220, rate=1.5e-3, rows=64), 6),
    "words": Course(40_000, Tuning(rank=32, steps=600, rate=2e-3, rows=64), 40),
    "stories": Course(8_000, Tuning(rank=16, steps=150, rate=1e-3, rows=32), 110),
}

# Each adapter's second part, on the trunk that ships: it takes in what quantizing changed, and learns on.
# Lessons, steps, rate and drills on words and noun phrases; all else is as in the first part.
RIDDEN = {
    "arithmetic": (60_000, 1600, 1.2e-3, 0),
    "facts": (30_000, 250, 1.5e-3, 0),
    "translate": (400_000, 6000, 1.2e-3, 160_000),
    "emotion": (36_000, 100, 5e-4, 0),
    "words": (30_000, 300, 1.2e-3, 0),
    "stories": (8_000, 60, 4e-4, 0),
}
RIDES = {
    name: replace(course, lessons=count, tuning=replace(course.tuning, steps=steps, rate=rate), drills=drills)
    for name, (count, steps, rate, drills) in RIDDEN.items()
    for course in (COURSES[name],)
}


def open_trunk(work: Work, folder: str = "trunk") -> tuple[PreTrainedModel, ChatCodec]:
    """Load the trunk that ships, or the one of another folder, in float32, with its chat codec."""
    return load_model_folder(work.path(folder), torch.float32), ChatCodec.load(work.path(folder))


def open_reader(work: Work) -> tuple[LeanDecoder | PreTrainedModel, ChatCodec]:
    """Load what answers fastest as the trunk that ships, with its chat codec."""
    return load_decoder(work.path("trunk"), torch.float32), ChatCodec.load(work.path("trunk"))


def lessons_of(work: Work, name: str, count: int, seed: int) -> list[Example]:
    """Draw lessons of a skill; some follow an exchange on something else."""
    drawn = corpus.draw(name, "train", count, seed, work.sources)
    others = corpus.exchanges("train", seed, work.sources)
    lessons = dress.after_exchanges(drawn, others, seed, corpus.ASIDES)
    return [lesson for lesson in lessons if lesson.answer]


def train_specialist(work: Work, name: str) -> None:
    """Train the adapter `name` on the trained trunk, into `adapters.bf16/NAME`."""
    model, codec = open_trunk(work, FULL)
    course, target = COURSES[name], work.path("adapters.bf16", name)
    lessons = lessons_of(work, name, course.lessons, work.seed + 1)
    run = work.path("adapters.run", name)
    train_adapter(model, codec, lessons, course.tuning, run, target, lambda line: work.say(f"{name}: {line}"))


def ride_specialist(work: Work, name: str) -> None:
    """Go on training an adapter on the quantized trunk, over new lessons; store it in few bits as
    `adapters/NAME`, or the one it started from, where that answers more of the fitting split.
    """
    model, codec = open_trunk(work)
    course, run = RIDES[name], work.path("rides.run", name)
    lessons = lessons_of(work, name, course.lessons, work.seed + 101)
    lessons += translate.drills(course.drills, work.seed + 101)
    start, target = work.path("adapters.bf16", name), work.path("rides", name)
    tuning = replace(course.tuning, seed=work.seed + 1)
    train_adapter(
        model, codec, lessons, tuning, run, target, lambda line: work.say(f"ride {name}: {line}"), start=start
    )
    better = target if answers_more(work, name, target, start) else start
    work.say(f"{name}: {better.parent.name}, {quantize_adapter(better, work.path('adapters', name))}")


def answers_more(work: Work, name: str, one: Path, other: Path) -> bool:
    """Whether an adapter answers at least as many of its own prompts of the fitting split as another."""
    model, codec = open_reader(work)
    own = [e for e in mixture(work, "fit", JUDGED, 0) if e.skill == name]
    right = []
    for folder in (one, other):
        bank = AdapterBank(model)
        bank.load(name, folder)
        right.append(sum(o.correct for o in judge(model, codec, name, own, bank, COURSES[name].longest)))
        bank.close()
    work.say(f"{name}: {one.parent.name} {right[0]}, {other.parent.name} {right[1]} of {len(own)} right")
    return right[0] >= right[1]


@dataclass(frozen=True)
class Outcome:
    """One specialist's real answer to one example, judged."""

    specialist: str
    example: Example
    answer: str
    mean_logprob: float
    correct: bool


def judge(
    model: LeanDecoder | PreTrainedModel,
    codec: ChatCodec,
    name: str,
    examples: Sequence[Example],
    bank: AdapterBank | None,
    max_tokens: int,
    work: Work | None = None,
) -> list[Outcome]:
    """Let one specialist (or, without a bank, the bare trunk) answer every example greedily, and judge the
    answers.
    """
    prompts = [codec.encode_prompt(e.prompt, e.history) for e in examples]

    def active() -> AbstractContextManager[object]:
        return nullcontext() if bank is None else bank.active(name)

    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if work is not None and done // TELL_EVERY > told:
            told = done // TELL_EVERY
            work.say(f"{name} answered {done}/{len(prompts)}")

    answers = answer_all(model, prompts, codec.invocation[-1], codec.end, max_tokens, active, on_batch=tell)
    texts = [codec.decode(answer.tokens).strip() for answer in answers]
    return [
        Outcome(name, e, text, a.mean_logprob, correct(e, text))
        for e, text, a in zip(examples, texts, answers, strict=True)
    ]


def mixture(work: Work, split: Split, each: int, others: int) -> list[Example]:
    """Draw the mixture that probes are fitted or judged on: every skill, free phrasings, and out-of-scope
    prompts; some follow an exchange on something else.
    """
    rows: list[Example] = []
    for skill in corpus.SKILLS:
        rows += corpus.draw(skill, split, each, work.seed + 7, work.sources)[:each]
    rows += freeform.examples(split, 10_000, work.seed, work.sources)
    rows += outside.examples(split, others, work.seed + 7, work.sources)[:others]
    return dress.after_other_topics(rows, work.seed, SWITCHES)


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write judged answers as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        out.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)


def read_outcomes(path: Path) -> Iterator[Outcome]:
    """Read judged answers back."""
    with path.open() as lines:
        for line in lines:
            row = json.loads(line)
            example = row.pop("example")
            example["history"] = tuple(tuple(turn) for turn in example["history"])
            yield Outcome(example=Example(**example), **row)


def answerer(work: Work, name: str) -> tuple[LeanDecoder | PreTrainedModel, AdapterBank | None]:
    """Load what answers as ``name``: the distilled student, or the trunk with the adapter in its bank."""
    if name == STUDENT:
        return load_decoder(work.path("student"), torch.float32), None
    model, _ = open_reader(work)
    bank = AdapterBank(model)
    bank.load(name, work.path("adapters", name))
    return model, bank


def collect_outcomes(work: Work, split: Split, each: int, others: int) -> None:
    """Let every specialist answer its own prompts, on the calibration split everyone else's too; one file a
    specialist.

    Others' answers show how right a specialist is that was chosen by mistake.
    """
    codec, examples = ChatCodec.load(work.path("trunk")), mixture(work, split, each, others)
    for name, course in COURSES.items():
        target = work.path("outcomes", split, f"{name}.jsonl")
        if target.exists():
            continue
        model, bank = answerer(work, name)
        own = [e for e in examples if e.skill == name]
        foreign = [e for e in examples if split == "calibrate" and e.skill != name and e.answer]
        judged = judge(model, codec, name, own, bank, course.longest, work)
        right = sum(outcome.correct for outcome in judged)
        judged += judge(model, codec, name, foreign, bank, min(course.longest, 24), work)
        write_outcomes(target, judged)
        work.say(f"{name} on {split}: {right}/{len(own)} of its own are right")
