"""What a demo came to: the report, the JSON, and whether the ways agree."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tokengate_executor import TaskOptions
from tokengate_executor.demos.outcome import Outcome, usable_cores
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.stage import Call, Stage
from tokengate_executor.demos.ways import compared

if TYPE_CHECKING:
    from tokengate_executor.demos.work import JsonValue


def work(_stage: Stage, number: int) -> int:
    """Return the number, or fail if it is negative."""
    if number < 0:
        raise ValueError("negative")
    return number


def outcome(*numbers: int, paced: float | None = None) -> Outcome:
    """Return what a small job came to."""

    def job(stage: Stage) -> JsonValue:
        calls = [Call(work, (number,), TaskOptions(operation="work")) for number in numbers]
        futures = [stage.submit(call) for call in calls]
        return [repr(future.exception() or future.result()) for future in futures]

    ways = compared(job, 2, len(numbers), lambda label, total: Progress(None, label, total))
    return Outcome(
        demo="small",
        title="SMALL: a small job",
        about="Some numbers come back.",
        workers=2,
        options={"seed": 5},
        ways=ways,
        body=lambda columns: [f"the body, in {columns} columns"],
        paced=paced,
        details={"fact": 1},
    )


def test_the_report() -> None:
    """Title, what was done, the demo's own lines, the ways, what it means, and the terms."""
    lines = outcome(1, 2).lines(80)
    text = "\n".join(lines)
    parts = (
        "SMALL: a small job",
        "Some numbers come back.",
        "2 workers, seed 5; ",
        "the body, in 80 columns",
        "plain loop  ThreadPoolExecutor  TokenGateExecutor",
        "times as fast as by the plain loop",
        "are noise",
        "concurrency ratio  sum of task times",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert max(map(len, lines)) <= 80


def test_the_report_of_a_paced_job() -> None:
    """Its wall time says little."""
    text = " ".join(outcome(1, paced=2.0).lines(80))
    assert "due after 2.000 s" in text
    assert "times as fast" not in text


def test_the_json() -> None:
    """All figures, all tasks and all results of each way; it can be read back."""
    report = json.loads(json.dumps(outcome(1, 2, 3).as_json(), allow_nan=False))
    assert report["format"] == "tokengate-demo"
    assert (report["demo"], report["options"], report["details"]) == (
        "small",
        {"seed": 5},
        {"fact": 1},
    )
    assert report["usable_cores"] == usable_cores() >= 1
    assert report["agree"] is True
    assert report["failed_tasks"] == 0
    assert [way["way"] for way in report["ways"]] == [
        "plain loop",
        "ThreadPoolExecutor",
        "TokenGateExecutor",
    ]
    for way in report["ways"]:
        assert way["results"] == ["1", "2", "3"]
        assert way["speed_up"] > 0
        assert way["latency_seconds"]["p50"] >= way["task_seconds"]["p50"] >= 0
        assert [task["operation"] for task in way["tasks"]] == ["work"] * 3
        for task in way["tasks"]:
            assert (
                0 <= task["due"] <= task["started"] <= task["ended"] <= way["wall_seconds"] + 1e-6
            )
    assert report["ways"][0]["speed_up"] == 1.0
    assert [bool(way["lanes"]) for way in report["ways"]] == [False, False, True]


def test_a_disagreement() -> None:
    """One result of one way that differs is enough, also in a further job."""
    agreeing = outcome(1, 2)
    assert agreeing.agrees
    first, *others = agreeing.ways
    differing = (first, replace(others[0], results=["1", "3"]), others[1])
    assert not replace(agreeing, ways=differing).agrees
    beside = replace(agreeing, others={"beside": differing})
    assert not beside.agrees
    report = beside.as_json()
    assert report["agree"] is False
    assert isinstance(report["others"], dict)
    assert len(report["others"]["beside"]) == 3  # type: ignore[arg-type]


def test_failed_tasks_are_counted() -> None:
    """In all ways together."""
    failing = outcome(1, -1)
    assert failing.agrees
    assert failing.failed == 3
    assert replace(failing, others={"beside": failing.ways}).failed == 6
