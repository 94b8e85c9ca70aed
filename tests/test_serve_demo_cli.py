"""The command ``serve-demo``: what it says, whom it lets in, and how it ends."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Self

import pytest

from tokengate_executor import cli
from tokengate_executor.demos.load import KINDS
from tokengate_executor.top.client import DashboardClient, RefusedError

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str) -> int:
    """Run the command."""
    return cli.main(["serve-demo", *arguments])


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no password of the environment be found."""
    monkeypatch.delenv("TOKENGATE_PASSWORD", raising=False)


class Demo:
    """The program, in a process of its own.

    Attributes:
        said: what it said before it began to serve.
    """

    # A test runner that was started in the background has the signal ignored, and children with it.
    _PROGRAM = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tokengate_executor.cli import main\n"
        "raise SystemExit(main(['serve-demo', *sys.argv[1:]]))"
    )

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith("Ctrl-C"):
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)

    @property
    def url(self) -> str:
        """Where the dashboard is."""
        found = re.search(r"^dashboard: +(\S+)$", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; returns the status, and what it says at its end."""
        began = time.monotonic()
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=30)
        assert time.monotonic() - began < 4.0, "usually it is some tenths of a second"
        return self.process.returncode, out, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_ended(number: signal.Signals) -> None:
    """Only for who knows the password; and then nothing is left, and no traceback."""
    with Demo("--workers", "3", "--rate", "300", TOKENGATE_PASSWORD="opensesame") as demo:
        assert "opensesame" not in demo.said
        assert "password" not in demo.said
        assert f"tokengate top {demo.url}" in demo.said
        with pytest.raises(RefusedError, match="wrong"):
            DashboardClient(demo.url, lambda: "wrong").enter()
        client = DashboardClient(demo.url, lambda: "opensesame")
        client.enter()
        with closing(client.snapshots()) as snapshots:
            last = next(found for found in snapshots if len(found["operations"]) > 6)
        assert last["executor"]["name"] == "shop"
        assert last["system"]["max_workers"] == 3
        assert set(last["operations"]) <= set(KINDS)
        assert set(last["limits"]) == {"database", "payments"}
        assert last["launcher"]
        assert demo.end(number) == (0, "", "a wrong password from 127.0.0.1\n")


def test_it_ends_while_somebody_watches() -> None:
    """They are told goodbye, and it does not wait for them."""
    with Demo("--rate", "500", TOKENGATE_PASSWORD="opensesame") as demo:
        client = DashboardClient(demo.url, lambda: "opensesame")
        client.enter()
        with closing(client.snapshots()) as snapshots:
            next(snapshots)
            assert demo.end(signal.SIGINT) == (0, "", "")


def test_a_password_that_is_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said once, and is another one each time."""
    passwords: set[str] = set()
    for _ in range(2):
        assert run("--seconds", "0") == 0
        said = capsys.readouterr()
        found = re.findall(r"^password: +(\S+)$", said.out, re.MULTILINE)
        assert len(found) == 1
        assert said.out.count(found[0]) == 1
        assert said.err == ""
        passwords.update(found)
    assert len(passwords) == 2
    assert all(len(password) >= 16 for password in passwords)


def test_a_password_of_a_file(tmp_path: Path) -> None:
    """It opens the dashboard, and is not shown."""
    file = tmp_path / "password"
    file.write_text("opensesame\n", encoding="utf-8")
    with Demo("--password-file", str(file)) as demo:
        assert "opensesame" not in demo.said
        DashboardClient(demo.url, lambda: "opensesame").enter()


def test_it_ends_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """After so many seconds; and nothing of the process is changed then."""
    levels = [logging.getLogger(name).level for name in ("tokengate_executor", "")]
    handler = signal.getsignal(signal.SIGTERM)
    began = time.monotonic()
    assert run("--seconds", "0.3", "--rate", "1000", "--workers", "1") == 0
    assert 0.3 <= time.monotonic() - began < 20
    assert capsys.readouterr().err == ""
    assert levels == [logging.getLogger(name).level for name in ("tokengate_executor", "")]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and one line that says which and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("--port", str(port), "--seconds", "0") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"port {port}: address already in use" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "message"),
    [("192.0.2.1", "192.0.2.1"), ("no such host", "no such host"), ("", "host must be")],
)
def test_a_host_that_is_not_ours(
    host: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, and one line that says which."""
    assert run("--host", host, "--seconds", "0") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_password_file_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and nothing is served."""
    assert run("--password-file", str(tmp_path / "missing"), "--seconds", "0") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "cannot read a password from" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "a whole number from 0 to 65535 is needed"),
        (["--workers", "0"], "a whole number from 1 to 256 is needed"),
        (["--rate", "0"], "a number from 0.1 to 1000 is needed"),
        (["--rate", "nan"], "a number from 0.1 to 1000 is needed"),
        (["--seconds", "-1"], "argument --seconds"),
        (["--seed", "x"], "a whole number at least 0 is needed"),
        (["--work", "1"], "unrecognized arguments"),
        (["x"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and what is allowed."""
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It says the exit statuses, and where passwords come from."""
    with pytest.raises(SystemExit) as exit_:
        run("--help")
    assert exit_.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "exit status: 0 when it was ended" in said
    assert "TOKENGATE_PASSWORD" in said
