"""Doors: too many connections, slow ones, and such as do not read, on a real server."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import doors, serving

HANDSHAKE = (
    "GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def server(executor: TokenGateExecutor, served: Any) -> Any:
    """Everybody may read it."""
    return served(executor)


def dial(server: Any, opened: ExitStack) -> socket.socket:
    """Connect, and say nothing yet."""
    made = opened.enter_context(socket.socket())
    made.settimeout(5)  # sooner than uvicorn would end it by itself
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", server.port))
    return made


def is_ended(connection: socket.socket) -> bool:
    """Read all that comes until the other side ends it; false: it does not."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def answers(connection: socket.socket) -> bool:
    """Whether a request is answered."""
    try:
        connection.sendall(b"GET /session HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def test_so_many_connections_and_no_more(
    server: Any, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is ended at once; when another one ends, there is room."""
    monkeypatch.setattr(doors, "MOST_CONNECTIONS", 3)
    connections = [dial(server, opened) for _ in range(3)]
    assert all(map(answers, connections))
    assert not answers(dial(server, opened))
    connections[0].close()
    for _ in range(1000):
        if answers(dial(server, opened)):
            break
    else:
        pytest.fail("the place of a connection that has ended is not given to another")


@pytest.mark.parametrize(
    "said", [b"", b"GET /session HTT", b"POST /login HTTP/1.1\r\nHost: localhost\r\nX: "]
)
def test_who_takes_very_long_to_ask(
    server: Any, opened: ExitStack, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Is not waited for, however it drips."""
    monkeypatch.setattr(doors, "LONGEST_SECONDS", 0.1)
    connection = dial(server, opened)
    connection.sendall(said)
    assert is_ended(connection)


def test_a_connection_that_is_kept_does_not_last(
    server: Any, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a request that was answered."""
    monkeypatch.setattr(doors, "LONGEST_SECONDS", 0.2)
    connection = dial(server, opened)
    assert answers(connection)
    assert is_ended(connection)


def test_sockets_last(server: Any, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what connections are kept for."""
    monkeypatch.setattr(doors, "LONGEST_SECONDS", 0.1)
    connection, idle = dial(server, opened), dial(server, opened)
    connection.sendall(HANDSHAKE.encode())
    assert is_ended(idle), "the time is over"
    connection.settimeout(0.2)
    assert not is_ended(connection)


def test_who_does_not_read_is_left(
    server: Any, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its app has ended; what is still to be flushed to it is dropped after a while."""
    monkeypatch.setattr(doors, "FLUSH_SECONDS", 0.1)
    connection = dial(server, opened)
    connection.sendall(HANDSHAKE.encode())
    assert connection.recv(12) == b"HTTP/1.1 101"
    # A masked frame that is no JSON: the server wants to close, and nobody answers that.
    connection.sendall(b"\x81\x81\0\0\0\0x")
    assert is_ended(connection)


def test_nothing_is_left_at_the_end(server: Any, opened: ExitStack) -> None:
    """Who is idle, and who does not answer a goodbye, is ended with the server."""
    idle, watching = dial(server, opened), dial(server, opened)
    watching.sendall(HANDSHAKE.encode())
    assert watching.recv(12) == b"HTTP/1.1 101"
    assert server.stop(20)
    assert is_ended(idle)
    assert is_ended(watching)


def test_what_is_still_to_be_sent_does_not_hinder_the_end(
    executor: TokenGateExecutor,
    served: Any,
    opened: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is dropped: the one that it is for does not read."""
    monkeypatch.setattr(serving, "SEND_BUFFER_BYTES", 4096)
    for n in range(100):
        executor.options(operation=f"{n:02} {'x' * 2000}").submit(int).result()
    server = served(executor)
    watching = dial(server, opened)
    watching.sendall(HANDSHAKE.encode())
    read = b""
    while b'{"type":"snapshot"' not in read:
        read += watching.recv(1000)
    assert server.stop(20)
    assert is_ended(watching)


def test_requests_are_not_logged(
    server: Any, opened: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody else's access log is touched for that."""
    with caplog.at_level("INFO"):
        assert answers(dial(server, opened))
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []
