"""``exporters.prometheus``: what a scrape of an executor says."""

from __future__ import annotations

import gc
import importlib
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest

pytest.importorskip(
    "prometheus_client",
    reason="prometheus-client is not installed: nothing of what Prometheus scrapes is tested",
)

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parsed_as_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parsed

from tokengate_executor import (
    BreakerPolicy,
    ExecutorStatistics,
    GateFullError,
    InvalidOptionError,
    RateLimit,
    RetryPolicy,
    Token,
    TokenGateExecutor,
)
from tokengate_executor.exporters.prometheus import PrometheusCollector

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]

TWICE = RetryPolicy(attempts=2, on=ValueError, delay=0, budget=None)


class Scraper:
    """A registry with one collector, and a server that scrapes it."""

    def __init__(self, *executors: TokenGateExecutor, operations: int = 50) -> None:
        self.collector = PrometheusCollector(*executors, operations=operations)
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def scrape(self) -> Numbers:
        """What the exposition says, through the parser."""
        text = generate_latest(self.registry).decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parsed(text)
            for sample in family.samples
        }

    def number(self, name: str, **labels: str) -> float:
        """One number of a scrape."""
        return self.scrape()[f"tokengate_{name}", frozenset(labels.items())]

    def by(self, label: str, name: str, **others: str) -> dict[str, float]:
        """The numbers of a metric, by one of its labels."""
        return {
            dict(labels)[label]: value
            for (found, labels), value in self.scrape().items()
            if found == f"tokengate_{name}" and others.items() <= dict(labels).items()
        }


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


@pytest.fixture
def release() -> Iterator[Event]:
    """Yield what held calls wait for; let them go in the end."""
    event = Event()
    yield event
    event.set()


@pytest.fixture
def executor() -> Iterator[TokenGateExecutor]:
    """Yield one named mail."""
    with TokenGateExecutor(
        2, "mail", lanes=2, retry=TWICE, max_pending=3, on_full="raise", log_unread_exceptions=False
    ) as made:
        yield made


# -- registering -----------------------------------------------------------------------------------


def test_registering_asks_nobody(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry learns the names from ``describe``, and all that is scraped has been described."""
    asked: list[str] = []

    def statistics() -> ExecutorStatistics:
        asked.append("statistics")
        return TokenGateExecutor.statistics(executor)

    monkeypatch.setattr(executor, "statistics", statistics, raising=False)
    scraper = Scraper(executor)
    assert not asked
    described = {family.name for family in scraper.collector.describe()}
    assert {family.name for family in scraper.registry.collect()} <= described
    assert asked == ["statistics"]
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        scraper.registry.register(PrometheusCollector())


def test_both_formats_are_sound(executor: TokenGateExecutor) -> None:
    """Neither parser finds fault: no two metrics have one name, counters and histograms are whole."""
    executor.guard_house.open('mail "quoted"\\\n')
    executor.submit(int).result(30)
    scraper = Scraper(executor)
    text = openmetrics.generate_latest(scraper.registry).decode()
    families = list(parsed_as_openmetrics(text))
    assert len({family.name for family in families}) == len(families) > 20
    is_open = scraper.by("operation", "circuit_state", state="open")
    assert is_open == {'mail "quoted"\\\n': 1, "builtins.int": 0}


def test_the_page_names_every_metric() -> None:
    """And none that does not exist."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "prometheus.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = {name for row in rows for name in re.findall(r"`(tokengate_\w+)`", row)}
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in PrometheusCollector().describe()
    }
    assert named == exposed


# -- numbers --------------------------------------------------------------------------------------


