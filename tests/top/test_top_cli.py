"""The command ``top``: one screen, one snapshot, and the live view in a real terminal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve as serve_websocket

from tokengate_executor import TokenGateExecutor, cli
from tokengate_executor.dashboard import serve
from tokengate_executor.top import client as top_client

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

    from tokengate_executor.dashboard import DashboardServer

TAKE_OVER = "\x1b[?1049h"
GIVE_BACK = "\x1b[?1049l"


def snapshot(name: str = "shop", completed: int = 7) -> dict[str, Any]:
    """Return a small snapshot."""
    return {
        "protocol": 1,
        "executor": {"name": name, "state": "running", "started_at": time.time() - 60},
        "tokens": {"completed": completed},
        "operations": {"shop.pay": {"circuit": "open", "calls": 3, "health": "PROBLEMATIC"}},
    }


class FakeDashboard:
    """Speaks the protocol: lets everybody in, sends a snapshot, and then whatever it is told to.

    Args:
        given: the snapshot.
        port: at which to listen; 0: any.
        may_read: what it says of its visitors.
    """

    def __init__(self, given: dict[str, Any], port: int = 0, *, may_read: bool = True) -> None:
        self._snapshot = given
        self._session = {"protocol": 1, "may_read": may_read, "has_password": True, "csrf": "x"}
        self._connections: list[ServerConnection] = []
        self.is_watched = threading.Event()
        self._server = serve_websocket(
            self._live, "127.0.0.1", port, process_request=self._answer, compression=None
        )
        self.port = self._server.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Send to all who watch."""
        assert self.is_watched.wait(30)
        for connection in self._connections:
            connection.send(json.dumps(message))

    def stop(self) -> None:
        """Go away."""
        for connection in self._connections:
            connection.close()
        self._server.shutdown()
        self._thread.join()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        return (
            connection.respond(200, json.dumps(self._session))
            if request.path == "/session"
            else None
        )

    def _live(self, connection: ServerConnection) -> None:
        connection.send(json.dumps({"type": "snapshot", "data": self._snapshot}))
        self._connections.append(connection)
        self.is_watched.set()
        with pytest.raises(ConnectionClosed):
            connection.recv()


@contextmanager
def fake(*arguments: Any, **options: Any) -> Iterator[FakeDashboard]:
    """Have a dashboard for as long as the block lasts."""
    dashboard = FakeDashboard(*arguments, **options)
    try:
        yield dashboard
    finally:
        dashboard.stop()


@contextmanager
def real(password: str | None = None) -> Iterator[DashboardServer]:
    """Have a real dashboard of an executor that has run one call."""
    with TokenGateExecutor(2, "shop") as executor, serve(executor, password=password) as server:
        executor.options(operation="shop.pay").submit(pow, 2, 3).result()
        yield server


def run(*arguments: str) -> int:
    """Run the command."""
    return cli.main(["top", *arguments])


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no password of the environment be found."""
    monkeypatch.delenv("TOKENGATE_PASSWORD", raising=False)


# One snapshot, one screen


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The snapshot as it came; whatever is in it, it is plain ASCII without control characters."""
    given = snapshot("shop\x1b[2Jé")
    with fake(given) as dashboard:
        assert run("--json", dashboard.url) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == given
    assert said.out.isascii()
    assert "\x1b" not in said.out
    assert said.err == ""


