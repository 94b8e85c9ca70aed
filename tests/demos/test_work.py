"""The work done for one file, and what it makes of strange ones.

The tests may run as root, whom no permission stops: a file that may not be read is shown by a
patched open.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import lzma
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tokengate_executor.demos import work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERY_WORK = pytest.mark.parametrize("function", [each.function for each in work.WORKS])


def test_light_work_gives_size_and_digest(tmp_path: Path) -> None:
    """The digest is that of the whole file, however many pieces it was read in."""
    data = os.urandom(700_000)
    (tmp_path / "file").write_bytes(data)
    assert work.light_work(str(tmp_path / "file")) == {
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "hashed_bytes": len(data),
    }


def test_light_work_says_how_much_of_a_huge_file_it_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the cap the size is still the file's, and the hashed part is named."""
    monkeypatch.setattr(work, "HASHED_BYTES_AT_MOST", 10)
    (tmp_path / "file").write_bytes(b"x" * 25)
    outcome = work.light_work(str(tmp_path / "file"))
    assert (outcome["size"], outcome["hashed_bytes"]) == (25, 10)
    assert outcome["sha256"] == hashlib.sha256(b"x" * 10).hexdigest()


def test_medium_work_counts_what_is_in_a_program(tmp_path: Path) -> None:
    """Nodes, functions, classes, tokens and names are counted; keywords are no names."""
    program = "class Box:\n    def get(self):\n        return self\n"
    (tmp_path / "box.py").write_text(program, encoding="utf-8")
    outcome = work.medium_work(str(tmp_path / "box.py"))
    assert (outcome["classes"], outcome["functions"]) == (1, 1)
    assert (outcome["names"], outcome["distinct_names"]) == (4, 3)
    assert list(outcome["frequent_names"].items()) == [("self", 2), ("Box", 1), ("get", 1)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "source",
    [
        b"print 1\n",
        b"x = (\n",
        b"# coding: no-such-codec\n",
        b"s = '\xff'\n",
        b"a = 1\x00\n",
        b"if x:\ny\n",
        b"(" * 5000,
    ],
    ids=["python2", "unfinished", "codec", "undecodable", "null", "indentation", "nested"],
)
def test_medium_work_raises_for_what_does_not_parse(tmp_path: Path, source: bytes) -> None:
    """Whatever the parser thinks of a file, it is an ordinary exception."""
    (tmp_path / "bad.py").write_bytes(source)
    with pytest.raises((SyntaxError, ValueError, MemoryError, RecursionError)):
        work.medium_work(str(tmp_path / "bad.py"))


def test_programs_parsed_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Trees of different depth, built while the collector lets other threads in, are all counted."""
    programs = []
    for number in range(4):
        path = tmp_path / f"{number}.py"
        path.write_text(f"x = {'[' * 10 * number}1{']' * 10 * number}\n" * 200, encoding="utf-8")
        programs.append(str(path))
    alone = list(map(work.medium_work, programs))

    def let_others_in(_phase: str, _facts: dict[str, int]) -> None:
        time.sleep(0)

    threshold, *_ = gc.get_threshold()
    gc.callbacks.append(let_others_in)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(4) as executor:
            together = list(executor.map(work.medium_work, programs * 3))
    finally:
        gc.set_threshold(threshold)
        gc.callbacks.remove(let_others_in)
    assert together == alone * 3


def test_medium_work_leaves_a_huge_program_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a program does not parse, so beyond the cap there is a reason instead."""
    monkeypatch.setattr(work, "PARSED_BYTES_AT_MOST", 5)
    (tmp_path / "six.py").write_bytes(b"x = 10")
    (tmp_path / "five.py").write_bytes(b"x = 1")
    assert work.medium_work(str(tmp_path / "six.py")) == {"skipped": "larger than 5 bytes"}
    assert work.medium_work(str(tmp_path / "five.py"))["names"] == 1


def test_heavy_work_compresses_the_first_bytes(tmp_path: Path) -> None:
    """The cap is kept and the outcome is that of real LZMA data."""
    (tmp_path / "file").write_bytes(b"ab" * work.COMPRESSED_BYTES_AT_MOST)
    outcome = work.heavy_work(str(tmp_path / "file"))
    assert outcome["read_bytes"] == work.COMPRESSED_BYTES_AT_MOST
    assert isinstance(outcome["compressed_bytes"], int)
    assert 0 < outcome["compressed_bytes"] < len(lzma.compress(b"")) + 500


@EVERY_WORK
def test_an_empty_file_is_no_special_case(
    tmp_path: Path, function: Callable[[str], work.JsonObject]
) -> None:
    """All three kinds of work have an answer for no bytes at all."""
    (tmp_path / "empty.py").touch()
    assert function(str(tmp_path / "empty.py"))


@EVERY_WORK
def test_a_missing_file_raises(tmp_path: Path, function: Callable[[str], work.JsonObject]) -> None:
    """A file that vanished, or a link to nowhere, is an error of the one call."""
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        function(str(tmp_path / "broken"))


@EVERY_WORK
def test_a_file_that_may_not_be_read_raises(
    tmp_path: Path, function: Callable[[str], work.JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused open is an error of the one call."""

    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(work, "_open_without_waiting", refuse)
    (tmp_path / "file.py").touch()
    with pytest.raises(PermissionError):
        function(str(tmp_path / "file.py"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@EVERY_WORK
def test_what_is_not_a_regular_file_is_not_opened(
    tmp_path: Path, function: Callable[[str], work.JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FIFOs, sockets, devices and linked directories are refused by kind and hold nobody up."""
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    os.mkfifo("fifo")
    (tmp_path / "device").symlink_to(os.devnull)
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name, kind in [
            ("fifo", "a FIFO"),
            ("device", "a character device"),
            ("linked", "a symbolic link to a directory"),
            ("socket", "a socket"),
        ]:
            with pytest.raises(work.NotARegularFileError, match=kind):
                function(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_that_takes_a_files_place_after_the_check_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The open itself never waits for a FIFO's other end, and what was opened is checked again."""
    path = tmp_path / "file"
    path.touch()
    open_without_waiting = work._open_without_waiting

    def replace_and_open(name: str, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return open_without_waiting(name, flags)

    monkeypatch.setattr(work, "_open_without_waiting", replace_and_open)
    with pytest.raises(work.NotARegularFileError, match="a FIFO"):
        work.light_work(str(path))


def test_only_python_files_suit_medium_work() -> None:
    """Light and heavy work suit every file."""
    suited = {
        name: [each.weight for each in work.WORKS if each.suits(name)] for name in ("a.py", "a")
    }
    assert suited == {"a.py": ["light", "medium", "heavy"], "a": ["light", "heavy"]}


def test_the_settings_name_every_cap() -> None:
    """A reader of the report can tell how much of each file was looked at."""
    settings = work.settings()
    assert settings["hashed_bytes_at_most"] == work.HASHED_BYTES_AT_MOST
    assert settings["parsed_bytes_at_most"] == work.PARSED_BYTES_AT_MOST
    assert settings["compressed_bytes_at_most"] == work.COMPRESSED_BYTES_AT_MOST
