"""Who is let in: keys, scopes, revocation; and, without keys, this machine only."""

from __future__ import annotations

import base64
import logging
import stat
from pathlib import Path
from typing import Any

import openai
import pytest
from running_service import Serve, Service
from typer.testing import CliRunner

from pilothouse.agents.cli.serve import app as serve_command
from pilothouse.agents.service.keys import Keys
from pilothouse.agents.service.settings import ServiceSettings, is_loopback, keys_path
from pilothouse.store.errors import NotFoundError, UsageError

SUM: Any = [{"role": "user", "content": "What is 3 + 4?"}]
ASK, AUDIT = "/v1/models", "/v1/records"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def keys(home: object) -> Keys:
    return Keys(keys_path())


# -- keys ---------------------------------------------------------------------------------------------------


def test_a_key_is_kept_as_a_digest_only(keys: Keys) -> None:
    key, secret = keys.add("ann", ["ask", "ask"])
    assert key.scopes == ("ask",)
    text = keys.path.read_text()
    assert secret not in text
    assert secret.split("-")[2] not in text
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert keys.find(secret) == key
    assert Keys(keys.path).find(secret) == key
    near = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    for wrong in ("", "ph", near, secret.upper(), f"ph-00000000-{secret.split('-')[2]}", "ph--", "\ud800"):
        assert keys.find(wrong) is None


def test_a_revoked_key_is_found_no_more(keys: Keys) -> None:
    (one, first), (_, second) = keys.add("ann", ["ask"]), keys.add("bob", ["audit"])
    elsewhere = Keys(keys.path)
    assert elsewhere.find(first) is not None
    keys.revoke(one.id)
    assert elsewhere.find(first) is None
    assert elsewhere.find(second) is not None
    assert [key.revoked_at is None for key in keys.all()] == [False, True]
    with pytest.raises(NotFoundError):
        keys.revoke("nobody")


@pytest.mark.parametrize(("name", "scopes"), [("", ["ask"]), ("x" * 101, ["ask"]), ("a", ["all"]), ("a", [])])
def test_an_impossible_key_is_refused(keys: Keys, name: str, scopes: Any) -> None:
    with pytest.raises(UsageError, match="scopes out of ask, audit"):
        keys.add(name, scopes)
    assert keys.all() == ()


def test_a_damaged_file_lets_nobody_in(keys: Keys) -> None:
    _, secret = keys.add("ann", ["ask"])
    keys.path.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        keys.find(secret)


def test_the_command_makes_lists_and_revokes(home: object) -> None:
    run = CliRunner().invoke
    made = run(serve_command, ["key", "add", "ann", "--scope", "ask"])
    secret = made.stdout.strip()
    assert made.exit_code == 0
    listed = run(serve_command, ["key", "list"]).stdout
    number = secret.split("-")[1]
    assert listed.startswith(f"{number}\task\tmade ")
    assert secret not in listed
    assert run(serve_command, ["key", "revoke", number]).exit_code == 0
    assert "revoked" in run(serve_command, ["key", "list"]).stdout


def test_no_key_no_service_beyond_loopback(home: object) -> None:
    for options in (["--host", "0.0.0.0"], ["--require-key"]):
        refused = CliRunner().invoke(serve_command, options)
        assert isinstance(refused.exception, UsageError)
        assert "need a key, and there is none" in str(refused.exception)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.9.9.9", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False),
     ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


# -- over HTTP ----------------------------------------------------------------------------------------------


def test_scopes_and_revocation(serve: Serve, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (asker, ask), (_, audit) = keys.add("ann", ["ask"]), keys.add("bob", ["audit"])
    service = serve(open=False)
    status = {
        (name, path): service.http.get(path, headers=bearer(secret) if secret else {}).status_code
        for name, secret in (("none", ""), ("ask", ask), ("audit", audit), ("wrong", ask + "x"))
        for path in (ASK, AUDIT, "/metrics", "/version")
    }
    assert status == {
        ("none", ASK): 401, ("none", AUDIT): 401, ("none", "/metrics"): 401, ("none", "/version"): 401,
        ("ask", ASK): 200, ("ask", AUDIT): 403, ("ask", "/metrics"): 403, ("ask", "/version"): 200,
        ("audit", ASK): 403, ("audit", AUDIT): 200, ("audit", "/metrics"): 200, ("audit", "/version"): 403,
        ("wrong", ASK): 401, ("wrong", AUDIT): 401, ("wrong", "/metrics"): 401, ("wrong", "/version"): 401,
    }  # fmt: skip
    client = service.openai.with_options(api_key=ask)
    assert client.chat.completions.create(model="auto", messages=SUM).choices
    with pytest.raises(openai.PermissionDeniedError, match="may not ask"):
        service.openai.with_options(api_key=audit).chat.completions.create(model="auto", messages=SUM)
    keys.revoke(asker.id)
    with pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model="auto", messages=SUM)
    assert (refused.value.code, ask in str(refused.value)) == ("invalid_api_key", False)
    assert service.http.get("/healthz").status_code == 200
    assert_nowhere([ask, audit], keys.path.parent.parent, caplog)
    keys.path.write_text("{")
    broken = service.http.get(AUDIT, headers=bearer(audit))
    assert (broken.status_code, "keys.json" in broken.text) == (503, False)


def assert_nowhere(secrets: list[str], home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No secret in any file below `home` or in any line that our code logged."""
    logged = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("openai", "http")))
    for secret in secrets:
        assert secret not in logged
        for path in home.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_browser_may_send_the_key_as_a_password(serve: Serve, keys: Keys) -> None:
    _, secret = keys.add("bob", ["audit"])
    service = serve(open=False)
    basic = {"authorization": "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()}
    assert service.http.get(AUDIT, headers=basic).status_code == 200
    asked = service.http.get(AUDIT, headers={"accept": "text/html"})
    assert asked.headers["www-authenticate"].startswith("Basic")
    path, body = f"{AUDIT}/last/outcomes", {"verdict": "up"}
    assert service.http.post(path, json=body, headers=basic).status_code == 401, "any page could send this"
    assert (
        service.http.post(path, json=body, headers={**basic, "sec-fetch-site": "cross-site"}).status_code
        == 401
    )
    own = {**basic, "sec-fetch-site": "same-origin"}
    assert service.http.post(path, json=body, headers=own).status_code == 404, (
        "let in; there is no record yet"
    )
    for broken in ("Basic", "Basic !!!", "Basic gA==", "Bearer", "Digest x"):
        assert service.http.get(AUDIT, headers={"authorization": broken}).status_code in (400, 401)


STRANGE = (
    {"host": "evil.example:8000"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"x-forwarded-for": "203.0.113.9"},
    {"forwarded": "for=203.0.113.9"},
)


def test_without_keys_pages_and_proxies_are_refused(service: Service) -> None:
    for headers in STRANGE:
        refused = service.http.get(ASK, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_local"), headers
        assert service.http.get("/healthz", headers=headers).status_code == 200


def test_no_other_origin_is_invited(service: Service) -> None:
    asked = service.http.options(
        "/v1/chat/completions",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]
    answer = service.http.get(ASK, headers={"origin": f"http://localhost:{service.port}"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_loopback_is_the_default(home: object) -> None:
    assert is_loopback(ServiceSettings().host)
