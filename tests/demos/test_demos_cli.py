"""The command ``demo``: which demo is meant, and how it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokengate_executor import cli
from tokengate_executor.demos.cli import with_demo_named
from tokengate_executor.demos.commands import COMMANDS


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("demo", "demo corpus"),
        ("demo path", "demo corpus path"),
        ("demo ./burst", "demo corpus ./burst"),
        ("demo --limit 5 path", "demo corpus --limit 5 path"),
        ("demo -- burst", "demo corpus -- burst"),
        ("demo corpus path", "demo corpus path"),
        ("demo burst", "demo burst"),
        ("demo burst --seed 2", "demo burst --seed 2"),
        ("demo --help", "demo --help"),
        ("demo -h", "demo -h"),
        ("", ""),
        ("--version", "--version"),
        ("quarantine list demo", "quarantine list demo"),
        ("top demo", "top demo"),
    ],
)
def test_which_demo_is_meant(given: str, meant: str) -> None:
    """Without a name it is corpus; nothing else changes."""
    assert with_demo_named(given.split()) == meant.split()


def test_all_demos_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists them, and says that corpus is the default."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo", "--help"])
    assert exit_.value.code == 0
    output = capsys.readouterr().out
    for name in ("corpus", *COMMANDS):
        assert f"\n    {name}" in output
    assert "(the default)" in output


@pytest.mark.parametrize("name", ["corpus", *COMMANDS])
def test_help_of_each_demo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does, its arguments and its exit statuses."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo", name, "--help"])
    assert exit_.value.code == 0
    output = capsys.readouterr().out
    assert "--workers N" in output
    assert "exit status: 0 if " in output


def test_corpus_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does what ``demo PATH`` does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    for arguments in (["tree"], ["corpus", "tree"]):
        assert cli.main(["demo", *arguments, "--quiet", "--workers=1"]) == 0
        (tmp_path / "tokengate-demo-report.json").unlink()


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(
    "arguments",
    [
        ("saturation", "--work=wait", "--seconds=60"),
        ("nested", "--timeout=600"),
        ("mixed", "--seconds=600"),
    ],
)
def test_ctrl_c_ends_it_at_once(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A real signal, when it has begun: status 130, no traceback, no file that is left."""
    # A test runner that was started in the background has the signal ignored, and children with it.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tokengate_executor.cli import main\n"
        "from tokengate_executor.demos import showing\n"
        "showing._QUIET_SECONDS = 0.0\n"
        "raise SystemExit(main(['demo', *sys.argv[1:]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        if arguments[0] == "mixed":
            while not list(tmp_path.glob("tokengate-demo-*/*/*")):
                assert process.poll() is None
                time.sleep(0.01)
        else:
            assert process.stderr.readline().startswith("  0% ")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        last_words = process.stderr.read()
        assert process.wait(50) == 130
    assert time.monotonic() - began < 5, "usually it is some hundredths of a second"
    assert last_words.splitlines()[-1:] == ["interrupted"]
    assert "Traceback" not in last_words
    assert list(tmp_path.iterdir()) == []
