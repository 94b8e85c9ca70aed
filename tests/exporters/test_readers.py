"""``exporters.readers``: executors are asked, and not held."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tokengate_executor import CircuitState, InvalidOptionError, TokenGateExecutor
from tokengate_executor.exporters.catalogue import CATALOGUE
from tokengate_executor.exporters.readers import OTHER, Reader, Readers, told_of

SUBMITTED = next(metric for metric in CATALOGUE if metric.name == "tokengate.tasks.submitted")
DEPTH = next(metric for metric in CATALOGUE if metric.name == "tokengate.queue.pending")


@pytest.fixture
def executor() -> Iterator[TokenGateExecutor]:
    """Yield one with a name."""
    with TokenGateExecutor(1, "mail") as made:
        yield made


# -- counters -------------------------------------------------------------------------------------


def test_counters_are_never_less_than_before(executor: TokenGateExecutor) -> None:
    """What is short of something for a moment is told as it was; other numbers go down as they do."""
    reader = Reader(executor, 0)
    reading = reader.read()
    assert reading is not None
    for said, told in ((5, 5), (3, 5), (6, 6), (0, 6)):
        now = replace(reading, statistics=replace(reading.statistics, submitted=said, pending=said))
        assert list(reader.points(SUBMITTED, now)) == [((), told)]
        assert list(reader.points(DEPTH, now)) == [((), said)]


def test_each_reader_remembers_for_itself_and_children_begin_anew(
    executor: TokenGateExecutor,
) -> None:
    """Two exporters do not share counts; ``renew`` is what a forked child gets."""
    first, second = Reader(executor, 0), Reader(executor, 0)
    reading = first.read()
    assert reading is not None
    many = replace(reading, statistics=replace(reading.statistics, submitted=9))
    assert list(first.points(SUBMITTED, many)) == [((), 9)]
    assert list(second.points(SUBMITTED, reading)) == [((), 0)]
    assert list(first.points(SUBMITTED, reading)) == [((), 9)]
    first.renew()
    assert list(first.points(SUBMITTED, reading)) == [((), 0)]


# -- circuits -------------------------------------------------------------------------------------


def test_circuits_that_are_not_closed_come_first(executor: TokenGateExecutor) -> None:
    """So many are told of by name, the rest is counted, and one whose name is that of the rest."""
    house = executor.guard_house
    for number in range(6):
        house.close(f"closed {number}")
    for name in ("z", "a", OTHER):
        house.open(name)
    circuits = house.states()
    assert told_of(circuits, 3) == {
        "a": {CircuitState.OPEN: 1},
        "z": {CircuitState.OPEN: 1},
        "closed 0": {CircuitState.CLOSED: 1},
        OTHER: {CircuitState.OPEN: 1, CircuitState.CLOSED: 5},
    }
    assert told_of(circuits, 0) == {OTHER: {CircuitState.OPEN: 3, CircuitState.CLOSED: 6}}
    assert len(told_of(circuits, 8)) == 9


def test_no_circuits() -> None:
    """Nothing is told of what does not exist."""
    assert told_of({}, 5) == {}
    with TokenGateExecutor(1) as executor:
        executor.guard_house.open("mail")
        assert told_of(executor.guard_house.states(), 1) == {"mail": {CircuitState.OPEN: 1}}


# -- the quarantine --------------------------------------------------------------------------------


def test_a_quarantine_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All else is read; it is logged once, and once more when it happens again."""
    path = tmp_path / "quarantine.db"
    with TokenGateExecutor(1, "mail", quarantine=path) as executor:
        reader = Reader(executor, 0)
        executor.quarantine.counts()

        def read(*, times: int) -> list[bool]:
            readings = [reader.read() for _ in range(times)]
            assert all(one is not None and one.statistics.submitted == 0 for one in readings)
            return [one is not None and one.quarantined is not None for one in readings]

        assert read(times=1) == [True]
        path.rename(tmp_path / "elsewhere.db")
        assert read(times=3) == [False] * 3
        (tmp_path / "elsewhere.db").rename(path)
        assert read(times=1) == [True]
        path.rename(tmp_path / "elsewhere.db")
        assert read(times=2) == [False] * 2
        (tmp_path / "elsewhere.db").rename(path)
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in logged] == ["tokengate_executor"] * 2
    assert "mail: quarantined calls are not exported" in logged[0].getMessage()


# -- who is read ----------------------------------------------------------------------------------


def test_executors_that_are_gone_are_not_read() -> None:
    """They are not held; whoever is left is read."""
    readers = Readers()
    kept, lost = TokenGateExecutor(1, "kept"), TokenGateExecutor(1, "lost")
    readers.add(kept, 5)
    readers.add(lost, 5)
    assert [reader.name for reader, _ in readers.read()] == ["kept", "lost"]
    ((reader, _),) = [pair for pair in readers.read() if pair[0].name == "lost"]
    del lost
    gc.collect()
    assert [one.name for one, _ in readers.read()] == ["kept"]
    assert reader.read() is None
    assert reader.histograms() == {}
    readers.add(TokenGateExecutor(1, "lost"), 5)
    kept.shutdown()


def test_names_are_told_apart(executor: TokenGateExecutor) -> None:
    """Not two of one name, nor one twice; one that was shut down makes way, one that is gone, too."""
    readers = Readers()
    readers.add(executor, 5)
    with pytest.raises(InvalidOptionError, match="name"):
        readers.add(executor, 5)
    with (
        TokenGateExecutor(1, "mail") as other,
        pytest.raises(InvalidOptionError, match="thread_name_prefix"),
    ):
        readers.add(other, 5)
    executor.shutdown()
    with TokenGateExecutor(1, "mail") as next_one:
        next_one.submit(int).result(30)
        readers.add(next_one, 5)
        ((_, reading),) = readers.read()
        assert reading.statistics.submitted == 1


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "5", None])
def test_wrong_numbers_of_operations(executor: TokenGateExecutor, wrong: object) -> None:
    """They are named."""
    with pytest.raises(InvalidOptionError, match="operations must be an int of at least 0"):
        Readers().add(executor, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, "mail", object()])
def test_wrong_executors(wrong: object) -> None:
    """They are named."""
    with pytest.raises(InvalidOptionError, match="executor must be a TokenGateExecutor"):
        Readers().add(wrong, 5)  # type: ignore[arg-type]
