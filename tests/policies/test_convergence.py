"""The rule that adapts the number of workers: on formulas, on recorded loads, and on nonsense."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.convergence import (
    LONGEST_REST,
    Controller,
    ConvergencePolicy,
    Decision,
    Sample,
)

INTERVAL = 0.1
SIZES = (1, 2, 4, 8, 16, 32)

RECORDED = Path(__file__).with_name("convergence_traces.json")
"""What the rule saw on real loads, and what it said: made by ``bench/convergence.py --record``."""

Load = Callable[[int], tuple[float, float]]
"""So many workers → calls per second, and cores in use."""


def sleeping(workers: int) -> tuple[float, float]:
    """Calls of 20 ms that hardly compute."""
    return workers / 0.02, workers * 0.005


def sleeping_long(workers: int) -> tuple[float, float]:
    """Calls of a minute: in an interval hardly one ends."""
    return workers / 60, workers * 1e-5


def gil_bound(workers: int) -> tuple[float, float]:
    """Calls of 3 ms, one at a time."""
    return 333.0, 1.0 if workers == 1 else 1.05


def gil_bound_long(workers: int) -> tuple[float, float]:
    """Calls of 10 s, one at a time."""
    return 0.1, 1.0 if workers == 1 else 1.05


def gil_bound_convoy(workers: int) -> tuple[float, float]:
    """Calls of 1 ms that let go of the GIL very often: more threads use more CPU and do less."""
    return 1000.0 * (0.4 + 0.6 / workers), 1.0 + 0.4 * (1 - 1 / workers)


def releasing(workers: int) -> tuple[float, float]:
    """Calls of 3 ms without the GIL, on two cores."""
    return min(workers, 2) / 0.003, min(workers, 2)


def half_and_half(workers: int) -> tuple[float, float]:
    """Calls that wait for 10 ms and then need the GIL for 1 ms: 11 workers do all that can be done."""
    calls = min(workers / 0.011, 1000.0)
    return calls, calls * 0.001


def behind_a_lock(workers: int) -> tuple[float, float]:
    """Calls of 2 ms of which four can be under way, whoever waits for them."""
    return min(workers, 4) / 0.002, 0.02


def rule(*, cores: int = 2, has_gil: bool = True, **policy: Any) -> Controller:
    """A rule for 1 to 32 workers, if nothing else is said."""
    given = {"max_workers": 32, "interval": INTERVAL} | policy
    return Controller(ConvergencePolicy(**given), cores=cores, has_gil=has_gil)


def busy(workers: int, load: Load, completions: int, *, depth: int = 500) -> Sample:
    """What is seen of a load for which calls wait."""
    return Sample(
        seconds=INTERVAL,
        workers=workers,
        used=workers,
        busy_seconds=workers * INTERVAL,
        cpu_seconds=load(workers)[1] * INTERVAL,
        completions=completions,
        depth=depth,
        wait_seconds=1.0,
    )


def calm(workers: int, used: int = 0) -> Sample:
    """What is seen when nothing waits, and so many are enough."""
    return Sample(
        seconds=INTERVAL,
        workers=workers,
        used=used,
        busy_seconds=used * INTERVAL,
        cpu_seconds=0.0,
        completions=used,
        depth=0,
        wait_seconds=0.0,
    )


class Course:
    """What became of a load: the sizes, the decisions, and what was done of what could have been."""

    def __init__(
        self,
        controller: Controller,
        loads: Sequence[Load],
        intervals: int,
        *,
        workers: int = 1,
        noise: float = 0.0,
    ) -> None:
        """``loads``: one after the other, each for its share; ``noise``: of CPU time and counts."""
        chance = random.Random(7)
        self.sizes: list[int] = []
        self.decisions: list[Decision] = []
        done = possible = owed = 0.0
        for number in range(intervals):
            load = loads[number * len(loads) // intervals]
            calls = load(workers)[0] * INTERVAL
            done += calls
            possible += max(load(size)[0] for size in SIZES) * INTERVAL
            owed += calls * (1 + chance.uniform(-noise, noise))
            completions = int(owed)
            owed -= completions
            sample = busy(workers, load, completions)
            cpu_seconds = sample.cpu_seconds * (1 + chance.uniform(-noise, noise))
            decision = controller.next(replace(sample, cpu_seconds=cpu_seconds))
            workers = decision.wanted
            self.sizes.append(workers)
            self.decisions.append(decision)
        self.yielded = done / possible

    @property
    def changes(self) -> int:
        """How often the number changed."""
        return sum(one != other for one, other in pairwise(self.sizes))


# -- the policy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("min_workers", 0),
        ("min_workers", 1.0),
        ("min_workers", True),
        ("max_workers", 0),
        ("max_workers", "8"),
        ("interval", 0.0),
        ("interval", 0.009),
        ("interval", 61),
        ("interval", nan),
        ("tolerated_wait", -0.1),
        ("tolerated_wait", inf),
        ("tolerated_wait", None),
        ("shrink_after", 0),
        ("shrink_after", False),
    ],
)
def test_what_is_no_policy(argument: str, wrong: object) -> None:
    """The error names the argument and what it was."""
    with pytest.raises(InvalidOptionError, match=argument):
        ConvergencePolicy(**{argument: wrong})  # type: ignore[arg-type]


def test_max_workers_below_min_workers() -> None:
    """Bounds that contradict each other are refused."""
    with pytest.raises(InvalidOptionError, match="max_workers"):
        ConvergencePolicy(min_workers=4, max_workers=3)


def test_the_policy_can_be_printed() -> None:
    """In words, with its numbers."""
    assert str(ConvergencePolicy(min_workers=2, max_workers=8, interval=0.25)) == (
        "Convergence: 2 to 8 workers, a look every 0.25 s; more when calls wait for 0.02 s, "
        "fewer when they were not needed for 10 s"
    )
    assert "1 to max_workers workers" in str(ConvergencePolicy())


def test_nothing_of_it_can_be_changed() -> None:
    """A policy, a sample and a decision are frozen."""
    for frozen, field in (
        (ConvergencePolicy(), "interval"),
        (calm(1), "depth"),
        (Decision(1, "why"), "wanted"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, field, 1)


# -- loads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [sleeping, sleeping_long])
def test_calls_that_sleep_get_all_workers_soon(load: Load) -> None:
    """Within three intervals, and they keep them."""
    course = Course(rule(), [load], 50)
    assert course.sizes[2:] == [32] * 48
    assert course.decisions[1].reason.startswith("the calls block")


@pytest.mark.parametrize("load", [gil_bound, gil_bound_long, gil_bound_convoy])
def test_gil_bound_calls_get_one_worker(load: Load) -> None:
    """A second one is tried now and then, for an interval, and does not stay."""
    course = Course(rule(), [load], 100)
    assert set(course.sizes) <= {1, 2}
    assert course.sizes.count(2) <= 5
    assert course.yielded > 0.96


@pytest.mark.parametrize("load", [gil_bound, gil_bound_long, gil_bound_convoy])
def test_gil_bound_calls_lose_workers_that_do_not_help(load: Load) -> None:
    """From 32, by halves, to one or two: where CPU time hardly tells them apart, either will do."""
    course = Course(rule(), [load], 100, workers=32)
    assert course.sizes[:4] == [16, 8, 4, 2]
    assert max(course.sizes[10:]) <= 4
    assert course.sizes.count(4) <= 5


def test_gil_releasing_calls_get_the_usable_cores() -> None:
    """Two on two cores, where no more is even tried; from 32 it comes back to two."""
    assert Course(rule(), [releasing], 50).sizes == [2] * 50
    assert Course(rule(), [releasing], 50, workers=32).sizes[4:] == [2] * 46


def test_calls_that_wait_and_compute_get_what_they_need() -> None:
    """Near 11, the least that does all that can be done: 16, with trials that do not stay."""
    course = Course(rule(), [half_and_half], 400)
    assert median(course.sizes) == 16
    assert course.yielded > 0.95


def test_calls_behind_a_lock_get_what_can_pass() -> None:
    """More threads would only stand in line."""
    course = Course(rule(), [behind_a_lock], 200)
    assert median(course.sizes) == 4
    assert course.yielded > 0.95


@pytest.mark.parametrize("loads", [[sleeping, gil_bound_convoy], [gil_bound_convoy, sleeping]])
def test_a_load_that_changes_half_way(loads: list[Load]) -> None:
    """It is found out at once, and does better than any size that stays."""
    course = Course(rule(), loads, 100)
    best_fixed = max(
        sum(load(size)[0] / max(load(other)[0] for other in SIZES) for load in loads) / 2
        for size in SIZES
    )
    shares = [sum(Course(rule(), [load], 50).sizes) for load in loads]
    assert shares  # each on its own runs through, too
    assert course.yielded > max(0.9, best_fixed)


@pytest.mark.parametrize("noise", [0.1, 0.3])
@pytest.mark.parametrize(
    "load",
    [
        sleeping,
        sleeping_long,
        gil_bound,
        gil_bound_convoy,
        releasing,
        half_and_half,
        behind_a_lock,
    ],
)
def test_noise(load: Load, noise: float) -> None:
    """Counts and CPU times that are off by 10 % or 30 % cost a few per cent."""
    assert Course(rule(), [load], 600, noise=noise).yielded > 0.94


def test_without_a_gil_computing_calls_get_all_cores() -> None:
    """What is GIL-bound elsewhere scales there."""

    def scaling(workers: int) -> tuple[float, float]:
        return min(workers, 8) / 0.003, min(workers, 8)

    course = Course(rule(cores=8, has_gil=False), [scaling], 60)
    assert course.sizes[5:] == [8] * 55


def test_half_a_core_is_no_reason_for_fewer_without_a_gil() -> None:
    """On eight cores, calls that use one of them are far from being in each other's way."""

    def some(workers: int) -> tuple[float, float]:
        return workers / 0.1, workers / 32

    assert min(Course(rule(cores=8, has_gil=False), [some], 100).sizes[5:]) == 32
    assert min(Course(rule(cores=8), [some], 100).sizes[5:]) < 32


