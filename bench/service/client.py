"""A client that asks a service over one connection and keeps what was acknowledged."""

from __future__ import annotations

import http.client
import json
import random
from typing import NamedTuple

PROMPTS = (
    "What is 12 + 30?",
    "What is the plural of mouse?",
    "What is the capital of France?",
    "Tell me a story about a boat.",
    "Translate 'good morning' into French.",
    "Spell river.",
)


class Reply(NamedTuple):
    """What came back: the status (0: no whole answer), the record's id and the answer's text."""

    status: int
    record_id: str = ""
    text: str = ""


class Client:
    """One connection; it is opened again after a fault."""

    def __init__(self, port: int, seed: int, timeout: float = 120.0) -> None:
        self._port, self._timeout = port, timeout
        self._rng = random.Random(seed)
        self._line: http.client.HTTPConnection | None = None

    def ask(self, stream: bool = False, leave: bool = False) -> Reply:
        """Ask one prompt. With `leave`, go away after the first bytes of the stream."""
        prompt = f"{self._rng.choice(PROMPTS)}"
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "max_tokens": 32}
        try:
            line = self._line = self._line or http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self._timeout
            )
            sent = json.dumps(body | ({"stream": True, "pilothouse": {"live": True}} if stream else {}))
            line.request("POST", "/v1/chat/completions", sent, {"content-type": "application/json"})
            answer = line.getresponse()
            name = answer.getheader("x-pilothouse-record-id") or ""
            if leave:
                answer.read(10)
                self.close()
                return Reply(0, name)
            read = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Reply(0)
        if answer.status != 200:
            return Reply(answer.status)
        if stream:
            return Reply(200 if read.endswith(b"data: [DONE]\n\n") else 0, name)
        return Reply(200, name, json.loads(read)["choices"][0]["message"]["content"])

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None
