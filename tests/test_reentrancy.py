"""Submit where one would not expect it: in signal handlers, finalisers, callbacks, at exit, at forks.

What might hang is run as a script in an interpreter of its own. The script prints ``RIGHT`` in its
last line; if it does not come to that, the tracebacks of its threads say where it stands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Final

import pytest

from tokengate_executor import Token, TokenGateExecutor

PRELUDE: Final = """
import atexit, collections, faulthandler, gc, os, signal, sys, threading, time
from concurrent.futures import as_completed, wait
from tokengate_executor import ForkedError, Token, TokenGateExecutor, gated

alive_at = time.monotonic()

def watch(seconds):
    "Not faulthandler's own watchdog: a forked child can neither use nor renew its parent's."
    global alive_at
    alive_at = time.monotonic()
    def look_in_vain():
        while (rest := alive_at + seconds - time.monotonic()) > 0:
            time.sleep(rest)
        faulthandler.dump_traceback()
        os._exit(3)
    threading.Thread(target=look_in_vain, daemon=True).start()

watch(30)
sys.setswitchinterval(1e-6)

def right():
    print("RIGHT", flush=True)
    os._exit(0)

class Ledger:
    "Calls with numbers, so that each can be seen to run once, and to be told once."

    def __init__(self, submit):
        self.submit, self.tokens, self.ran, self.told = submit, [], [], []

    def enter(self):
        "Submit one more call. The list grows atomically, and a number may not be skipped."
        number = object()
        token = self.submit(self.ran.append, number)
        token.add_done_callback(self.told.append)
        self.tokens.append((number, token))

    def check(self, at_least):
        numbers, tokens = zip(*self.tokens)
        assert [token.result() for token in tokens] == [None] * len(tokens)
        assert len(tokens) >= at_least, len(tokens)
        assert sorted(map(id, self.ran)) == sorted(map(id, numbers))
        # A result is there a moment before the callbacks have run: shutdown comes first.
        assert sorted(map(id, self.told)) == sorted(map(id, tokens))
"""

needs_fork: Final = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system cannot fork: no child to look at"
)
needs_steps: Final = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="on 3.12 a trace function cannot ask for each step of a frame that has begun",
)
needs_timer: Final = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no setitimer: no signals in time"
)


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Have threads take turns as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def run(script: str, prelude: str = PRELUDE) -> str:
    """Run the script after ``PRELUDE``; return what it prints, which errors are part of."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", prelude + script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    return ended.stdout if ended.returncode == 0 else f"{ended.stdout}status {ended.returncode}"


# -- signal handlers ------------------------------------------------------------------------------


@needs_timer
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("view", ["pool", "pool.options(weight='heavy')", "pool.options(key=1)"])
def test_submit_in_a_signal_handler_that_interrupts_submit(view: str, workers: int) -> None:
    """Thousands of signals come while calls are submitted: each call is run and told once."""
    script = f"""
pool = TokenGateExecutor({workers})
ledger = Ledger(({view}).submit)
depth = handled = 0

def handle(*_):
    global depth, handled
    handled += 1
    if depth < 3:  # a handler may be interrupted, too, but not without end
        depth += 1
        ledger.enter()
        depth -= 1

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
while handled < 2000:
    ledger.enter()
    if len(ledger.tokens) % 50 == 0:
        ledger.tokens[-1][1].result()  # as those who submit without end need more than memory has
signal.setitimer(signal.ITIMER_REAL, 0)
pool.shutdown()
ledger.check(at_least=2000)
now = pool.statistics()
assert now.submitted == now.completed == len(ledger.tokens), now
right()
"""
    assert run(script) == "RIGHT\n"