# -- single decisions -------------------------------------------------------------------------------


def test_no_more_workers_than_calls_wait() -> None:
    """Three that wait are a reason for three more."""
    decision = rule().next(busy(2, sleeping, 10, depth=3))
    assert decision.wanted == 5


def test_a_short_wait_is_none() -> None:
    """What waits for less than it may is no reason for anything."""
    controller = rule(tolerated_wait=0.5)
    waiting = replace(busy(1, sleeping, 5), wait_seconds=0.49)
    assert controller.next(waiting) == Decision(1, "nothing waits for long")
    assert controller.next(replace(waiting, wait_seconds=0.5)).wanted > 1


def test_a_trial_ends_when_nothing_waits_any_more() -> None:
    """The number stays as it is: nothing says that it is wrong."""
    controller = rule()
    assert controller.next(busy(32, gil_bound, 33)).wanted == 16
    assert [controller.next(calm(16, 16)).wanted for _ in range(20)] == [16] * 20


def test_short_bursts_leave_no_workers_behind() -> None:
    """Calls that compute, for an interval each time: what was only on trial goes when they are done."""
    controller = rule()
    for _ in range(20):
        assert controller.next(busy(1, gil_bound, 33)).wanted <= 2
        assert controller.next(calm(controller.next(calm(2, 2)).wanted)).wanted == 1


