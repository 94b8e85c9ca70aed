"""Serving: where, for whom, for how long, and to how many."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import DashboardServer, doors, serve, serving
from tokengate_executor.dashboard.patches import apply
from tokengate_executor.errors import InvalidOptionError

ANYWHERE = "0.0.0.0"


def read(watcher: Any, kind: str) -> Any:
    """The next message of that kind."""
    while True:
        message = json.loads(watcher.recv(timeout=20))
        if message["type"] == kind:
            return message


# where


def test_it_is_up_when_serve_returns(executor: TokenGateExecutor, served: Any) -> None:
    """At a port of its own, which it tells."""
    server = served(executor)
    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert server.is_running
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200
    assert repr(server) == f"<DashboardServer at {server.url} running>"


def test_several_executors_several_dashboards(
    executor: TokenGateExecutor, served: Any, client_of: Any
) -> None:
    """Each shows its own."""
    with TokenGateExecutor(1, "other") as other:
        for one in (executor, other):
            client = client_of(served(one).port)
            assert client.get("/snapshot").json["executor"]["name"] == one.name


def test_a_port_that_is_taken(executor: TokenGateExecutor, served: Any) -> None:
    """Is an error of the one who asks for it, who has no thread more than before."""
    server = served(executor)
    before = threading.active_count()
    with pytest.raises(
        OSError, match=rf"at 127\.0\.0\.1, port {server.port}: address already in use"
    ) as caught:
        serve(executor, port=server.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert threading.active_count() == before


def test_a_port_can_be_had_again(executor: TokenGateExecutor, served: Any) -> None:
    """As soon as the server before has stopped."""
    first = served(executor)
    assert first.stop(20)
    assert served(executor, port=first.port).port == first.port


def test_hosts_that_are_not_ours(executor: TokenGateExecutor) -> None:
    """A name that nobody has, an address that is another machine's."""
    with pytest.raises(socket.gaierror):
        serve(executor, host="nothing.invalid")
    with pytest.raises(OSError, match=r"cannot serve a dashboard at 192\.0\.2\.1"):
        serve(executor, host="192.0.2.1", password="open sesame")


def test_localhost(executor: TokenGateExecutor, served: Any) -> None:
    """By its name, whatever address that is."""
    server = served(executor, host="localhost")
    assert server.url == f"http://localhost:{server.port}/"
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(executor: TokenGateExecutor, served: Any) -> None:
    """With its brackets."""
    try:
        server = served(executor, host="::1")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert server.url == f"http://[::1]:{server.port}/"
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"host": ""}, "host must be"),
        ({"host": 7}, "host must be"),
        ({"port": -1}, "port must be a number from 0 to 65535"),
        ({"port": 65536}, "port must be"),
        ({"port": "80"}, "port must be"),
        ({"port": True}, "port must be"),
        ({"password": ""}, "password must be"),
        ({"ssl_keyfile": "key.pem"}, "ssl_certfile must be given where there is an ssl_keyfile"),
        ({"launch": [int]}, "launch must be"),
        ({"host": ANYWHERE}, "password must be given where others than this machine can reach"),
        ({"host": ANYWHERE, "ssl_certfile": "cert.pem"}, "password must be given where others"),
    ],
)
def test_what_is_refused(executor: TokenGateExecutor, given: Any, says: str) -> None:
    """Before anything is opened or started."""
    before = threading.active_count()
    with pytest.raises(InvalidOptionError, match=says):
        serve(executor, **given)
    assert threading.active_count() == before