# The interrupted operations; each prepares, and returns what is then interrupted.
OPERATIONS: Final = {
    "the first submit": """
def prepare():
    return ledger.enter
""",
    "a later submit": """
def prepare():
    ledger.enter()
    ledger.tokens[0][1].result()
    return ledger.enter
""",
    "a submit with a limit": """
def prepare():
    view = pool.options(limits=("one",), priority=1)
    view.submit(int).result()
    return lambda: view.submit(int)
""",
    "the use of an option": """
def prepare():
    return lambda: pool.options(weight="heavy").submit(int)
""",
    "cancel": """
def prepare():
    hold = threading.Event()
    pool.submit(hold.wait), pool.submit(hold.wait)
    tokens = [pool.submit(int) for _ in range(70)]
    for token in tokens[:63]:
        token.cancel()
    def cancel():  # the one after which what was cancelled is swept out of the queue
        tokens[63].cancel()
        hold.set()
    return cancel
""",
    "result": """
def prepare():
    return pool.submit(int).result
""",
    "pause and resume": """
def prepare():
    ledger.enter()
    return lambda: (pool.pause(), pool.resume())
""",
    "statistics": """
def prepare():
    ledger.enter()
    return lambda: pool.statistics()
""",
}

# What the handler does; ready before the interruption.
HANDLERS: Final = {
    "a plain submit": "handle = ledger.enter",
    "a submit through a view": """
ledger.submit = pool.options(weight="light").submit
handle = ledger.enter
""",
    "a submit with a limit": """
ledger.submit = pool.options(limits=("one",), key="key").submit
handle = ledger.enter
""",
}
# Apart, as options are new to the executor when they are first used.
A_GATED_FUNCTION: Final = """
@gated(weight="medium", operation="fresh")
def fresh():
    pass

def handle():
    others.append(pool.submit(fresh))
"""


@needs_steps
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_submit_in_the_midst_of(operation: str, handler: str) -> None:
    """At whichever step of an operation a handler submits, nothing hangs and no call is lost."""
    assert interrupt_at_each_step(OPERATIONS[operation], HANDLERS[handler]) == "RIGHT\n"


@needs_steps
def test_first_submit_of_a_gated_function_in_the_midst() -> None:
    """A handler may submit a function with options that the executor has not met."""
    for operation in ("cancel", "a later submit", "the use of an option"):
        assert interrupt_at_each_step(OPERATIONS[operation], A_GATED_FUNCTION) == "RIGHT\n"


def interrupt_at_each_step(operation: str, handler: str) -> str:
    """Run the operation again and again, each time with the handler called at a later step."""
    script = f"""
{operation}

def interrupted_at(step, operation):
    "Run it, with the handler called at its step-th bytecode; whether it has so many."
    left = step
    def trace(frame, event, argument):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                handle()
        return trace
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(None)
    return left <= 0

gc.disable()  # its finalisers would be steps, too, and not always in the same place
others = []
step, has_more = 1, True
watch(8)
while has_more:
    alive_at = time.monotonic()
    with TokenGateExecutor(2, limits={{"one": 1}}) as pool:
        ledger = Ledger(pool.submit)
        operation = prepare()
{textwrap.indent(handler, " " * 8)}
        has_more = interrupted_at(step, operation)
        for token in others:
            token.result()
    if ledger.tokens:
        ledger.check(at_least=1)
    step += 1 if step < 20 else 3 + step // 200  # longer steps in the longer ones
    gc.collect(0)
assert step > 10, step
right()
"""
    return run(script)


# -- callbacks ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("workers", [1, 3])
def test_submit_in_a_done_callback(workers: int) -> None:
    """A chain of calls, each submitted by the callback of the one before, comes to its end."""
    length = 2000
    ran: list[int] = []
    ended = threading.Event()

    with TokenGateExecutor(workers) as executor:

        def go_on(_: object) -> None:
            if len(ran) == length:
                ended.set()
            else:
                executor.submit(ran.append, len(ran)).add_done_callback(go_on)

        executor.submit(int).add_done_callback(go_on)
        assert ended.wait(timeout=30)
    assert ran == list(range(length))
    now = executor.statistics()
    assert now.submitted == now.completed == length + 1


