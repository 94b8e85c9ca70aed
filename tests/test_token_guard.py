"""``task_token_guard``: what can be decorated, what tags mean, and what a call then is."""

from __future__ import annotations

import asyncio
import functools
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor import (
    GateFullError,
    InvalidOptionError,
    OperationsCoordinator,
    QuarantineStore,
    RetryPolicy,
    SpikePolicy,
    TaskOptions,
    Token,
    TokenTimeoutError,
    UnknownOptionError,
    gated,
    task_token_guard,
)
from tokengate_executor.coordinator_runs import Run
from tokengate_executor.errors import CoordinatorNotRunningError, UnguardableError


@pytest.fixture
def coordinator() -> Iterator[OperationsCoordinator]:
    """Return a coordinator that runs, with two workers on two lanes."""
    with OperationsCoordinator(max_workers=2, lanes=2, limits={"db": 1}) as running:
        yield running


with_coordinator = pytest.mark.usefixtures("coordinator")


@task_token_guard
def add(first: int, second: int = 1) -> int:
    """Add two numbers."""
    return first + second


class Shop:
    """Has guarded callables of every kind."""

    @task_token_guard("pay")
    def pay(self, sum_: int) -> tuple[Shop, int]:
        """Be a method."""
        return self, sum_

    @classmethod
    @task_token_guard("found")
    def found(cls) -> type[Shop]:
        """Be a class method."""
        return cls

    @task_token_guard("find")
    @classmethod
    def find(cls) -> type[Shop]:
        """Be a class method, decorated the other way round."""
        return cls

    @staticmethod
    @task_token_guard("ring")
    def ring() -> str:
        """Be a static method."""
        return "ring"

    @task_token_guard
    @staticmethod
    def bell() -> str:
        """Be a static method, decorated the other way round."""
        return "bell"


class Doubler:
    """Has objects that can be called."""

    def __call__(self, number: int) -> int:
        """Double it."""
        return 2 * number


@functools.lru_cache
def square(number: int) -> int:
    """Be wrapped by an object."""
    return number * number


def said_of(coordinator: OperationsCoordinator) -> TaskOptions:
    """Return the options of the one function that was called."""
    run = coordinator._runs.last
    assert run is not None
    (options,) = run._views
    return options


# -- what a call is -------------------------------------------------------------------------------


def test_a_call_is_a_token(coordinator: OperationsCoordinator) -> None:
    """It returns the token of the plain function's call, on a worker of the coordinator."""
    token = add(2, second=3)
    assert isinstance(token, Token)
    assert token.get(timeout=30) == 5
    assert token.operation == f"{__name__}.add"
    assert coordinator.statistics().completed == 1
    on = task_token_guard()(threading.current_thread)().get(timeout=30)
    assert on.name.startswith(coordinator.executor.name)


def test_what_stays_of_the_function() -> None:
    """Name, text, module and signature; the plain function is `__wrapped__`, and is what it was."""

    def plain(number: int, *, sign: int = -1) -> int:
        """Tell the number's negative."""
        return sign * number

    plain.note = "kept"  # type: ignore[attr-defined]
    guarded = task_token_guard("negate", {"weight": "light"})(plain)
    assert guarded.__wrapped__ is plain
    assert plain(3) == -3
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "note"):
        assert getattr(guarded, name) == getattr(plain, name)
    assert inspect.signature(guarded) == inspect.signature(plain)


@with_coordinator
def test_all_keywords_reach_the_call() -> None:
    """A callee may have parameters of any name."""
    names = ["self", "fn", "args", "kwargs", "tags", "operation_type", "weight", "timeout"]
    token = task_token_guard()(dict)(**{name: name for name in names})
    assert token.get(timeout=30) == {name: name for name in names}


@with_coordinator
def test_a_token_is_awaited() -> None:
    """A coroutine calls guarded functions as any other code, and awaits their tokens."""

    async def main() -> list[int]:
        return await asyncio.gather(add(1), add(2), add(3))

    assert asyncio.run(main()) == [2, 3, 4]


