"""What a demo came to: as a report for people, and as JSON for scripts."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from tokengate_executor import Topology

from .measures import concurrency_ratio, most_at_once, overlap
from .report import lane_as_json
from .sheets import heading, number_of, paced_verdict, paragraph, terms, verdict, ways_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .ways import Measured
    from .work import JsonObject, JsonValue

__all__ = ["Outcome", "usable_cores"]

_NOISE: Final = (
    "The ways ran one after the other, and whatever else the machine did meanwhile counts: a few per "
    "cent are noise, on a busy machine far more."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo came to.

    Attributes:
        demo: its name.
        title: what it is, in a line.
        about: what was done.
        workers: of the executors.
        options: what it was asked for, ``seed`` among it.
        ways: the same job in each way, the plain loop first and ours last.
        body: the lines that only this demo has, for so many columns.
        paced: after how many seconds the last tasks were due, if they came at a given pace.
        details: the same for JSON.
        others: further jobs, each in all ways.
    """

    demo: str
    title: str
    about: str
    workers: int
    options: JsonObject
    ways: Sequence[Measured]
    body: Callable[[int], list[str]]
    paced: float | None = None
    details: JsonObject = field(default_factory=dict[str, "JsonValue"])
    others: Mapping[str, Sequence[Measured]] = field(
        default_factory=dict[str, "Sequence[Measured]"]
    )

    @property
    def agrees(self) -> bool:
        """Whether each job came to the same in all ways."""
        return all(run.results == ways[0].results for ways in self._all_ways() for run in ways)

    @property
    def failed(self) -> int:
        """How many tasks raised, in all ways together."""
        return sum(run.failed for ways in self._all_ways() for run in ways)

    def lines(self, columns: int) -> list[str]:
        """Return the report."""
        cores = usable_cores()
        return [
            *heading(self.title, columns),
            *paragraph(self.about, columns),
            self._where(cores),
            "",
            *self.body(columns),
            "",
            "The same work, way by way:",
            *ways_table(self.ways, cores),
            "",
            *paragraph(self._verdict(cores), columns),
            *paragraph(_NOISE, columns),
            "",
            *terms(),
        ]

    def _where(self, cores: int) -> str:
        workers = number_of(self.workers, "worker")
        may_use = number_of(cores, "core")
        return f"{workers}, seed {self.options['seed']}; {_python()}, which may use {may_use}."

    def _verdict(self, cores: int) -> str:
        if self.paced is None:
            return verdict(self.ways, cores)
        return paced_verdict(self.ways, self.paced)

    def as_json(self) -> JsonObject:
        """Return the report as an object; times are in seconds."""
        return {
            "format": "tokengate-demo",
            "format_version": 1,
            "demo": self.demo,
            "python": _python(),
            "platform": platform.platform(),
            "usable_cores": usable_cores(),
            "options": self.options,
            "agree": self.agrees,
            "failed_tasks": self.failed,
            "ways": _ways_as_json(self.ways),
            "others": {name: _ways_as_json(ways) for name, ways in self.others.items()},
            "details": self.details,
        }

    def _all_ways(self) -> list[Sequence[Measured]]:
        return [self.ways, *self.others.values()]


def usable_cores() -> int:
    """Return how many cores this process may keep busy."""
    return Topology.detect().usable_cores


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _ways_as_json(ways: Sequence[Measured]) -> list[JsonValue]:
    return [_way_as_json(run, ways[0]) for run in ways]


def _way_as_json(run: Measured, loop: Measured) -> JsonObject:
    lanes = () if run.statistics is None else run.statistics.lanes
    return {
        "way": run.way,
        "workers": run.workers,
        "wall_seconds": run.seconds,
        "cpu_seconds": run.cpu_seconds,
        "cpu_use": run.cpu_use,
        "speed_up": loop.seconds / run.seconds,
        "concurrency_ratio": concurrency_ratio(run.spans, run.seconds),
        "overlap": overlap(run.spans, run.seconds),
        "most_at_once": most_at_once(run.spans),
        "threads": run.threads,
        "failed_tasks": run.failed,
        "task_seconds": {**asdict(run.task_seconds())},
        "latency_seconds": {**asdict(run.latency())},
        "results": run.results,
        "tasks": [
            {
                "operation": task.call.operation,
                "due": round(task.due, 6),
                "submitted": round(task.submitted, 6),
                "accepted": round(task.accepted, 6),
                "started": round(task.started, 6),
                "ended": round(task.ended, 6),
                "failed": task.failed,
            }
            for task in run.tasks
        ],
        "lanes": [lane_as_json(lane) for lane in lanes],
    }
