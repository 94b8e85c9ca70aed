"""The corpus demo as a whole, on small trees."""

from __future__ import annotations

import io
import json
import os
import sys
import sysconfig
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor.demos import corpus
from tokengate_executor.demos.corpus import DemoOptions, run_demo
from tokengate_executor.demos.scan import scan_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokengate_executor.demos.driver import Run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with a good program, a bad one, an empty file and binary data."""
    root = tmp_path / "tree"
    (root / "package").mkdir(parents=True)
    (root / "package" / "good.py").write_text("name = 1\n", encoding="utf-8")
    (root / "bad.py").write_text("print 1\n", encoding="utf-8")
    (root / "data.bin").write_bytes(bytes(range(256)) * 100)
    (root / "empty.py").touch()
    return root


def demo(tree: Path, **options: Any) -> tuple[int, dict[str, Any], str, str]:
    """Run the demo; return its status, its report, and what it wrote to output and errors."""
    output, errors = io.StringIO(), io.StringIO()
    report = tree.parent / "report.json"
    settings = DemoOptions(path=str(tree), workers=2, output=str(report))
    status = run_demo(replace(settings, **options), output, errors)
    written = json.loads(report.read_bytes()) if report.exists() else {}
    return status, written, output.getvalue(), errors.getvalue()


def tamper_before_second_run(monkeypatch: pytest.MonkeyPatch, tamper: Callable[[], object]) -> None:
    """Call ``tamper`` between the two runs."""
    run_ours = corpus.run_ours

    def tampered(*arguments: Any) -> Any:
        tamper()
        return run_ours(*arguments)

    monkeypatch.setattr(corpus, "run_ours", tampered)


def test_both_executors_agree_and_the_report_has_every_file(tree: Path) -> None:
    """Rows are sorted, errors are rows, and the totals and lanes add up."""
    status, report, output, errors = demo(tree, show_progress=False)
    assert status == 0
    assert errors == ""
    assert [row["path"] for row in report["files"]] == [
        "bad.py",
        "data.bin",
        "empty.py",
        "package/good.py",
    ]
    assert report["files"][0]["medium"]["error"]["type"] == "SyntaxError"
    assert report["files"][1]["medium"] == {"skipped": "not a .py file"}
    assert report["files"][3]["medium"]["names"] == 1
    assert report["comparison"]["agree"] is True
    assert report["totals"]["tasks"] == 11
    for run in report["runs"]:
        assert run["seconds"] > 0
        assert run["cpu_seconds"] >= 0
    assert report["totals"]["failed_tasks"] == 1
    started = [lane["started_by_weight"] for lane in report["lanes"]]
    assert {
        weight: sum(lane[weight] for lane in started) for weight in ("light", "medium", "heavy")
    } == {
        "light": 4,
        "medium": 3,
        "heavy": 4,
    }
    for words in ("ThreadPoolExecutor", "TokenGateExecutor", "tasks/s", "lane", "SyntaxError 1"):
        assert words in output


def test_two_demos_report_the_same_files(tree: Path) -> None:
    """Apart from the times a report depends on nothing but the tree; its own file is not in it."""
    first = demo(tree, output=str(tree / "report.json"), quiet=True)
    files = [json.loads((tree / "report.json").read_bytes())["files"]]
    second = demo(tree, output=str(tree / "report.json"), workers=3, quiet=True)
    files.append(json.loads((tree / "report.json").read_bytes())["files"])
    assert first[0] == second[0] == 0
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_strange_entries_are_rows(tree: Path) -> None:
    """Broken links, loops, FIFOs and names of any bytes are told and hold nothing up."""
    (tree / "broken").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    (tree / "up").symlink_to(tree, target_is_directory=True)
    expected = {"broken": "FileNotFoundError", "loop": "OSError", "up": "NotARegularFileError"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tree / "fifo.py")
        expected["fifo.py"] = "NotARegularFileError"
    status, report, _output, errors = demo(tree, quiet=True)
    assert (status, errors) == (0, "")
    rows = {row["path"]: row for row in report["files"]}
    for name, kind in expected.items():
        assert rows[name]["light"]["error"]["type"] == kind
        assert rows[name]["heavy"]["error"]["type"] == kind


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="names are always Unicode here")
def test_a_name_that_is_not_utf_8_survives(tree: Path) -> None:
    """The row has the name escaped and its bytes."""
    with open(os.fsencode(tree) + b"/caf\xff.py", "wb"):  # noqa: PTH123 - a name of bytes
        pass
    status, report, _output, _errors = demo(tree, quiet=True)
    assert status == 0
    assert report["files"][1]["path"] == "caf\\xff.py"
    assert bytes.fromhex(report["files"][1]["path_bytes_hex"]) == b"caf\xff.py"


@pytest.mark.parametrize("change", ["rewritten", "removed"])
def test_a_file_that_changes_between_the_runs_is_a_note(
    tree: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What changed proves nothing about the executors, so it is named and left out."""
    path = tree / "data.bin"
    tamper = path.unlink if change == "removed" else lambda: path.write_bytes(b"other")
    tamper_before_second_run(monkeypatch, tamper)
    status, report, _output, errors = demo(tree, quiet=True)
    assert status == 0
    assert "files changed or removed during the demo" in errors
    assert report["comparison"]["changed_meanwhile"] == ["data.bin"]


