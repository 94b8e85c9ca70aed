"""The other end of a dashboard: how it is let in, and what it makes of what it is sent."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.server import serve as serve_websocket

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import serve
from tokengate_executor.top import client as top_client
from tokengate_executor.top.client import (
    DashboardClient,
    RefusedError,
    UnreachableError,
    dashboard_url,
)

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

OPEN = {"protocol": 1, "may_read": True, "may_control": False, "has_password": False, "csrf": "x"}
WITH_PASSWORD = {**OPEN, "may_read": False, "has_password": True}
SNAPSHOT = {"protocol": 1, "tokens": {"completed": 1, "failed": 2}}


def never() -> str:
    """Fail a test in which a password is asked for."""
    raise AssertionError("nobody needs a password here")


def client_of(url: str, password: str | None = None) -> DashboardClient:
    """Return a client that knows the password, or must not be asked."""
    return DashboardClient(dashboard_url(url), never if password is None else lambda: password)


# Addresses


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("localhost:8000/ops/shop", "http://localhost:8000/ops/shop/"),
        ("https://example.com", "https://example.com/"),
        ("wss://example.com/a/?b=c#d", "https://example.com/a/"),
        ("ws://[::1]:80", "http://[::1]:80/"),
        ("http://example.com/ä b".replace(" ", "%20"), "http://example.com/%C3%A4%20b/"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    """What may be left out is put in, and what is of no use is left out."""
    assert dashboard_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "/", "http://", "ftp://a", "a:b", "http://a:99999", "http://a:0", "a b", "a\nb", "[::1"],
)
def test_what_is_no_address(text: str) -> None:
    """The message says what one looks like, and is harmless."""
    with pytest.raises(ValueError, match="an address such as http") as caught:
        dashboard_url(text)
    assert str(caught.value).isprintable()


def test_an_address_with_a_password() -> None:
    """It is refused, and not repeated."""
    with pytest.raises(ValueError, match="a password does not belong in an address") as caught:
        dashboard_url("http://me:opensesame@127.0.0.1/")
    assert "opensesame" not in str(caught.value)


# Being let in


@contextmanager
def http_server(*answers: tuple[int, dict[str, str], str]) -> Iterator[tuple[str, list[Any]]]:
    """Serve one answer after the other; yields the address, and what was asked."""
    asked: list[tuple[str, dict[str, str], str]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append(
                (
                    f"{self.command} {self.path}",
                    {name.lower(): value for name, value in self.headers.items()},
                    body,
                )
            )
            status, more, text = left.pop(0)
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815  the library's name

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/base/", asked
        finally:
            server.shutdown()
            thread.join()


def entering(*answers: tuple[int, dict[str, str], str], password: str | None = None) -> list[Any]:
    """Enter a server that gives these answers; returns what it was asked."""
    with http_server(*answers) as (url, asked):
        client_of(url, password).enter()
        return asked


def test_everybody_may_read() -> None:
    """Then there is one question, and no password."""
    ((line, headers, _),) = entering((200, {}, json.dumps(OPEN)))
    assert line == "GET /base/session"
    assert "origin" not in headers


def test_the_password_goes_where_it_belongs() -> None:
    """In the body of one POST, with the cookie and the token that the server gave."""
    session, login = entering(
        (200, {"Set-Cookie": "tokengate_session=pre; Path=/base"}, json.dumps(WITH_PASSWORD)),
        (200, {}, '{"ok": true, "csrf": "y"}'),
        password="opensesame",
    )
    line, headers, body = login
    assert line == "POST /base/login"
    assert json.loads(body) == {"password": "opensesame"}
    assert headers["x-csrf-token"] == "x"
    assert headers["cookie"] == "tokengate_session=pre"
    assert headers["content-type"] == "application/json"
    assert "opensesame" not in str(session)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((403, {}, '{"ok": false, "message": "wrong \\u001b"}'), RefusedError, "wrong \\x1b"),
        ((403, {}, "no JSON"), RefusedError, "the password is wrong"),
        ((429, {"Retry-After": "30"}, "{}"), UnreachableError, "try again in 30 s"),
        ((500, {}, "{}"), UnreachableError, "it answered 500 Internal Server Error"),
    ],
)
def test_the_password_does_not_help(
    answer: tuple[int, dict[str, str], str], error: type[Exception], message: str
) -> None:
    """A wrong one is final; what may be otherwise later is not."""
    with pytest.raises(error) as caught:
        entering((200, {}, json.dumps(WITH_PASSWORD)), answer, password="opensesame")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, {}, ""), UnreachableError, "it answered 404 Not Found: is that a dashboard"),
        ((502, {}, "<html>"), UnreachableError, "it answered 502"),
        ((200, {}, "<html>"), UnreachableError, "it sent what is no JSON object"),
        ((200, {}, "[]"), UnreachableError, "it sent what is no JSON object"),
        ((200, {}, "[" * 50_000), UnreachableError, "it sent what is no JSON object"),
        ((200, {}, '{"a": "' + "a" * 100_000), UnreachableError, "it sent what is no JSON"),
        ((200, {}, '{"protocol": 2}'), RefusedError, "it speaks protocol 2, and this program"),
        ((200, {}, "{}"), RefusedError, "it speaks protocol None"),
        ((200, {}, '{"protocol": 1}'), RefusedError, "it shows nothing from here"),
    ],
)
def test_what_is_no_dashboard(
    answer: tuple[int, dict[str, str], str], error: type[Exception], message: str
) -> None:
    """Each has a message of its own."""
    with pytest.raises(error, match=message):
        entering(answer)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_told_and_not_followed(status: int) -> None:
    """Neither the first question nor the password goes to another server."""
    with http_server() as (elsewhere, asked):
        redirect = (status, {"Location": f"{elsewhere}session"}, "")
        with pytest.raises(UnreachableError, match=r"it redirects to http\S+: name that address"):
            entering(redirect)
        with pytest.raises(UnreachableError, match="it redirects to"):
            entering((200, {}, json.dumps(WITH_PASSWORD)), redirect, password="opensesame")
        assert asked == []


def test_no_password_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only https and this machine's own addresses get one; nobody is even asked for it."""
    monkeypatch.setattr(top_client, "is_loopback", lambda _host: False)
    with http_server((200, {}, json.dumps(WITH_PASSWORD))) as (url, asked):
        with pytest.raises(RefusedError, match="not sent in clear: use https"):
            client_of(url).enter()
        assert len(asked) == 1


