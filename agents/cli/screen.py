"""Where a chat shows things: a plain stream of text, or a terminal with colours and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...store.printable import visible
from ..answer import Answer, Restart
from . import console
from .ask import summary

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..causal import Why

_MARKDOWN = re.compile(r"^(?:#{1,4} |[-*] |> |```|\|.*\|$)|\*\*\S.*?\*\*|`[^`\n]+`", re.MULTILINE)


class PlainScreen:
    """For pipes: only checked text, one answer after another; messages go to stderr."""

    settled = True

    def __init__(self, quiet: bool = False) -> None:
        self._note = console.noter(quiet)

    def answer(self, stream: Iterator[str | Restart | Answer]) -> Answer | None:
        """Print the answer's pieces as they come."""
        for item in stream:
            if isinstance(item, str):
                console.write(item)
            elif isinstance(item, Answer):
                console.write("\n")
                return item
        return None

    def say(self, text: str) -> None:
        """Print a command's reply."""
        console.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Print a message to stderr."""
        self._note(text)

    def why(self, why: Why) -> None:
        """Print an explanation."""
        from .whypage import show

        show(why)


class TerminalScreen(PlainScreen):
    """For people: text streams, what a check withdraws is struck out, Markdown is rendered, Ctrl-C stops."""

    settled = False

    def __init__(self, markdown: bool = True, quiet: bool = False, out: Console | None = None) -> None:
        from rich.console import Console

        super().__init__(quiet)
        self._console = out or Console(highlight=False)
        self._markdown = markdown

    def answer(self, stream: Iterator[str | Restart | Answer]) -> Answer | None:
        """Show the answer while it comes. Ctrl-C stops it, and only it."""
        from rich.live import Live

        shown: list[str] = []
        answer: Answer | None = None
        try:
            with Live(console=self._console, refresh_per_second=12, vertical_overflow="visible") as live:
                for item in stream:
                    if isinstance(item, Answer):
                        answer = item
                        break
                    if isinstance(item, Restart):
                        del shown[:]
                        live.console.print(f"[dim strike]{_escaped(item.text)}[/]")
                        live.console.print(f"[dim](withdrawn: {_escaped(item.reason)})[/]")
                    else:
                        shown.append(item)
                    live.update(self._rendered("".join(shown)))
        except KeyboardInterrupt:
            self.note("stopped; the record says aborted")
            return None
        if answer is not None:
            self.note(summary(answer))
        return answer

    def _rendered(self, text: str) -> RenderableType:
        from rich.markdown import Markdown
        from rich.text import Text

        safe = visible(text)
        # plain text keeps its own line breaks, which Markdown would run together
        return Markdown(safe) if self._markdown and _MARKDOWN.search(safe) else Text(safe)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(visible(text))
