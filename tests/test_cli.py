"""The command line: arguments, exit statuses, and what reaches which stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import cli
from tokengate_executor.demos import cli as demos_cli

if TYPE_CHECKING:
    from pathlib import Path

    from tokengate_executor.demos.corpus import DemoOptions


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DemoOptions]:
    """Return a list that receives the options instead of a demo."""
    received: list[DemoOptions] = []

    def receive(options: DemoOptions, *_streams: Any) -> int:
        received.append(options)
        return 0

    monkeypatch.setattr(demos_cli, "run_demo", receive)
    return received


def test_without_a_command_help_is_shown_and_the_status_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The help goes to the error stream, as nothing was asked for."""
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "demo" in captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help_and_version_are_status_0(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked for goes to the output."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 0
    captured = capsys.readouterr()
    assert captured.out
    assert captured.err == ""


def test_defaults_and_options_reach_the_demo(asked: list[DemoOptions]) -> None:
    """Each option has its place."""
    assert cli.main(["demo"]) == 0
    assert (
        cli.main(
            ["demo", "p", "--workers=3", "--limit=5", "--output=o", "--no-progress", "--quiet"]
        )
        == 0
    )
    usual, special = asked
    assert (usual.path, usual.limit, usual.show_progress, usual.quiet) == (None, None, True, False)
    assert usual.workers >= 1
    assert (special.path, special.workers, special.limit, special.output) == ("p", 3, 5, "o")
    assert (special.show_progress, special.quiet) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "argument --workers: a whole number from 1 to 256 is needed, '0'"),
        (["--workers", "257"], "from 1 to 256 is needed, '257'"),
        (["--workers", "two"], "from 1 to 256 is needed, 'two'"),
        (["--limit", "0"], "argument --limit: a whole number at least 1 is needed, '0'"),
        (["--limit", "-3"], "at least 1 is needed, '-3'"),
        (["--limit", "1.5"], "at least 1 is needed, '1.5'"),
        (["--limit", "9" * 5000], "argument --limit"),
        (["--work", "3"], "unrecognized arguments"),
        (["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_arguments_are_status_2(
    arguments: list[str], message: str, asked: list[DemoOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the argument, what is allowed and what was given."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert asked == []


def test_a_missing_tree_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on the error stream says which path and why."""
    arguments = ["demo", str(tmp_path / "missing"), "--output", str(tmp_path / "report")]
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "missing" in captured.err
    assert captured.err.count("\n") == 1


def test_an_interruption_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C leaves one line and no traceback."""

    def interrupt(*_arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demos_cli, "run_demo", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def run_module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tokengate_executor`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tokengate_executor", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


def test_the_module_runs_the_demo(tmp_path: Path) -> None:
    """A report is written to the current directory, figures to the output, progress to errors."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file.py").write_text("x = 1\n", encoding="utf-8")
    ended = run_module("demo", "tree", "--workers", "2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "tokengate-demo-report.json").is_file()
    assert "TokenGateExecutor took" in ended.stdout
    assert "100% TokenGateExecutor 3/3" in ended.stderr


def test_the_module_names_itself_as_it_was_called() -> None:
    """The usage can be typed again."""
    ended = run_module()
    assert ended.returncode == 2
    assert "python -m tokengate_executor" in ended.stderr
    assert "__main__" not in ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_in_the_middle_of_a_run_is_status_130(tmp_path: Path) -> None:
    """A real signal, sent when the work over the whole standard library has just begun."""
    # A test runner that was started in the background has the signal ignored, and children with it.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tokengate_executor.cli import main\n"
        "raise SystemExit(main(['demo']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("100%"):
                break
        process.send_signal(signal.SIGINT)
        last_words = process.stderr.read()
        assert process.wait(50) == 130
    assert last_words.splitlines()[-1:] == ["interrupted"]
    assert "Traceback" not in last_words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    """Output into a closed pipe ends the demo quietly."""
    (tmp_path / "tree").mkdir()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tokengate_executor", "demo", "tree"],
            cwd=tmp_path,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=50,
            check=False,
        )
    finally:
        os.close(writer)
    assert ended.returncode == 141
    assert ended.stderr == b""


def test_importing_it_is_cheap() -> None:
    """Whatever only one command needs is imported when that is run; nothing of an extra is."""
    program = (
        "import sys\n"
        "import tokengate_executor.cli\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, *sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True
    )
    imported = set(ended.stdout.split())
    extra = {"websockets", "uvicorn", "starlette", "anyio", "h11", "fastapi"}
    slow = {"asyncio", "ssl", "urllib.request", "http.client"}
    own = {"dashboard", "demos.load", "top.client", "top.terminal"}
    assert "tokengate_executor" in imported
    assert not imported & (extra | slow | {f"tokengate_executor.{name}" for name in own})
