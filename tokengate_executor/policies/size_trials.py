"""Trials of another number of workers: what was seen before, what since, and whether more gets done.

The throughput decides, once each worker has ended enough calls for it to mean something. Where calls are
too long for that, it is the CPU time that they get: workers that get more of it do more. Where there is
little of that, too, the calls wait for something else than this machine, and more can wait at a time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Sample", "Trial", "Window"]

ENOUGH_CALLS: Final = 8
"""Calls of each worker, on average, without which throughput says nothing: its error may be 1 / 8."""

WORTH_KEEPING: Final = 0.12
"""What share of the gain of perfect scaling more workers must bring; fewer may lose less than that."""

CLEAR: Final = 0.5
LITTLE: Final = 0.06
"""From the one share on, or up to the other, a first look at calls is believed."""

BLOCKED_CORES: Final = 0.1
"""Calls that use less CPU than this all together block."""

ANOTHER_CORES: Final = 0.3
ANOTHER_SHARE: Final = 0.5
"""A load is another one when its CPU time per second changed by so many cores, and by this share."""

MANY_CALLS: Final = 30
LEAST_COST_SECONDS: Final = 0.0002
"""Or when the CPU time of a call, the mean of so many calls, is twice or half what it was, and so much
more or less."""

SHORT_TRIAL: Final = 4
LONGEST_TRIAL: Final = 20
LONGEST_WINDOW: Final = 10
"""In intervals: a trial that is not clear at the first look, one without a verdict, and what is
remembered of a size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen since the sample before.

    Attributes:
        seconds: how long that was, above 0.
        workers: how many there were to be. Spare workers, and those that leave, are not counted.
        used: how many of all workers ran something.
        busy_seconds: wall time of calls, summed, without those that waited for other calls.
        cpu_seconds: CPU time of the workers, summed.
        completions: how many attempts ended.
        depth: how many calls wait for a worker now. Those that wait for something else do not count.
        wait_seconds: for how long the oldest of these has waited.
    """

    seconds: float
    workers: int
    used: int
    busy_seconds: float
    cpu_seconds: float
    completions: int
    depth: int
    wait_seconds: float

    @property
    def busy_share(self) -> float:
        """The workers' time that was spent in calls, from 0 to 1, as a share."""
        return min(1.0, self.busy_seconds / (self.seconds * max(1, self.workers)))

    @property
    def cores(self) -> float:
        """How many cores the calls kept busy on average."""
        return self.cpu_seconds / self.seconds

    @property
    def cpu_share(self) -> float:
        """The calls' time that was spent on a CPU, from 0 to 1, as a share."""
        return min(1.0, self.cpu_seconds / self.busy_seconds) if self.busy_seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.workers} workers, {self.busy_share:.0%} busy on {self.cores:.2f} cores; "
            f"{self.completions / self.seconds:.4g} calls/s; "
            f"{self.depth} wait, {self.wait_seconds:.3g} s"
        )


class Window:
    """The last samples of one size."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=LONGEST_WINDOW)

    @property
    def seconds(self) -> float:
        """How long they were."""
        return math.fsum(sample.seconds for sample in self.samples)

    @property
    def completions(self) -> int:
        """How many attempts ended."""
        return sum(sample.completions for sample in self.samples)

    @property
    def throughput(self) -> float:
        """How many attempts ended in a second."""
        return self.completions / self.seconds

    @property
    def cores(self) -> float:
        """How many cores the calls kept busy on average."""
        return math.fsum(sample.cpu_seconds for sample in self.samples) / self.seconds

    def is_unlike(self, sample: Sample) -> bool:
        """Whether another sample of this size is so unlike these that it cannot be chance."""
        cores = self.cores
        if abs(sample.cores - cores) > max(ANOTHER_CORES, ANOTHER_SHARE * cores):
            return True
        if min(self.completions, sample.completions) < MANY_CALLS:
            return False
        before, now = cores / self.throughput, sample.cpu_seconds / sample.completions
        return max(before, now) > 2 * min(before, now) + LEAST_COST_SECONDS


class Trial:
    """Another size, until it is known whether it is better.

    Attributes:
        before, size: the sizes.
        here, there: what was seen with the first, and with the second.
        looks: how many samples there were since it began.
    """

    def __init__(self, before: int, size: int, here: Window) -> None:
        self.before, self.size = before, size
        self.here, self.there = here, Window()
        self.looks = 0

    @property
    def is_up(self) -> bool:
        """Whether more workers are tried."""
        return self.size > self.before

    @property
    def is_of_blocking_calls(self) -> bool:
        """Whether the calls hardly used the CPU before."""
        return self.here.cores < BLOCKED_CORES

    def look(self, sample: Sample) -> None:
        """Take what was seen into account, unless those who are to leave are still at work."""
        self.looks += 1
        if self.is_up or sample.busy_seconds <= sample.seconds * (self.size + 0.5):
            self.there.samples.append(sample)

    def verdict(self) -> tuple[bool | None, str]:
        """Whether the new size is to stay, ``None``: it is too early to tell; and why."""
        if not self.there.samples:
            return None, "those who are to leave are still at work"
        is_known = self.here.completions >= ENOUGH_CALLS * self.before
        by_calls = is_known and self.there.completions >= ENOUGH_CALLS * self.size
        if by_calls:
            gain = self.there.throughput / self.here.throughput - 1.0
            said = f"calls per second {gain:+.0%}"
        elif self.is_up and self.is_of_blocking_calls:
            return True, "the calls block"
        else:
            gain = self.there.cores / self.here.cores - 1.0 if self.here.cores else 0.0
            said = f"CPU time {gain:+.0%}"
        scaling = gain / (self.size / self.before - 1.0)
        is_sure = scaling >= CLEAR or scaling <= (LITTLE if by_calls else WORTH_KEEPING)
        # Calls may still be too few to be counted, but if those before were, that does not change.
        if not is_sure and (self.looks < SHORT_TRIAL or is_known != by_calls):
            return None, said
        return (scaling >= WORTH_KEEPING) == self.is_up, said
