"""The command ``topology``: what it tells of the machine, and of an executor on it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tokengate_executor import TokenGateExecutor, Topology, cli

MACHINE = Topology(
    logical_cpus=8,
    physical_cores=4,
    usable_cpus=(0, 1, 2, 4, 5, 6),
    quota=2.5,
    cores=((0, 4), (1, 5), (2, 6)),
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test on a machine that is known."""
    monkeypatch.setattr(Topology, "detect", lambda: MACHINE)


def run(*arguments: str) -> int:
    """Run the command."""
    return cli.main(["topology", *arguments])


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what the command writes as JSON."""
    assert run("--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The CPUs, the lanes in a table, and the policy."""
    assert run("--workers", "7") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        f"{MACHINE}\n"
        "\n"
        "An executor with 7 workers has 3 lanes:\n"
        "  LANE  CPUS  WORKERS  WEIGHTS THAT MAY RUN THERE\n"
        "  1     0,4   3        heavy, unweighted\n"
        "  2     1,5   2        heavy, medium, unweighted\n"
        "  3     2,6   2        heavy, medium, light, unweighted\n"
        "\n"
        "Affinity policy for 3 lanes:\n"
        "  heavy:  [1, 2, 3] (preferred: 1)\n"
        "  medium: [2, 3] (preferred: 2)\n"
        "  light:  [3] (preferred: 3)\n"
        "  Unweighted calls may run on any lane.\n"
    )


def test_one_worker(capsys: pytest.CaptureFixture[str]) -> None:
    """Never more lanes than workers."""
    assert run("--workers", "1") == 0
    said = capsys.readouterr().out
    assert "An executor with 1 worker has 1 lane:\n" in said
    assert "  1     0,4   1        heavy, medium, light, unweighted\n" in said


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts, for programs."""
    told = as_json(capsys, "--workers", "5")
    assert told["machine"] == {"logical_cpus": 8, "physical_cores": 4, "smt": True}
    assert told["process"] == {
        "usable_cpus": [0, 1, 2, 4, 5, 6],
        "cores": [[0, 4], [1, 5], [2, 6]],
        "cpu_quota": 2.5,
        "usable_cores": 3,
    }
    executor = told["executor"]
    assert executor["max_workers"] == 5
    assert executor["policy"] == {"heavy": [1, 2, 3], "medium": [2, 3], "light": [3]}
    assert executor["lanes"][2] == {
        "number": 3,
        "cpus": [2, 6],
        "workers": 1,
        "weights": ["heavy", "medium", "light"],
    }


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 11])
def test_it_says_what_an_executor_has(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The workers of each lane, too, once all of them run."""
    told = as_json(capsys, "--workers", str(workers))["executor"]
    together = threading.Barrier(workers + 1)
    with TokenGateExecutor(workers) as executor:
        for _ in range(workers):
            executor.submit(together.wait, 30)
        together.wait(30)  # each of them has had a call
        found = executor.statistics()
    assert told["max_workers"] == found.max_workers == workers
    assert [(lane["number"], lane["workers"]) for lane in told["lanes"]] == [
        (lane.number, lane.workers) for lane in found.lanes
    ]


def test_no_workers_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Then there are as many as an executor takes."""
    with TokenGateExecutor() as executor:
        assert as_json(capsys)["executor"]["max_workers"] == executor.statistics().max_workers


@pytest.mark.parametrize("workers", ["0", "10001", "many"])
def test_wrong_numbers(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and what is allowed."""
    with pytest.raises(SystemExit) as exit_:
        run("--workers", workers)
    assert exit_.value.code == 2
    assert "a whole number from 1 to 10000 is needed" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It says the exit statuses; abbreviations are refused."""
    with pytest.raises(SystemExit) as exit_:
        run("--help")
    assert exit_.value.code == 0
    assert "exit status: 0 for success" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        run("--work", "2")
    assert exit_.value.code == 2
