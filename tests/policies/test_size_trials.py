"""Trials of another size: what they take from samples, and when they come to a verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokengate_executor.policies.size_trials import (
    LONGEST_WINDOW,
    SHORT_TRIAL,
    Sample,
    Trial,
    Window,
)


def seen(workers: int, *, cores: float, calls: int, seconds: float = 1.0) -> Sample:
    """A second in which so many cores were used, and so many calls ended."""
    return Sample(
        seconds=seconds,
        workers=workers,
        used=workers,
        busy_seconds=workers * seconds,
        cpu_seconds=cores * seconds,
        completions=calls,
        depth=9,
        wait_seconds=1.0,
    )


def window(*samples: Sample) -> Window:
    """What is remembered of these."""
    made = Window()
    made.samples.extend(samples)
    return made


def trial(before: int, size: int, here: Sample, there: Sample, looks: int = 1) -> Trial:
    """One that has had so many looks, all alike."""
    made = Trial(before, size, window(here))
    for _ in range(looks):
        made.look(there)
    return made


def test_what_a_sample_comes_to() -> None:
    """Shares are from 0 to 1, whatever the clocks say; the text has the numbers."""
    sample = replace(seen(4, cores=0.6, calls=300), busy_seconds=3.0)
    assert sample.busy_share == pytest.approx(0.75)
    assert sample.cpu_share == pytest.approx(0.2)
    assert sample.cores == pytest.approx(0.6)
    assert str(sample) == "4 workers, 75% busy on 0.60 cores; 300 calls/s; 9 wait, 1 s"
    assert replace(sample, busy_seconds=0.0).cpu_share == 0.0
    assert replace(sample, busy_seconds=9.0).busy_share == 1.0
    assert replace(sample, cpu_seconds=9.0).cpu_share == 1.0


def test_a_window_is_the_sum_of_its_samples() -> None:
    """Long ones weigh more than short ones, and the oldest are forgotten."""
    both = window(seen(1, cores=1.0, calls=10), seen(1, cores=0.2, calls=2, seconds=3.0))
    assert (both.seconds, both.completions, both.throughput) == (4.0, 12, 3.0)
    assert both.cores == pytest.approx(0.4)
    both.samples.extend([seen(1, cores=0.5, calls=7)] * LONGEST_WINDOW)
    assert both.completions == 7 * LONGEST_WINDOW
    assert both.cores == 0.5


@pytest.mark.parametrize(
    ("now", "is_unlike"),
    [
        (seen(4, cores=1.0, calls=100), False),
        (seen(4, cores=1.4, calls=80), False),  # the neighbours' noise
        (seen(4, cores=1.6, calls=100), True),
        (seen(4, cores=0.4, calls=100), True),
        (seen(4, cores=1.0, calls=300), True),  # a call costs a third of what it did
        (seen(4, cores=1.0, calls=40), True),
        (seen(4, cores=1.0, calls=20), False),  # too few to be sure
    ],
)
def test_another_load(now: Sample, is_unlike: bool) -> None:
    """More or less CPU time by far, or calls that cost twice or half as much."""
    assert window(seen(4, cores=1.0, calls=100)).is_unlike(now) is is_unlike


def test_tiny_calls_may_cost_what_they_like() -> None:
    """What a no-op costs depends on much that is not the load."""
    assert not window(seen(4, cores=0.02, calls=200)).is_unlike(seen(4, cores=0.06, calls=200))


@pytest.mark.parametrize(
    ("calls", "is_kept"), [(50, False), (100, False), (105, False), (149, None), (150, True)]
)
def test_more_workers_must_do_more(calls: int, is_kept: bool | None) -> None:
    """Half of what perfect scaling would bring is believed at once, next to nothing likewise."""
    made = trial(2, 4, seen(2, cores=1, calls=100), seen(4, cores=1, calls=calls))
    assert made.verdict()[0] is is_kept


@pytest.mark.parametrize(
    ("calls", "is_kept"), [(150, True), (100, True), (98, True), (90, None), (75, False)]
)
def test_fewer_workers_must_not_do_less(calls: int, is_kept: bool | None) -> None:
    """The same, the other way round: the half that was to be lost is lost, or it is not."""
    made = trial(4, 2, seen(4, cores=1, calls=100), seen(2, cores=1, calls=calls))
    assert made.verdict()[0] is is_kept


@pytest.mark.parametrize(("calls", "is_kept"), [(108, False), (116, True)])
def test_what_is_not_clear_gets_more_looks(calls: int, is_kept: bool) -> None:
    """After some of them, an eighth of perfect scaling is what it must bring."""
    there = seen(4, cores=1, calls=calls)
    here = seen(2, cores=1, calls=100)
    assert trial(2, 4, here, there, SHORT_TRIAL - 1).verdict()[0] is None
    assert trial(2, 4, here, there, SHORT_TRIAL).verdict() == (
        is_kept,
        f"calls per second +{calls - 100}%",
    )


@pytest.mark.parametrize(("cores", "is_kept"), [(1.1, False), (1.3, None), (1.6, True)])
def test_calls_that_are_too_long_to_be_counted(cores: float, is_kept: bool | None) -> None:
    """The CPU time that they get tells."""
    made = trial(2, 4, seen(2, cores=1, calls=3), seen(4, cores=cores, calls=3))
    assert made.verdict() == (is_kept, f"CPU time +{cores - 1:.0%}")


def test_calls_that_may_still_be_counted() -> None:
    """Where they were before, it waits until they are, as long as CPU time is not clear."""
    here = seen(2, cores=1, calls=100)
    few = seen(4, cores=1.3, calls=4)
    assert trial(2, 4, here, few, SHORT_TRIAL).verdict() == (None, "CPU time +30%")
    # 32 calls in 8 seconds: far fewer than before.
    assert trial(2, 4, here, few, 8).verdict() == (False, "calls per second -96%")


def test_calls_that_hardly_compute() -> None:
    """More of them can wait at a time, unless counting them says something else."""
    made = trial(2, 4, seen(2, cores=0.05, calls=3), seen(4, cores=0.05, calls=3))
    assert made.is_of_blocking_calls
    assert made.verdict() == (True, "the calls block")
    made = trial(2, 4, seen(2, cores=0.05, calls=100), seen(4, cores=0.05, calls=100))
    assert made.verdict() == (False, "calls per second +0%")


def test_who_is_to_leave_and_still_works() -> None:
    """What is seen meanwhile is not of the smaller number."""
    made = Trial(4, 2, window(seen(4, cores=1, calls=100)))
    made.look(replace(seen(2, cores=1, calls=100), busy_seconds=3.0))
    assert made.verdict() == (None, "those who are to leave are still at work")
    made.look(seen(2, cores=1, calls=100))
    assert made.verdict()[0] is True
    assert made.looks == 2


def test_nothing_was_measured_before() -> None:
    """Clocks that stand still are no reason to raise."""
    made = trial(4, 2, seen(4, cores=0, calls=0), seen(2, cores=0, calls=0))
    assert made.verdict() == (True, "CPU time +0%")
