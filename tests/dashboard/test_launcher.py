"""The launcher: what may be launched, and that it never waits for ever."""

from __future__ import annotations

import contextvars
import threading
import time
from functools import partial
from typing import Any

import pytest

from tokengate_executor import OperationBlockedError, TokenGateExecutor
from tokengate_executor.dashboard import launcher as launchers
from tokengate_executor.dashboard.launcher import Launched, Launcher
from tokengate_executor.errors import InvalidOptionError

here = contextvars.ContextVar("here", default="nowhere")


def test_it_submits_without_arguments(executor: TokenGateExecutor) -> None:
    """So many times, counted; each call runs."""
    done: list[int] = []
    launcher = Launcher({"note": lambda: done.append(1)})
    assert launcher.launch(executor, "note", 3) == Launched(3, was_full=False)
    assert launcher.launch(executor, "note", 1) == Launched(1, was_full=False)
    executor.drain()
    assert len(done) == 4
    assert launcher.describe() == {"note": {"launched": 4}}
    assert "note" in launcher
    assert "other" not in launcher


@pytest.mark.parametrize("on_full", ["block", "raise", "caller_runs", "discard_oldest"])
def test_a_full_gate_is_not_waited_for_for_ever(
    on_full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there was room for is launched, whatever the executor does with others when it is full."""
    monkeypatch.setattr(launchers, "WAIT_SECONDS", 0.05)
    go_on = threading.Event()
    with TokenGateExecutor(1, max_pending=2, on_full=on_full) as executor:
        executor.pause()
        waiting = [executor.submit(int) for _ in range(1)]
        launcher = Launcher({"wait": go_on.wait})
        began = time.monotonic()
        assert launcher.launch(executor, "wait", 5) == Launched(1, was_full=True)
        assert time.monotonic() - began < 10
        assert launcher.describe()["wait"]["launched"] == 1
        assert not waiting[0].cancelled()
        go_on.set()
        executor.resume()


def test_it_waits_for_room_that_comes(executor: TokenGateExecutor) -> None:
    """More than fit at once are launched one after the other."""
    with TokenGateExecutor(1, max_pending=1) as small:
        launcher = Launcher({"note": int})
        assert launcher.launch(small, "note", 50) == Launched(50, was_full=False)
    assert executor.statistics().submitted == 0


def test_what_the_executor_refuses(executor: TokenGateExecutor) -> None:
    """Is raised, and what went in before is counted."""
    launcher = Launcher({"note": int})
    executor.guard_house.open("builtins.int")
    with pytest.raises(OperationBlockedError):
        launcher.launch(executor, "note", 2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        launcher.launch(executor, "note", 2)
    assert launcher.describe() == Launcher({"note": int}).describe()


def test_calls_do_not_see_the_context_of_the_request(executor: TokenGateExecutor) -> None:
    """They are nobody's in particular."""
    seen: list[str] = []
    here.set("in a request")
    Launcher({"look": lambda: seen.append(here.get())}).launch(executor, "look", 1)
    executor.drain()
    assert seen == ["nowhere"]


def documented() -> None:
    """Say what it does.

    At length.
    """


def long_winded() -> None:
    """Is told more of below."""


long_winded.__doc__ = "x" * 1000


def test_descriptions() -> None:
    """The first line of what the function says of itself, also through a partial; not too long."""
    launcher = Launcher(
        {
            "one": documented,
            "two": partial(documented),
            "three": lambda: None,
            "four": long_winded,
        }
    )
    described = launcher.describe()
    assert described["one"]["description"] == described["two"]["description"] == "Say what it does."
    assert "description" not in described["three"]
    assert len(described["four"]["description"]) == 200


def test_several_people_at_once(executor: TokenGateExecutor) -> None:
    """No launch is lost in the count."""
    launcher = Launcher({"note": int})
    threads = [
        threading.Thread(target=launcher.launch, args=(executor, "note", 20)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert launcher.describe()["note"]["launched"] == 160
    executor.drain()
    assert executor.statistics().completed == 160


@pytest.mark.parametrize("given", [[int], {"a": 1}, {1: int}, {"": int}, "int", 7])
def test_what_cannot_be_launched(given: Any) -> None:
    """No mapping, no names, nothing to call."""
    with pytest.raises(
        InvalidOptionError, match="launch must be a mapping from names to callables"
    ):
        Launcher(given)


def test_the_mapping_may_change_afterwards(executor: TokenGateExecutor) -> None:
    """Without effect: what may be launched was said once."""
    calls: dict[str, Any] = {"note": int}
    launcher = Launcher(calls)
    calls["other"] = print
    del calls["note"]
    assert "other" not in launcher
    assert launcher.launch(executor, "note", 1).times == 1
