"""``engine.tally``: counts by reason that no thread waits for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from tokengate_executor.engine.tally import Tally


@pytest.fixture
def rapid_switches() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_it_counts_by_reason() -> None:
    """What was added is there, once each."""
    tally = Tally()
    assert tally.counts() == {}
    for reason in ("full", "blocked", "full"):
        tally.add(reason)
    assert tally.counts() == {"full": 2, "blocked": 1}
    tally.add("full")
    assert tally.counts() == {"full": 3, "blocked": 1}


def test_it_does_not_grow() -> None:
    """Much that was added and never asked for takes no more room than a little."""
    tally = Tally()
    for _ in range(10_000):
        tally.add("full")
    assert len(tally._new) < 2_000
    assert tally.counts() == {"full": 10_000}


def test_who_adds_does_not_wait() -> None:
    """While somebody folds, as a finaliser may find, more is added; nothing is lost."""
    tally = Tally()
    with tally._lock:
        for _ in range(5_000):
            tally.add("full")
    assert tally.counts() == {"full": 5_000}


@pytest.mark.usefixtures("rapid_switches")
def test_many_threads() -> None:
    """Adders and readers at once: the readers see it grow only, and in the end it is exact."""
    tally = Tally()
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(sum(tally.counts().values()))

    def add(reason: str) -> None:
        for _ in range(3_000):
            tally.add(reason)

    reader = threading.Thread(target=read)
    adders = [threading.Thread(target=add, args=(f"r{i % 2}",)) for i in range(4)]
    for thread in (reader, *adders):
        thread.start()
    for thread in adders:
        thread.join()
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert tally.counts() == {"r0": 6_000, "r1": 6_000}