def test_nested_calls_on_one_worker() -> None:
    """A guarded function may wait for others, as deep as it likes."""

    @task_token_guard
    def depth(levels: int) -> int:
        return 1 + depth(levels - 1).get() if levels else 0

    with OperationsCoordinator(max_workers=1):
        assert depth(20).get(timeout=30) == 20


@with_coordinator
def test_what_the_call_raises() -> None:
    """It comes out of `get`, and of nothing else; a RuntimeError of the call's is no error of ours."""

    @task_token_guard
    def fail() -> None:
        raise RuntimeError("mine")

    token = fail()
    with pytest.raises(RuntimeError, match=r"^mine$"):
        token.get(timeout=30)


# -- what can be decorated ------------------------------------------------------------------------


@with_coordinator
@pytest.mark.parametrize(
    ("call", "operation", "result"),
    [
        (Shop.found, "found", Shop),
        (lambda: Shop().find(), "find", Shop),
        (Shop.ring, "ring", "ring"),
        (lambda: Shop().bell(), f"{__name__}.Shop.bell", "bell"),
        (lambda: task_token_guard(Doubler())(4), f"{__name__}.Doubler", 8),
        (lambda: task_token_guard(partial(divmod, 7))(2), "builtins.divmod", (3, 1)),
        (task_token_guard(partial(Doubler(), 3)), f"{__name__}.Doubler", 6),
        (lambda: task_token_guard(len)("abc"), "builtins.len", 3),
        (lambda: task_token_guard("-".join)("ab"), "str.join", "a-b"),
        (lambda: task_token_guard(str.upper)("ab"), "str.upper", "AB"),
        (lambda: task_token_guard(complex)(1, 2), "builtins.complex", 1 + 2j),
        (lambda: task_token_guard(square)(5), f"{__name__}.square", 25),
        (
            lambda: task_token_guard(Shop.pay.__wrapped__)("it", 1),
            f"{__name__}.Shop.pay",
            ("it", 1),
        ),
    ],
)
def test_callables_of_every_kind(
    call: Callable[[], Token[Any]], operation: str, result: object
) -> None:
    """Each runs, and is counted under its own full name if nothing else was said."""
    token = call()
    assert (token.get(timeout=30), token.operation) == (result, operation)


@with_coordinator
def test_methods_are_bound() -> None:
    """A method gets its object, by attribute and through the class."""
    shop = Shop()
    assert shop.pay(5).get(timeout=30) == (shop, 5)
    assert Shop.pay(shop, sum_=6).get(timeout=30) == (shop, 6)
    assert shop.pay(7).operation == "pay"


@with_coordinator
def test_a_lambda() -> None:
    """It runs, under whatever name it was given."""
    token = task_token_guard("thrice")(lambda number: 3 * number)(4)
    assert (token.get(timeout=30), token.operation) == (12, "thrice")


@pytest.mark.parametrize(
    ("fn", "name"),
    [(partial(divmod, 7), "divmod"), (Doubler(), "Doubler"), (square, "square"), (len, "len")],
)
def test_names_of_those_that_have_none(fn: Callable[..., object], name: str) -> None:
    """A guarded partial is called as its function is, an object as its class."""
    guarded = task_token_guard(fn)
    assert (guarded.__name__, guarded.__wrapped__) == (name, fn)
    assert inspect.signature(guarded) == inspect.signature(fn)


async def fetch() -> None:
    """Be a coroutine function."""


async def steps() -> Any:
    """Be an async generator function."""
    yield


class Fetcher:
    """Has objects whose calls are coroutines."""

    async def __call__(self) -> None:
        """Be a coroutine function."""

    async def fetch(self) -> None:
        """Be one as a method."""


@pytest.mark.parametrize(
    "fn",
    [
        fetch,
        partial(partial(fetch)),
        Fetcher(),
        partial(Fetcher()),
        Fetcher().fetch,
        Fetcher.fetch,
        staticmethod(fetch),
        classmethod(fetch),
        asyncio.sleep,
    ],
)
@pytest.mark.parametrize("decorate", [task_token_guard, task_token_guard("fetch", {})])
def test_coroutine_functions_are_refused(decorate: Callable[[Any], Any], fn: Any) -> None:
    """At decoration, as a TypeError of ours that says what to do instead."""
    with pytest.raises(
        UnguardableError, match="it is a coroutine function: decorate a plain"
    ) as it:
        decorate(fn)
    assert isinstance(it.value, TypeError)
    assert str(it.value).endswith("function (def), and await the token that a call of it returns")
    assert it.value.name in str(it.value)


