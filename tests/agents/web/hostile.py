"""Texts that try to become code, and a record that holds one in every place where a text can be."""

from __future__ import annotations

import random
from typing import Any

from made_log import WEIGHTS, escalated, part_of

from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Artifact, Message, Outcome, Part, Request, new_id

CORPUS = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'><svg/onload=document.title='owned'>",
    "</title></textarea></script><script>document.title='owned'</script>",
    "javascript:document.title='owned'",
    '" autofocus onfocus="document.title=\'owned\'" x="',
    "<iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>",
    "{{ 7*7 }}{% for x in ().__class__.__bases__ %}{% endfor %}",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "\u202e\u0000\x1b[2J\x07]]><![CDATA[<script>document.title='owned'</script>",
    "</pre><base href=//evil.example/><meta http-equiv=refresh content=0;url=//evil.example>",
    "'; DROP TABLE events; -- %00 ../../../etc/passwd ${7*7} `id`",
)
HARMLESS = "harmless words"
# what a validator holds to a fixed set of words, a digest or a time
FIXED = {"kind", "scope", "finish_reason", "role", "status"}


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """The same plain value with `text` in every free string."""
    if isinstance(value, dict):
        free = {name: poisoned(inner, text, name) for name, inner in value.items()}
        if "reason" in value and "verdict" in value:  # a check's verdict is one of two
            free["verdict"] = value["verdict"]
        return free
    if isinstance(value, list):
        return [poisoned(inner, text, key) for inner in value]
    if isinstance(value, str) and key not in FIXED and not key.endswith("sha256"):
        return text
    return value


def write(ledger: Ledger, text: str) -> str:
    """A record with `text` everywhere, also in names that other rows must share to be matched."""
    part = escalated(part_of("translate", "prompt", "answer", random.Random(3), steered=True))
    body = poisoned(part.model_dump(mode="json"), text)
    hostile = Part.model_validate(body)
    request = Request(
        thread_id=text[:255],
        messages=(
            Message(role="system", content=text),
            Message(role="user", content=text),
            Message(role="assistant", content=text),
            Message(role="user", content=text),
        ),
        forced_specialist=text,
    )
    name = ledger.begin(request, record_id=new_id(), parent_id=text)
    weights = [Artifact(kind=text[:64], name=text, sha256=one.sha256, path=text) for one in WEIGHTS]
    ledger.finish(name, "completed", parts=[hostile], answer=text, artifacts=weights, error=text)
    ledger.note(Outcome(record_id=name, source=text, verdict=text, score=1.0, note=text))
    return name


def pages_of(name: str) -> tuple[str, ...]:
    """Every page that shows a record."""
    return (
        "/audit",
        f"/audit/records/{name}",
        f"/audit/diff?left={name}&right={name}&all=true",
        f"/audit/whatif?id={name}&threshold=0.99",
        "/audit/overview",
        "/audit/features",
        "/audit/features/7",
        "/audit/verify",
    )