def test_it_says_what_the_statistics_say(executor: TokenGateExecutor, release: Event) -> None:
    """At a quiet moment each number is theirs, and the counts of calls add up."""
    scraper = Scraper(executor)
    executor.submit(int).result(30)
    executor.submit(fail).exception(30)
    started = threading.Barrier(3)

    def stay() -> None:
        started.wait(30)
        release.wait(30)

    running: list[Token[Any]] = [
        executor.options(weight="light").submit(stay),
        executor.submit(stay),
    ]
    started.wait(30)
    waiting = [executor.submit(int) for _ in range(3)]
    with pytest.raises(GateFullError):
        executor.submit(int)
    waiting.pop().cancel()
    now = executor.statistics()

    def number(name: str, **labels: str) -> float:
        return scraper.number(name, executor="mail", **labels)

    assert number("tasks_submitted_total") == now.submitted == 8
    assert number("tasks_rejected_total", reason="full") == now.rejected == 1
    assert number("tasks_rejected_total", reason="spike") == 0
    assert number("task_retries_total") == now.retries == 1
    outcomes = scraper.by("outcome", "tasks_total")
    assert outcomes == {"completed": 1, "failed": 1, "cancelled": 1, "timed_out": 0}
    states = scraper.by("state", "unfinished_tasks")
    assert states == {"waiting": 2, "executing": 2, "retrying": 0, "quarantined": 0}
    assert now.submitted == now.rejected + sum(outcomes.values()) + sum(states.values())
    assert sum(scraper.by("lane", "queue_depth").values()) == now.waiting
    assert (number("queue_pending"), number("queue_capacity")) == (2, 3)
    assert scraper.by("state", "workers") == {"idle": 0, "busy": 2, "blocked": 0, "abandoned": 0}
    assert (number("workers_limit"), number("spare_workers")) == (2, 0)
    assert number("oldest_queued_task_seconds") >= now.oldest_wait_seconds > 0
    assert number("longest_running_task_seconds") >= now.longest_running_seconds > 0
    assert number("unfinished_work_seconds") >= now.unfinished_seconds
    assert number("uptime_seconds") >= now.uptime_seconds
    weights = [lane.started_by_weight for lane in now.lanes]
    for lane, by_weight in enumerate(weights, 1):
        assert scraper.by("weight", "started_total", lane=str(lane)) == by_weight
    assert sum(by_weight["light"] for by_weight in weights) == 1
    assert scraper.by("lane", "steals_total") == {str(n.number): n.stolen for n in now.lanes}
    release.set()
    assert not wait([*running, *waiting], timeout=30).not_done


def test_steering(executor: TokenGateExecutor) -> None:
    """What is paused, drained and shut down."""
    scraper = Scraper(executor)

    def flags() -> list[float]:
        names = ("paused", "paused_operations", "draining", "shut_down")
        return [scraper.number(name, executor="mail") for name in names]

    assert flags() == [0, 0, 0, 0]
    executor.pause()
    executor.pause("builtins.int")
    token = executor.submit(int)
    assert flags() == [1, 1, 0, 0]
    executor.resume()
    executor.resume("builtins.int")
    token.result(30)
    executor.drain()
    assert flags() == [0, 0, 1, 0]
    executor.shutdown()
    assert flags() == [0, 0, 0, 1]


def test_limits() -> None:
    """Used and free permits make the most that there are, of both kinds."""
    limits: dict[str, int | RateLimit] = {"db": 2, "api": RateLimit(0.001, burst=4)}
    with TokenGateExecutor(1, "mail", limits=limits) as executor:
        scraper = Scraper(executor)
        executor.options(limits=("db", "api")).submit(int).result(30)
        used = scraper.by("limit", "limit_permits", state="used")
        assert used == {"db": 0, "api": 1}
        free = scraper.by("limit", "limit_permits", state="free")
        most = scraper.by("limit", "limit_permits", state="max")
        assert {name: used[name] + free[name] for name in used} == most == {"db": 2, "api": 4}
        assert scraper.by("limit", "limit_waiting") == {"db": 0, "api": 0}


