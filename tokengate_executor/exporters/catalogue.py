"""The catalogue: every number that is exported, as data; each exporter makes its instruments of it.

Names are OpenTelemetry's, with dots. Prometheus's are made of them as OpenTelemetry says that it is
done, so they are the same by either way: ``tokengate.task.retries`` is ``tokengate_task_retries_total``,
and what is in seconds ends so.

How the counts of calls add up, at any quiet moment::

    tasks.submitted = tasks.rejected + unfinished_tasks + tasks     (each summed over its labels)

The words are those of Kubernetes' work queues, as far as they fit: ``unfinished_work`` and
``longest_running_task`` find calls that are stuck, which no count of finished ones does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tokengate_executor.exporters.points import (
    Point,
    Reading,
    by_word,
    circuits,
    depths,
    limits_waiting,
    one,
    outcomes,
    permits,
    quarantined,
    rejected,
    started,
    states,
    steals,
    workers,
)

__all__ = [
    "CATALOGUE",
    "HISTOGRAMS",
    "RUN_TIME",
    "WAIT_TIME",
    "HistogramMetric",
    "Kind",
    "Metric",
]


class Kind(Enum):
    """What may be done with a metric's numbers."""

    COUNTER = "it only grows"
    SUM = "its parts may be added up"
    GAUGE = "adding it up makes no sense"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: with dots.
        kind: see ``Kind``.
        unit: in the Unified Code for Units of Measure; in braces, what is counted.
        text: what it tells.
        labels: the names of its labels.
        points: its numbers, by labels. What is known to be there is there from the first, as 0.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    labels: tuple[str, ...]
    points: Callable[[Reading], Iterable[Point]]


@dataclass(frozen=True, slots=True)
class HistogramMetric:
    """One histogram, in seconds.

    Attributes:
        name, text: as ``Metric``'s.
    """

    name: str
    text: str


WAIT_TIME: Final = HistogramMetric(
    "tokengate.queue.wait", "how long calls waited, from submission to their first start"
)
RUN_TIME: Final = HistogramMetric(
    "tokengate.task.duration", "how long calls ran, in their last attempt"
)
HISTOGRAMS: Final = (WAIT_TIME, RUN_TIME)