def test_submit_in_the_callback_of_a_cancelled_token() -> None:
    """Cancelling runs the callback on the spot; what it submits is run in its turn."""
    gate = threading.Event()
    replacements: list[Token[int]] = []
    with TokenGateExecutor(1) as executor:

        def replace(_: object) -> None:
            replacements.append(executor.submit(pow, 2, len(replacements)))

        executor.submit(gate.wait)
        tokens = [executor.submit(int) for _ in range(200)]
        for token in tokens:
            token.add_done_callback(replace)
        assert all(token.cancel() for token in tokens)
        gate.set()
        assert [token.result(timeout=30) for token in replacements] == [2**n for n in range(200)]


def test_submit_in_a_callback_after_shutdown_is_refused() -> None:
    """The last call's callback hears that the executor is shut down; the refusal is all it gets."""
    gate = threading.Event()
    heard: list[str] = []
    executor = TokenGateExecutor(1)

    def too_late(_: Future[bool]) -> None:
        try:
            executor.submit(int)
        except RuntimeError as error:
            heard.append(str(error))

    executor.submit(gate.wait).add_done_callback(too_late)
    executor.shutdown(wait=False)
    gate.set()
    executor.shutdown()
    assert heard == ["cannot schedule new futures after shutdown"]


# -- initializers ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("workers", [1, 4])
def test_submit_in_an_initializer(workers: int) -> None:
    """What the workers' initializers submit is run, too, each once."""
    names: list[str] = []
    tokens: list[Token[None]] = []

    def begin() -> None:
        tokens.append(executor.submit(names.append, threading.current_thread().name))

    executor = TokenGateExecutor(workers, "worker", begin)
    executor.submit(int).result(timeout=30)
    executor.shutdown()
    assert 1 <= len(tokens) <= workers
    assert all(token.result() is None for token in tokens)
    assert len(names) == len(set(names)) == len(tokens)


# -- finalisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("submit", ["pool.submit", "pool.options(priority=1).submit"])
def test_submit_in_finalisers_during_submit_in_many_threads(submit: str) -> None:
    """The collector runs finalisers, which submit, inside the submits of four threads at once."""
    script = f"""
pool = TokenGateExecutor(3)
ledger = Ledger({submit})
class Cyclic:
    def __init__(self):
        self.me = self
    def __del__(self):
        ledger.enter()

def produce():
    barrier.wait()
    for _ in range(300):
        Cyclic()
        ledger.enter()

barrier = threading.Barrier(4)
threads = [threading.Thread(target=produce) for _ in range(4)]
gc.collect()
gc.freeze()  # what is here by now would make each collection slow
gc.set_threshold(3, 2, 2)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.set_threshold(0)
# The last of them, while the executor still takes calls. While a worker collects, this does nothing.
while len(ledger.tokens) < 2400:
    gc.collect()
    time.sleep(0)
pool.shutdown()
ledger.check(at_least=2400)
assert len(ledger.tokens) == 2400
right()
"""
    assert run(script) == "RIGHT\n"


# -- exit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "of_what"),
    [
        ("from tokengate_executor import TokenGateExecutor as Pool", "interpreter shutdown"),
        # Its workers note the end of the interpreter as a shutdown of the executor.
        ("from concurrent.futures import ThreadPoolExecutor as Pool", "shutdown"),
    ],
    ids=["ours", "the standard library's"],
)
def test_submit_at_exit(pool: str, of_what: str) -> None:
    """Pending work is finished before exit handlers run; they, and that work, submit in vain."""
    script = """
import atexit, threading

def try_to_submit(where):
    try:
        pool.submit(int)
    except RuntimeError as error:
        print(f"{where}: {error}", flush=True)

def pending():
    main_is_over.wait()
    while not refused.is_set():
        try:
            pool.submit(int)
        except RuntimeError as error:
            print("in a call:", error, flush=True)
            refused.set()

main_is_over, refused = threading.Event(), threading.Event()
pool = Pool(1)
atexit.register(try_to_submit, "in an exit handler")
pool.submit(pending)
pool.submit(print, "pending work", flush=True).add_done_callback(
    lambda _: try_to_submit("in a callback")
)
main_is_over.set()
"""
    refusal = "cannot schedule new futures after interpreter shutdown"
    assert run(script, pool).splitlines() == [
        f"in a call: {refusal}",
        "pending work",
        f"in a callback: {refusal}",
        f"in an exit handler: cannot schedule new futures after {of_what}",
    ]


