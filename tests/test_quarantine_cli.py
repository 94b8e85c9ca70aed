"""The command ``quarantine``: what it shows, what it does, and its exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor import cli
from tokengate_executor.guard.calls import Call
from tokengate_executor.guard.store import QuarantineStore


def raised(text: str) -> ValueError:
    """Return an exception with a traceback."""
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return the path of a quarantine with nothing in it."""
    made = str(tmp_path / "quarantine.db")
    with QuarantineStore(made) as store:
        store.open()
    return made


def put(path: str, fn: Any = divmod, *args: Any, **facts: Any) -> str:
    """Quarantine a call; returns its id."""
    with QuarantineStore(path) as store:
        return store.add(Call("shop.pay", fn, args, **facts))


def status_of(path: str, one: str) -> str:
    """Return what became of the call."""
    with QuarantineStore(path) as store:
        return store.get(one).status


def run(*arguments: str) -> int:
    """Run the command."""
    return cli.main(["quarantine", *arguments])


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


# list


def test_list(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each pending call, under headings; all in their columns."""
    one = put(path, divmod, 7, 2, error=raised("no such\naccount"), attempts=3)
    two = put(path, lambda: 0, reason="spike")
    gone = put(path)
    assert run("reject", path, gone) == 0
    capsys.readouterr()
    assert run("list", path) == 0
    headings, first, second = capsys.readouterr().out.splitlines()
    assert headings.split() == [
        *("ID", "STATUS", "SINCE", "OPERATION", "REASON", "ATTEMPTS", "CALL", "ERROR")
    ]
    assert first.startswith(f"{one}  pending ")
    assert first.endswith("ValueError: no such\\naccount")
    assert second.startswith(f"{two}  pending ")
    assert f"[only process {os.getpid()} can replay it]" in second
    for heading, of_first in (("OPERATION", "shop.pay"), ("CALL", "builtins.divmod(7, 2)")):
        assert first.index(of_first) == headings.index(heading)


def test_list_all(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Decided calls, too."""
    one, two = put(path), put(path)
    assert run("reject", path, one) == 0
    capsys.readouterr()
    assert run("list", "--all", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[one, "rejected"], [two, "pending"]]


def test_list_nothing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so."""
    assert run("list", path) == 0
    assert run("list", "--all", path) == 0
    assert run("list", "--json", path) == 0
    assert capsys.readouterr().out == "no pending calls\nno calls\n[]\n"


def test_list_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The facts as they are in the record."""
    one = put(path, divmod, 7, 2, error=raised("é"))
    assert run("list", "--json", path) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["id"] == one
    assert (entry["error_text"], entry["replayable"], entry["decided_at"]) == ("é", True, None)
    assert "Traceback" in entry["traceback"]


def test_list_on_a_terminal_fits(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider than the screen; one that is read by a program is whole."""
    put(path, divmod, *["x" * 50] * 5, error=raised("y" * 500))
    assert run("list", path) == 0
    assert "y" * 500 in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert run("list", path) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


# show


def test_show(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact has a line, and the traceback is below."""
    one = put(path, divmod, 7, 2, error=raised("no such account"), attempts=3)
    assert run("show", path, one) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split("  ", 1) for line in lines[: lines.index("Traceback" + TRACE)])
    assert facts["id"].strip() == one
    assert facts["attempts"].strip() == "3"
    assert facts["error text"].strip() == "no such account"
    assert facts["decided at"].strip() == facts["not replayable because"].strip() == "-"
    assert lines[-1] == "ValueError: no such account"


TRACE = " (most recent call last):"


def test_show_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One object."""
    one = put(path)
    assert run("show", "--json", path, one) == 0
    assert json.loads(capsys.readouterr().out)["id"] == one


def test_nothing_moves_the_terminals_cursor(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a call's error says is shown, not obeyed."""
    one = put(path, divmod, error=raised("\x1b[2J\r\x9b gone"))
    for arguments in (["list", path], ["show", path, one]):
        assert run(*arguments) == 0
        said = capsys.readouterr().out
        assert "\\x1b[2J\\r\\x9b gone" in said
        assert not set(said) & {"\x1b", "\r", "\x9b"}


# approve, reject


def test_approve_and_reject(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Several at once."""
    one, two, three = put(path), put(path), put(path)
    assert run("approve", path, one, two) == 0
    assert run("reject", path, two, three) == 0
    said = f"{one} approved\n{two} approved\n{two} rejected\n{three} rejected\n"
    assert capsys.readouterr().out == said
    assert [status_of(path, each) for each in (one, two, three)] == [
        *("approved", "rejected", "rejected")
    ]


def test_one_wrong_id_does_not_stop_the_others(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told on the error stream, and the status is 2."""
    one = put(path)
    assert run("approve", path, "nobody\x1b", one) == 2
    said = capsys.readouterr()
    assert said.out == f"{one} approved\n"
    assert said.err == "no quarantined call has the id 'nobody\\x1b'\n"


def test_what_is_decided_already_is_status_2(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rejected call is not replayed."""
    one = put(path)
    assert run("reject", path, one) == 0
    assert run("reject", path, one) == 2
    assert run("replay", path, one) == 2
    assert "is rejected and cannot become replayed" in capsys.readouterr().err


# replay


def test_replay(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The call runs with its arguments; it need not have been approved."""
    one, two = (put(path, os.mkdir, str(tmp_path / name)) for name in "ab")
    assert run("approve", path, one) == 0
    assert run("replay", path, one, two) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [f"{one} replayed: completed", f"{two} replayed: completed"]
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").is_dir()
    assert status_of(path, one) == status_of(path, two) == "replayed"
    assert run("replay", path, one) == 2, "once is enough"


def test_replay_that_fails_again(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, the others still run, and the call is not lost."""
    one, two = put(path, divmod, 1, 0), put(path, divmod, 1, 1)
    assert run("replay", path, one, two) == 1
    failed, completed = capsys.readouterr().out.splitlines()
    assert failed.startswith(f"{one} failed again, and is pending: ZeroDivisionError: ")
    assert completed == f"{two} replayed: completed"
    assert status_of(path, one) == "pending"


def test_replay_of_what_cannot_be_unpickled(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2: it has not run, and is pending as before."""
    kept, trap = put(path, lambda: 0), put(path, divmod, Trap(tmp_path))
    assert run("replay", path, kept, trap) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{kept} cannot be replayed here: it cannot be pickled" in said.err
    assert f"{trap} cannot be replayed here: it cannot be unpickled: FileExistsError" in said.err
    assert status_of(path, kept) == status_of(path, trap) == "pending"


def test_only_replay_unpickles(path: str, tmp_path: Path) -> None:
    """All other commands leave a pickle alone, also one that waits for somebody to look."""
    mark = tmp_path / "unpickled"
    one = put(path, print, Trap(mark))
    for arguments in (
        ["list", path],
        ["list", "--all", "--json", path],
        ["show", path, one],
        ["show", "--json", path, one],
        ["reject", path, one],
        ["approve", path, one],
    ):
        assert run(*arguments) == 0
    assert not mark.exists()
    assert run("replay", path, one) == 0
    assert mark.exists()


def test_help_says_whom_to_trust(capsys: pytest.CaptureFixture[str]) -> None:
    """Replay executes what the file says; that is in the help of both."""
    for arguments in (["--help"], ["replay", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            run(*arguments)
        assert exit_.value.code == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "unpickling executes whatever the file says" in said
        assert "Replay only from a file that you trust" in said


# Wrong use


@pytest.mark.parametrize(
    "arguments",
    [[], ["list"], ["show", "p"], ["approve", "p"], ["forget", "p"], ["list", "a", "b"]],
)
def test_wrong_arguments_are_status_2(arguments: list[str]) -> None:
    """Argparse says what is missing or too much."""
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize("command", ["list", "show", "approve", "reject", "replay"])
def test_a_file_that_is_no_quarantine(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, one line that says what is wrong, and nothing is made or changed."""
    text = tmp_path / "text"
    text.write_text("dear diary", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.touch()
    ids = [] if command == "list" else ["ab12"]
    for where in (tmp_path / "missing", tmp_path, text, empty):
        assert run(command, str(where), *ids) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"quarantine {where}: ")
        assert said.err.count("\n") == 1
    assert {found.name for found in tmp_path.iterdir()} == {"text", "empty"}
    assert text.read_bytes() == b"dear diary"
    assert empty.read_bytes() == b""


def test_an_output_that_lacks_letters(path: str) -> None:
    """They are escaped: in a C locale, say."""
    put(path, divmod, error=raised("é"))
    ended = subprocess.run(
        [sys.executable, "-m", "tokengate_executor", "quarantine", "list", path],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "ValueError: \\xe9" in ended.stdout
