"""What ThreadPoolExecutor gets wrong: each scenario is right with ours, and wrong with the standard's.

A scenario is a script, run in an interpreter of its own with either class as ``Pool``. It says one
word and ends:

    RIGHT   what its user may expect came about
    WRONG   something else came about
    HANGS   nothing came about within ``PATIENCE`` seconds after ``watch()``

That the standard library's class fails each of them proves that each of them can fail. Where a
Python's standard library does not have the defect, that half is skipped, with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from inspect import signature
from typing import Final, Literal

import pytest

# Ours gets all the time that a loaded machine may need. The other's hang is certain and takes
# its time in full, so it is short.
OURS: Final = """
from tokengate_executor import TokenGateExecutor as Pool
ABANDON = {"exit_policy": "abandon"}
PATIENCE = 20.0
"""
THE_STANDARD_LIBRARYS: Final = """
from concurrent.futures import ThreadPoolExecutor as Pool
ABANDON = {}  # it has no such choice
PATIENCE = 1.0
"""
PRELUDE: Final = """
import atexit, contextvars, gc, logging, os, sys, threading, time, weakref
from concurrent.futures import wait

def say(word):
    print(word, flush=True)
    os._exit(0)

def watch():
    def wait_in_vain():
        time.sleep(PATIENCE)
        say("HANGS")
    threading.Thread(target=wait_in_vain, daemon=True).start()

def decide(right):
    say("RIGHT" if right else "WRONG")

def hold(pool):
    "Keep the only worker busy; returns what lets it go on."
    gate, started = threading.Event(), threading.Event()
    pool.submit(lambda: (started.set(), gate.wait()))
    started.wait()
    return gate
"""


def never_excused() -> str | None:
    """Tell that every Python's standard library has the defect."""
    return None


def excused_without_fork() -> str | None:
    """Tell that a system without fork has no forked children."""
    return None if hasattr(os, "fork") else "this system cannot fork"


def excused_unless_threads_inherit() -> str | None:
    """Tell that threads inherit a context only since 3.14."""
    if sys.version_info >= (3, 14):
        return None
    return "threads inherit their starter's context only since 3.14 (-X thread_inherit_context=1)"


def excused_where_map_is_lazy() -> str | None:
    """Tell that the standard library's map takes ``buffersize``, too, as it does since 3.14."""
    if "buffersize" in signature(ThreadPoolExecutor.map).parameters:
        return "this Python's ThreadPoolExecutor.map takes buffersize, too (since 3.14)"
    return None


class FalsyError(Exception):
    """An exception whose truth is false."""

    def __bool__(self) -> bool:
        return False


def excused_where_falsy_exceptions_are_raised() -> str | None:
    """Tell that this Python has the correction of CPython's issue 132063."""
    future: Future[None] = Future()
    future.set_exception(FalsyError())
    try:
        future.result()
    except FalsyError:
        return "this Python's futures raise falsy exceptions (gh-132063 is corrected in it)"
    return None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that ThreadPoolExecutor gets wrong.

    Attributes:
        title: the defect in a few words.
        script: what is run after ``PRELUDE``, with either class as ``Pool``.
        defect: the word that the standard library's class is to earn.
        excuse: why this Python's standard library does not have the defect; ``None``: it has.
        needs: why this system cannot run the scenario at all; ``None``: it can.
        flags: of the interpreter.
    """

    title: str
    script: str
    defect: Literal["WRONG", "HANGS"]
    excuse: Callable[[], str | None] = never_excused
    needs: Callable[[], str | None] = never_excused
    flags: tuple[str, ...] = ()


SCENARIOS: Final = (
    Scenario(
        title="nested submit deadlocks",
        defect="HANGS",
        script="""
pool = Pool(1)
watch()
decide(pool.submit(lambda: pool.submit(pow, 2, 3).result()).result() == 8)
""",
    ),
    Scenario(
        title="submit in a finaliser during submit hangs",
        defect="HANGS",
        script="""
pool = Pool(1)
class Cyclic:
    def __init__(self):
        self.me = self
    def __del__(self):
        futures.append(pool.submit(pow, 2, 3))
futures = []
watch()
for allocations in range(1, 61):  # the collector comes at each place in submit in turn
    gc.disable()
    gc.collect()
    Cyclic()
    gc.set_threshold(allocations, 1, 1)
    gc.enable()
    futures.append(pool.submit(pow, 2, 3))
gc.disable()
while len(futures) < 120:  # while a worker collects, this does nothing
    gc.collect()
decide(len(futures) == 120 and all(future.result() == 8 for future in futures))
""",
    ),
    Scenario(
        title="submit in a forked child never runs",
        defect="HANGS",
        needs=excused_without_fork,
        script="""
pool = Pool(1)
pool.submit(int).result()
child = os.fork()
if child == 0:
    watch()
    decide(pool.submit(pow, 2, 3).result() == 8)