def test_histograms(executor: TokenGateExecutor) -> None:
    """By lane; cumulative, the last bucket has all, the sum is in seconds."""
    scraper = Scraper(executor)
    for _ in range(20):
        executor.submit(int).result(30)
    measured = executor.histograms()
    for name, kind in (("queue_wait_seconds", "wait"), ("task_duration_seconds", "run")):
        counts = scraper.by("lane", f"{name}_count")
        assert sum(counts.values()) == 20
        sums = scraper.by("lane", f"{name}_sum")
        for lane, of_lane in measured.items():
            histogram = getattr(of_lane, kind)
            buckets = scraper.by("le", f"{name}_bucket", lane=str(lane))
            assert [float(bound) for bound in buckets] == [*histogram.bounds, math.inf]
            values = list(buckets.values())
            assert values == sorted(values)
            assert values[-1] == counts[str(lane)] == histogram.count
            assert values[0] == histogram.counts[0]
            assert sums[str(lane)] == histogram.total_seconds


def test_counters_never_go_down_and_are_right_in_the_end() -> None:
    """Scraped all the time while calls fail, are tried again, cancelled and refused."""
    executor = TokenGateExecutor(
        4, "mail", retry=TWICE, max_pending=50, on_full="raise", log_unread_exceptions=False
    )
    scraper = Scraper(executor)
    submitted = 0
    ended = Event()
    calls: tuple[Callable[[], object], ...] = (int, fail, int)
    views = [executor, executor.options(weight="light"), executor.options(weight="heavy")]

    def produce() -> None:
        nonlocal submitted
        try:
            for number in range(20_000):
                submitted += 1
                try:
                    token = views[number % 3].submit(calls[number % 3])
                except GateFullError:
                    continue
                if number % 5 == 0:
                    token.cancel()
        finally:
            ended.set()

    def counters() -> Numbers:
        monotone = ("_total", "_count", "_sum", "_bucket")
        return {key: value for key, value in scraper.scrape().items() if key[0].endswith(monotone)}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    producer = threading.Thread(target=produce)
    producer.start()
    try:
        before = counters()
        is_over = False
        while not is_over:
            is_over = ended.is_set()
            now = counters()
            assert now.keys() >= before.keys()
            assert all(now[key] >= value for key, value in before.items())
            said = now["tokengate_tasks_submitted_total", frozenset({("executor", "mail")})]
            assert said <= submitted
            before = now
    finally:
        producer.join(30)
        sys.setswitchinterval(interval)
        executor.shutdown()
    end = executor.statistics()
    assert scraper.number("tasks_submitted_total", executor="mail") == end.submitted == submitted
    assert scraper.by("outcome", "tasks_total") == {
        "completed": end.completed,
        "failed": end.failed,
        "cancelled": end.cancelled,
        "timed_out": 0,
    }
    started = scraper.by("weight", "started_total", lane="1")
    assert started == end.lanes[0].started_by_weight


# -- under load -----------------------------------------------------------------------------------


def test_a_saturated_executor_is_scraped_and_goes_on(release: Event) -> None:
    """All workers busy, thousands waiting, producers blocked: nobody waits for the other."""
    with TokenGateExecutor(32, "mail", max_pending=3000, limits={"db": 1}) as executor:
        scraper = Scraper(executor)
        started = threading.Barrier(33)

        def stay() -> None:
            started.wait(30)
            release.wait(30)

        tokens: list[Token[Any]] = [executor.submit(stay) for _ in range(32)]
        started.wait(30)
        limited = executor.options(limits=("db",))
        tokens += [limited.submit(int) for _ in range(3000)]
        producer = threading.Thread(target=executor.submit, args=(int,))
        producer.start()
        deadline = time.monotonic() + 30  # who blocks tells nobody
        while not executor.statistics().blocked_producers:
            assert time.monotonic() < deadline
        assert scraper.number("blocked_producers", executor="mail") == 1
        assert scraper.by("state", "workers")["busy"] == 32
        assert scraper.by("state", "unfinished_tasks")["waiting"] == 3000
        release.set()
        while wait(tokens, timeout=0).not_done:
            scraper.scrape()
        producer.join(30)
        assert not producer.is_alive()


