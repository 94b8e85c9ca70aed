"""Summing up, comparing and writing."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tokengate_executor import TokenGateExecutor
from tokengate_executor.demos.report import (
    Comparison,
    compare_rows,
    lane_as_json,
    sum_up,
    why_not_writable,
    write_report,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tokengate_executor.demos.work import JsonObject


def row(path: str, **outcomes: JsonObject) -> JsonObject:
    """Return a row in which all work went well, but for ``outcomes``."""
    usual: JsonObject = {"light": {}, "medium": {}, "heavy": {}}
    return {"path": path, **usual, **outcomes}


def failed(kind: str) -> JsonObject:
    """Return the outcome of a call that failed."""
    return {"error": {"type": kind, "message": ""}}


def test_totals_count_tasks_and_errors() -> None:
    """Work that was not submitted is no task; a file with two errors is one file."""
    totals = sum_up(
        [
            row("a.py", medium=failed("SyntaxError")),
            row("b", light=failed("OSError"), heavy=failed("OSError")),
            row("c.py"),
        ]
    )
    assert (totals.files, totals.tasks) == (3, 8)
    assert (totals.failed_tasks, totals.files_with_errors) == (3, 2)
    assert list(totals.errors_by_type.items()) == [("OSError", 2), ("SyntaxError", 1)]


def test_equal_rows_agree() -> None:
    """No file is looked at again when nothing differs."""

    def never(_index: int) -> bool:
        raise AssertionError

    assert compare_rows([row("a")], [row("a")], has_changed=never) == Comparison((), ())


def test_a_difference_counts_unless_its_file_changed() -> None:
    """Changed files are told apart from disagreements, and only the latter break agreement."""
    first = [row("a"), row("b"), row("c")]
    second = [row("a", light=failed("OSError")), row("b"), row("c", heavy={"read_bytes": 1})]
    assert compare_rows(first, second, has_changed=lambda index: index == 0) == Comparison(
        (0,), (2,)
    )
    assert compare_rows(first, second, has_changed=lambda _index: True).agree
    assert not compare_rows(first, second, has_changed=lambda _index: False).agree


def test_a_missing_row_is_a_disagreement() -> None:
    """Reports of different length never agree."""
    assert not compare_rows([row("a")], [], has_changed=lambda _index: False).agree


def test_a_report_replaces_an_earlier_one(tmp_path: Path) -> None:
    """The file holds the new report, and nothing else is left in the directory."""
    path = tmp_path / "report.json"
    write_report(str(path), {"old": 1})
    write_report(str(path), {"new": "é"})
    assert json.loads(path.read_text(encoding="ascii")) == {"new": "é"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_report(tmp_path: Path) -> None:
    """A value that JSON has no form for breaks the writing, not the file."""
    path = tmp_path / "report.json"
    write_report(str(path), {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_report(str(path), {"new": float("nan")})
    assert json.loads(path.read_text(encoding="ascii")) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_report_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """The report is as readable as a file that ``open`` makes, not as a temporary file."""
    (tmp_path / "usual").touch()
    write_report(str(tmp_path / "report"), {})
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "report")}
    assert len(modes) == 1


def test_a_link_to_a_report_stays_a_link(tmp_path: Path) -> None:
    """What the link leads to is written."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_report(str(tmp_path / "link"), {})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").is_file()


def test_places_that_hold_no_report_are_told_beforehand(tmp_path: Path) -> None:
    """Directories, devices and missing directories are refused before any work."""
    assert why_not_writable(str(tmp_path / "new")) is None
    assert why_not_writable(str(tmp_path)) == "it is a directory"
    assert why_not_writable("") == "it is a directory"
    assert why_not_writable(os.devnull) == "it exists and is not a regular file"
    assert why_not_writable(str(tmp_path / "no" / "new")) == "its directory does not exist"


def test_a_directory_without_write_permission_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by a patched question to the system, as root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert why_not_writable(str(tmp_path / "new")) == "its directory is not writable"


def test_a_lane_is_told_with_all_that_it_has_done() -> None:
    """Counts and times, as JSON holds them."""
    with TokenGateExecutor(1) as executor:
        executor.options(weight="heavy").submit(int).result()
        lane = json.loads(json.dumps(lane_as_json(executor.statistics().lanes[0])))
    assert (lane["number"], lane["completed"], lane["failed"]) == (1, 1, 0)
    assert lane["started_by_weight"]["heavy"] == 1
    assert lane["busy_seconds"] >= 0