@pytest.mark.parametrize("arguments", [["--once"], []])
def test_once(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One screen, plain; so it is also where there is no terminal to draw on."""
    with fake(snapshot("shop\x1b[2J")) as dashboard:
        assert run(*arguments, dashboard.url) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].startswith("shop\\x1b[2J  RUNNING  up 0:01:0")
    assert any("shop.pay" in line and "open" in line for line in lines)
    assert "\x1b" not in said
    assert all(line == line.rstrip() for line in lines)
    assert lines[-1]


def test_once_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """All rows are there, however many, in the width that is usual or asked for."""
    given = snapshot() | {
        "operations": {f"shop.operation_{number}": {} for number in range(80)},
        "recent": {str(number): {"operation": f"recent.{number}"} for number in range(50)},
    }
    with fake(given) as dashboard:
        assert run("--once", dashboard.url) == 0
    said = capsys.readouterr().out
    assert all(f"shop.operation_{number} " in said for number in range(80))
    assert all(f"recent.{number} " in said for number in range(50))


def test_the_real_dashboard(capsys: pytest.CaptureFixture[str]) -> None:
    """What an executor has done is on the screen."""
    with real() as server:
        assert run("--once", server.url) == 0
        screen = capsys.readouterr().out
        assert run("--json", server.url) == 0
        told = json.loads(capsys.readouterr().out)
    assert screen.startswith("shop  RUNNING  up 0:00:0")
    assert "completed        1" in screen
    assert "shop.pay" in screen
    assert "1 · cpu " in screen
    assert told["tokens"]["completed"] == 1
    assert "shop.pay" in told["operations"]


def test_an_encoding_that_lacks_signs(tmp_path: Path) -> None:
    """They have plain relatives: in a C locale, say."""
    given = snapshot("é" * 60) | {"limits": {"db": {"limit": 2, "used": 1}}}
    with fake(given) as dashboard:
        ended = subprocess.run(
            [sys.executable, "-m", "tokengate_executor", "top", "--once", dashboard.url],
            env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"},
            cwd=tmp_path,
            capture_output=True,
            timeout=50,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(b"?" * 25 + b"~  RUNNING")
    assert b"#####....." in ended.stdout


# Passwords


def test_a_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is used if one is wanted."""
    monkeypatch.setenv("TOKENGATE_PASSWORD", "opensesame")
    with real("opensesame") as server:
        assert run("--json", server.url) == 0
    with fake(snapshot()) as dashboard:
        assert run("--json", dashboard.url) == 0
    assert "opensesame" not in capsys.readouterr().out


def test_a_password_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The right one opens it, a wrong one does not, and none of them is shown."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("opensesame\n", encoding="utf-8")
    wrong.write_text("openbarley\n", encoding="utf-8")
    with real("opensesame") as server:
        assert run("--once", server.url, "--password-file", str(right)) == 0
        assert "shop.pay" in capsys.readouterr().out
        assert run("--once", server.url, "--password-file", str(wrong)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{server.url}: the password is wrong")
    assert said.err.count("\n") == 1
    assert "openbarley" not in said.err


def test_nobody_to_ask_for_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal it says how to give one."""
    with fake(snapshot(), may_read=False) as dashboard:
        assert run(dashboard.url) == 1
    assert "name a --password-file, or set TOKENGATE_PASSWORD" in capsys.readouterr().err


def test_a_password_file_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, also where no password would be wanted."""
    with fake(snapshot()) as dashboard:
        assert run(dashboard.url, "--password-file", str(tmp_path / "missing")) == 2
    assert "cannot read a password from" in capsys.readouterr().err


# What goes wrong


def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and one line that says where and why."""
    with fake(snapshot()) as dashboard:
        url = dashboard.url
    for arguments in ([], ["--once"], ["--json"]):
        assert run(url, *arguments) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == f"{url}: Connection refused\n"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "an address such as http://127.0.0.1:8000/ is needed, 'http://' was given"),
        ("a\x1b", "an address such as"),
        ("http://me:secret@a/", "a password does not belong in an address"),
    ],
)
def test_wrong_addresses(url: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and nobody is asked anything."""
    assert run(url) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.rstrip("\n").isprintable()
    assert "secret" not in said


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--once", "--json", "a"], ["--on", "a"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    """Argparse says what is missing or too much."""
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2


def test_ctrl_c_before_anything_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """That cuts it short, and is status 130, as for all commands."""

    def interrupt(_self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(top_client.DashboardClient, "enter", interrupt)
    assert run("localhost:1") == 130


@pytest.mark.parametrize("missing", ["websockets", "starlette"])
@pytest.mark.parametrize("command", [["top", "localhost:1"], ["serve-demo"]])
def test_without_the_extra(missing: str, command: list[str]) -> None:
    """Status 2, and the command that installs what is missing."""
    program = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from tokengate_executor.cli import main\n"
        f"raise SystemExit(main({command!r}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert f"tokengate {command[0]} needs the package {missing}" in ended.stderr
    assert 'python -m pip install "tokengate-executor[dashboard]"' in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It says the exit statuses, and where passwords come from."""
    with pytest.raises(SystemExit) as exit_:
        run("--help")
    assert exit_.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "exit status: 0 when it was ended" in said
    assert "TOKENGATE_PASSWORD" in said
    assert "NO_COLOR" in said


# The live view


class Session:
    """The program in a terminal of its own.

    Args:
        arguments: of the command ``top``.
        columns: of the terminal.
        rows: of the terminal.
        environment: what is different.
    """

    # The terminal has to be the program's own, for Ctrl-C to reach it.
    _PROGRAM = (
        "import fcntl, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from tokengate_executor.cli import main\n"
        "raise SystemExit(main(['top', *sys.argv[1:]]))"
    )

    def __init__(
        self, *arguments: str, columns: int = 80, rows: int = 24, **environment: str
    ) -> None:
        self._master, self._slave = os.openpty()
        self._read = ""
        self._shown = 0
        self.resize(columns, rows)
        self._mode = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "PYTHONUTF8": "1", "NO_COLOR": "1", **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self._master)
        os.close(self._slave)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window; the system tells the program."""
        termios.tcsetwinsize(self._master, (rows, columns))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, text: str) -> str:
        """Read on until this is written; returns what was written up to there since the last time."""
        deadline = time.monotonic() + 30
        while (found := self._read.find(text, self._shown)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self._read[self._shown :][-3000:]!r}"
            self._read_on(left)
        since, self._shown = self._shown, found + len(text)
        return self._read[since : self._shown]

    def end(self) -> tuple[int, str]:
        """Wait until the program ends; returns its status, and what it wrote after the live view."""
        status = self.process.wait(30)
        while self._read_on(0):
            pass
        assert self._read.count(TAKE_OVER) == self._read.count(GIVE_BACK)
        assert termios.tcgetattr(self._slave) == self._mode, "the terminal's mode is not restored"
        live, _, after = self._read.rpartition(GIVE_BACK)
        assert "\x1b[?25h" in live, "the cursor is not shown again"
        assert "Traceback" not in self._read
        return status, after

    def _read_on(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self._read += os.read(self._master, 65536).decode()
        return True


def test_it_draws_each_change() -> None:
    """As soon as it comes, on a screen of its own; q ends it and everything is as before."""
    with fake(snapshot()) as dashboard, Session(dashboard.url) as session:
        assert TAKE_OVER in session.until("completed        7")
        session.until("shop.pay")
        session.until("q ends")
        dashboard.send({"type": "change", "data": {"tokens": {"completed": 8}}})
        session.until("completed        8")
        session.until("q ends")
        dashboard.send({"type": "change", "data": {"operations": {"shop.pay": None, "new": {}}}})
        frame = session.until("q ends")
        assert "new " in frame
        assert "shop.pay" not in frame
        session.type("q")
        assert session.end() == (0, "")


def test_ctrl_c_ends_it() -> None:
    """Like q, without a word."""
    with fake(snapshot()) as dashboard, Session(dashboard.url) as session:
        session.until("q ends")
        session.type("\x03")
        status, after = session.end()
        assert (status, after.replace("^C", "")) == (0, "")


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)]
)
def test_signals_end_it(number: signal.Signals, expected: int) -> None:
    """With the terminal as it was."""
    with fake(snapshot()) as dashboard, Session(dashboard.url) as session:
        session.until("q ends")
        session.process.send_signal(number)
        assert session.end() == (expected, "")


@pytest.mark.parametrize(("columns", "rows"), [(60, 15), (140, 45), (20, 3)])
def test_resizing(columns: int, rows: int) -> None:
    """The screen fits the window, and no row is below it."""
    with fake(snapshot()) as dashboard, Session(dashboard.url) as session:
        session.until("\x1b[24;1H")
        session.resize(columns, rows)
        frame = session.until(f"\x1b[{rows};1H")
        assert "\x1b[2J" in frame
        frame = frame[frame.rindex("\x1b[2J") :]
        texts = frame.split("\x1b[")[2:-1]
        assert [len(text.partition("H")[2]) for text in texts] == [columns] * (rows - 1)
        session.type("q")
        assert session.end() == (0, "")


def test_a_dashboard_that_goes_away_and_comes_back() -> None:
    """That is to be seen, and the view goes on by itself."""
    with fake(snapshot("before")) as dashboard, Session(dashboard.url) as session:
        session.until("before")
        session.until("q ends")
        dashboard.send({"type": "bye", "reason": "shutdown"})
        session.until("not connected: the dashboard was shut down; trying again in")
        dashboard.stop()
        session.until("not connected: Connection refused; trying again in")
        with fake(snapshot("afterwards"), dashboard.port):
            session.until("afterwards")
            session.until("q ends")
            session.type("q")
            assert session.end() == (0, "")


def test_who_is_not_let_in_again_ends() -> None:
    """With status 1, and a line that is to be seen after the screen is gone."""
    with fake(snapshot()) as dashboard, Session(dashboard.url) as session:
        session.until("q ends")
        dashboard.stop()
        session.until("not connected")
        other = snapshot() | {"protocol": 3}
        with fake(other, dashboard.port):
            status, after = session.end()
    assert status == 1
    assert after.splitlines() == [f"{dashboard.url}: its snapshots are not of protocol 1"]


def test_it_asks_for_a_password() -> None:
    """On the terminal, where it is not shown; before anything is drawn."""
    with real("opensesame") as server, Session(server.url) as session:
        asked = session.until(f"Password for {server.url}: ")
        assert TAKE_OVER not in asked
        session.type("opensesame\n")
        shown = session.until("shop.pay")
        assert "opensesame" not in shown
        session.until("q ends")
        session.type("q")
        assert session.end() == (0, "")


def test_colours() -> None:
    """Only if NO_COLOR is not set."""
    with fake(snapshot()) as dashboard:
        with Session(dashboard.url, NO_COLOR="") as session:
            assert "\x1b[32mRUNNING\x1b[0m" in session.until("q ends")
        with Session(dashboard.url) as session:
            assert "\x1b[32m" not in session.until("q ends")


def test_a_terminal_that_can_do_nothing() -> None:
    """It gets one screen, line by line."""
    with fake(snapshot()) as dashboard, Session(dashboard.url, TERM="dumb") as session:
        assert "\x1b" not in session.until("shop.pay")
        assert session.process.wait(30) == 0