def test_async_generator_functions_are_refused() -> None:
    """In the same way."""
    with pytest.raises(
        UnguardableError, match=r"\.steps cannot be guarded: it is an async generator"
    ):
        task_token_guard()(steps)


def test_what_cannot_be_called_is_refused() -> None:
    """It is named in the error, shortened."""
    with pytest.raises(UnguardableError, match=r"^5 cannot be guarded: it is not callable$"):
        task_token_guard()(5)  # type: ignore[arg-type]
    with pytest.raises(UnguardableError, match="not callable") as caught:
        task_token_guard()(list(range(10_000)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 100


# -- tags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "options"),
    [
        ({"weight": "Heavy"}, TaskOptions(weight="heavy")),
        ({"weight": "light"}, TaskOptions(weight="light")),
        ({"weight": None}, TaskOptions()),
        ({"storage_speed": "MODERATE"}, TaskOptions(storage="MODERATE")),
        ({"storage": "slow"}, TaskOptions(storage="slow")),
        ({"storage_speed": None}, TaskOptions()),
        ({"sticky_anchor": "a"}, TaskOptions(key="a", sticky="lane")),
        ({"sticky_anchor": None}, TaskOptions()),
        ({"key": 7}, TaskOptions(key=7)),
        ({"key": 7, "sticky": "lane"}, TaskOptions(key=7, sticky="lane")),
        ({"operation": "named"}, TaskOptions(operation="named")),
        ({"priority": 3, "tenant": "t"}, TaskOptions(priority=3, tenant="t")),
        ({"limits": ("db",)}, TaskOptions(limits=("db",))),
        ({"queue_timeout": 60.0}, TaskOptions(queue_timeout=60.0)),
        (
            {"retry": RetryPolicy(attempts=2, on=OSError)},
            TaskOptions(retry=RetryPolicy(attempts=2, on=OSError)),
        ),
        ({"timeout": 60.0, "slow_after": 50}, TaskOptions(timeout=60.0, slow_after=50)),
        ({"spikes": SpikePolicy()}, TaskOptions(spikes=SpikePolicy())),
    ],
)
def test_tags(
    coordinator: OperationsCoordinator, tags: dict[str, Any], options: TaskOptions
) -> None:
    """The seed's tags, and each option by its own name, become the options of the call."""
    assert task_token_guard(None, tags)(int)().get(timeout=30) == 0
    assert said_of(coordinator) == options


@with_coordinator
def test_tags_are_what_they_were_at_decoration() -> None:
    """Changing the mapping later changes nothing."""
    tags = {"weight": "light"}
    guarded = task_token_guard("named", tags)(int)
    tags["weight"] = "heavy"
    token = guarded()
    assert (token.weight, token.operation, token.get(timeout=30)) == ("light", "named", 0)


def test_sticky_anchor(coordinator: OperationsCoordinator) -> None:
    """Calls of one anchor run one at a time, in order, on one lane."""
    order: list[int] = []
    running = threading.Lock()

    @task_token_guard(tags={"sticky_anchor": "ledger"})
    def book(number: int) -> None:
        assert running.acquire(blocking=False)
        order.append(number)
        running.release()

    coordinator.pause_admission()
    tokens = [book(number) for number in range(20)]
    coordinator.resume_admission()
    assert [token.get(timeout=30) for token in tokens] == [None] * 20
    assert order == list(range(20))
    assert len({token.lane for token in tokens}) == 1


@with_coordinator
def test_options_work() -> None:
    """A limit holds, and a call that waits for too long never starts."""
    release = threading.Event()
    started = threading.Event()

    @task_token_guard(tags={"limits": ("db",)})
    def query() -> bool:
        started.set()
        return release.wait(30)

    late = task_token_guard(tags={"limits": ("db",), "queue_timeout": 0.01})(int)()
    assert late.get(timeout=30) == 0, "the limit was free"
    first = query()
    assert started.wait(30)
    late = task_token_guard(tags={"limits": ("db",), "queue_timeout": 0.01})(int)()
    with pytest.raises(TokenTimeoutError):
        late.get(timeout=30)
    release.set()
    assert first.get(timeout=30)


@with_coordinator
def test_what_was_said_by_gated() -> None:
    """Options at the function hold where no tag says otherwise."""

    @task_token_guard(tags={"weight": "light"})
    @gated(weight="heavy", operation="named")
    def plain() -> None:
        pass

    token = plain()
    assert (token.weight, token.operation) == ("light", "named")
    token.get(timeout=30)


@pytest.mark.parametrize("tags", [{"wieght": "heavy"}, {"core": 1}, {5: 1}])
def test_unknown_tags(tags: dict[Any, Any]) -> None:
    """They are errors at decoration, which name all that exist."""
    with pytest.raises(UnknownOptionError, match="unknown option") as caught:
        task_token_guard(None, tags)
    assert caught.value.option == next(iter(tags))
    assert {"weight", "storage_speed", "sticky_anchor", "priority"} <= set(caught.value.known)


@pytest.mark.parametrize(
    ("operation", "tags", "text"),
    [
        (None, {"weight": "HUGE"}, "weight must be one of 'heavy', .* not 'HUGE'"),
        (None, {"weight": 1}, "weight must be .* not 1"),
        (None, {"storage_speed": "warp"}, "storage_speed must be one of 'slow', .* not 'warp'"),
        (None, {"storage": "warp"}, "storage must be one of"),
        (None, {"sticky_anchor": []}, r"sticky_anchor must be hashable, not \[\]"),
        (None, {"priority": "high"}, "priority must be an int or None"),
        (
            None,
            {"storage": "slow", "storage_speed": "slow"},
            "storage_speed must be left out where",
        ),
        (None, {"key": 1, "sticky_anchor": 1}, "sticky_anchor must be left out where key is given"),
        ("one", {"operation": "two"}, "operation must be left out where operation_type is given"),
        ("", {}, "operation_type must be a non-empty string or None, not ''"),
        (5, None, "operation_type must be a non-empty string or None, not 5"),
        (len, {}, "operation_type must be a non-empty string or None"),
        (None, [("weight", "heavy")], "tags must be a mapping from tags to values, or None"),
    ],
)
def test_wrong_values(operation: Any, tags: Any, text: str) -> None:
    """They are errors at decoration, under the name that was used."""
    with pytest.raises(InvalidOptionError, match=text):
        task_token_guard(operation, tags)


class Letter:
    """Has guarded methods whose calls are given up."""

    @task_token_guard(tags={"retry": RetryPolicy(attempts=1, on=ValueError)})
    def deliver(self, to: str) -> int:
        """Fail, unless it goes to a number."""
        return int(to)

    @classmethod
    @task_token_guard(tags={"retry": RetryPolicy(attempts=1, on=ValueError)})
    def burn(cls, to: str) -> int:
        """Fail as well."""
        return int(to)


@functools.lru_cache
@task_token_guard("stamp", {"retry": RetryPolicy(attempts=1, on=ValueError)})
def stamp(text: str) -> int:
    """Fail behind two decorators."""
    return int(text)


def test_calls_in_the_quarantine_can_be_had_back(tmp_path: Path) -> None:
    """In a file they are replayable by any process, though the name leads to the decorated function."""
    with OperationsCoordinator(max_workers=1, quarantine=tmp_path / "calls.db") as coordinator:
        for token in (Letter().deliver("a"), Letter.burn("b"), stamp("c")):
            assert isinstance(token.exception(timeout=30), ValueError)
        held = coordinator.quarantine.pending()
        assert [(call.replayable, call.not_replayable_because) for call in held] == [(True, "")] * 3
    with QuarantineStore(tmp_path / "calls.db") as store:
        parts = [store.load(call.id) for call in store.entries("pending")]
    assert [fn for fn, _, _ in parts] == [
        Letter.deliver.__wrapped__,
        Letter.burn.__func__.__wrapped__,
        stamp.__wrapped__.__wrapped__,
    ]


# -- when there is nobody to run it ---------------------------------------------------------------


def test_before_any_start() -> None:
    """The call raises at once, and says to call `start`. Where no other test has started one."""
    program = """
from tokengate_executor import OperationsCoordinator, task_token_guard
coordinator = OperationsCoordinator()
try:
    task_token_guard("parse")(int)("5")
except RuntimeError as error:
    print(type(error).__name__, error.operation, error.was_stopped, error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=50
    )
    assert ended.stdout == (
        "CoordinatorNotRunningError parse False parse was not submitted: no coordinator is "
        "running: call start() of an OperationsCoordinator first\n"
    )


def test_after_the_stop(coordinator: OperationsCoordinator) -> None:
    """The call raises at once, and says that it was stopped; after another start it runs."""
    coordinator.stop()
    with pytest.raises(CoordinatorNotRunningError, match="was stopped: call its start") as caught:
        add(1)
    assert (caught.value.operation, caught.value.was_stopped) == (f"{__name__}.add", True)
    coordinator.start()
    assert add(1).get(timeout=30) == 2


def test_stopped_between_looking_and_submitting(
    coordinator: OperationsCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call goes to the next one that runs, and raises our error if there is none."""
    view = Run.view
    others = OperationsCoordinator(max_workers=1)

    def stop_then_view(run: Run, options: TaskOptions) -> Any:
        if run.executor is others.executor:
            others.stop()
        return view(run, options)

    monkeypatch.setattr(Run, "view", stop_then_view)
    with others:
        assert add(1).get(timeout=30) == 2
        assert (others.statistics().submitted, coordinator.statistics().submitted) == (0, 1)
    coordinator.stop()
    with others, pytest.raises(CoordinatorNotRunningError, match="was stopped"):
        add(1)


def test_refused_otherwise_and_stopped_meanwhile(
    coordinator: OperationsCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the executor said is what the caller gets: it is not asked for twice."""

    class Full:
        def submit(self, *_: object) -> None:
            coordinator.stop()
            raise GateFullError(1, 1, None)

    monkeypatch.setattr(Run, "view", lambda *_: Full())
    with pytest.raises(GateFullError):
        add(1)


def test_other_refusals_are_passed_on() -> None:
    """What the executor says of a call that it does not take is what the caller gets."""
    release = threading.Event()
    with OperationsCoordinator(max_workers=1, max_pending=1, on_full="raise") as running:
        hold = task_token_guard()(release.wait)
        started = task_token_guard()(threading.Event().is_set)()
        started.get(timeout=30)
        running.pause_admission()
        waiting = hold(30)
        with pytest.raises(GateFullError):
            hold(30)
        assert not running.drain_pool(timeout=0).is_complete
        with pytest.raises(RuntimeError, match="drained"):
            hold(30)
        release.set()
        running.resume_admission()
        assert waiting.get(timeout=30)
        with pytest.raises(InvalidOptionError, match="limits"):
            task_token_guard(tags={"limits": ("db",)})(int)()


def test_each_call_runs_or_raises_while_it_is_stopped_and_started() -> None:
    """From several threads, at every moment of a restart: none is lost, runs twice, or hangs."""
    ran: list[int] = []
    coordinator = OperationsCoordinator(max_workers=2)
    note = task_token_guard()(ran.append)
    tokens: dict[int, list[Token[None]]] = {}
    refused: list[int] = []
    over = threading.Event()

    def call(first: int) -> None:
        mine = tokens[first] = []
        number = first
        while not over.is_set():
            try:
                mine.append(note(number))
            except CoordinatorNotRunningError:
                refused.append(number)
            number += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=call, args=(n * 10**9,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            coordinator.start()
            while coordinator.statistics().completed < 20:
                note(-1).get(timeout=30)
            coordinator.stop()
        over.set()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert all(token.done() for mine in tokens.values() for token in mine)
    assert all(token.exception(0) is None for mine in tokens.values() for token in mine)
    noted = [number for number in ran if number >= 0]
    assert len(noted) == len(set(noted)) == sum(map(len, tokens.values()))
    assert not set(noted) & set(refused)
