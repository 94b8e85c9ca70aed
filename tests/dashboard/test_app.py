"""The app on a real server: who may see and do what, and what attackers get."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import access, dashboard_app
from tokengate_executor.dashboard import app as apps
from tokengate_executor.dashboard.shell import HEADERS
from tokengate_executor.errors import InvalidOptionError


def read(socket: Any, kind: str | None = None) -> Any:
    """The next message; or the next of that kind."""
    while True:
        message = json.loads(socket.recv(timeout=20))
        if kind is None or message["type"] == kind:
            return message


def code_of(socket: Any) -> int:
    """With which code the server closes it, after whatever it still sends."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=20)
    return int(socket.close_code)


def refusal_of(client: Any, **options: Any) -> tuple[int, str]:
    """Status and message with which a socket is refused."""
    with pytest.raises(InvalidStatus) as caught:
        client.watch(**options)
    answer = caught.value.response
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    return answer.status_code, json.loads(answer.body or b"{}")["message"]


# logging in


def test_a_visitor_gets_the_login_page_and_nothing_else(guarded: Any) -> None:
    """Before it has logged in, also with a cookie that the server gave it."""
    client = guarded()
    for _ in range(2):
        page = client.get("/")
        assert (page.status, page.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
        for path in ("/snapshot", "/history"):
            answer = client.get(path)
            assert (answer.status, answer.message) == (403, "log in first")
        assert refusal_of(client) == (403, "log in first")
        client.begin()
        assert client.act("pause").status == 403
    told = client.get("/session").json
    assert (told["protocol"], told["may_read"], told["may_control"], told["has_password"]) == (
        1,
        False,
        False,
        True,
    )


def test_logging_in_and_out(guarded: Any, executor: TokenGateExecutor) -> None:
    """With a session of its own id everything is there; afterwards nothing is."""
    client = guarded()
    client.begin()
    early_cookie, early_csrf = client.cookie, client.csrf
    client.log_in()
    assert client.cookie != early_cookie
    assert client.csrf != early_csrf
    assert client.get("/").status == 200
    told = client.get("/session").json
    assert (told["may_read"], told["may_control"], told["csrf"]) == (True, True, client.csrf)
    assert client.get("/snapshot").json["executor"]["name"] == executor.name
    old_cookie = client.cookie
    assert client.post("/logout").json == {"ok": True}
    client.cookie = old_cookie
    assert client.get("/").status == 401
    assert client.act("pause").status == 403
    assert not executor.statistics().is_paused


def test_the_cookie_has_its_flags(guarded: Any) -> None:
    """When it is given, and it is not given again without need."""
    client = guarded()
    given = client.get("/session").headers["Set-Cookie"]
    assert set(given.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=strict"}
    assert client.get("/session").headers["Set-Cookie"] is None
    client.begin()
    given = client.post("/login", {"password": "open sesame"}).headers["Set-Cookie"]
    assert set(given.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=strict"}


@pytest.mark.parametrize("body", [{"password": "open"}, {"password": ""}, {"password": "\ud800"}])
def test_a_wrong_password(guarded: Any, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Gives no session, and is logged with where it came from, but not with what it was."""
    client = guarded().begin()
    answer = client.post("/login", body)
    assert (answer.status, answer.message) == (403, "the password is wrong")
    assert answer.headers["Set-Cookie"] is None
    assert client.get("/snapshot").status == 403
    assert "a wrong password from 127.0.0.1" in caplog.text
    assert "open" not in caplog.text


@pytest.mark.parametrize("body", [{}, {"password": None}, {"password": ["open sesame"]}])
def test_no_password(guarded: Any, body: Any) -> None:
    """Is a bad request, and no attempt."""
    client = guarded().begin()
    for _ in range(10):
        assert client.post("/login", body).status == 400
    client.log_in()


def test_guessing_is_limited(guarded: Any) -> None:
    """After five guesses not even the right password is looked at, for a while."""
    client = guarded().begin()
    assert [client.post("/login", {"password": f"{n}"}).status for n in range(5)] == [403] * 5
    for password in ("guess", "open sesame"):
        answer = client.another().begin().post("/login", {"password": password})
        assert (answer.status, answer.message) == (429, "too many attempts; wait a little")
        assert 25 <= int(answer.headers["Retry-After"]) <= 30


def test_guessing_at_once_is_limited_too(guarded: Any) -> None:
    """Attempts count when they begin, not when they have failed."""
    client = guarded().begin()
    statuses: list[int] = []

    def guess() -> None:
        statuses.append(client.post("/login", {"password": "guess"}).status)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [403] * 5 + [429] * 7


def test_logging_in_again_ends_the_session_before(guarded: Any) -> None:
    """Whoever has only the old cookie is out."""
    client = guarded().log_in()
    other = client.another()
    other.cookie, other.csrf = client.cookie, client.csrf
    client.log_in()
    assert other.get("/snapshot").status == 403
    assert client.get("/snapshot").status == 200


# CSRF, origins, hosts


def test_a_post_needs_the_token_of_its_session(guarded: Any, executor: TokenGateExecutor) -> None:
    """None, a wrong one, that of another session, that of before the login: refused everywhere."""
    client = guarded().begin()
    early = client.csrf
    client.log_in()
    other = client.another().log_in()
    for token in (None, "", "x", early, other.csrf, client.csrf.upper(), client.csrf + " x"):
        for path in ("/actions/pause", "/logout", "/login"):
            answer = client.post(path, {"password": "open sesame"}, {"X-CSRF-Token": token})
            assert answer.status == 403
            assert "X-CSRF-Token" in answer.message
    assert client.get("/snapshot").status == 200, "it was not logged out"
    assert not executor.statistics().is_paused
    assert client.act("pause").status == 200


def test_a_token_without_its_cookie(guarded: Any) -> None:
    """Proves nothing."""
    client = guarded().log_in()
    client.cookie = None
    answer = client.act("pause")
    assert (answer.status, "no session cookie" in answer.message) == (403, True)


def test_pages_of_another_origin(guarded: Any, executor: TokenGateExecutor) -> None:
    """Neither post nor watch, though the browser sends all that it has along; our own do."""
    client = guarded().log_in()
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{client.port}"):
        answer = client.post("/actions/pause", {}, {"Origin": origin})
        assert (answer.status, answer.message) == (403, "this comes from a page of another origin")
        assert refusal_of(client, origin=origin)[0] == 403
    assert not executor.statistics().is_paused
    ours = f"http://127.0.0.1:{client.port}"
    assert client.post("/actions/pause", {}, {"Origin": ours}).status == 200
    assert read(client.watch(origin=ours))["type"] == "snapshot"
    executor.resume()


def test_a_name_that_was_made_to_resolve_here(
    served: Any, client_of: Any, executor: TokenGateExecutor
) -> None:
    """Gets nothing at all, not even what everybody on this machine may see."""
    client = client_of(served(executor).port)
    assert client.get("/snapshot").status == 200
    evil = {"Host": f"evil.example:{client.port}", "Origin": f"http://evil.example:{client.port}"}
    for path in ("/", "/session", "/snapshot", "/static/icon.svg"):
        answer = client.get(path, evil)
        assert answer.status == 403
        assert answer.headers["Set-Cookie"] is None
    assert client.begin().post("/actions/pause", {}, evil).status == 403
    assert client.get("/snapshot", {"Host": f"localhost:{client.port}"}).status == 200
    with pytest.raises(InvalidStatus):
        client.watch(origin=evil["Origin"], headers=[("Host", evil["Host"])])


# reading


def test_without_a_password_everybody_reads_and_nobody_controls(
    served: Any, client_of: Any, executor: TokenGateExecutor
) -> None:
    """On this machine."""
    client = client_of(served(executor).port).begin()
    assert client.get("/").status == 200
    assert client.get("/session").json["has_password"] is False
    assert read(client.watch())["type"] == "snapshot"
    for answer in (client.act("pause"), client.get("/history")):
        assert (answer.status, answer.message) == (403, "without a password nothing is controlled")
    answer = client.post("/login", {"password": ""})
    assert (answer.status, "nobody can log in" in answer.message) == (403, True)
    assert not executor.statistics().is_paused


def test_the_feed(guarded: Any, executor: TokenGateExecutor) -> None:
    """All of it first, then what changes, by the clock of the feed."""
    socket = guarded().log_in().watch()
    first = read(socket)
    assert (first["type"], first["data"]["tokens"]["completed"]) == ("snapshot", 0)
    executor.submit(int).result()
    change = read(socket)
    assert (change["type"], change["data"]["tokens"]["completed"]) == ("change", 1)
    socket.send('{"type":"ping"}')
    assert read(socket, "pong") == {"type": "pong"}


def test_logout_ends_the_sockets_of_its_session(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a goodbye, and at once; those of other sessions go on."""
    monkeypatch.setattr("tokengate_executor.dashboard.feed.SHORTEST_INTERVAL_SECONDS", 60.0)
    client = guarded().log_in()
    other = client.another().log_in()
    sockets = [client.watch(), client.watch(), other.watch()]
    for socket in sockets:
        read(socket, "snapshot")
    client.post("/logout")
    for socket in sockets[:2]:
        assert read(socket, "bye") == {"type": "bye", "reason": "logout"}
        assert code_of(socket) == 1008
    sockets[2].send('{"type":"ping"}')
    assert read(sockets[2], "pong") == {"type": "pong"}
    assert refusal_of(client) == (403, "log in first")


def test_a_session_that_expires_ends_its_sockets(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, and its requests are those of a stranger."""
    client = guarded().log_in()
    socket = client.watch()
    read(socket, "snapshot")
    monkeypatch.setattr(access, "IDLE_SECONDS", 0.0)
    assert read(socket, "bye") == {"type": "bye", "reason": "expired"}
    assert client.act("pause").status == 403
    assert client.get("/").status == 401


def test_the_history(guarded: Any, executor: TokenGateExecutor) -> None:
    """Is a download of names and numbers."""
    client = guarded().log_in()
    executor.submit(len, "p4ssw0rd").result()
    answer = client.get("/history")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert [row["operation_type"] for row in answer.json] == ["builtins.len"]
    assert b"p4ssw0rd" not in answer.body


def test_scripts_in_names_are_data(guarded: Any, executor: TokenGateExecutor) -> None:
    """They arrive in JSON and nowhere else, so that no page can take them for its own."""
    name = "</script><script>evil(5309)</script>"
    executor.options(operation=name).submit(int).result()
    client = guarded().log_in()
    assert b"evil" not in client.get("/").body
    snapshot = client.get("/snapshot")
    assert snapshot.headers["Content-Type"] == "application/json"
    assert name in snapshot.json["operations"]
    assert name in read(client.watch())["data"]["operations"]
    answer = client.act("open_circuit", operation=name)
    assert answer.headers["Content-Type"] == "application/json"
    assert name in answer.json["message"]


def test_names_that_are_no_text(guarded: Any, executor: TokenGateExecutor) -> None:
    """Arrive as JSON spells them."""
    executor.options(operation="half \ud800").submit(int).result()
    client = guarded().log_in()
    assert "half \ud800" in client.get("/snapshot").json["operations"]
    assert "half \ud800" in read(client.watch())["data"]["operations"]


def test_static_files(guarded: Any) -> None:
    """Are there for everybody, may be kept if they are asked about, and are nothing but themselves."""
    client = guarded()
    script = client.get("/static/dashboard.js")
    assert (script.status, script.headers["Content-Type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert script.headers["Cache-Control"] == "no-cache"
    again = client.get("/static/dashboard.js", {"If-None-Match": script.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    for path in (
        "/static/../app.py",
        "/static/%2e%2e%2fapp.py",
        "/static/app.py",
        "/static/",
        "/static",
    ):
        assert client.get(path).status == 404


# doing


def test_actions(
    guarded: Any, executor: TokenGateExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Are done, answered in words, and logged with where they came from."""
    launched: list[int] = []
    client = guarded(launch={"note": lambda: launched.append(1)}).log_in()
    with caplog.at_level(logging.INFO, logger="tokengate_executor.dashboard"):
        answer = client.act("pause")
        assert (answer.status, answer.json) == (
            200,
            {"ok": True, "message": "everything is paused"},
        )
        assert executor.statistics().is_paused
        assert client.act("resume").status == 200
        assert client.act("launch", name="note", times=3).json["message"].startswith("3 calls")
        assert client.act("resize", max_workers=-1).status == 400
    executor.drain()
    assert launched == [1] * 3
    assert "'pause' from 127.0.0.1: everything is paused" in caplog.text
    assert "'resize' from 127.0.0.1 was refused: max_workers must be" in caplog.text


def test_what_cannot_be_done(guarded: Any, executor: TokenGateExecutor) -> None:
    """Each with its status."""
    client = guarded().log_in()
    for name, given, status in (
        ("fly", {}, 404),
        ("resize", {}, 400),
        ("kill", {"token_id": "7-7"}, 404),
        ("quarantine_approve", {"id": "ab"}, 404),
    ):
        answer = client.act(name, **given)
        assert (answer.status, answer.message != "") == (status, True)
    executor.shutdown()


def test_after_shutdown(guarded: Any, executor: TokenGateExecutor) -> None:
    """While the last calls end, what means nothing any more is refused, and the others are shown."""
    go_on = threading.Event()
    executor.submit(go_on.wait)
    client = guarded().log_in()
    socket = client.watch()
    read(socket, "snapshot")
    executor.shutdown(wait=False)
    answer = client.act("pause")
    assert (answer.status, answer.message) == (409, "cannot schedule new futures after shutdown")
    assert read(socket, "change")["data"]["executor"] == {"state": "shutdown"}
    assert client.act("kill", operation="threading.Event.wait").status == 200
    go_on.set()
    assert read(socket, "bye") == {"type": "bye", "reason": "shutdown"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 10_000, {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": None}, 415),
        (b'{"operation":"' + b"x" * 20_000 + b'"}', {}, 413),
        (b"{}", {"Content-Length": "1000000000"}, 413),
    ],
)
def test_bodies(
    guarded: Any, executor: TokenGateExecutor, body: bytes, headers: Any, status: int
) -> None:
    """Malformed, of another kind, too large: refused, with nothing done."""
    client = guarded().log_in()
    assert client.post("/actions/pause", body, headers).status == status
    assert not executor.statistics().is_paused
    assert client.act("pause").status == 200
    executor.resume()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("x" * 1025, 1009),
        (b"x" * 2000, 1009),
        (b"ping", 1008),
        ("rubbish", 1007),
        ('{"type":"kill"}', 1008),
    ],
)
def test_frames(guarded: Any, frame: str | bytes, code: int) -> None:
    """Whoever sends what nobody asked for is closed, and the others go on."""
    client = guarded().log_in()
    other, socket = client.watch(), client.watch()
    read(socket)
    socket.send(frame)
    assert code_of(socket) == code
    other.send('{"type":"ping"}')
    assert read(other, "pong")


def test_a_frame_without_end(guarded: Any) -> None:
    """Is not read to its end; the goodbye may be lost in what is still on its way."""
    socket = guarded().log_in().watch()
    with suppress(ConnectionClosed):
        socket.send("x" * 5_000_000)
    assert code_of(socket) in {1006, 1009}


def test_accidents(
    guarded: Any,
    executor: TokenGateExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Are for the log, and no client sees more than that there was one."""

    def explode(_operation: str | None) -> None:
        raise LookupError("p4ssw0rd")

    client = guarded().log_in()
    monkeypatch.setattr(executor, "pause", explode)
    answer = client.act("pause")
    assert (answer.status, answer.message) == (
        500,
        "this did not work; the log of the program says why",
    )
    assert "Traceback" in caplog.text
    assert caplog.text.count("cannot answer a request for '/actions/pause'") == 1


def test_so_much_at_once_and_no_more(
    guarded: Any, executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actions that block are counted, and one more is refused; the page itself goes on."""
    entered, go_on = threading.Semaphore(0), threading.Event()

    def block(_operation: str | None = None) -> None:
        entered.release()
        assert go_on.wait(20)

    client = guarded().log_in()
    monkeypatch.setattr(executor, "resume", block)
    threads = [
        threading.Thread(target=client.act, args=("resume",)) for _ in range(apps.MOST_AT_WORK)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            assert entered.acquire(timeout=20)
        answer = client.act("pause")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert client.get("/snapshot").status == 200
    finally:
        go_on.set()
        for thread in threads:
            thread.join()
    assert client.act("pause").status == 200
    monkeypatch.undo()
    executor.resume()


def test_every_kind_of_answer_has_the_headers(guarded: Any) -> None:
    """Pages, data, refusals, and what Starlette answers by itself."""
    client = guarded()
    answers = [
        client.get(path) for path in ("/", "/session", "/snapshot", "/nothing", "/static/x.js")
    ]
    answers += [client.post("/"), client.get("/login"), client.post("/login", b"{")]
    answers += [client.get("/", {"Host": "evil.example"}), client.log_in().get("/")]
    answers += [client.get("/snapshot"), client.get("/history"), client.act("pause")]
    answers += [client.act("resume"), client.post("/actions/pause", b"x" * 20_000)]
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 401, 403, 404, 405, 413}
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers.get_all(name) == [value]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] is None


# mounting


@pytest.fixture
def hosted(opened: ExitStack, client_of: Any) -> Callable[..., Any]:
    """Serves any app with plain uvicorn, as a user does; returns a client of it."""

    def host(app: Any, **options: Any) -> Any:
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio", lifespan="off")
        )
        thread = threading.Thread(target=server.run)
        listening = threading.Event()
        startup = server.startup

        async def start(sockets: Any = None) -> None:
            await startup(sockets)
            listening.set()

        server.startup = start  # type: ignore[method-assign]
        thread.start()
        opened.callback(thread.join)
        opened.callback(lambda: setattr(server, "should_exit", True))
        assert listening.wait(20)
        port = server.servers[0].sockets[0].getsockname()[1]
        return client_of(port, **options)

    return host


def in_starlette(dashboard: Any) -> Any:
    """Mounted under a prefix, twice."""
    return Starlette(routes=[Mount("/tools", Starlette(routes=[Mount("/dash", dashboard)]))])


def in_fastapi(dashboard: Any) -> Any:
    """The same in FastAPI."""
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed: not mounted in it")
    app = fastapi.FastAPI()
    app.mount("/tools/dash", dashboard)
    return app


def under_root_path(dashboard: Any) -> Any:
    """Behind a proxy that takes the prefix off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await dashboard({**scope, "root_path": "/tools/dash"}, receive, send)

    return app


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, under_root_path])
def test_mounted(
    hosted: Any, executor: TokenGateExecutor, password: str, mount: Callable[[Any], Any]
) -> None:
    """Under a prefix everything works as at home, and cookies are for that prefix only."""
    client = hosted(mount(dashboard_app(executor, password=password)), prefix="/tools/dash")
    assert client.get("/").status == 401
    given = client.get("/session").headers["Set-Cookie"]
    assert "Path=/tools/dash;" in given
    client.log_in()
    assert client.get("/").status == 200
    assert client.get("/static/dashboard.js").status == 200
    socket = client.watch(origin=f"http://127.0.0.1:{client.port}")
    assert read(socket)["type"] == "snapshot"
    assert client.act("pause").status == 200
    assert read(socket, "change")["data"]["steering"] == {"is_paused": True}
    executor.resume()
    assert refusal_of(client, origin="http://evil.example")[0] == 403
    executor.shutdown()
    assert read(socket, "bye") == {"type": "bye", "reason": "shutdown"}


def test_mounted_without_a_slash(hosted: Any, executor: TokenGateExecutor) -> None:
    """One is led to the address from where the page's own parts can be found."""
    client = hosted(in_starlette(dashboard_app(executor, public_read=True)), prefix="/tools/dash")
    answer = client.get("")
    assert answer.status == 307
    assert answer.headers["Location"].endswith("/tools/dash/")


def test_mounted_where_frames_may_be_longer(hosted: Any, executor: TokenGateExecutor) -> None:
    """The app looks at their length itself."""
    client = hosted(dashboard_app(executor, public_read=True))
    socket = client.watch()
    socket.send("x" * 1025)
    assert code_of(socket) == 1009


def test_public_reading_beside_a_password(
    hosted: Any, executor: TokenGateExecutor, password: str
) -> None:
    """Everybody reads; who logs in controls."""
    client = hosted(dashboard_app(executor, password=password, public_read=True)).begin()
    assert client.get("/").status == 200
    assert read(client.watch())["type"] == "snapshot"
    answer = client.act("pause")
    assert (answer.status, answer.message) == (403, "log in first")
    client.log_in()
    assert client.act("pause").status == 200
    executor.resume()


def test_allowed_hosts(hosted: Any, executor: TokenGateExecutor) -> None:
    """Behind a proxy it is asked for by the name that was given."""
    app = dashboard_app(executor, public_read=True, allowed_hosts=["dash.example"])
    client = hosted(app)
    assert client.get("/snapshot", {"Host": "dash.example"}).status == 200
    assert client.get("/snapshot").status == 403


def test_an_executor_that_is_gone(hosted: Any) -> None:
    """The mounted app does not keep it, and says so."""
    executor = TokenGateExecutor(1)
    client = hosted(dashboard_app(executor, public_read=True))
    socket = client.watch()
    read(socket, "snapshot")
    gone = weakref.ref(executor)
    del executor
    assert read(socket, "bye") == {"type": "bye", "reason": "shutdown"}
    assert gone() is None
    answer = client.get("/snapshot")
    assert (answer.status, answer.message) == (410, "the executor is gone")
    assert read(client.watch()) == {"type": "bye", "reason": "shutdown"}


def test_many_sockets_at_most(
    hosted: Any, executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused before it is one."""
    app = dashboard_app(executor, public_read=True)
    client = hosted(app)
    monkeypatch.setattr("tokengate_executor.dashboard.feed.MOST_READERS", 2)
    for _ in range(2):
        read(client.watch())
    assert refusal_of(client) == (503, "too many watch already")


# what it refuses to be


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "password must be given, unless public_read=True"),
        ({"password": ""}, "password must be a non-empty string"),
        ({"public_read": True, "launch": {"a": 1}}, "launch must be a mapping"),
        (
            {"public_read": True, "allowed_hosts": "dash.example"},
            "allowed_hosts must be host names",
        ),
    ],
)
def test_refused_dashboards(executor: TokenGateExecutor, given: Any, says: str) -> None:
    """Neither guarded nor meant to be public, or something that cannot be meant."""
    with pytest.raises(InvalidOptionError, match=says):
        dashboard_app(executor, **given)


def test_dashboards_of_something_else(executor: TokenGateExecutor) -> None:
    """A view has no life of its own to be shown."""
    view: Any = executor.options(weight="heavy")
    with pytest.raises(InvalidOptionError, match="executor must be a TokenGateExecutor"):
        dashboard_app(view, public_read=True)
