"""The shell: hosts, headers and accidents, in ASGI's own words."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from tokengate_executor.dashboard.origins import checked_hosts
from tokengate_executor.dashboard.shell import HEADERS, Shell

Messages = list[dict[str, Any]]


def ask(app: Any, *, kind: str = "http", allowed: Any = None, **said: Any) -> Messages:
    """Send one request to an app in a shell; returns what comes out."""
    sent: Messages = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody should wait for more")

    scope: dict[str, Any] = {
        "type": kind,
        "path": "/somewhere",
        "headers": [(b"host", b"localhost:8000")],
        "server": ("127.0.0.1", 8000),
        "extensions": {"websocket.http.response": {}},
        **said,
    }
    asyncio.run(Shell(app, checked_hosts(allowed))(scope, receive, send))
    return sent


async def fine(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer."""
    headers = [(b"cache-control", b"no-cache"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"fine"})


async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
    """Raise something before there is an answer."""
    raise ValueError("p4ssw0rd")


def headers_of(message: dict[str, Any]) -> dict[str, str]:
    """By name."""
    return {name.decode(): value.decode() for name, value in message["headers"]}


def told(messages: Messages) -> dict[str, Any]:
    """What a refusal says."""
    return dict(json.loads(messages[-1]["body"]))


def test_every_answer_has_the_headers() -> None:
    """Each once, whatever the app said; except how long it may be kept."""
    start, body = ask(fine)
    found = headers_of(start)
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= found.items()
    assert len(start["headers"]) == len(found)
    assert found["cache-control"] == "no-cache"
    assert body["body"] == b"fine"


def test_the_policy_is_strict() -> None:
    """Nothing inline, nothing from elsewhere, nobody's frame."""
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    for part in (
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert part in policy


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"evil.example:8000")],
        [(b"host", b"localhost"), (b"host", b"localhost")],
        [(b"host", b"\xff")],
    ],
)
def test_wrong_hosts(headers: list[tuple[bytes, bytes]]) -> None:
    """None, a stranger's, two, rubbish: the app is not even asked, and the headers are there."""
    start, _ = messages = ask(broken, headers=headers)
    assert start["status"] == 403
    assert headers_of(start)["cache-control"] == "no-store"
    assert "allowed_hosts can name it" in told(messages)["message"]
    assert len(json.dumps(told(messages))) < 1000


def test_named_hosts_and_unknown_addresses() -> None:
    """What was allowed; and a server that does not say where it listens."""
    named = [(b"host", b"dash.example")]
    assert ask(fine, headers=named, allowed=["dash.example"])[0]["status"] == 200
    assert ask(fine, allowed=["dash.example"])[0]["status"] == 403
    assert ask(fine, headers=named, server=None)[0]["status"] == 200
    assert ask(fine, headers=named, server=("/run/dash.sock", None))[0]["status"] == 200


def test_accidents(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a fixed text; what it was is in the log."""
    start, _ = messages = ask(broken)
    assert (start["status"], told(messages)["ok"]) == (500, False)
    assert "p4ssw0rd" not in str(messages)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tokengate_executor.dashboard", logging.ERROR)
    assert "p4ssw0rd" in caplog.text


def test_accidents_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that has begun is not begun again; a socket is closed."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    async def socket(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise ValueError

    assert [message["type"] for message in ask(app)] == ["http.response.start"]
    assert ask(socket, kind="websocket")[-1] == {"type": "websocket.close", "code": 1011}
    assert len(caplog.records) == 2


def test_clients_that_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Are no accident."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ClientDisconnect

    assert ask(app) == []
    assert not caplog.records


def test_refused_sockets() -> None:
    """With an answer where the server can give one, else with the 403 that it has."""
    evil = [(b"host", b"evil.example")]
    start, body = ask(broken, kind="websocket", headers=evil)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert body["type"] == "websocket.http.response.body"
    assert headers_of(start)["x-content-type-options"] == "nosniff"
    closed = ask(broken, kind="websocket", headers=evil, extensions={})
    assert closed == [{"type": "websocket.close", "code": 1008}]


def test_what_is_neither(caplog: pytest.LogCaptureFixture) -> None:
    """A server's lifespan is the app's own matter, its accidents, too."""
    with pytest.raises(ValueError, match="p4ssw0rd"):
        ask(broken, kind="lifespan")
    assert not caplog.records