os.waitpid(child, 0)
os._exit(0)
""",
    ),
    Scenario(
        title="wait never sees a cancelled queued future",
        defect="HANGS",
        script="""
pool = Pool(1)
gate = hold(pool)
queued = pool.submit(int)
assert queued.cancel()
watch()
decide(wait([queued]).done == {queued})
""",
    ),
    Scenario(
        title="cancelled tasks stay queued with their arguments",
        defect="WRONG",
        script="""
pool = Pool(1)
gate = hold(pool)
class Argument:
    pass
arguments = [Argument() for _ in range(1000)]
alive = [weakref.ref(argument) for argument in arguments]
futures = [pool.submit(id, argument) for argument in arguments]
assert pool._work_queue.qsize() == 1000
assert all(future.cancel() for future in futures)
del arguments
gc.collect()
decide(pool._work_queue.qsize() == 0 and not any(argument() for argument in alive))
""",
    ),
    Scenario(
        # By default ours, too, waits for what it has begun; unlike the other it can be told not to.
        title="exit hangs on a stuck task even after shutdown without waiting",
        defect="HANGS",
        script="""
pool = Pool(1, **ABANDON)
hold(pool)
queued = pool.submit(int)
pool.shutdown(wait=False, cancel_futures=True)
assert queued.cancelled()
logging.disable()  # of the stacks of what is abandoned
atexit.register(print, "RIGHT", flush=True)
watch()
""",
    ),
    Scenario(
        title="exceptions that nobody reads are silent",
        defect="WRONG",
        script="""
seen = []
class Ears(logging.Handler):
    def emit(self, record):
        seen.append(record.exc_info and record.exc_info[0])
logging.getLogger().addHandler(Ears())
with Pool(1) as pool:
    pool.submit(int, "no number")
gc.collect()
decide(seen == [ValueError])
""",
    ),
    Scenario(
        title="one submitter's task sees another's inherited context",
        defect="WRONG",
        excuse=excused_unless_threads_inherit,
        flags=("-X", "thread_inherit_context=1"),
        script="""
user = contextvars.ContextVar("user", default="nobody")
pool = Pool(1)
def submit_as(name):
    user.set(name)
    return pool.submit(user.get).result()
seen = [contextvars.copy_context().run(submit_as, name) for name in ("alice", "bob")]
decide(seen[0] == "alice" and seen[1] == "bob")
""",
    ),
    Scenario(
        title="map pulls its whole input before the first result",
        defect="WRONG",
        excuse=excused_where_map_is_lazy,
        script="""
import inspect
taken = []
def numbers():
    for number in range(1000):
        taken.append(number)
        yield number
pool = Pool(2)
can_be_lazy = "buffersize" in inspect.signature(Pool.map).parameters
results = pool.map(abs, numbers(), **({"buffersize": 3} if can_be_lazy else {}))
first = next(results)
at_first = len(taken)
decide(at_first <= 4 and first == 0 and list(results) == list(range(1, 1000)))
""",
    ),
    Scenario(
        title="a falsy exception is swallowed",
        defect="WRONG",
        excuse=excused_where_falsy_exceptions_are_raised,
        script="""
class FalsyError(Exception):
    def __bool__(self):
        return False
def fail():
    raise FalsyError
try:
    Pool(1).submit(fail).result()
except FalsyError:
    say("RIGHT")
say("WRONG")
""",
    ),
    Scenario(
        # What Future runs callbacks under catches Exception only; the rest ends the worker's loop,
        # and the pool counts the dead thread as one of its workers.
        title="a done-callback that raises SystemExit kills the worker",
        defect="HANGS",
        script="""
logging.disable()
pool = Pool(1)
gate = hold(pool)
last = pool.submit(int)
last.add_done_callback(lambda _: sys.exit(1))
gate.set()
last.result()
watch()
decide(pool.submit(pow, 2, 3).result() == 8)
""",
    ),
)

by_title: Final = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.title)


def word_of(scenario: Scenario, subject: str) -> str:
    """Run the scenario; return the word that it says, or all it said if that is no word."""
    if (reason := scenario.needs()) is not None:
        pytest.skip(reason)
    script = subject + PRELUDE + scenario.script
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", *scenario.flags, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if ended.returncode != 0 or ended.stdout.strip() not in {"RIGHT", "WRONG", "HANGS"}:
        return f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout.strip()


@by_title
def test_ours_is_right(scenario: Scenario) -> None:
    """With TokenGateExecutor, what the user may expect comes about."""
    assert word_of(scenario, OURS) == "RIGHT"


@by_title
def test_the_standard_librarys_is_wrong(scenario: Scenario) -> None:
    """With ThreadPoolExecutor, the defect shows: so the scenario can fail."""
    if (reason := scenario.excuse()) is not None:
        pytest.skip(reason)
    assert word_of(scenario, THE_STANDARD_LIBRARYS) == scenario.defect
