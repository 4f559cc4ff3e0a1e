"""One thread that writes, so that many callers share a commit.

Each job runs in its own savepoint of one transaction; all jobs that wait when the thread is free share it,
and so share one flush to disk. A job's future answers only after that flush.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .database import Place
from .errors import StoreClosedError
from .events import lock_chain

T = TypeVar("T")
MOST = 64  # jobs that share a commit; more would keep other processes waiting for the lock


class Job(NamedTuple):
    """Work for one transaction, and whom to tell."""

    work: Callable[[Connection], Any]
    future: Future[Any]


class Writer:
    """The thread, its connection and its queue. Safe to use from any thread, not across a fork."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self._place = place
        self._engine = engine
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="pilothouse-ledger", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Queue `work`; the future answers once its changes are on disk, and cannot be cancelled.

        The future raises StoreError when they cannot be. Raises StoreClosedError after `close`.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a row once asked for is written, whoever stops waiting for it
        with self._closing:
            if self._closed:
                raise StoreClosedError(f"the log {self._place.name} is closed; open it again")
            self._jobs.put(Job(work, future))
        return future

    def close(self) -> None:
        """Write what waits, then end the thread. A second call does nothing."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            try:
                with self._place.plainly():
                    self._commit(batch)
            except BaseException as error:  # whatever it is, the callers hear of it and the thread goes on
                self._disconnect(broken=True)
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
        self._disconnect()

    def _next(self) -> list[Job]:
        """Wait for a job, and return it with those that wait behind it; empty when there will be none."""
        first = self._jobs.get()
        batch = [first] if first is not None else []
        while batch and len(batch) < MOST:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # nothing follows it: end after this batch
                break
            batch.append(job)
        return batch

    def _commit(self, batch: list[Job]) -> None:
        self._connection = self._connection or self._engine.connect()
        answers: list[tuple[Job, Any]] = []
        with self._connection.begin():
            lock_chain(self._connection)
            for job in batch:
                try:
                    with self._connection.begin_nested():
                        answers.append((job, job.work(self._connection)))
                except DBAPIError:
                    raise  # the database itself failed: nobody's row is safe
                except Exception as error:  # this job's own fault; its neighbours go on
                    job.future.set_exception(error)
        for job, answer in answers:
            job.future.set_result(answer)

    def _disconnect(self, broken: bool = False) -> None:
        if self._connection is not None:
            if broken:
                self._connection.invalidate()
            self._connection.close()
            self._connection = None
