"""The end of the interpreter, and forks: each script runs in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from tokengate_executor import TokenGateExecutor
from tokengate_executor.waiting import process

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PRELUDE = """
import atexit, asyncio, os, sys, threading
from concurrent.futures import as_completed, wait
from tokengate_executor import ForkedError, Token, TokenGateExecutor, TokenState

def say(*words):
    print(*words, flush=True)

class Held:
    "A call that has started and stays until it is let go."
    def __init__(self, executor):
        self.release, started = threading.Event(), threading.Event()
        def stay():
            started.set()
            return self.release.wait(30)
        self.token = executor.submit(stay)
        assert started.wait(30)

def forked(child):
    "Run it in a forked child; returns what it returned, which is a small number."
    pid = os.fork()
    if pid == 0:
        try:
            status = child()
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 99
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def said_by(script: str, *, errors: bool = False) -> list[str]:
    """Run the script; return the lines that it printed, or those of its error output."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    if errors:
        return ended.stderr.splitlines()
    assert not ended.stderr
    return ended.stdout.splitlines()


# -- exit -----------------------------------------------------------------------------------------


def test_pending_work_is_finished_before_atexit_handlers() -> None:
    """What runs and what waits, also what running calls submitted; as in the standard library."""
    assert said_by("""
atexit.register(say, "registered before")
executor = TokenGateExecutor(1)
atexit.register(say, "registered after")
ready = threading.Event()

def first():
    child = executor.submit(say, "child")
    ready.set()
    while not executor._shutdown:
        pass
    child.result()
    say("first ends")

executor.submit(first)
assert ready.wait(30)
executor.submit(say, "second")
say("main ends")
""") == ["main ends", "child", "first ends", "second", "registered after", "registered before"]


def test_abandoned_work() -> None:
    """What waits is cancelled before atexit handlers run; of what runs there is a stack in the log."""
    script = """
executor = TokenGateExecutor(1, "stuck", exit_policy="abandon")
Held(executor)
waiting = executor.submit(int)
waiting.add_done_callback(lambda token: say("waiting was", token.state))
atexit.register(say, "atexit")
"""
    lines = said_by(script, errors=True)
    assert lines[0].startswith("abandoned at exit: __main__.Held.__init__.<locals>.stay on stuck_0")
    assert any("in stay" in line for line in lines)
    script += "import logging; logging.disable()\n"
    assert said_by(script) == ["waiting was cancelled", "atexit"]


def test_idle_executors_are_no_reason_to_wait() -> None:
    """Of either kind, used or not; there is nothing to log."""
    assert said_by("""
executors = [TokenGateExecutor(2, exit_policy=policy) for policy in ("wait", "abandon") * 2]
for executor in executors[:2]:
    executor.submit(int).result()
say(*(thread.daemon for executor in executors for thread in executor._threads))
atexit.register(say, "atexit")
""") == ["True True", "atexit"]


def test_executors_of_both_kinds() -> None:
    """One that is stuck and is abandoned does not keep another from finishing its work."""
    assert said_by("""
import logging; logging.disable()
stuck, other = TokenGateExecutor(1, exit_policy="abandon"), TokenGateExecutor(1)
Held(stuck)
held = Held(other)
for number in range(3):
    other.submit(say, number)
held.release.set()
""") == ["0", "1", "2"]


def test_submitting_at_exit_is_refused() -> None:
    """In an atexit handler and in a call that still runs, with the standard library's text."""
    assert (
        said_by("""
from concurrent.futures import ThreadPoolExecutor

def try_to(submit):
    try:
        submit(int)
    except RuntimeError as error:
        say(type(error).__name__, error)

executor = TokenGateExecutor(1)
executor.submit(int).result()
atexit.register(try_to, executor.submit)
for kind in TokenGateExecutor, ThreadPoolExecutor:
    atexit.register(lambda kind=kind: try_to(kind(1).submit))

def late():
    while not ours._shutdown:
        pass
    try_to(ours.submit)

ours = TokenGateExecutor(1)
ours.submit(late)
""")
        == ["RuntimeError cannot schedule new futures after interpreter shutdown"] * 4
    )


def test_work_from_a_thread_that_outlives_the_main_one() -> None:
    """What a thread submits after the end has begun is refused, and harms nobody."""
    assert said_by("""
executor = TokenGateExecutor(1)
executor.submit(int).result()

def late():
    while not executor._shutdown:
        pass
    try:
        executor.submit(int)
    except RuntimeError as error:
        say(error)

threading.Thread(target=late).start()
""") == ["cannot schedule new futures after interpreter shutdown"]


# -- fork -----------------------------------------------------------------------------------------


