"""Ask a service everything its OpenAPI document allows, and much that it does not: nothing may break.

Half of the cases fit the document and half do not (schemathesis makes both); then come bodies that are no
JSON, or too deep, or too long, and paths that try to leave. An answer below 500, in JSON where JSON is
promised, passes.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..store.errors import VerifyError
from .circumstances import facts
from .serving import document, log_state, serving

CHAT = "/v1/chat/completions"
DEEP = 100_000
HOSTILE_BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff\xfe{}",
    b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
    b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
    b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "seed": ' + b"9" * 5000 + b"}",
    b'{"model": "auto", "model": "about", "messages": [{"role": "user", "content": "hi"}]}',
    b'{"__proto__": {}, "model": "auto", "messages": {}}',
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b'{"model": "' + b"a" * 900_000 + b'", "messages": []}',
    b'{"messages": ' + b" " * 1_100_000 + b"[]}",
)
HOSTILE_PATHS: tuple[str, ...] = (
    "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    "/v1/models/%2e%2e",
    "/v1/records/..%2f..%2fkeys.json",
    "/v1/records/%00%00%00%00",
    "/v1/records/" + "a" * 5000,
    "/v1/../../etc/passwd",
    "//etc/passwd",
    "/v1/records?text=%00&limit=2",
    "/v1/records?text=%22%20OR%201%3D1",
    "/v1/records?since=0001-01-01T00:00%2B14:00",
    "/%ff%fe",
)


class Tally(NamedTuple):
    """What came back. `faults` are server errors and answers that could not be read, in words."""

    cases: int
    statuses: dict[int, int]
    faults: list[str]


def fuzz(
    cases: Annotated[int, typer.Option(min=1, help="How many made from the document.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the cases.")] = 0,
    family: Annotated[str, typer.Option("--family", "-f", metavar="NAME|DIR")] = "starter",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    quick: Annotated[bool, typer.Option("--quick", help="200 cases: a trial, no result.")] = False,
) -> None:
    """Ask a service everything its OpenAPI document allows, and much that it does not.

    Writes service-fuzz.md; leaves with 4 when there was a server error or the log does not verify.
    """
    cases = min(cases, 200) if quick else cases
    with tempfile.TemporaryDirectory(prefix="pilothouse-fuzz-") as home:
        begun = time.perf_counter()
        with serving(Path(home), family) as port:
            tally = run(port, cases, seed)
        rows, chain = log_state(Path(home))
        seconds = time.perf_counter() - begun
        header = facts(f"pilothouse bench fuzz --cases {cases} --seed {seed}", seed)
        write_page(out / "service-fuzz.md", tally, rows, chain, seconds, header)
    if tally.faults or chain != "ok":
        raise VerifyError(f"{len(tally.faults)} server errors, chain {chain}: {'; '.join(tally.faults[:3])}")


def run(port: int, cases: int, seed: int) -> Tally:
    """Send the cases to the service on this port."""
    return Fuzzer(f"http://127.0.0.1:{port}").run(document(port), cases, seed)


class Fuzzer:
    """Sends cases to one service and counts what comes back."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        import requests  # comes with schemathesis

        self._url, self._session = url, requests.Session()
        self._session.headers.update(headers or {})
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []

    def run(self, described: dict[str, Any], cases: int, seed: int) -> Tally:
        """Send about `cases` made from the document, and every hostile body and path."""
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import seed as seeded
        from hypothesis.errors import Unsatisfiable

        strategies = list(_strategies(narrowed(described)))
        each = settings(
            max_examples=math.ceil(cases / len(strategies)),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        for strategy in strategies:
            with suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                wrap: Any = given(strategy)
                asked: Any = seeded(seed)(each(wrap(self._case)))
                asked()
        self.hostile()
        return Tally(self.statuses.total(), dict(sorted(self.statuses.items())), self.faults)

    def hostile(self) -> None:
        """Send what no document describes."""
        for body in HOSTILE_BODIES:
            for kind in ("application/json", "text/plain", ""):
                self._send("POST", CHAT, data=body, headers={"content-type": kind})
        for path in HOSTILE_PATHS:
            for method in ("GET", "POST", "DELETE", "TRACE"):
                self._send(method, path)

    def _case(self, case: Any) -> None:
        self._judge(f"{case.method} {case.formatted_path}", lambda: case.call(base_url=self._url))

    def _send(self, method: str, path: str, **more: Any) -> None:
        from requests import Request

        request = Request(method, self._url, **more).prepare()
        request.url = self._url + path  # as it is: requests would tidy it
        self._judge(f"{method} {path[:60]}", lambda: self._session.send(request, timeout=60))

    def _judge(self, what: str, call: Any) -> None:
        try:
            answer = call()
        except OSError as error:  # every fault of requests is one
            self.statuses[0] += 1
            self.faults.append(f"{what}: {type(error).__name__}")
            return
        self.statuses[answer.status_code] += 1
        if fault := _fault(answer):
            self.faults.append(f"{what}: {fault}")


def narrowed(described: dict[str, Any]) -> dict[str, Any]:
    """The document with few models to ask for and short answers, so that many cases come as far as one."""
    narrow = copy.deepcopy(described)
    for body in ("ChatRequest", "ResponseRequest"):
        asked = narrow["components"]["schemas"][body]["properties"]
        asked["model"] = {"enum": ["auto", "words", "about", "nobody"]}
        for name in {"max_tokens", "max_completion_tokens", "max_output_tokens"} & asked.keys():
            asked[name] = {"type": "integer", "minimum": 1, "maximum": 4}
    return narrow


def _strategies(described: dict[str, Any]) -> Iterator[Any]:
    """Cases of every operation, fitting ones and others."""
    import schemathesis
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_dict(described)
    operations: Any = schema.get_all_operations()
    for found in operations:
        for mode in GenerationMode:
            operation: Any = found.ok()  # raises what is wrong with the document
            yield operation.as_strategy(generation_mode=mode)


def _fault(answer: Any) -> str | None:
    if answer.status_code >= 500:
        return f"status {answer.status_code}: {answer.text[:200]}"
    kind = answer.headers.get("content-type", "")
    if answer.status_code < 400 or "json" not in kind:
        return None
    try:
        error = json.loads(answer.content)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code} without an error object"
    return (
        None if error.keys() == {"message", "type", "param", "code"} else "an error object of another shape"
    )


def write_page(
    path: Path, tally: Tally, rows: int, chain: str, seconds: float, header: tuple[tuple[str, str], ...]
) -> None:
    """Write what came back."""
    from .page import table

    counts = [(str(status), str(count)) for status, count in tally.statuses.items()]
    found = [
        ("cases", f"{tally.cases:,}"),
        ("server errors, unreadable answers (target 0)", str(len(tally.faults))),
        ("records in the log afterwards", f"{rows:,}"),
        ("hash chain", chain),
        ("seconds", f"{seconds:.0f}"),
    ]
    parts = ["# Hostile input", table(("", ""), header), table(("what", "value"), found)]
    parts += ["## Statuses", table(("status", "answers"), counts)]
    parts += ["\n".join(f"* {fault}" for fault in tally.faults)] if tally.faults else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