def test_labels_are_bounded() -> None:
    """Of 5,000 operations so many are told of by name, those that are blocked; the rest is counted."""
    with TokenGateExecutor(2, "mail", breaker=BreakerPolicy(), log_unread_exceptions=False) as made:
        views = [made.options(operation=f"operation {number}") for number in range(5000)]
        for token in [view.submit(fail) for view in views]:
            token.exception(30)
        for number in (4997, 4999):
            made.guard_house.open(f"operation {number}")
        scraper = Scraper(made, operations=10)
        known = len(made.guard_house.circuits())
        assert known > 500
        is_open = scraper.by("operation", "circuit_state", state="open")
        assert len(is_open) == 11
        assert {name for name, value in is_open.items() if value} == {
            "operation 4997",
            "operation 4999",
        }
        is_closed = scraper.by("operation", "circuit_state", state="closed")
        assert is_closed["other"] == known - 10
        assert sum(is_closed.values()) == known - 2
        assert len(scraper.scrape()) < 500


# -- executors ------------------------------------------------------------------------------------


def test_several_executors_and_one_that_is_gone() -> None:
    """Each has its label; the collector keeps none; more can be added, in the place of one gone, too."""
    kept, lost = TokenGateExecutor(1, "kept"), TokenGateExecutor(1, "lost")
    scraper = Scraper(kept, lost)
    kept.submit(int).result(30)
    assert scraper.by("executor", "tasks_submitted_total") == {"kept": 1, "lost": 0}
    del lost
    gc.collect()
    assert scraper.by("executor", "tasks_submitted_total") == {"kept": 1}
    assert scraper.by("executor", "task_duration_seconds_count") == {"kept": 1}
    with TokenGateExecutor(1, "lost") as added:
        scraper.collector.add(added)
        assert scraper.by("executor", "tasks_submitted_total") == {"kept": 1, "lost": 0}
        with pytest.raises(InvalidOptionError, match="name"):
            scraper.collector.add(added)
    kept.shutdown()
    del kept, added
    gc.collect()
    assert scraper.scrape() == {}


def test_a_quarantine_that_cannot_be_read_fails_no_scrape(tmp_path: Path) -> None:
    """That metric is left out, all others are there."""
    path = tmp_path / "quarantine.db"
    with TokenGateExecutor(1, "mail", quarantine=path) as executor:
        scraper = Scraper(executor)
        statuses = scraper.by("status", "quarantined_calls")
        assert statuses == {"pending": 0, "approved": 0, "rejected": 0, "replayed": 0}
        path.rename(tmp_path / "elsewhere.db")
        assert scraper.by("status", "quarantined_calls") == {}
        assert scraper.number("workers_limit", executor="mail") == 1
        (tmp_path / "elsewhere.db").rename(path)


@pytest.mark.parametrize("wrong", [-1, True, "5"])
def test_wrong_arguments(wrong: object) -> None:
    """They are named, also before there is an executor."""
    with pytest.raises(InvalidOptionError, match="operations"):
        PrometheusCollector(operations=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="TokenGateExecutor"):
        PrometheusCollector(wrong)  # type: ignore[arg-type]


# -- without the library ---------------------------------------------------------------------------


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "tokengate_executor.exporters.prometheus")
    with pytest.raises(ImportError, match=r'pip install "tokengate-executor\[prometheus\]"'):
        importlib.import_module("tokengate_executor.exporters.prometheus")


def test_the_package_imports_no_exporter() -> None:
    """Nor any of their libraries."""
    script = (
        "import sys, tokengate_executor\n"
        "unwanted = ('tokengate_executor.exporters', 'prometheus_client', 'opentelemetry')\n"
        "sys.exit(any(name.startswith(unwanted) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)
