"""A local endpoint that speaks the OpenAI protocol, and misbehaves as its script says."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def chunk(text: str | None = None, finish: str | None = None, logprobs: Any = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def told(*pairs: tuple[str, float]) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": value} for token, value in pairs]}


DONE = b"data: [DONE]\n\n"
GOOD = (
    chunk(""),
    b": keep-alive\n\n",
    chunk("The ", logprobs=told(("The ", -0.25))),
    chunk("sum is", logprobs=told(("sum", -0.5), (" is", -0.75))),
    chunk(" 42.", logprobs=told((" 42.", -0.5))),
    chunk(finish="stop"),
    b'data: {"choices": [], "usage": {"total_tokens": 9}}\n\n',
    DONE,
)


class Endpoint:
    """`script` says what to do at each request, the last step for ever: bytes to stream; a number, a status
    to give; a float within the stream, seconds to wait; "cut", to drop the connection. `bodies` and `keys`
    are what came.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                outer.bodies.append(json.loads(self.rfile.read(size)) | {"path": self.path})
                outer.keys.append(self.headers["Authorization"])
                step = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                try:
                    outer.answer(self, step)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, step: Any) -> None:
        if isinstance(step, int):
            said = b'{"error": {"message": "\x1b[31mno\\u202e"}}'
            handler.send_response(step)
            handler.send_header("Retry-After", "3" if step == 429 else "soon")
            handler.send_header("Content-Length", str(len(said)))
            handler.end_headers()
            handler.wfile.write(said)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in step:
            if piece == "cut":
                handler.close_connection = True
                return
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