def test_this_process_was_not_forked() -> None:
    """As long as nobody forks, tokens do not look for it."""
    assert not process.is_forked
    with TokenGateExecutor(1) as executor:
        assert executor.submit(threading.get_ident).result(30) != threading.get_ident()


@needs_fork
def test_tokens_in_a_child() -> None:
    """What was settled before the fork is what it was; the rest fails in the child, and only there."""
    assert said_by("""
executor = TokenGateExecutor(1)
done, failed = executor.submit(pow, 2, 3), executor.submit(int, "no number")
assert failed.exception() is not None
held = Held(executor)
queued = [executor.submit(abs, -5), executor.options(weight="heavy").submit(abs, -6)]
cancelled = executor.submit(int)
cancelled.cancel()
called = []
queued[0].add_done_callback(called.append)

def child():
    settled = [done, failed, cancelled]
    assert wait(settled).done == set(as_completed(settled)) == set(settled)
    assert done.result(0) == 8
    assert type(failed.exception(0)) is ValueError
    assert cancelled.cancelled()
    for token in [held.token, *queued]:
        error = token.exception(timeout=0)
        assert type(error) is ForkedError, error
        assert str(error) == ("this token was inherited over fork(): "
                              "its call runs in the parent process, not here")
        assert not token.cancel() and token.state is TokenState.FAILED
    assert called == []
    now = executor.statistics()
    assert now.submitted == now.waiting == now.executing == now.workers == 0, now
    return 42

say(forked(child))
held.release.set()
say(held.token.result(30), queued[0].result(30), queued[1].result(30), called == queued[:1])
""") == ["42", "True 5 6 True"]


@needs_fork
def test_tokens_that_wait_for_more_than_a_worker() -> None:
    """What the governor has fails in the child, whose limits and pauses begin afresh."""
    assert said_by("""
executor = TokenGateExecutor(2, limits={"one": 1})
limited = executor.options(limits=("one",))
held = Held(limited)
parked = limited.submit(abs, -5)
keyed = [executor.options(key="k").submit(abs, -number) for number in range(3)]
executor.pause("paused")
paused = executor.options(operation="paused").submit(abs, -6)
wait(keyed)

def child():
    for token in held.token, parked, paused:
        assert type(token.exception(timeout=0)) is ForkedError
    assert executor.statistics().paused_operations == ()
    assert executor.statistics().limits["one"].used == 0
    assert limited.submit(pow, 2, 3).result(10) == 8
    assert executor.options(operation="paused", queue_timeout=10).submit(pow, 2, 4).result(10) == 16
    return 42

say(forked(child))
held.release.set()
executor.resume("paused")
say(held.token.result(30), parked.result(30), paused.result(30))
""") == ["42", "True 5 6"]


@needs_fork
@pytest.mark.parametrize(
    "ask",
    [
        "token.result()",
        "token.get(timeout=10)",
        "token.exception()",
        "token.exception(timeout=0)",
        "wait([token]).done.pop().result()",
        "next(as_completed([token])).result()",
        "asyncio.run(get())",
        "asyncio.run(get_wrapped())",
        "token.add_done_callback(lambda it: it.result())",
    ],
)
def test_a_token_that_was_in_no_queue_when_the_process_forked(ask: str) -> None:
    """A worker had popped it and not claimed it: it fails in the child when somebody waits for it."""
    assert said_by(f"""
import logging; logging.disable()
executor = TokenGateExecutor(1)
held = Held(executor)
token = executor.submit(abs, -5)
assert executor._gate.routes[None].backlog.popleft() is token

async def get():
    return await token

async def get_wrapped():
    return await asyncio.wrap_future(token)

def child():
    try:
        error = {ask}
    except ForkedError as raised:
        error = raised
    assert type(error or token.exception()) is ForkedError, error
    return 42

say(forked(child))
executor._gate.routes[None].backlog.append(token)
held.release.set()
say(token.result(30))
""") == ["42", "5"]


@needs_fork
def test_a_token_on_its_way_through_a_worker() -> None:
    """One that a worker had claimed, and whose call had not begun, fails in the child as well."""
    assert said_by("""
from tokengate_executor.engine.claims import claim
executor = TokenGateExecutor(1)
held = Held(executor)
popped, claimed = executor.submit(abs, -5), executor.submit(abs, -6)
backlog = executor._gate.routes[None].backlog
assert [backlog.popleft(), backlog.popleft()] == [popped, claimed]
assert claim(claimed)

def child():
    for token in popped, claimed:
        assert type(token.exception(10)) is ForkedError
    return 42

say(forked(child))
held.release.set()
""") == ["42"]


