"""Change texts before they are written: patterns from the settings, a callable from a program, or both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import StoreRedactionError, UsageError
from .payloads import Redact

MASK = "[redacted]"


def redactor(patterns: Sequence[str] = (), hook: Redact | None = None) -> Redact | None:
    """Return a function that applies `hook`, then replaces every match of every pattern by `[redacted]`; None
    when there is neither.

    Patterns are Python regular expressions; the user's own, so a slow one slows only the user. Raises
    UsageError for one that cannot be read, or that matches the empty text (it would mask every gap). The
    function raises StoreRedactionError when the hook fails or returns no text: then nothing is written.
    """
    compiled = [_compiled(pattern) for pattern in patterns]
    if not compiled and hook is None:
        return None

    def redact(text: str) -> str:
        changed = text if hook is None else _called(hook, text)
        for pattern in compiled:
            changed = pattern.sub(MASK, changed)
        return changed

    return redact


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"redaction pattern {pattern!r} cannot be read ({error}); correct it") from error
    if found.match(""):
        raise UsageError(
            f"redaction pattern {pattern!r} matches the empty text; make it match what is secret"
        )
    return found


def _called(hook: Redact, text: str) -> str:
    """The hook's word; an error message of its own may quote the text, so only its type is told."""
    try:
        changed: object = hook(text)
    except Exception as error:
        kind = type(error).__name__
        raise StoreRedactionError(f"the redaction hook failed with {kind}; nothing was written") from None
    if not isinstance(changed, str):
        kind = type(changed).__name__
        raise StoreRedactionError(f"the redaction hook returned a {kind}, no text; nothing was written")
    return changed
