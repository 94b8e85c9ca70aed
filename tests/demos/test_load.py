"""The made-up load: what comes is decided by a seed, and it ends at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from inspect import signature
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tokengate_executor import TokenGateExecutor
from tokengate_executor.demos.load import (
    KINDS,
    LAUNCHES,
    Load,
    call_partner,
    export_report,
    import_feed,
    jobs,
    query_database,
    send_mail,
    shop_executor,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a load brings about sooner or later."""
    deadline = time.monotonic() + 30
    beat = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        beat.wait(0.01)


# What comes


def test_the_same_seed_is_the_same_load() -> None:
    """Operations, arguments and gaps; another seed is another load."""
    assert list(islice(jobs(7), 500)) == list(islice(jobs(7), 500))
    assert list(islice(jobs(7), 500)) != list(islice(jobs(8), 500))


def test_every_operation_comes() -> None:
    """As often as its share says, more or less."""
    counts = Counter(job.operation for job in islice(jobs(1), 5000))
    whole = sum(kind.share for kind in KINDS.values())
    assert counts.keys() == KINDS.keys()
    for operation, kind in KINDS.items():
        assert counts[operation] == pytest.approx(5000 * kind.share / whole, rel=0.3)


def test_gaps() -> None:
    """Their mean is about one, none is very long, and now and then many calls come at once."""
    gaps = [job.gap for job in islice(jobs(1), 3000)]
    usual = [gap for gap in gaps if gap]
    assert sum(usual) / len(usual) == pytest.approx(1.0, rel=0.1)
    assert max(gaps) <= 4.0
    assert gaps[240:300] == [0.0] * 60


@pytest.mark.parametrize("operation", list(KINDS))
def test_arguments_suit(operation: str) -> None:
    """Each function can be called with what is made for it."""
    parameters = signature(KINDS[operation].function)
    found = [job.arguments for job in islice(jobs(3), 400) if job.operation == operation]
    assert found
    for arguments in found:
        parameters.bind(*arguments)


def test_what_computes_is_short() -> None:
    """A load is to be watched at, not to keep the machine busy."""
    began = time.thread_time()
    for job in islice(jobs(5), 400):
        if job.operation in ("shop.prices.look_up", "shop.pages.render", "shop.photos.resize"):
            KINDS[job.operation].function(*job.arguments)
    assert (time.thread_time() - began) / 400 < 0.01, "at 20 calls per second, a fifth of a CPU"


def test_what_is_to_fail_fails() -> None:
    """By its arguments, and by nothing else."""
    with pytest.raises(ConnectionError, match="attempt 1"):
        send_mail(1)
    assert send_mail(0) == "done"
    with pytest.raises(ValueError, match="the feed ends in the middle"):
        import_feed(is_up=False)
    assert import_feed(is_up=True) == "done"
    assert query_database(0.0) == call_partner(0.0) == "done"


def test_launches() -> None:
    """Whatever may be launched succeeds, and says what it is."""
    for call in LAUNCHES.values():
        call()
        assert call.func.__doc__  # type: ignore[attr-defined]


# The executor under the load


def test_there_is_something_to_be_seen() -> None:
    """Calls are completed, fail, are tried again, held, given up, refused and cut off."""
    with shop_executor(4) as executor, Load(executor, rate=800, seed=1) as load:
        until(lambda: executor.statistics().submitted > 1200)
        until(lambda: executor.statistics().timed_out > 0)
        load.stop()
        seen = executor.statistics()
        assert seen.completed > 100
        assert seen.failed > 0
        assert seen.retries > 0
        assert seen.quarantined > 0
        assert "blocked" in seen.rejected_by_reason
        assert seen.limits["payments"].waiting > 0
        assert {call.reason for call in executor.quarantine.pending()} == {"given up", "spike"}
        operations = {health.operation for health in executor.guard_house.operations()}
        assert operations <= KINDS.keys()
        assert len(operations) > 6
        executor.shutdown(cancel_futures=True)


def test_quarantine_has_an_end() -> None:
    """However long it runs, old calls make room for new ones."""
    with shop_executor(2) as executor:
        store = executor.quarantine.store
        held = [
            executor.options(
                operation="export", spikes=KINDS["shop.reports.export"].options["spikes"]
            ).submit(export_report, [1] * length)
            for length in [20] * 8 + [400] * 60
        ]
        assert len(store.pending()) == 40
        executor.quarantine.look()
        assert sum(token.done() for token in held[8:]) == 20
        executor.shutdown(cancel_futures=True)


def test_stop_lets_nothing_hang() -> None:
    """Calls that would take their time return, and nothing is submitted any more."""
    with TokenGateExecutor(4, limits={"database": 3, "payments": 3}) as executor:
        began = time.monotonic()
        with Load(executor, rate=500, seed=2):
            until(lambda: executor.statistics().executing > 1)
        submitted = executor.statistics().submitted
        executor.shutdown(cancel_futures=True)
        assert executor.statistics().submitted == submitted
        assert time.monotonic() - began < 20


def test_stop_in_a_long_gap() -> None:
    """It does not wait for the next call."""
    with shop_executor(1) as executor:
        began = time.monotonic()
        with Load(executor, rate=0.001, seed=1):
            pass
        assert time.monotonic() - began < 20
        assert executor.statistics().submitted == 0


def test_stop_may_be_called_again() -> None:
    """Also by the end of the block."""
    with shop_executor(1) as executor, Load(executor, rate=100, seed=1) as load:
        load.stop()
        load.stop()


def test_an_executor_that_takes_nothing() -> None:
    """Drained, paused or full, the load goes on, and is back when it is opened again."""
    with shop_executor(2) as executor, Load(executor, rate=2000, seed=1):
        until(lambda: executor.statistics().completed > 0)
        executor.pause()
        until(lambda: "full" in executor.statistics().rejected_by_reason)
        executor.purge()
        executor.resume()
        executor.drain(timeout=0.1)
        executor.resume()
        before = executor.statistics().completed
        until(lambda: executor.statistics().completed > before)
        executor.shutdown(cancel_futures=True)