def test_where_others_can_reach_it(
    executor: TokenGateExecutor,
    served: Any,
    client_of: Any,
    password: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a password, under any name, and with a word about who listens on the way."""
    server = served(executor, host=ANYWHERE, password=password)
    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert "the dashboard speaks plain http" in caplog.text
    client = client_of(server.port)
    assert client.get("/", {"Host": "dash.example"}).status == 401
    answer = client.get("/session", {"Host": "dash.example"})
    assert "Secure" in answer.headers["Set-Cookie"]
    assert client.log_in().get("/").status == 200


# https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for localhost, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here to make a certificate with")
    directory = tmp_path_factory.mktemp("certificate")
    key, made = directory / "key.pem", directory / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True
    )
    return str(made), str(key)


def test_https(executor: TokenGateExecutor, served: Any, certificate: tuple[str, str]) -> None:
    """Cookies then go back by https only."""
    made, key = certificate
    server = served(executor, ssl_certfile=Path(made), ssl_keyfile=Path(key))
    assert server.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=made)
    with urllib.request.urlopen(server.url + "session", context=trusting) as answer:
        assert "Secure" in answer.headers["Set-Cookie"]


def test_certificates_that_are_none(executor: TokenGateExecutor, tmp_path: Path) -> None:
    """Are an error of the one who gives them, and no port stays open."""
    with pytest.raises(FileNotFoundError):
        serve(executor, ssl_certfile=tmp_path / "nothing.pem")
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(ssl.SSLError):
        serve(executor, ssl_certfile=tmp_path / "rubbish.pem")


# for how long


def test_it_stops(executor: TokenGateExecutor, served: Any, client_of: Any) -> None:
    """When it is told to, with a goodbye; again and again is as good as once."""
    server = served(executor)
    watcher = client_of(server.port).watch()
    read(watcher, "snapshot")
    assert not server.join(0)
    server.request_stop()
    server.request_stop()
    assert read(watcher, "bye") == {"type": "bye", "reason": "shutdown"}
    assert server.join(20)
    server.request_stop()
    assert server.stop()
    assert not server.is_running
    assert repr(server).endswith("stopped>")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    assert executor.submit(int).result() == 0, "the executor goes on"


def test_it_is_a_context_manager(executor: TokenGateExecutor) -> None:
    """Leaving it stops it."""
    with serve(executor) as server:
        assert server.is_running
    assert not server.is_running


def test_it_stops_at_shutdown(executor: TokenGateExecutor, served: Any, client_of: Any) -> None:
    """Whoever watches is told."""
    server = served(executor)
    watcher = client_of(server.port).watch()
    read(watcher, "snapshot")
    executor.shutdown()
    assert read(watcher, "bye") == {"type": "bye", "reason": "shutdown"}
    assert server.join(20)


def test_the_executors_own_door(client_of: Any) -> None:
    """What it serves ends with its last call, though nobody watches; ``shutdown`` waits for that."""
    go_on = threading.Event()
    with TokenGateExecutor(1) as executor:
        server = executor.serve_dashboard()
        executor.submit(go_on.wait)
        executor.shutdown(wait=False)
        assert client_of(server.port).get("/snapshot").json["tokens"]["executing"] == 1
        assert server.is_running
        go_on.set()
    assert not server.is_running


def test_it_does_not_hold_the_executor(served: Any, client_of: Any) -> None:
    """One that nobody else has is collected, also while it is watched, and the server ends with it."""
    for is_watched in (False, True):
        executor = TokenGateExecutor(2)
        executor.submit(int).result()
        threads = executor._threads
        server = served(executor)
        client = client_of(server.port)
        if is_watched:
            watcher = client.watch()
            read(watcher, "snapshot")
        assert client.get("/snapshot").status == 200
        gone = weakref.ref(executor)
        del executor
        assert server.join(20)
        assert gone() is None
        for thread in threads:
            thread.join(20)
        if is_watched:
            assert read(watcher, "bye") == {"type": "bye", "reason": "shutdown"}


def test_it_goes_on_without_its_handle(executor: TokenGateExecutor, client_of: Any) -> None:
    """Whoever does not keep what serve returns wants it to last as long as the executor."""
    port = serve(executor).port
    gc.collect()
    client = client_of(port)
    assert client.get("/snapshot").status == 200
    threads = [one for one in threading.enumerate() if one.name == "tokengate_dashboard"]
    watcher = client.watch()
    read(watcher, "snapshot")
    executor.shutdown()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_stop_before_the_start_is_heard(executor: TokenGateExecutor) -> None:
    """However early it comes."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = serving.dashboard_app(executor, public_read=True)
    server = DashboardServer(app, "127.0.0.1", listener, None, None)
    server.request_stop()
    server.start()
    assert server.join(20)
    assert listener.fileno() == -1


def test_what_hinders_the_start_is_raised_where_it_was_wanted(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left behind."""

    async def startup(*_: object) -> None:
        raise LookupError("no loop today")

    monkeypatch.setattr("uvicorn.Server.startup", startup)
    with pytest.raises(LookupError, match="no loop today"):
        serve(executor)


def test_it_does_not_wait_for_itself(executor: TokenGateExecutor, served: Any) -> None:
    """Whoever asks on the server's own thread."""
    server = served(executor)
    results: list[bool] = []
    server._loop.call_soon_threadsafe(lambda: results.append(server.join()))
    server._loop.call_soon_threadsafe(lambda: results.append(server.stop(0)))
    assert server.join(20)
    assert results == [False, False]


def test_an_action_that_hangs_does_not_hinder_the_stop(
    executor: TokenGateExecutor,
    served: Any,
    client_of: Any,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client is told that it did not work, or nothing."""
    entered, go_on = threading.Event(), threading.Event()

    def hang(_operation: str | None = None) -> None:
        entered.set()
        go_on.wait(30)

    server = served(executor, password=password)
    client = client_of(server.port).log_in()
    monkeypatch.setattr(executor, "resume", hang)
    ended = threading.Event()

    def act() -> None:
        with suppress(OSError):
            assert client.act("resume").status == 500
        ended.set()

    acting = threading.Thread(target=act)
    acting.start()
    try:
        assert entered.wait(20)
        assert server.stop(20)
        assert ended.wait(20)
    finally:
        go_on.set()
        acting.join()


def test_a_fork_leaves_the_port_to_the_parent(executor: TokenGateExecutor, served: Any) -> None:
    """The child has no server, and does not keep the port; the parent's goes on."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    server = served(executor)
    child = os.fork()
    if child == 0:
        right = not server.is_running and server.stop() and server._listener.fileno() == -1
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200


def test_the_rest_of_the_process_is_left_alone(executor: TokenGateExecutor) -> None:
    """Neither signal handlers nor loggers are changed."""
    names = ("", "uvicorn", "uvicorn.access", "uvicorn.error", "websockets.server")

    def state() -> Any:
        loggers = [logging.getLogger(name) for name in names]
        return (
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            [(one.level, one.propagate, one.disabled, list(one.handlers)) for one in loggers],
        )

    before = state()
    with serve(executor) as server, urllib.request.urlopen(server.url):
        assert state() == before
    assert state() == before


def test_it_does_not_keep_the_interpreter_alive(client_of: Any) -> None:
    """A program that forgets it ends, with somebody watching."""
    script = """
from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import serve
executor = TokenGateExecutor(1)
print(serve(executor).port, flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        watcher = client_of(int(program.stdout.readline())).watch()
        read(watcher, "snapshot")
        _, complaints = program.communicate("\n", timeout=30)
        assert (program.returncode, complaints) == (0, "")
        with pytest.raises(ConnectionClosed):
            read(watcher, "nothing")


# to how many


def handshake(port: int) -> socket.socket:
    """Open the live feed without anything that would read it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(20)
    made.connect(("127.0.0.1", port))
    made.sendall(
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return made


async def follow(watcher: ClientConnection, seen: list[int]) -> None:
    """Note how many calls have completed, as often as that is told."""
    known: Any = None
    async for text in watcher:
        message = json.loads(text)
        if message["type"] == "bye":
            return
        known = apply(known, message["data"])
        seen.append(known["tokens"]["completed"])


async def until(is_so: Callable[[], bool]) -> None:
    """Poll: there is nothing real that would say so."""
    async with asyncio.timeout(50):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_two_hundred_watch_and_one_does_not_read(
    executor: TokenGateExecutor, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others see every change, to the last; the one is dropped, and its connection ended."""
    monkeypatch.setattr(serving, "SEND_BUFFER_BYTES", 4096)
    monkeypatch.setattr(doors, "FLUSH_SECONDS", 0.1)
    server = served(executor)
    feed = server._feed
    feed._stall_seconds = 1.0
    views = [executor.options(operation=f"{n:02} {'x' * 200}") for n in range(40)]

    def work() -> None:
        for token in [view.submit(int) for view in views]:
            token.result()

    async def scene() -> None:
        url = f"ws://127.0.0.1:{server.port}/live"
        watchers = await asyncio.gather(
            *(connect(url, proxy=None, compression=None, max_size=None) for _ in range(199))
        )
        seen: list[list[int]] = [[] for _ in watchers]
        following = [
            asyncio.create_task(follow(*each)) for each in zip(watchers, seen, strict=True)
        ]
        await until(lambda: feed.readers == 200)
        while feed.readers == 200:
            await asyncio.to_thread(work)
        all_there_is = executor.statistics().completed
        await until(lambda: all(each[-1] == all_there_is for each in seen))
        assert feed.readers == 199
        assert all(len(each) >= 3 and each == sorted(each) for each in seen)
        executor.shutdown()
        await asyncio.gather(*following)
        await asyncio.gather(*(watcher.close() for watcher in watchers))

    with handshake(server.port) as stalled:
        asyncio.run(scene())
        with suppress(ConnectionError):
            while stalled.recv(
                65536
            ):  # what was on its way, and then the end; else the time is over
                pass
    assert server.join(20)
