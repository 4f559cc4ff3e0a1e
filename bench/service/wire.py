"""A wire between a program and a server on this machine, which can be cut, go dead, and be mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BYTES = 1 << 16


class Wire:
    """A TCP proxy on the loopback; connect to `port` in place of the server's own.

    Cut, it drops every connection and refuses new ones. Dead, it takes connections and bytes and passes
    nothing on, and nobody is told: what a stopped server or a broken middlebox looks like. Mended, it passes
    on what it held.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flowing, self._changing = threading.Event(), threading.Lock()
        self._flowing.set()
        self._cut = self._closed = False
        self._ends: set[socket.socket] = set()
        self.taken = 0  # connections, those that were dropped at once included
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection; new ones are dropped at once."""
        with self._changing:
            self._cut = True
            dropped = list(self._ends)
        for end in dropped:
            _hang_up(end)

    def die(self) -> None:
        """Pass nothing on."""
        self._flowing.clear()

    def mend(self) -> None:
        """Be whole again."""
        with self._changing:
            self._cut = False
        self._flowing.set()

    def close(self) -> None:
        """End it."""
        self._closed = True
        _hang_up(self._listener)
        self._listener.close()
        self.cut()
        self._flowing.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                continue
            self.taken += 1
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        """Connect to the server once bytes flow, and pass on both ways until one side ends."""
        with near:
            self._flowing.wait()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with far:
                with self._changing:
                    if self._cut:
                        return
                    self._ends |= {near, far}
                back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
                back.start()
                self._pass(near, far)
                back.join()
                with self._changing:
                    self._ends -= {near, far}

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BYTES):
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(target: int) -> Iterator[Wire]:
    """A wire to a port of this machine."""
    made = Wire(target)
    try:
        yield made
    finally:
        made.close()
