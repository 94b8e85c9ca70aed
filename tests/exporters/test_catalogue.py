"""``exporters.catalogue``: the metrics, as data."""

from __future__ import annotations

import re

import pytest

from tokengate_executor import RetryPolicy, SpikePolicy, TokenGateExecutor
from tokengate_executor.exporters.catalogue import CATALOGUE, HISTOGRAMS, Kind, Metric
from tokengate_executor.exporters.readers import Reader

BY_NAME = {metric.name: metric for metric in CATALOGUE}


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


def test_names_are_told_apart_by_every_exporter() -> None:
    """Also without dots, and without what counters and seconds end in."""
    names = [metric.name for metric in (*CATALOGUE, *HISTOGRAMS)]
    bare = [re.sub(r"_(total|seconds)$", "", name.replace(".", "_")) for name in names]
    assert len(set(bare)) == len(bare)
    assert all(re.fullmatch(r"tokengate(\.[a-z]+(_[a-z]+)*)+", name) for name in names)


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_metrics_are_whole(metric: Metric) -> None:
    """Words for people, distinct labels none of which is the executor's, a unit of the Unified Code."""
    assert metric.text
    assert metric.text[0].islower() or metric.text[0].isdigit()
    assert len({*metric.labels, "executor"}) == len(metric.labels) + 1
    assert re.fullmatch(r"|s|\{[a-z]+\}", metric.unit)


def test_every_metric_has_numbers_for_its_labels() -> None:
    """With all parts on there is something to tell of each; what is counted is a whole number."""
    with TokenGateExecutor(
        2,
        max_pending=5,
        limits={"db": 1},
        retry=RetryPolicy(attempts=2, on=ValueError, delay=0),
        spikes=SpikePolicy(),
        quarantine=True,
        log_unread_exceptions=False,
    ) as executor:
        executor.guard_house.open("mail")
        executor.submit(fail).exception(30)
        reader = Reader(executor, 10)
        reading = reader.read()
        assert reading is not None
        for metric in CATALOGUE:
            points = list(reader.points(metric, reading))
            assert points, metric.name
            assert len(dict(points)) == len(points)
            for labels, value in points:
                assert len(labels) == len(metric.labels)
                assert all(type(label) is str for label in labels)
                assert value >= 0
                assert metric.unit == "s" or type(value) is int
        assert (
            sum(value for _, value in reader.points(BY_NAME["tokengate.task.retries"], reading))
            == 1
        )


def test_the_counts_of_calls_add_up() -> None:
    """As the catalogue says: submitted are the refused, the unfinished and those at their end."""
    executor = TokenGateExecutor(1, max_pending=3, on_full="raise", log_unread_exceptions=False)
    executor.submit(fail).exception(30)
    executor.submit(int).result(30)
    executor.pause()
    kept = [executor.submit(int) for _ in range(3)]
    kept[0].cancel()
    executor.submit(int)
    with pytest.raises(RuntimeError):
        executor.submit(int)
    reader = Reader(executor, 10)
    reading = reader.read()
    assert reading is not None

    def total(name: str) -> float:
        return sum(value for _, value in reader.points(BY_NAME[name], reading))

    parts = ("tokengate.tasks.rejected", "tokengate.unfinished_tasks", "tokengate.tasks")
    assert [total(part) for part in parts] == [1, 3, 3]
    assert total("tokengate.tasks.submitted") == 7
    assert total("tokengate.queue.depth") == 3
    executor.shutdown()


def test_counters_are_those_that_only_grow() -> None:
    """Nothing that goes down is one: their names are Prometheus' ``_total``."""
    counters = {metric.name for metric in CATALOGUE if metric.kind is Kind.COUNTER}
    assert counters == {
        "tokengate.tasks.submitted",
        "tokengate.tasks.rejected",
        "tokengate.tasks",
        "tokengate.task.retries",
        "tokengate.started",
        "tokengate.steals",
    }