def test_nobody_is_there() -> None:
    """What the system says of it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UnreachableError, match="Connection refused"):
            client_of(f"127.0.0.1:{port}").enter()


def test_a_server_that_hangs_up() -> None:
    """It is not a dashboard for the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(UnreachableError):
            client_of(f"127.0.0.1:{listener.getsockname()[1]}").enter()
        thread.join()


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password for this machine must not go to another one first."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    with live_server(SNAPSHOT) as server:
        client = client_of(server.url)
        client.enter()
        with closing(client.snapshots()) as snapshots:
            assert next(snapshots) == SNAPSHOT


# What it is sent


class LiveServer:
    """Answers ``session``, and sends whoever comes to ``live`` what it was given."""

    def __init__(self, messages: tuple[Any, ...]) -> None:
        self.messages = messages
        self.hold = threading.Event()
        self.requests: list[Request] = []
        self.server = serve_websocket(
            self._live, "127.0.0.1", 0, process_request=self._answer, compression=None
        )
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}/"

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if request.path == "/session":
            return connection.respond(200, json.dumps(OPEN))
        return None if request.path == "/live" else connection.respond(403, "no")

    def _live(self, connection: ServerConnection) -> None:
        for message in self.messages:
            is_raw = isinstance(message, str | bytes)
            connection.send(message if is_raw else json.dumps(message))
        self.hold.wait(30)


@contextmanager
def live_server(*messages: Any, hold: bool = True) -> Iterator[LiveServer]:
    """Serve a snapshot and what follows, and then hold the connection or let it go.

    Args:
        messages: dictionaries without a type are data of a snapshot.
        hold: whether the connection stays.
    """
    told = tuple(
        {"type": "snapshot", "data": message}
        if isinstance(message, dict) and "type" not in message
        else message
        for message in messages
    )
    server = LiveServer(told)
    if not hold:
        server.hold.set()
    thread = threading.Thread(target=server.server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.server.shutdown()
        thread.join()


def change(**data: Any) -> dict[str, Any]:
    """Return the message of a change."""
    return {"type": "change", "data": data}


def test_snapshots_and_changes() -> None:
    """After each message there is a whole snapshot; the earlier ones stay as they were."""
    messages = (
        SNAPSHOT,
        change(tokens={"completed": 5}),
        {"type": "later", "data": {"we": "shall know"}},
        change(tokens={"failed": None}, new={"a": 1}),
        SNAPSHOT,
    )
    with live_server(*messages) as server, closing(client_of(server.url).snapshots()) as found:
        assert [next(found) for _ in range(4)] == [
            SNAPSHOT,
            {"protocol": 1, "tokens": {"completed": 5, "failed": 2}},
            {"protocol": 1, "tokens": {"completed": 5}, "new": {"a": 1}},
            SNAPSHOT,
        ]
        (request,) = server.requests
        assert "Cookie" not in request.headers
        assert "Origin" not in request.headers


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("shutdown", "the dashboard was shut down"),
        ("expired", "the session has expired"),
        ("logout", "the session was ended"),
        ("what else", "it said goodbye"),
    ],
)
def test_a_server_that_says_goodbye(reason: str, message: str) -> None:
    """It may be back later."""
    with live_server(SNAPSHOT, {"type": "bye", "reason": reason}) as server:
        found = client_of(server.url).snapshots()
        assert next(found) == SNAPSHOT
        with pytest.raises(UnreachableError, match=message):
            next(found)


