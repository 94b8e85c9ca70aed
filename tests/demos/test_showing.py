"""How an outcome is shown: the streams, the plot and the exit status."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tokengate_executor.demos import showing
from tokengate_executor.demos.outcome import Outcome
from tokengate_executor.demos.showing import Showing, run_and_show
from tokengate_executor.demos.ways import Measured, compared

if TYPE_CHECKING:
    from pathlib import Path

    from tokengate_executor.demos.ways import Shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def demo(shown: Shown) -> Outcome:
    """Run a demo that does nothing."""
    ways = compared(lambda _stage: "nothing", 1, 0, shown)
    return Outcome(
        demo="small",
        title="SMALL: nothing",
        about="Nothing is done.",
        workers=1,
        options={"seed": 1},
        ways=ways,
        body=lambda columns: [f"{columns} columns ···█"],
    )


def show(
    run: object = demo, output: io.StringIO | None = None, **how: object
) -> tuple[int, str, str]:
    """Show it; returns the status, and what was written to output and errors."""
    output, errors = output or io.StringIO(), io.StringIO()
    status = run_and_show(run, Showing(**how), output, errors)  # type: ignore[arg-type]
    return status, output.getvalue(), errors.getvalue()


def test_the_report_goes_to_the_output() -> None:
    """And nothing to the error stream; elsewhere than on a terminal it has 80 columns."""
    status, output, errors = show()
    assert (status, errors) == (0, "")
    assert output.startswith("SMALL: nothing\n====")
    assert "80 columns ···█" in output


def test_a_terminal_is_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the environment counts."""
    monkeypatch.setenv("COLUMNS", "64")
    assert "64 columns" in show(output=Terminal())[1]


def test_json_is_all_that_is_written() -> None:
    """One object."""
    status, output, errors = show(as_json=True)
    assert (status, errors) == (0, "")
    assert json.loads(output)["demo"] == "small"


def test_signs_that_the_output_lacks() -> None:
    """Others of the same width stand for them."""
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    assert run_and_show(demo, Showing(), output, io.StringIO()) == 0
    assert b"80 columns ---#" in raw.getvalue()


def test_the_plot(tmp_path: Path) -> None:
    """It is written beside the report, over an earlier one."""
    path = tmp_path / "plot.svg"
    path.write_text("earlier", encoding="utf-8")
    status, output, _errors = show(plot=str(path))
    assert status == 0
    assert "SMALL" in output
    assert ET.parse(path).getroot().tag.endswith("svg")
    assert list(tmp_path.iterdir()) == [path]


def test_an_impossible_place_for_the_plot_is_told_before_the_work(tmp_path: Path) -> None:
    """Nothing runs."""
    status, output, errors = show(None, plot=str(tmp_path))
    assert (status, output) == (2, "")
    assert errors.startswith("error: cannot write the plot to")
    assert errors.endswith("it is a directory\n")


def test_a_plot_that_fails_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error message, and the report is there."""

    def refuse(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(showing, "write_atomically", refuse)
    status, output, errors = show(plot=str(tmp_path / "plot.svg"))
    assert status == 2
    assert "SMALL" in output
    assert "No space left on device" in errors


def test_a_demo_that_cannot_be_run() -> None:
    """A directory that cannot be made, say."""

    def refuse(_shown: Shown) -> Outcome:
        raise OSError(28, "No space left on device")

    status, output, errors = show(refuse)
    assert (status, output) == (2, "")
    assert "error: the demo cannot be run: " in errors


def test_a_disagreement_is_status_1() -> None:
    """The report is shown all the same."""

    def disagree(shown: Shown) -> Outcome:
        found = demo(shown)
        return replace(found, ways=[*found.ways[:2], replace(found.ways[2], results="something")])

    status, output, errors = show(disagree)
    assert status == 1
    assert "SMALL" in output
    assert errors == "error: the ways did not come to the same results\n"


def test_failed_tasks_are_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if they failed in all ways alike."""
    monkeypatch.setattr(Measured, "failed", property(lambda _run: 2))
    status, _output, errors = show()
    assert (status, errors) == (1, "error: 6 tasks failed\n")


@pytest.mark.parametrize("shown", [True, False])
def test_progress(shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the error stream, of what takes longer than a moment, unless it is not wanted."""
    monkeypatch.setattr(showing, "_QUIET_SECONDS", 0.0)

    def run(make: Shown) -> Outcome:
        with make("steps", 1) as progress:
            progress.advance()
        return demo(make)

    _status, _output, errors = show(run, show_progress=shown)
    assert errors == ("100% steps 1/1\n" if shown else "")
