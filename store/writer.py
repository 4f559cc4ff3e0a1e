"""One thread that writes, so that many callers share a commit.

All jobs that wait when the thread is free share one transaction, and so one flush to disk. Rows that follow
each other are linked in memory and written together; any other job runs in a savepoint of its own. A job's
future answers only after the flush.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .database import Place
from .errors import StoreClosedError
from .events import Batch, lock_chain
from .waiting import together

T = TypeVar("T")
MOST = 512  # jobs that share a commit; more would keep other processes waiting for the lock


class Job(NamedTuple):
    """Work for one transaction, and whom to tell. `work` of a row gets a Batch that knows `record_id`; any
    other work gets the connection.
    """

    work: Callable[[Any], Any]
    future: Future[Any]
    record_id: str | None = None


class Writer:
    """The thread, its connection and its queue. Safe to use from any thread, not across a fork."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self._place = place
        self._engine = engine
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._spelled: set[str] = set()  # keys of artifacts that this writer has seen on disk
        self._thread = threading.Thread(target=self._run, name="pilothouse-ledger", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Queue `work`; the future answers once its changes are on disk, and cannot be cancelled.

        The future raises StoreError when they cannot be. Raises StoreClosedError after `close`.
        """
        return self._queue(Job(work, Future()))

    def submit_row(self, record_id: str, work: Callable[[Batch], T]) -> Future[T]:
        """Like `submit`, for work that only looks up `record_id` and adds rows: many share a statement."""
        return self._queue(Job(work, Future(), record_id))

    def _queue(self, job: Job) -> Future[Any]:
        # a row once asked for is written, whoever stops waiting for it
        job.future.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise StoreClosedError(f"the log {self._place.name} is closed; open it again")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Write what waits, then end the thread. A second call does nothing."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while batch := together(self._jobs, MOST):
            try:
                with self._place.plainly():
                    self._commit(batch)
            except BaseException as error:  # whatever it is, the callers hear of it and the thread goes on
                self._disconnect(broken=True)
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
        self._disconnect()

    def _commit(self, batch: list[Job]) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._place.hurry(self._connection)
        answers: list[tuple[Job, Any]] = []
        spelled: set[str] = set()
        with self._connection.begin():
            lock_chain(self._connection)
            for are_rows, group in groupby(batch, key=lambda job: job.record_id is not None):
                jobs = list(group)
                answers += self._together(jobs, spelled) if are_rows else self._alone(jobs)
        self._spelled |= spelled
        for job, answer in answers:
            job.future.set_result(answer)

    def _together(self, jobs: list[Job], spelled: set[str]) -> list[tuple[Job, Any]]:
        assert self._connection is not None
        names = (job.record_id for job in jobs if job.record_id is not None)
        rows = Batch(self._connection, names, self._spelled)
        answers = []
        for job in jobs:
            try:
                answers.append((job, job.work(rows)))
            except Exception as error:  # this job's own fault; its neighbours go on
                job.future.set_exception(error)
        rows.flush()
        spelled.update(rows.artifacts)
        return answers

    def _alone(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
        assert self._connection is not None
        for job in jobs:
            try:
                with self._connection.begin_nested():
                    answer = job.work(self._connection)
            except DBAPIError:
                raise  # the database itself failed: nobody's row is safe
            except Exception as error:
                job.future.set_exception(error)
            else:
                yield job, answer

    def _disconnect(self, broken: bool = False) -> None:
        if self._connection is not None:
            if broken:
                self._connection.invalidate()
            self._connection.close()
            self._connection = None