@needs_fork
def test_a_child_starts_afresh() -> None:
    """Its own calls run in threads of its own, named from the beginning, whatever locks were held."""
    assert said_by("""
executor = TokenGateExecutor(2, "work", initializer=lambda: None)
held = Held(executor)
parents = {thread.ident for thread in executor._threads}
token = executor.submit(abs, -5)
token.result()
made = Token(int)
locks = [executor._gate.lock, executor._crew._lock, made._lock]

def child():
    assert executor._threads == set()
    barrier = threading.Barrier(2)
    names = lambda: (barrier.wait(30), threading.current_thread().name)[1]
    tokens = [executor.submit(names) for _ in range(2)]
    assert {token.result(10) for token in tokens} == {"work_0", "work_1"}
    assert all(thread.is_alive() and thread.daemon for thread in executor._threads)
    assert {thread.ident for thread in threading.enumerate()} == {
        threading.get_ident(), *(thread.ident for thread in executor._threads)}
    nested = executor.submit(lambda: executor.submit(pow, 2, 3).result(timeout=10))
    assert nested.result(10) == 8
    assert executor.statistics().completed == 4
    executor.shutdown()
    assert not any(thread.is_alive() for thread in executor._threads)
    return 42

for lock in locks:
    lock.acquire()
status = os.fork()
if status == 0:
    os._exit(child())
for lock in locks:
    lock.release()
say(os.waitstatus_to_exitcode(os.waitpid(status, 0)[1]))
held.release.set()
say(executor.submit(pow, 2, 5).result(30), {t.ident for t in executor._threads} >= parents)
""") == ["42", "32 True"]


@needs_fork
def test_executors_made_in_a_child() -> None:
    """They are like any other, and so are those of a child's child."""
    assert said_by("""
before = TokenGateExecutor(1)
before.submit(int).result()

def grandchild():
    with TokenGateExecutor(1) as executor:
        token = executor.submit(pow, 2, 4)
        assert before.submit(pow, 2, 3).result(10) == 8
        assert childs.submit(pow, 2, 3).result(10) == 8
        return token.result(10)

def child():
    global childs
    with TokenGateExecutor(2) as childs:
        assert childs.submit(pow, 2, 3).result(10) == 8
        token = childs.submit(int)
        status = forked(grandchild)
        assert token.result(10) == 0
        return status + 1

say(forked(child))
say(before.submit(pow, 2, 3).result(30))
""") == ["17", "8"]


@needs_fork
def test_a_call_that_forks() -> None:
    """In the child its own token settles, callbacks and all, and it may use the executor meanwhile."""
    assert said_by("""
executor = TokenGateExecutor(2)
held = Held(executor)
go = threading.Event()
here = os.getpid()

def forks():
    go.wait(30)
    other = executor.submit(abs, -5)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), other.result()
    assert type(held.token.exception(0)) is ForkedError
    assert not token.done()
    assert executor.submit(pow, 2, 3).result() == 8
    assert executor.submit(pow, 2, 3).result(timeout=10) == 8
    assert wait([executor.submit(int) for _ in range(5)], timeout=10).not_done == set()
    return "child"

def settled(it):
    if os.getpid() != here:
        if it is token and it.state is TokenState.COMPLETED and it.result(0) == "child":
            say("settled in the child")
            os._exit(42)
        os._exit(98)

token = executor.submit(forks)
token.add_done_callback(settled)
go.set()
say(*token.result(30))
held.release.set()
say(held.token.result(30))
""") == ["settled in the child", "42 5", "True"]


@needs_fork
def test_calls_around_one_that_forks_settle_too() -> None:
    """A call that runs in place inside another's wait forks, and its child forks again."""
    assert said_by("""
executor = TokenGateExecutor(1)
here = os.getpid()

def inner(depth):
    pid = os.fork()
    if pid == 0:
        assert not outer_token.done()
        return inner(depth - 1) if depth else ["leaf"]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]

def outer():
    ready.wait(30)
    return ["outer", *executor.submit(inner, 1).result()]

def settled(token):
    if os.getpid() != here:
        say(*token.result(0))
        os._exit(7 if token.result(0) == ["outer", "leaf"] else 8)

ready = threading.Event()
outer_token = executor.submit(outer)
outer_token.add_done_callback(settled)
ready.set()
say(*outer_token.result(30))
""") == ["outer leaf", "outer 7", "outer 8"]


@needs_fork
def test_a_child_that_ends_like_any_process() -> None:
    """Without `os._exit` it finishes its own pending work, and not the parent's."""
    assert said_by("""
executor = TokenGateExecutor(1)
held = Held(executor)
queued = executor.submit(say, "parent's")
pid = os.fork()
if pid == 0:
    for number in range(3):
        executor.submit(say, "child's", number)
    sys.exit(5)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
held.release.set()
""") == ["child's 0", "child's 1", "child's 2", "5", "parent's"]
