"""The errors a user may meet, each with the exit code the command line leaves with.

| code | meaning |
|---|---|
| 0 | done; an abstention is an answer too |
| 1 | failed |
| 2 | wrong use: an argument, a setting, an unreadable input |
| 3 | not found: no such record, thread, specialist, family |
| 4 | verification failed: the log was changed outside this program |
| 5 | the log cannot be opened, read or written |
| 6 | an artifact is missing, truncated, tampered with, or made for another model |
| 130 | interrupted |
"""

from __future__ import annotations


class PilothouseError(Exception):
    """Anything this program tells its user plainly: one sentence that quotes the value, the rule and what
    to do.
    """

    exit_code = 1


class UsageError(PilothouseError):
    """The request itself is wrong: an argument, a setting, an input that is not text."""

    exit_code = 2


class NotFoundError(PilothouseError):
    """What was named does not exist."""

    exit_code = 3


class VerifyError(PilothouseError):
    """The log does not agree with its own hashes."""

    exit_code = 4


class StoreError(PilothouseError):
    """The log cannot be opened, read or written."""

    exit_code = 5


class ArtifactError(PilothouseError):
    """A file that changes answers is missing, truncated, tampered with, or made for another model."""

    exit_code = 6


class PluginError(PilothouseError):
    """Something that an installed package adds was asked for by name, and cannot be loaded."""


class InterruptedByUser(PilothouseError):
    """The user asked to stop (Ctrl-C)."""

    exit_code = 130


class StoreReadOnlyError(StoreError):
    """The log, or its folder, may not be written."""


class StoreFullError(StoreError):
    """The disk that holds the log has no room left."""


class StoreLockedError(StoreError):
    """Another process held the log's write lock for longer than we wait."""


class StoreCorruptError(StoreError):
    """The file is damaged, or is no log at all."""


class StorePlaceError(StoreError):
    """There can be no log at that place: it is a folder, or lies below a file, or no place at all."""


class StoreMissingError(StoreError):
    """There is no log at that path yet."""

    exit_code = 3


class StoreUnreachableError(StoreError):
    """The database server does not answer, or the connection to it broke."""


class StoreRedactionError(StoreError):
    """A text could not be redacted, and so was not written."""


class StoreVersionError(StoreError):
    """The log was written by a newer program than this one."""


class StoreClosedError(StoreError):
    """The ledger was used after it was closed, or a record was finished twice."""