# -- forks ----------------------------------------------------------------------------------------

# Four threads submit while the main thread forks; each child does ``look`` and says so by its status.
FORKS: Final = """
def look_at(inherited):
{look}

pool = TokenGateExecutor(3)
recent = collections.deque(maxlen=200)
is_over = False

def submit_on_and_on():
    while not is_over:
        for _ in range(20):
            recent.append(pool.submit(pow, 2, 3))
        recent[-1].result()  # else the queue would grow without end

threads = [threading.Thread(target=submit_on_and_on) for _ in range(4)]
for thread in threads:
    thread.start()
while len(recent) < 200:
    pass
for number in range({forks}):
    inherited = recent.copy()
    child = os.fork()
    if child == 0:
        watch(6)
        look_at(inherited)
        assert [pool.submit(pow, 2, 5).result() for _ in range(20)] == [32] * 20
        assert pool.statistics().executing == 0
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 7:
        print("status", status, "of child", number, flush=True)
        os._exit(0)
is_over = True
for thread in threads:
    thread.join()
pool.shutdown()
assert [token.result() for token in recent] == [8] * 200
now = pool.statistics()
assert now.submitted == now.completed, now
right()
"""


def fork_and(look: str, forks: int = 20) -> str:
    """Run ``FORKS`` with what each child does."""
    assert hasattr(os, "fork")
    return run(FORKS.format(look=textwrap.indent(look, " " * 4), forks=forks))


@needs_fork
def test_forked_children_start_afresh_while_others_submit() -> None:
    """Whatever the threads were at when the process forked, the child's submits are run."""
    assert fork_and("pass") == "RIGHT\n"


@needs_fork
def test_inherited_tokens_are_settled_or_fail() -> None:
    """To wait for an inherited token ends: with the result it had, or with an error that says why."""
    look = """
for token in inherited:
    error = token.exception()
    assert error is None or isinstance(error, ForkedError), error
    assert token.done()
    assert error or token.result() == 8
"""
    assert fork_and(look) == "RIGHT\n"


@needs_fork
def test_inherited_tokens_take_callbacks() -> None:
    """A callback that is added to an inherited token is run on the spot."""
    look = """
told = []
for token in inherited:
    token.add_done_callback(told.append)
assert told == list(inherited)
"""
    assert fork_and(look) == "RIGHT\n"


@needs_fork
@pytest.mark.parametrize(
    "verb", ["wait(inherited).done", "set(as_completed(inherited))"], ids=["wait", "as_completed"]
)
def test_the_standard_librarys_verbs_take_inherited_tokens(verb: str) -> None:
    """`wait` and `as_completed` see inherited tokens as settled."""
    assert fork_and(f"assert {verb} == set(inherited)") == "RIGHT\n"


@needs_fork
@pytest.mark.parametrize(
    "verb",
    ["cancel()", "id", "done()"],
)
def test_other_verbs_of_inherited_tokens_end(verb: str) -> None:
    """Cancelling an inherited token, or asking for its id, never hangs; it is done."""
    look = f"""
for token in inherited:
    token.{verb}
    if {verb == "done()"}:
        assert token.done()
"""
    assert fork_and(look, forks=150) == "RIGHT\n"


@needs_fork
def test_ids_in_forked_children() -> None:
    """A child's token has an id, even if the parent's threads were asking for some at the fork."""
    script = """
pool = TokenGateExecutor(1)
hold = threading.Event()
pool.submit(hold.wait)
is_over = False

def ask_on_and_on():
    while not is_over:
        token = pool.submit(int)
        token.id
        token.cancel()

threads = [threading.Thread(target=ask_on_and_on) for _ in range(4)]
for thread in threads:
    thread.start()
for number in range(150):
    child = os.fork()
    if child == 0:
        watch(6)
        pool.pause()  # so that it is asked while the token waits
        pool.submit(int).id
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 7:
        print("status", status, "of child", number, flush=True)
        os._exit(0)
is_over = True
for thread in threads:
    thread.join()
hold.set()
pool.shutdown()
right()
"""
    assert run(script) == "RIGHT\n"


