"""The saturation demo, with short tasks."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.saturation import SaturationOptions, run_saturation

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome

OPTIONS = SaturationOptions(tasks=6, seconds=0.02, work="wait", max_pending=None, workers=2, seed=1)


def small(**said: Any) -> Outcome:
    """Run it."""
    return run_saturation(
        replace(OPTIONS, **said), lambda label, total: Progress(None, label, total)
    )


@pytest.mark.parametrize("work", ["python", "hash", "wait"])
def test_all_ways_agree(work: str) -> None:
    """Whatever the tasks do."""
    outcome = small(work=work, seconds=0.002)
    assert outcome.agrees
    assert outcome.failed == 0


def test_later_tasks_wait_for_their_turn() -> None:
    """With two workers, six tasks that wait for 20 ms take three turns: the spread is two."""
    outcome = small()
    for run in outcome.ways[1:]:
        details = outcome.details[run.way]
        assert isinstance(details, dict)
        assert details["spread_seconds"] >= 0.039  # type: ignore[operator]
        assert details["earliest_resolution_seconds"] >= 0.02  # type: ignore[operator]
        assert run.threads == 2


def test_a_bound() -> None:
    """With one, ``submit`` waits until a task has ended, in ours; the report tells of either."""
    assert "Nothing pushed back" in "\n".join(small(seconds=0.001).lines(80))
    outcome = small(tasks=4, max_pending=1)
    assert outcome.agrees
    ours = outcome.details["TokenGateExecutor"]
    assert isinstance(ours, dict)
    assert ours["submitting_seconds"] >= 0.02  # type: ignore[operator]
    assert "At most 1 might wait" in "\n".join(outcome.lines(80))


def test_the_seed_decides() -> None:
    """What is computed."""
    digests = [small(seed=seed, seconds=0.001).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_report() -> None:
    """Each task has a line: where it waited, and where it ran."""
    lines = small().lines(80)
    assert lines[0] == "SERIES SATURATION: more tasks than workers"
    text = "\n".join(lines)
    assert "Spread of resolution times:" in text
    last = next(line for line in lines if line.startswith("  task 05"))
    assert last.rstrip("█").endswith("·")
    assert max(map(len, lines)) <= 80


def test_slow_tasks_are_announced() -> None:
    """Before the first one has ended: a single task that takes long is not silence."""
    stream = io.StringIO()

    class Announced(Progress):
        def show(self) -> None:
            super().show()
            raise KeyboardInterrupt  # what is to be seen has been seen, and the rest takes long

    options = replace(OPTIONS, seconds=600.0)
    with pytest.raises(KeyboardInterrupt):
        run_saturation(options, lambda label, total: Announced(stream, label, total))
    assert stream.getvalue() == "  0% plain loop 0/6\n"