CATALOGUE: Final = (
    Metric(
        "tokengate.tasks.submitted",
        Kind.COUNTER,
        "{task}",
        "calls that were submitted, those that were refused among them",
        (),
        one(lambda now: now.submitted),
    ),
    Metric(
        "tokengate.tasks.rejected",
        Kind.COUNTER,
        "{task}",
        "calls that were refused: too many waited, their operation was blocked, they were a spike",
        ("reason",),
        by_word(rejected),
    ),
    Metric(
        "tokengate.tasks",
        Kind.COUNTER,
        "{task}",
        "calls that came to their end; killed ones are cancelled",
        ("outcome",),
        by_word(outcomes),
    ),
    Metric(
        "tokengate.task.retries",
        Kind.COUNTER,
        "{attempt}",
        "how many times a call was tried again",
        (),
        one(lambda now: now.retries),
    ),
    Metric(
        "tokengate.unfinished_tasks",
        Kind.SUM,
        "{task}",
        "calls that were accepted and have not come to their end",
        ("state",),
        by_word(states),
    ),
    Metric(
        "tokengate.parked_tasks",
        Kind.SUM,
        "{task}",
        "waiting calls that no worker may start yet: a permit, their key or a resume is missing",
        (),
        one(lambda now: now.parked),
    ),
    Metric(
        "tokengate.queue.depth",
        Kind.SUM,
        "{task}",
        "waiting calls: in the lanes' mailboxes, and at the gate, for any lane that may run them",
        ("lane",),
        by_word(depths),
    ),
    Metric(
        "tokengate.queue.pending",
        Kind.SUM,
        "{task}",
        "waiting calls that max_pending counts",
        (),
        one(lambda now: now.pending),
    ),
    Metric(
        "tokengate.queue.capacity",
        Kind.SUM,
        "{task}",
        "how many of these there may be; not there without max_pending",
        (),
        one(lambda now: now.capacity),
    ),
    Metric(
        "tokengate.oldest_queued_task",
        Kind.GAUGE,
        "s",
        "for how long the oldest of the waiting calls has waited",
        (),
        one(lambda now: now.oldest_wait_seconds),
    ),
    Metric(
        "tokengate.longest_running_task",
        Kind.GAUGE,
        "s",
        "for how long the longest of the executing calls has run",
        (),
        one(lambda now: now.longest_running_seconds),
    ),
    Metric(
        "tokengate.unfinished_work",
        Kind.SUM,
        "s",
        "for how long all executing calls have run together; as fast as time does it grows if stuck",
        (),
        one(lambda now: now.unfinished_seconds),
    ),
    Metric(
        "tokengate.blocked_producers",
        Kind.SUM,
        "{thread}",
        "threads and coroutines that wait until they may submit",
        (),
        one(lambda now: now.blocked_producers),
    ),
    Metric(
        "tokengate.workers",
        Kind.SUM,
        "{thread}",
        "worker threads, by what they do: blocked ones run a call that waits for another, abandoned "
        "ones a call that was given up",
        ("state",),
        by_word(workers),
    ),
    Metric(
        "tokengate.spare_workers",
        Kind.SUM,
        "{thread}",
        "worker threads that stand in for one that is blocked or abandoned",
        (),
        one(lambda now: now.spare_workers),
    ),
    Metric(
        "tokengate.workers.limit",
        Kind.SUM,
        "{thread}",
        "how many calls may run at a time",
        (),
        one(lambda now: now.max_workers),
    ),
    Metric(
        "tokengate.started",
        Kind.COUNTER,
        "{attempt}",
        "attempts that were started",
        ("lane", "weight"),
        started,
    ),
    Metric(
        "tokengate.steals",
        Kind.COUNTER,
        "{task}",
        "calls that a lane took from another lane's mailbox",
        ("lane",),
        by_word(steals),
    ),
    Metric(
        "tokengate.limit.permits",
        Kind.GAUGE,
        "{permit}",
        "permits of a limit: used and free now, and at most; those of a rate limit are used until "
        "time brings them back",
        ("limit", "state"),
        permits,
    ),
    Metric(
        "tokengate.limit.waiting",
        Kind.SUM,
        "{task}",
        "calls that wait for a permit",
        ("limit",),
        by_word(limits_waiting),
    ),
    Metric(
        "tokengate.circuit.state",
        Kind.SUM,
        "{circuit}",
        "1 for the state that an operation's circuit is in; for the operation other, how many",
        ("operation", "state"),
        circuits,
    ),
    Metric(
        "tokengate.quarantined_calls",
        Kind.SUM,
        "{call}",
        "calls in the quarantine; not there while its file cannot be read",
        ("status",),
        quarantined,
    ),
    Metric(
        "tokengate.paused",
        Kind.GAUGE,
        "",
        "1 while nothing may start",
        (),
        one(lambda now: int(now.is_paused)),
    ),
    Metric(
        "tokengate.paused_operations",
        Kind.SUM,
        "{operation}",
        "operations of which nothing may start",
        (),
        one(lambda now: len(now.paused_operations)),
    ),
    Metric(
        "tokengate.draining",
        Kind.GAUGE,
        "",
        "1 while nothing is accepted until it is resumed",
        (),
        one(lambda now: int(now.is_draining)),
    ),
    Metric(
        "tokengate.shut_down",
        Kind.GAUGE,
        "",
        "1 when nothing is accepted any more",
        (),
        one(lambda now: int(now.is_shutdown)),
    ),
    Metric(
        "tokengate.uptime",
        Kind.GAUGE,
        "s",
        "since the executor was made",
        (),
        one(lambda now: now.uptime_seconds),
    ),
)
"""The metrics, in the order in which they are exported."""