def test_a_connection_that_ends() -> None:
    """Without a word, but in good order."""
    with live_server(SNAPSHOT, hold=False) as server:
        found = client_of(server.url).snapshots()
        assert next(found) == SNAPSHOT
        with pytest.raises(UnreachableError, match="it closed the connection"):
            next(found)


@pytest.mark.parametrize(
    "message", ["no JSON", "[]", "{}", b"\xff", "[" * 50_000, '{"type": "change", "data": 3}']
)
def test_what_is_no_message(message: str | bytes) -> None:
    """The connection is given up: who knows what else is wrong."""
    with live_server(SNAPSHOT, message) as server:
        found = client_of(server.url).snapshots()
        assert next(found) == SNAPSHOT
        with pytest.raises(UnreachableError, match="it sent what is no"):
            next(found)


def test_a_message_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is taken than a snapshot can have."""
    monkeypatch.setattr(top_client, "_LONGEST_MESSAGE", 1000)
    with (
        live_server("x" * 2000) as server,
        pytest.raises(UnreachableError, match="the connection was lost"),
    ):
        next(client_of(server.url).snapshots())


def test_snapshots_of_another_protocol() -> None:
    """That will not be better the next time."""
    with (
        live_server({"protocol": 2}) as server,
        pytest.raises(RefusedError, match="not of protocol 1"),
    ):
        next(client_of(server.url).snapshots())


def test_a_server_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever."""
    monkeypatch.setattr(top_client, "_TIMEOUT_SECONDS", 0.2)
    with live_server() as server, pytest.raises(UnreachableError):
        next(client_of(server.url).snapshots())


def test_a_server_without_a_live_view() -> None:
    """It says what it got instead."""
    with (
        live_server() as server,
        pytest.raises(UnreachableError, match="it answered 403 where its live view should be"),
    ):
        next(client_of(f"{server.url}elsewhere").snapshots())


def test_close_ends_what_another_thread_reads() -> None:
    """Without an error: it was meant."""
    with live_server(SNAPSHOT) as server:
        client = client_of(server.url)
        found = client.snapshots()
        assert next(found) == SNAPSHOT
        closer = threading.Thread(target=client.close)
        closer.start()
        assert list(found) == []
        closer.join()


def test_close_before_it_has_begun() -> None:
    """Nothing is read then."""
    with live_server(SNAPSHOT) as server:
        client = client_of(server.url)
        client.close()
        assert list(client.snapshots()) == []


# The real one


def test_a_real_dashboard_without_a_password() -> None:
    """Who can use this machine may read."""
    with TokenGateExecutor(1, "shop") as executor, serve(executor) as server:
        client = client_of(server.url)
        client.enter()
        with closing(client.snapshots()) as snapshots:
            assert next(snapshots)["executor"]["name"] == "shop"
            executor.submit(pow, 2, 3).result()
            assert any(found["tokens"]["completed"] == 1 for found in snapshots)


def test_a_real_dashboard_with_a_password() -> None:
    """The session's cookie opens the live view; the password is asked for once."""
    asked: list[str] = []

    def ask() -> str:
        asked.append("asked")
        return "opensesame"

    with TokenGateExecutor(1, "shop") as executor, serve(executor, password="opensesame") as server:
        with pytest.raises(UnreachableError, match="it answered 403 where"):
            next(client_of(server.url).snapshots())
        client = DashboardClient(dashboard_url(server.url), ask)
        client.enter()
        with closing(client.snapshots()) as snapshots:
            assert next(snapshots)["executor"]["name"] == "shop"
        client.enter()
        assert asked == ["asked"]


def test_a_real_dashboard_and_a_wrong_password() -> None:
    """It is refused."""
    with (
        TokenGateExecutor(1) as executor,
        serve(executor, password="opensesame") as server,
        pytest.raises(RefusedError, match="password"),
    ):
        client_of(server.url, "wrong").enter()


def test_a_real_dashboard_that_ends() -> None:
    """It says goodbye."""
    with TokenGateExecutor(1) as executor, serve(executor) as server:
        snapshots = client_of(server.url).snapshots()
        next(snapshots)
        server.request_stop()
        with pytest.raises(UnreachableError, match="the dashboard was shut down"):
            list(snapshots)


def test_a_real_dashboard_over_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if its certificate is trusted; what has to be done for that is said."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here to make a certificate with")
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    with (
        TokenGateExecutor(1, "shop") as executor,
        serve(executor, password="opensesame", ssl_certfile=certificate, ssl_keyfile=key) as server,
    ):
        with pytest.raises(UnreachableError, match=r"not trusted: .+ SSL_CERT_FILE"):
            client_of(server.url).enter()
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        client = client_of(server.url, "opensesame")
        client.enter()
        with closing(client.snapshots()) as snapshots:
            assert next(snapshots)["executor"]["name"] == "shop"