def test_those_who_are_to_leave_are_not_counted() -> None:
    """While they are still at work, what is seen says nothing of the smaller number."""
    controller = rule()
    assert controller.next(busy(32, gil_bound, 33)).wanted == 16
    still_there = replace(busy(16, gil_bound, 33), busy_seconds=32 * INTERVAL)
    decision = controller.next(still_there)
    assert decision == Decision(16, "on trial: those who are to leave are still at work")
    assert controller.next(busy(16, gil_bound, 33)).wanted == 8


def test_a_trial_without_a_verdict_ends() -> None:
    """If those who are to leave never do, the number goes back to what it was."""
    controller = rule()
    controller.next(busy(32, gil_bound, 33))
    still_there = replace(busy(16, gil_bound, 33), busy_seconds=32 * INTERVAL)
    decisions = [controller.next(still_there) for _ in range(20)]
    assert [decision.wanted for decision in decisions] == [16] * 19 + [32]
    assert decisions[-1].reason.endswith("that is all that can be told")


def test_somebody_else_resizes() -> None:
    """It goes on from there, and back within the bounds."""
    controller = rule(min_workers=2, max_workers=8)
    assert controller.next(calm(2)).wanted == 2
    assert controller.next(calm(40)) == Decision(8, "40 is not between 2 and 8")
    assert controller.next(calm(1)) == Decision(2, "1 is not between 2 and 8")
    assert controller.next(busy(6, sleeping, 30)).wanted == 8


def test_idle_workers_go_when_they_were_not_needed_for_long_enough() -> None:
    """As many stay as were used at some time meanwhile, and none is superfluous in the end."""
    controller = rule(shrink_after=0.99)
    controller.next(calm(32, 3))
    sizes = [controller.next(calm(32, 1)).wanted for _ in range(9)]
    assert sizes == [32] * 8 + [3]
    decisions = [controller.next(calm(3, 0)) for _ in range(10)]
    assert decisions[-1] == Decision(1, "0 were enough for 1 s")
    assert [decision.wanted for decision in decisions[:-1]] == [3] * 9


def test_a_burst_now_and_then_keeps_its_workers() -> None:
    """Those of a burst within ``shrink_after`` are needed."""
    controller = rule(shrink_after=2.0)
    for _ in range(20):
        assert controller.next(calm(16, 16)).wanted == 16
        assert {controller.next(calm(16, 1)).wanted for _ in range(15)} == {16}


def test_it_says_why() -> None:
    """Of each decision a sentence that can stand in a log."""
    course = Course(rule(), [sleeping, gil_bound], 40)
    said = "\n".join(map(str, course.decisions))
    assert "4 workers: calls wait 1 s; 0.005 cores are used" in said
    assert "16 workers: calls wait 1 s; 1.1 cores may need no more" in said
    assert "workers: calls wait 1 s, but other sizes were no better" in said


