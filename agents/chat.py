"""A chat session: one conversation with a pilot, and the slash commands that inspect and steer it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..store.errors import NotFoundError, UsageError
from ..store.printable import one_line
from ..store.records import Message, new_id
from .answer import Answer, Restart, Usage
from .pilot import Pilot, known_specialist
from .voyage import Steer

if TYPE_CHECKING:
    from .causal import Why


class Screen(Protocol):
    """Where a session shows things."""

    def answer(self, stream: Iterator[str | Restart | Answer]) -> Answer | None:
        """Show an answer as it comes; None when the user stopped it."""

    def say(self, text: str) -> None:
        """Show the reply to a command."""

    def note(self, text: str) -> None:
        """Show a message that is no data."""

    def why(self, why: Why) -> None:
        """Show an explanation."""


class Leave(Exception):
    """The user asked to go."""


@dataclass
class Session:
    """One conversation: what is forced, how it is steered, and what was answered."""

    pilot: Pilot
    screen: Screen
    thread_id: str = field(default_factory=new_id)
    specialist: str | None = None
    steer: Steer = field(default_factory=Steer)
    temperature: float = 0.0
    seed: int = 0
    answers: list[Answer] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """Answer a prompt, or carry out a command. Raises Leave, or PilothouseError in one sentence."""
        text = line.strip()
        if text.startswith("/"):
            name, _, argument = text[1:].partition(" ")
            command = COMMANDS.get(name)
            if command is None:
                raise UsageError(f"there is no command /{name}; {_nearest(name)}")
            command.run(self, argument.strip())
        elif text:
            self.ask(line)

    def ask(self, prompt: str, parent_id: str | None = None) -> None:
        """Answer a prompt, streaming."""
        stream = self.pilot.stream(
            prompt,
            self.thread_id,
            self.specialist,
            temperature=self.temperature,
            seed=self.seed,
            steer=self.steer,
            parent_id=parent_id,
            settled=getattr(self.screen, "settled", False),
        )
        with closing(stream):  # type: ignore[type-var]
            answer = self.screen.answer(stream)
        self.prompts.append(prompt)
        if answer is not None:
            self.answers.append(answer)

    @property
    def last_record(self) -> str:
        """The id of the newest record. Raises UsageError when there is none."""
        ids = [answer.record_id for answer in self.answers if answer.record_id is not None]
        if not ids:
            raise UsageError("nothing is on record in this session yet; ask something first")
        return ids[-1]


@dataclass(frozen=True)
class Command:
    """A slash command: how it is written, what it does, and the function that does it."""

    usage: str
    about: str
    run: Callable[[Session, str], None]


def why(session: Session, argument: str) -> None:
    """Explain the last answer, or a record; `--causal` experiments on the scout."""
    words = argument.split()
    causal = "--causal" in words
    names = [word for word in words if word != "--causal"]
    session.screen.why(session.pilot.why(names[0] if names else session.last_record, causal))


def route(session: Session, argument: str) -> None:
    """Show, force or free who answers."""
    if argument in ("", "auto"):
        if argument:
            session.specialist = None
        now = session.specialist or "auto (the probes choose)"
        session.screen.say(f"route: {now}")
        return
    known_specialist(session.pilot.ship, argument)
    session.specialist = argument
    session.screen.say(f"route: {argument}, until /route auto")


def steer(session: Session, argument: str) -> None:
    """Show or change the steering: off, on (the policy's own), or NAME=COEFFICIENT."""
    if argument in ("on", "off"):
        session.steer = Steer(off=argument == "off")
    elif argument:
        name, found, number = argument.partition("=")
        try:
            coefficient = float(number)
        except ValueError:
            raise UsageError(f"steering {argument!r} cannot be read; write off, on, or NAME=1.5") from None
        vectors = session.pilot.ship.vectors
        if not found or name.strip() not in vectors:
            known = ", ".join(sorted(vectors)) or "none"
            raise NotFoundError(f"there is no steering vector {name.strip()!r}; this family has {known}")
        session.steer = Steer(session.steer.off, {**session.steer.extra, name.strip(): coefficient})
    session.screen.say(f"steering: {_described(session.steer)}")


def _described(word: Steer) -> str:
    base = "the policy's is off" if word.off else "as the policy says"
    extra = ", ".join(f"{name} = {value:g}" for name, value in word.extra.items())
    return f"{base}; with {extra}" if extra else base


def specialists(session: Session, argument: str) -> None:
    """List who can answer."""
    lines = [
        f"{card.name:<14} {card.kind:<8} {one_line(card.description, 80)}"
        for card in session.pilot.ship.cards.values()
    ]
    session.screen.say("\n".join(lines))


def undo(session: Session, argument: str) -> None:
    """Forget the last exchange (the log keeps its record)."""
    gone = session.pilot.undo(session.thread_id)
    if not gone:
        raise UsageError("there is nothing to undo in this conversation")
    session.screen.say(f"forgotten: {one_line(gone[0].content, 70)}")


def retry(session: Session, argument: str) -> None:
    """Ask the last prompt again; the new record names the old one as its parent."""
    if not session.prompts:
        raise UsageError("there is nothing to retry; ask something first")
    prompt = session.prompts[-1]
    turns = session.pilot.history(session.thread_id)
    if any(turn.role == "user" for turn in turns) and turns[-2].content == prompt:
        session.pilot.undo(session.thread_id)
    with suppress(UsageError):
        session.ask(prompt, session.last_record)
        return
    session.ask(prompt)


def export(session: Session, argument: str) -> None:
    """Write the conversation to a new file: JSON for a name that ends in .json, else Markdown."""
    if not argument:
        raise UsageError("name a file: /export talk.md, or talk.json")
    path, turns = Path(argument).expanduser(), session.pilot.history(session.thread_id)
    text = _as_json(session, turns) if path.suffix == ".json" else _as_markdown(session, turns)
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name another file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another file") from error
    session.screen.say(f"{len(turns)} turns written to {path}")


def _as_json(session: Session, turns: tuple[Message, ...]) -> str:
    body = {
        "thread_id": session.thread_id,
        "messages": [turn.model_dump() for turn in turns],
        "answers": [answer.model_dump(mode="json") for answer in session.answers],
    }
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def _as_markdown(session: Session, turns: tuple[Message, ...]) -> str:
    names = {"user": "You", "assistant": "Pilothouse", "system": "System"}
    blocks = [f"**{names[turn.role]}:**\n\n{turn.content}\n" for turn in turns]
    return f"# Conversation {session.thread_id}\n\n" + "\n".join(blocks)


def new(session: Session, argument: str) -> None:
    """Begin a new conversation."""
    session.thread_id = new_id()
    session.screen.say(f"new conversation {session.thread_id}")


def resume(session: Session, argument: str) -> None:
    """Go on with an earlier conversation."""
    if not argument:
        raise UsageError("name a conversation: /resume ID (`pilothouse log list` shows records with theirs)")
    turns = session.pilot.resume(argument)
    session.thread_id = argument
    session.screen.say(f"resumed {argument}, {len(turns)} turns")
    for turn in turns[-2:]:
        session.screen.note(f"{turn.role}: {one_line(turn.content, 100)}")


def tokens(session: Session, argument: str) -> None:
    """Count the tokens of the last answer and of this session."""
    if not session.answers:
        raise UsageError("nothing was answered in this session yet; ask something first")
    last = session.answers[-1].usage
    every = [answer.usage for answer in session.answers]
    total = Usage(
        prompt_tokens=sum(one.prompt_tokens for one in every),
        completion_tokens=sum(one.completion_tokens for one in every),
    )
    session.screen.say(
        f"last answer: {last.prompt_tokens} in, {last.completion_tokens} out; this session: "
        f"{total.prompt_tokens} in, {total.completion_tokens} out"
    )


def help_(session: Session, argument: str) -> None:
    """List the commands."""
    lines = [f"{command.usage:<34} {command.about}" for command in dict.fromkeys(COMMANDS.values())]
    lines.append(
        'Several lines: begin and end with """, or press Alt-Enter. Ctrl-C stops an answer, Ctrl-D leaves.'
    )
    session.screen.say("\n".join(lines))


def leave(session: Session, argument: str) -> None:
    """Leave."""
    raise Leave


def _table() -> dict[str, Command]:
    rows = [
        ("/why [ID] [--causal]", "why the last answer (or a record) came about", why),
        ("/route [auto|NAME]", "who answers: the probes' choice, or one specialist", route),
        ("/steer [off|on|NAME=COEFFICIENT]", "how answers are steered", steer),
        ("/specialists", "who can answer", specialists),
        ("/undo", "forget the last exchange", undo),
        ("/retry", "ask the last prompt again", retry),
        ("/export FILE", "write the conversation to a new .md or .json file", export),
        ("/new", "begin a new conversation", new),
        ("/resume ID", "go on with an earlier conversation", resume),
        ("/tokens", "tokens read and written", tokens),
        ("/help", "this list", help_),
        ("/exit", "leave (Ctrl-D does too)", leave),
    ]
    return {usage.split()[0][1:]: Command(usage, about, run) for usage, about, run in rows}


COMMANDS: Mapping[str, Command] = (lambda table: table | {"quit": table["exit"]})(_table())


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    return f"did you mean /{near[0]}?" if near else "/help lists them"