def test_a_disagreement_is_status_1(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that differs although its file did not change is shown and reported from both sides."""
    run_ours = corpus.run_ours

    def faulty(*arguments: Any) -> tuple[Run, Any]:
        run, statistics = run_ours(*arguments)
        run.rows[1]["heavy"] = {"read_bytes": -1}
        return run, statistics

    monkeypatch.setattr(corpus, "run_ours", faulty)
    status, report, _output, errors = demo(tree, quiet=True)
    assert status == 1
    assert "error: the reports disagree" in errors
    assert "(1):\n  data.bin\n" in errors
    assert report["comparison"]["agree"] is False
    (both,) = report["comparison"]["disagreements"]
    assert both["TokenGateExecutor"]["heavy"] == {"read_bytes": -1}
    assert both["ThreadPoolExecutor"]["heavy"]["read_bytes"] == 25600


def test_a_tree_that_cannot_be_read_is_status_2(tree: Path) -> None:
    """The error names the path and the reason, and no report is written."""
    for path, reason in [
        (str(tree / "missing"), "No such file"),
        (str(tree / "bad.py"), "Not a directory"),
        ("", "No such file"),
        ("a\0b", "null"),
    ]:
        status, report, output, errors = demo(tree, path=path)
        assert (status, report, output) == (2, {}, "")
        assert errors.startswith("error: cannot read the directory tree")
        assert reason in errors
        assert errors.count("\n") == 1


def test_a_root_that_may_not_be_listed_is_status_2(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by a patched listing, as root may list anything."""

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    status, _report, _output, errors = demo(tree)
    assert status == 2
    assert "Permission denied" in errors


def test_an_impossible_place_for_the_report_is_told_before_the_work(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs when its result would be lost."""
    monkeypatch.setattr(corpus, "scan_tree", None)
    status, _report, _output, errors = demo(tree, output=str(tree))
    assert status == 2
    assert "cannot write the report" in errors
    assert "it is a directory" in errors


def test_a_report_that_fails_late_is_status_2(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error message."""

    def refuse(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus, "write_report", refuse)
    status, _report, _output, errors = demo(tree, quiet=True)
    assert status == 2
    assert "No space left on device" in errors


def test_an_empty_tree_is_no_special_case(tmp_path: Path) -> None:
    """Nothing to do is done, and agreed upon."""
    (tmp_path / "tree").mkdir()
    status, report, _output, _errors = demo(tmp_path / "tree")
    assert status == 0
    assert report["files"] == []


def test_a_limit_takes_the_first_files(tree: Path) -> None:
    """The report says which limit it was."""
    _status, report, _output, _errors = demo(tree, limit=2, quiet=True)
    assert [row["path"] for row in report["files"]] == ["bad.py", "data.bin"]
    assert report["corpus"]["limit"] == 2


def test_quiet_writes_nothing_and_no_progress_shows_none(tree: Path) -> None:
    """Progress goes to the error stream, figures to the output."""
    assert demo(tree, quiet=True)[2:] == ("", "")
    assert demo(tree, show_progress=False)[3] == ""
    assert "100% TokenGateExecutor 11/11" in demo(tree)[3]


def test_the_default_tree_is_the_standard_library_without_what_is_installed_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter's own path is asked for, and packages of others are left out."""
    library = tmp_path / "library"
    for directory in ("json", "json/__pycache__", "site-packages"):
        (library / directory).mkdir(parents=True)
        (library / directory / "file").touch()
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(library)}.__getitem__)
    status, report, _output, _errors = demo(library, path=None, quiet=True)
    assert status == 0
    assert [row["path"] for row in report["files"]] == ["json/file"]
    assert report["corpus"]["left_out_directories"] == [
        "__pycache__",
        "dist-packages",
        "site-packages",
    ]


def test_warnings_of_the_parser_do_not_appear(tree: Path) -> None:
    """A strange literal in somebody's program is not the demo's to warn about."""
    (tree / "escape.py").write_text("pattern = '\\d'\n", encoding="utf-8")
    status, report, _output, errors = demo(tree, quiet=True)
    assert (status, errors) == (0, "")
    assert report["totals"]["failed_tasks"] == 1


@pytest.mark.parametrize("run", [corpus.run_plain, corpus.run_ours])
def test_an_interruption_ends_the_executor(tree: Path, run: Callable[..., object]) -> None:
    """Ctrl-C in the middle of a run comes through to the caller and leaves no thread behind."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run(scan_tree(str(tree)).files, 2, interrupt)
    assert set(threading.enumerate()) <= before
