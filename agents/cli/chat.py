"""`pilothouse chat`: a conversation in a terminal, or prompts from standard input line by line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ...store import paths
from ...store.errors import InterruptedByUser, PilothouseError
from . import console
from .console import (
    DeviceOption,
    EngineOption,
    FamilyOption,
    MaxTokensOption,
    NoLogOption,
    QuietOption,
    SeedOption,
    SpecialistOption,
    TemperatureOption,
)

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from ..chat import Session
    from ..pilot import Pilot

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
QUOTES = '"""'


@app.command()
def chat(
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on with the newest conversation.")
    ] = False,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with this conversation.")] = None,
    specialist: SpecialistOption = None,
    no_log: NoLogOption = False,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    family: FamilyOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Never render Markdown.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Chat with the family; each answer is routed, steered and logged.

    /help lists the commands. Where standard input is no terminal, each of its lines is a prompt.
    """
    settings = console.settings_with(
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        family=family,
        engine=engine,
        device=device,
        markdown=False if plain else None,
    )
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    from ..chat import Session
    from .screen import PlainScreen, TerminalScreen

    screen = TerminalScreen(settings.markdown, quiet) if interactive else PlainScreen(quiet)
    with console.open_pilot(settings, no_log=no_log) as pilot:
        session = Session(
            pilot, screen, specialist=specialist, temperature=settings.temperature, seed=settings.seed
        )
        thread = resume or (_newest_thread() if go_on else None)
        if interactive:
            _interactive(session, thread, kept=settings.keep_text and not no_log)
        else:
            _piped(session, thread)


def _newest_thread() -> str:
    from ...store.audit import Audit

    with Audit.open() as audit:
        return audit.page("last").record.thread_id


# -- a terminal ---------------------------------------------------------------------------------------------


class Loading:
    """Loads the family while the first prompt is typed; `wait` raises what went wrong."""

    def __init__(self, pilot: Pilot) -> None:
        self._pilot = pilot
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._load, name="pilothouse-loading", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            with console.quick_start():
                self._pilot.warm()
        except BaseException as fault:
            self._fault = fault

    def state(self) -> str:
        """What the toolbar says."""
        if self._thread.is_alive():
            return "loading the family…"
        return "the family cannot be loaded" if self._fault else ""

    def wait(self) -> None:
        """Wait until the family is there."""
        if self._thread.is_alive():
            console.note("loading the family…")
        self._thread.join()
        if self._fault is not None:
            raise self._fault


def _interactive(session: Session, thread: str | None, *, kept: bool) -> None:
    from ..chat import Leave

    loading = Loading(session.pilot)
    prompts = _prompt_session(session, loading, kept)
    session.screen.note("Pilothouse. Ask anything; /help lists the commands, Ctrl-D leaves.")
    if thread is not None:
        loading.wait()
        session.take(f"/resume {thread}")
    while True:
        try:
            line = _typed(prompts)
            if line.strip():
                loading.wait()
                session.take(line)
        except KeyboardInterrupt:  # at the prompt: forget the line
            continue
        except (EOFError, Leave):
            return
        except PilothouseError as fault:
            session.screen.note(f"pilothouse: {fault}")
            if loading.state():  # without a family there is nothing to chat with
                raise


def _prompt_session(session: Session, loading: Loading, kept: bool) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from ..chat import COMMANDS

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    history: FileHistory | InMemoryHistory = InMemoryHistory()
    if kept:  # what may not be logged may not lie in the arrow-up file either
        try:
            paths.state_dir().mkdir(parents=True, exist_ok=True)
            history = FileHistory(str(paths.state_dir() / "history"))
        except OSError:
            pass  # a read-only home only costs the memory of old prompts
    return PromptSession(
        history=history,
        completer=WordCompleter([f"/{name}" for name in COMMANDS], sentence=True),
        complete_while_typing=False,
        key_bindings=keys,
        bottom_toolbar=lambda: loading.state() or None,
        refresh_interval=0.5,
    )


def _typed(prompts: PromptSession[str]) -> str:
    """One prompt: a line, or several between triple quotes."""
    return joined(prompts.prompt("> "), lambda: prompts.prompt("… "))


def joined(first: str, more: Callable[[], str]) -> str:
    '''Return a prompt that may begin with """, reading on until the closing """.'''
    if not first.strip().startswith(QUOTES):
        return first
    text = first.strip()[len(QUOTES) :]
    while not text.rstrip().endswith(QUOTES):
        text += "\n" + more()
    return text.rstrip()[: -len(QUOTES)].strip("\n")


# -- a pipe -------------------------------------------------------------------------------------------------


def _piped(session: Session, thread: str | None) -> None:
    """Answer line by line; a prompt that fails is told on stderr, and its code is left with at the end."""
    from ..chat import Leave

    with console.quick_start():
        session.pilot.warm()
    if thread is not None:
        session.thread_id = thread
        session.pilot.resume(thread)
    first: PilothouseError | None = None
    lines = iter(sys.stdin.buffer)
    while True:
        try:
            session.take(joined(console.decoded(next(lines)), lambda: console.decoded(next(lines))))
        except (StopIteration, Leave):
            break
        except KeyboardInterrupt:
            raise InterruptedByUser("stopped; the record says aborted") from None
        except PilothouseError as fault:
            console.note(f"pilothouse: {fault}")
            first = first or fault
    if first is not None:
        raise typer.Exit(first.exit_code)