# -- whatever comes ---------------------------------------------------------------------------------

seconds = st.floats(0, 1e6, allow_nan=False)
samples = st.builds(
    Sample,
    seconds=st.floats(1e-6, 1e4),
    workers=st.integers(1, 64),
    used=st.integers(0, 100),
    busy_seconds=seconds,
    cpu_seconds=seconds,
    completions=st.integers(0, 10**7),
    depth=st.integers(0, 10**6),
    wait_seconds=seconds,
)
policies = st.tuples(st.integers(1, 20), st.integers(0, 40)).map(
    lambda bounds: ConvergencePolicy(
        min_workers=bounds[0], max_workers=sum(bounds), shrink_after=0.5
    )
)


@given(policies, st.lists(st.tuples(samples, st.booleans())), st.integers(1, 8), st.booleans())
def test_bounds_are_kept_and_nothing_grows_without_need(
    policy: ConvergencePolicy,
    seen: list[tuple[Sample, bool]],
    cores: int,
    has_gil: bool,
) -> None:
    """Whatever is seen, and whoever resizes: and the same samples lead to the same decisions."""
    first = Controller(policy, cores=cores, has_gil=has_gil)
    second = Controller(policy, cores=cores, has_gil=has_gil)
    workers = policy.min_workers
    assert policy.max_workers is not None
    for one, is_resized in seen:
        sample = one if is_resized else replace(one, workers=workers)
        decision = first.next(sample)
        assert decision == second.next(sample)
        assert policy.min_workers <= decision.wanted <= policy.max_workers
        is_pressed = sample.depth > 0 and sample.wait_seconds >= policy.tolerated_wait
        if not is_pressed:
            assert decision.wanted <= max(sample.workers, policy.min_workers)
        workers = decision.wanted


@given(st.lists(samples, max_size=30), st.integers(1, 64))
def test_idle_is_the_least(seen: list[Sample], workers: int) -> None:
    """After whatever it was, without calls it wants the fewest, in two times ``shrink_after``."""
    controller = rule(min_workers=2, shrink_after=0.99)
    for sample in seen:
        workers = controller.next(replace(sample, workers=workers)).wanted
    for _ in range(22):
        workers = controller.next(calm(workers)).wanted
    assert workers == 2


@settings(deadline=None)
@given(
    st.floats(0, 3),
    st.integers(0, 1000),
    st.integers(1, 32),
    st.integers(1, 1000),
    st.integers(1, 4),
)
def test_it_does_not_oscillate(
    cores_used: float, completions: int, workers: int, depth: int, cores: int
) -> None:
    """On a constant trace it settles; what it tries then, it tries rarely, and gives up at once."""
    controller = rule(cores=cores)
    sizes: list[int] = []
    for _ in range(4 * LONGEST_REST):
        sample = replace(busy(workers, sleeping, completions, depth=depth), cpu_seconds=0.0)
        sample = replace(sample, cpu_seconds=cores_used * INTERVAL)
        workers = controller.next(sample).wanted
        sizes.append(workers)
    settled = sizes[2 * LONGEST_REST :]
    home = int(median(settled))
    assert settled.count(home) > 0.9 * len(settled)
    trips = sum(one == home != other for one, other in pairwise(settled))
    assert trips <= 8


# -- recorded loads ---------------------------------------------------------------------------------


def recorded(name: str) -> tuple[list[Sample], list[int], int]:
    """The samples of one real load, what was wanted after each, and on how many cores it ran."""
    trace = json.loads(RECORDED.read_text(encoding="utf-8"))[name]
    wanted = [look.pop("wanted") for look in trace["looks"]]
    return [Sample(**look) for look in trace["looks"]], wanted, trace["cores"]


@pytest.mark.parametrize("name", ["sleeping", "gil_bound", "gil_releasing", "changing"])
def test_a_recorded_load(name: str) -> None:
    """The same samples lead to the same decisions as on the day. If the rule changes, record anew."""
    seen, wanted, cores = recorded(name)
    controller = rule(cores=cores)
    assert [controller.next(sample).wanted for sample in seen] == wanted


def test_what_the_recorded_loads_came_to() -> None:
    """Those who slept had all workers, those who computed as many as help."""
    assert median(recorded("sleeping")[1]) == 32
    assert median(recorded("gil_bound")[1]) <= 2
    assert median(recorded("gil_releasing")[1]) in (2, 4)
    changing = recorded("changing")[1]
    half = len(changing) // 2
    assert median(changing[:half]) >= 16
    assert median(changing[half:]) <= 4
