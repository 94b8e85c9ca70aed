"""How many workers an executor should have: a rule from what was seen to what is wanted.

The rule. Workers are added only while calls wait for one: twice as many, or four times where calls
hardly use the CPU; they stay if more gets done. Where calls use much CPU, half as many are tried, too;
they stay if no less gets done. What did not help is tried again after a time that doubles. When nothing
waits, as many stay as were used within the last ``shrink_after`` seconds.

What others do, and what is taken from it:

- The .NET thread pool climbs the hill of completions per second by a wave in its number of threads; it
  distrusts a count whose error, (threads - 1) / completions, is 15 % or more, and where nothing gets
  done it adds a thread every 500 ms. Here a step is large, so that noise cannot hide what it does;
  counts are trusted likewise, and where there are too few, CPU time is looked at.
- Netflix's concurrency-limits does not grow a limit of which less than half is used. Here nothing grows
  unless something waits.
- dask's adaptive clusters close a worker that was superfluous at three looks in a row; idle threads of
  trio, anyio and Tokio end after 10 seconds, which is the default of ``shrink_after``.
- Java's ForkJoinPool and Tokio's ``block_in_place`` add a thread when a task says that it blocks. That
  is what spare workers are for, which the rule leaves alone.
- Threads = cores x (1 + time waited / time computed) is the rule of thumb (Goetz, *Java Concurrency in
  Practice*). As it stands it misleads here: a thread that waits for the GIL looks like one that waits
  for a disk. A trial tells them apart.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Final

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.size_trials import (
    BLOCKED_CORES,
    LONGEST_TRIAL,
    Sample,
    Trial,
    Window,
)

__all__ = ["Controller", "ConvergencePolicy", "Decision", "Sample"]

SHORTEST_INTERVAL: Final = 0.01
"""Seconds; below, sampling would cost more than a hundredth of a core."""

SUSPECT_SHARE: Final = 0.5
"""From this share of what CPU there is on, fewer workers may do as much."""

FULL_SHARE: Final = 0.9
"""From this share of all usable cores on, more workers cannot do more."""

FIRST_REST: Final = 10
LONGEST_REST: Final = 320
"""In intervals: the time before something is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergencePolicy:
    """Between which bounds the number of workers is adapted, and how often.

    Args:
        min_workers: never fewer, at least 1. The executor begins with so many, and without ``lanes=`` it
            has no more lanes than that, as each needs a worker.
        max_workers: never more; ``None``: the executor's ``max_workers``.
        interval: how many seconds a sample covers, from 0.01 to 60.
        tolerated_wait: for how many seconds a call may wait before that is a reason for more workers.
        shrink_after: for how many seconds a worker must have been superfluous before it goes.

    Raises:
        InvalidOptionError: an argument is not a number, or out of its range.
    """

    min_workers: int = 1
    max_workers: int | None = None
    interval: float = 0.1
    tolerated_wait: float = 0.02
    shrink_after: float = 10.0

    def __post_init__(self) -> None:
        least = _checked_count("min_workers", self.min_workers, 1)
        if self.max_workers is not None:
            _checked_count("max_workers", self.max_workers, least)
        seconds = "a finite number of seconds"
        for name, lowest, highest, allowed in (
            ("interval", SHORTEST_INTERVAL, 60.0, f"seconds, from {SHORTEST_INTERVAL} to 60"),
            ("tolerated_wait", 0.0, sys.float_info.max, f"{seconds}, at least 0"),
            ("shrink_after", math.ulp(0), sys.float_info.max, f"{seconds} above 0"),
        ):
            given: Any = getattr(self, name)
            if not _is_number(given) or not lowest <= given <= highest:
                raise InvalidOptionError(name, given, allowed)

    def __str__(self) -> str:
        most = "max_workers" if self.max_workers is None else f"{self.max_workers}"
        return (
            f"Convergence: {self.min_workers} to {most} workers, a look every {self.interval:g} s; "
            f"more when calls wait for {self.tolerated_wait:g} s, "
            f"fewer when they were not needed for {self.shrink_after:g} s"
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says.

    Attributes:
        wanted: so many workers.
        reason: why, in words.
    """

    wanted: int
    reason: str

    def __str__(self) -> str:
        return f"{self.wanted} workers: {self.reason}"


class Controller:
    """Decides on one executor's number of workers; learns from what came of it.

    Guarantees:
        - It wants at least ``min_workers`` and at most ``max_workers``.
        - It wants more only if calls wait for longer than they may.
        - It is deterministic: the same samples, the same decisions.
        - While samples stay alike, it tries ever more rarely, and always goes back to the same number.
        - Without calls it wants ``min_workers``, after ``shrink_after`` seconds.

    Assumes:
        - Calls of its methods do not overlap.
        - What it wants is done, and ``Sample.workers`` says so. If that says something else, somebody
          has resized the executor, and it goes on from there.

    Args:
        policy: the bounds, and the numbers; its ``max_workers`` is not ``None``.
        cores: how many this process may use.
        has_gil: whether Python code runs on one of them at a time.
    """

    def __init__(self, policy: ConvergencePolicy, *, cores: int, has_gil: bool) -> None:
        assert policy.max_workers is not None  # whoever makes an executor has filled it in
        self._policy = policy
        self._least, self._most = policy.min_workers, policy.max_workers
        self._cores = cores
        self._suspect_cores = SUSPECT_SHARE * (1 if has_gil else cores)
        self._size = 0
        self._forget()

    def _forget(self) -> None:
        """Begin anew with what is known of the load."""
        self._trial: Trial | None = None
        self._here = Window()
        self._rests = {"up": 0, "down": 0}
        self._next_rests = {"up": FIRST_REST, "down": FIRST_REST}
        self._calm_seconds = 0.0
        self._calm_used = 0

    def next(self, sample: Sample) -> Decision:
        """How many workers there should be from here on."""
        if sample.workers != self._size:
            self._size = sample.workers
            self._forget()
        size = min(max(self._size, self._least), self._most)
        if size != self._size:
            decision = Decision(size, f"{self._size} is not between {self._least} and {self._most}")
        elif sample.depth and sample.wait_seconds >= self._policy.tolerated_wait:
            decision = self._under_pressure(sample)
        else:
            decision = self._without_pressure(sample)
        self._size = decision.wanted
        return decision

    # -- nothing waits ----------------------------------------------------------------------------

    def _without_pressure(self, sample: Sample) -> Decision:
        trial, self._trial = self._trial, None
        self._here = Window()
        if trial is not None and trial.is_up and not trial.is_of_blocking_calls:
            # Else each of many short bursts would leave more workers behind, whether they help or not.
            return Decision(trial.before, "nothing waits for long, and more were only on trial")
        self._calm_seconds += sample.seconds
        self._calm_used = max(self._calm_used, sample.used)
        if self._calm_seconds < self._policy.shrink_after:
            return Decision(self._size, "nothing waits for long")
        enough = min(self._size, max(self._least, self._calm_used))
        reason = f"{self._calm_used} were enough for {self._calm_seconds:.3g} s"
        self._forget()
        return Decision(enough, reason)

    # -- something waits --------------------------------------------------------------------------

    def _under_pressure(self, sample: Sample) -> Decision:
        self._calm_seconds, self._calm_used = 0.0, 0
        self._rests = {way: max(0, rest - 1) for way, rest in self._rests.items()}
        said = ""
        if self._trial is not None:
            self._trial.look(sample)
            is_better, said = self._trial.verdict()
            if is_better is None:
                if self._trial.looks < LONGEST_TRIAL:
                    return Decision(self._size, f"on trial: {said}")
                is_better, said = False, f"{said}, and that is all that can be told"
            if not is_better:
                return self._back(said)
            self._stay()
        else:
            self._see(sample)
        return self._try_another(sample, said)

    def _see(self, sample: Sample) -> None:
        """Remember what this size does, and whether the load is another one than before."""
        known = self._here
        if known.samples and known.is_unlike(sample):
            self._forget()
        self._here.samples.append(sample)

    def _back(self, said: str) -> Decision:
        trial = self._trial
        assert trial is not None
        way = "up" if trial.is_up else "down"
        self._rests[way] = self._next_rests[way]
        self._next_rests[way] = min(2 * self._next_rests[way], LONGEST_REST)
        self._trial = None
        self._here = trial.here
        return Decision(trial.before, f"{trial.size} are no better: {said}")

    def _stay(self) -> None:
        trial = self._trial
        assert trial is not None
        way, other = ("up", "down") if trial.is_up else ("down", "up")
        self._next_rests[way] = FIRST_REST
        self._rests[other] = max(self._rests[other], FIRST_REST)
        self._trial = None
        self._here = trial.there

    def _try_another(self, sample: Sample, said: str) -> Decision:
        cores = self._here.cores
        wait = f"calls wait {sample.wait_seconds:.3g} s"
        if self._size < self._most and not self._rests["up"] and cores < FULL_SHARE * self._cores:
            factor = 4 if cores < BLOCKED_CORES else 2
            size = min(factor * self._size, self._size + sample.depth, self._most)
            return self._begin(size, f"{said or wait}; {cores:.2g} cores are used")
        if (
            self._size > self._least
            and not self._rests["down"]
            and self._size >= 1.5 * cores >= 1.5 * self._suspect_cores
        ):
            size = max((self._size + 1) // 2, self._least)
            return self._begin(size, f"{said or wait}; {cores:.2g} cores may need no more")
        return Decision(self._size, said or f"{wait}, but other sizes were no better")

    def _begin(self, size: int, reason: str) -> Decision:
        self._trial = Trial(self._size, size, self._here)
        self._here = Window()
        return Decision(size, reason)


def _is_number(given: object) -> bool:
    """Whether it is finite; a bool is no number."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        return False
    return abs(given) <= sys.float_info.max  # an int can be larger than any float


def _checked_count(argument: str, given: object, least: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise InvalidOptionError(argument, given, f"an int of at least {least}")
    return given
