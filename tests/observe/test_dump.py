"""``observe.dump``: the history as a JSON file."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tokengate_executor import InvalidOptionError, RetryPolicy, TokenGateExecutor
from tokengate_executor.observe.dump import history_as_json, write_atomically

SEED_FIELDS = {
    "token_id",
    "operation_type",
    "success",
    "execution_time",
    "core_id",
    "worker_id",
    "complexity_score",
}


def square(number: int) -> int:
    """Return the square."""
    return number * number


def test_the_fields(tmp_path: Path) -> None:
    """Each record has the fields that dumps have always had, and what is known beyond them."""
    path = tmp_path / "dump.json"
    with TokenGateExecutor(1) as executor:
        token = executor.options(weight="light", operation="square").submit(square, 3)
        assert token.result() == 9
        assert executor.dump_history(path) == 1
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert row.keys() >= SEED_FIELDS
    assert row["token_id"] == token.id
    assert row["operation_type"] == "square"
    assert row["success"] is True
    assert row["core_id"] == token.lane
    assert row["worker_id"] == f"worker_{token.id.partition('-')[0]}_core_{token.lane}"
    assert (row["state"], row["weight"], row["attempts"]) == ("COMPLETED", "light", 1)
    assert 0 <= row["execution_time"] < 60
    assert 0 <= row["wait_time"] < 60
    assert row["complexity_score"] > 0
    now = datetime.now(UTC)
    assert timedelta() <= now - datetime.fromisoformat(row["settled_at"]) < timedelta(minutes=1)
    assert "error" not in row


def test_what_failed_and_was_tried_again(tmp_path: Path) -> None:
    """The error's type and the attempts; no arguments, no texts; no score where there is no code."""
    path = tmp_path / "dump.json"
    retry = RetryPolicy(attempts=2, on=ValueError, delay=0)
    with TokenGateExecutor(1, retry=retry) as executor:
        executor.submit(int, "secret").exception()
        executor.dump_history(path)
    text = path.read_text(encoding="utf-8")
    (row,) = json.loads(text)
    assert "secret" not in text
    assert (row["success"], row["state"], row["error"]) == (False, "FAILED", "ValueError")
    assert (row["attempts"], row["complexity_level"]) == (2, "UNKNOWN")
    assert "complexity_score" not in row
    assert row["wait_time"] >= 0


def test_nothing_yet() -> None:
    """No record is an empty array."""
    assert json.loads(history_as_json(())) == []


def test_last() -> None:
    """``history(n)`` has the last n of all workers; a wrong number is named."""
    with TokenGateExecutor(3) as executor:
        tokens = [executor.submit(square, number) for number in range(50)]
        for token in tokens:
            token.result()
        everything = executor.history()
        assert executor.history(7) == everything[-7:]
        assert executor.history(0) == ()
        assert executor.history(10_000) == everything
        for wrong in (-1, 1.5, True):
            with pytest.raises(InvalidOptionError, match="last"):
                executor.history(wrong)  # type: ignore[arg-type]


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    """What cannot be written leaves what was there, and no rubbish beside it."""
    path = tmp_path / "dump.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="missing"):
        write_atomically(tmp_path / "missing" / "dump.json", "new")


@pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")
def test_mode_and_links_stay(tmp_path: Path) -> None:
    """A file keeps its mode, a link stays a link; a new file is as ``open`` makes it."""
    path, link, plain = tmp_path / "dump.json", tmp_path / "link", tmp_path / "plain"
    plain.write_text("", encoding="utf-8")
    write_atomically(path, "1")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    link.symlink_to(path)
    write_atomically(link, "2")
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
