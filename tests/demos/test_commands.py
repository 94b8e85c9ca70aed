"""The demos beside corpus, as commands: their arguments, and what they write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tokengate_executor import cli
from tokengate_executor.demos.commands import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "burst": ["--tasks=3", "--milliseconds=0.5", "--rounds=1"],
    "window": ["--seconds=0.1", "--rate=40", "--tasks=3"],
    "saturation": ["--tasks=5", "--seconds=0.005", "--workers=2"],
    "chains": ["--tasks=2", "--steps=3", "--milliseconds=1"],
    "nested": ["--depth=2", "--milliseconds=0.5", "--timeout=0.3"],
    "mixed": ["--tasks=20", "--seconds=0.1"],
}
"""Name → arguments that make it short."""


def test_every_demo_is_tested() -> None:
    """None is forgotten here."""
    assert SMALL.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_report(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Title, figures of all three ways, and what each term means; in 80 columns."""
    assert cli.main(["demo", name, *SMALL[name], "--no-progress"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    lines = output.splitlines()
    assert lines[1] == "=" * 80
    assert max(map(len, lines)) <= 80
    for words in (
        "seed 1; ",
        "TokenGateExecutor",
        "plain loop  ThreadPoolExecutor  TokenGateExecutor",
        "speed-up",
        "waiting counts: no speed-up",
    ):
        assert words in output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_json_and_plot(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One object on the output, and nothing else; an SVG in the file."""
    path = tmp_path / "plot.svg"
    arguments = [*SMALL[name], "--seed=7", "--json", "--plot", str(path)]
    assert cli.main(["demo", name, *arguments]) == 0
    output, errors = capsys.readouterr()
    assert errors == "", "what is short shows no progress"
    report = json.loads(output)
    assert report["demo"] == name
    assert report["options"]["seed"] == 7
    assert report["agree"] is True
    assert report["failed_tasks"] == 0
    assert len({json.dumps(way["results"]) for way in report["ways"]}) == 1
    for way in report["ways"]:
        assert way["tasks"]
        assert way["wall_seconds"] > 0
        assert way["concurrency_ratio"] > 0
        assert 0 <= way["overlap"] <= 1
    svg = ET.parse(path).getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    names = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    for way in report["ways"]:
        assert way["way"] in names


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that receives the options of demos that are not run."""
    import importlib

    received: list[Any] = []

    def receive(options: Any, _shown: Any) -> Any:
        received.append(options)
        raise OSError("not run")

    for name in COMMANDS:
        module = importlib.import_module(f"tokengate_executor.demos.{name}")
        monkeypatch.setattr(module, f"run_{name}", receive)
    return received


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("burst", {"tasks": 8, "milliseconds": 8.0, "work": "hash", "rounds": 3, "workers": 8}),
        ("burst --tasks 3 --work python --rounds 2", {"tasks": 3, "work": "python", "rounds": 2}),
        ("window", {"seconds": 4.0, "rate": 40.0, "tasks": 8, "workers": 8}),
        ("window --seconds 0.5 --rate 7 --tasks 2", {"seconds": 0.5, "rate": 7.0, "tasks": 2}),
        ("saturation", {"tasks": 20, "seconds": 0.2, "work": "hash", "max_pending": None}),
        ("saturation --max-pending 4 --work wait", {"max_pending": 4, "work": "wait"}),
        ("chains", {"tasks": 4, "steps": 8, "milliseconds": 15.0, "workers": 4}),
        ("chains --steps 2 --milliseconds 3", {"steps": 2, "milliseconds": 3.0}),
        ("nested", {"depth": 6, "width": 2, "milliseconds": 4.0, "timeout": 1.0, "workers": 2}),
        ("nested --depth 2 --width 3 --timeout 9", {"depth": 2, "width": 3, "timeout": 9.0}),
        ("mixed", {"tasks": 1500, "seconds": 5.0, "workers": 8, "seed": 1}),
        ("mixed --workers 3 --seed 0", {"workers": 3, "seed": 0}),
    ],
)
def test_arguments_reach_the_demo(
    arguments: str, expected: dict[str, Any], asked: list[Any]
) -> None:
    """Each has its place, and a default."""
    assert cli.main(["demo", *arguments.split()]) == 2
    (options,) = asked
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("burst --tasks 0", "argument --tasks: a whole number from 1 to 256 is needed"),
        ("burst --work sleep", "argument --work: invalid choice: 'sleep'"),
        ("burst --wor hash", "unrecognized arguments: --wor hash"),
        ("window --seconds -1", "a number from 0.01 to 3600 is needed"),
        ("window --rate nan", "a number from 0.1 to 1000 is needed"),
        ("saturation --max-pending 0", "a whole number from 1 to 100000 is needed"),
        ("chains --workers 257", "a whole number from 1 to 256 is needed"),
        ("mixed --seed -1", "a whole number at least 0 is needed"),
        ("mixed path", "unrecognized arguments: path"),
    ],
)
def test_wrong_arguments_are_status_2(
    arguments: str, message: str, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the argument and what is allowed."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo", *arguments.split()])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert asked == []


def test_a_tree_that_is_too_large_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Only both numbers together tell that."""
    assert cli.main(["demo", "nested", "--depth=20"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("depth and width must be such that at most 20000 tasks")
    assert errors.count("\n") == 1


def test_the_plot_must_be_possible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Which is asked before the work."""
    assert cli.main(["demo", "mixed", "--plot", str(tmp_path)]) == 2
    assert "cannot write the plot" in capsys.readouterr().err