@needs_fork
def test_submit_in_the_child_that_a_call_forked() -> None:
    """The worker whose call forked goes on in the child: it may submit, wait and end there."""
    script = """
pool = TokenGateExecutor(1)

def nest(depth):
    return pool.submit(nest, depth - 1).result() + 1 if depth else 0

def fork():
    child = os.fork()
    if child == 0:
        seen = pool.submit(pow, 2, 3).result(), pool.submit(pow, 2, 3).result(timeout=20), nest(40)
        wait([last := pool.submit(nest, 3)])
        os._exit(7 if seen == (8, 8, 40) and last.result() == 3 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert [pool.submit(fork).result() for _ in range(5)] == [7] * 5
pool.shutdown()
right()
"""
    assert run(script) == "RIGHT\n"


# -- shutdown -------------------------------------------------------------------------------------


@needs_steps
def test_nothing_runs_after_shutdown_has_returned() -> None:
    """A submit that another thread's shutdown overtakes is refused, or run before it returns."""
    script = """
def held_up_at(step):
    "Whether a call began after shutdown had returned; None: a submit has fewer steps."
    pool = TokenGateExecutor(1)
    here, go_on = threading.Event(), threading.Event()
    is_down, late, outcomes = False, [], []
    left = step

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename == threading.__file__:
            return None  # held up in there, it would have locks that we need to go on
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                here.set()
                go_on.wait()
        return trace

    def submit():
        sys.settrace(trace)
        try:
            outcomes.append(pool.submit(lambda: late.append(is_down)))
        except RuntimeError as error:
            outcomes.append(str(error))
        finally:
            sys.settrace(None)
            here.set()

    def shut_down():
        nonlocal is_down
        pool.shutdown()
        is_down = True

    submitter, closer = threading.Thread(target=submit), threading.Thread(target=shut_down)
    submitter.start()
    here.wait()
    closer.start()
    closer.join(0.02)  # it may wait for the submit, which then has to go on
    go_on.set()
    submitter.join()
    closer.join()
    outcome, = outcomes
    if isinstance(outcome, Token):
        outcome.result()
    else:
        assert outcome == "cannot schedule new futures after shutdown", outcome
    return None if left > 0 else any(late)

step = 1
while (is_late := held_up_at(step)) is not None:
    if is_late:
        print("late at step", step, flush=True)
        os._exit(0)
    step += 3
right()
"""
    assert run(script) == "RIGHT\n"


def test_shutdown_finds_the_workers_that_wait_for_a_limit() -> None:
    """Calls that share a limit of one end while their executor shuts down: no worker sleeps on."""
    script = """
end = time.monotonic() + 3
watch(8)
while time.monotonic() < end:
    alive_at = time.monotonic()
    with TokenGateExecutor(2, limits={"one": 1}) as pool:
        view = pool.options(limits=("one",), key="key")
        tokens = [view.submit(int) for _ in range(4)]
    assert all(token.done() for token in tokens)
right()
"""
    assert run(script) == "RIGHT\n"


def test_the_ledger_sees_what_is_lost() -> None:
    """The scripts can fail: a call that is lost, or run twice, is seen."""
    lossy = """
class Lossy(TokenGateExecutor):
    def submit(self, fn, /, *args):
        if len(ledger.tokens) == {at}:
            {what}
        return super().submit(fn, *args)
pool = Lossy(1)
ledger = Ledger(pool.submit)
for _ in range(10):
    ledger.enter()
pool.shutdown()
ledger.check(at_least=10)
right()
"""
    checks: list[Callable[[], str]] = [
        lambda: run(lossy.format(at=-1, what="pass")),
        lambda: run(lossy.format(at=5, what="return super().submit(int)")),
        lambda: run(lossy.format(at=5, what="super().submit(fn, *args)")),
    ]
    right, lost, twice = [check() for check in checks]
    assert right == "RIGHT\n"
    assert "AssertionError" in lost
    assert "AssertionError" in twice
