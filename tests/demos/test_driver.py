"""The bounded way through the job."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tokengate_executor.demos.driver import count_tasks, ending_early_on_error, run_job
from tokengate_executor.demos.scan import CorpusFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokengate_executor.demos.work import JsonObject, Weight


def files(*names: str) -> list[CorpusFile]:
    """Return files that nothing opens."""
    return [CorpusFile(name, name, None) for name in names]


def answering(
    weight: Weight, _function: Callable[[str], JsonObject], path: str, /
) -> Future[JsonObject]:
    """Return a finished future that names the call."""
    future: Future[JsonObject] = Future()
    future.set_result({"call": f"{weight} {path}"})
    return future


def test_each_file_gets_a_row_with_all_its_work() -> None:
    """Rows are in the order of the files, and medium work says why there is none."""
    rows = run_job(files("b.py", "a"), answering)
    assert rows == [
        {
            "path": "b.py",
            "light": {"call": "light b.py"},
            "medium": {"call": "medium b.py"},
            "heavy": {"call": "heavy b.py"},
        },
        {
            "path": "a",
            "light": {"call": "light a"},
            "medium": {"skipped": "not a .py file"},
            "heavy": {"call": "heavy a"},
        },
    ]


def test_a_failed_call_is_described_and_stops_nothing() -> None:
    """The row of the failed call holds its error, the rows after it are whole."""

    def failing(
        weight: Weight, _function: Callable[[str], JsonObject], path: str, /
    ) -> Future[JsonObject]:
        future = answering(weight, _function, path)
        if path == "bad":
            future = Future()
            future.set_exception(ValueError("odd"))
        return future

    bad, good = run_job(files("bad", "good"), failing)
    assert bad["light"] == {"error": {"type": "ValueError", "message": "odd"}}
    assert good["light"] == {"call": "light good"}


@pytest.mark.parametrize("tasks_in_flight", [1, 2, 7])
def test_no_more_than_the_bound_is_in_flight(tasks_in_flight: int) -> None:
    """Calls are submitted, and files are asked for, only as results were taken."""
    submitted = taken = 0

    def counting(
        weight: Weight, function: Callable[[str], JsonObject], path: str, /
    ) -> Future[JsonObject]:
        nonlocal submitted
        submitted += 1
        assert submitted - taken <= tasks_in_flight
        return answering(weight, function, path)

    def on_task_done() -> None:
        nonlocal taken
        taken += 1

    def source() -> Iterator[CorpusFile]:
        for file in files(*(f"{number}.py" for number in range(30))):
            assert submitted - taken <= tasks_in_flight
            yield file

    run_job(source(), counting, on_task_done=on_task_done, tasks_in_flight=tasks_in_flight)
    assert submitted == taken == 90


def test_names_that_are_not_utf_8_keep_their_bytes() -> None:
    """Two names that look the same once escaped stay apart."""
    strange = b"a\xff".decode("utf-8", "surrogateescape")
    rows = run_job(files(strange, "a\\xff"), answering)
    assert [row["path"] for row in rows] == ["a\\xff", "a\\xff"]
    assert [row.get("path_bytes_hex") for row in rows] == ["61ff", None]


def test_tasks_are_counted_without_running_them() -> None:
    """The count is that of the calls submitted."""
    assert count_tasks(files("a.py", "b", "c.py")) == 8


def test_a_failed_future_is_freed_at_once() -> None:
    """Its error's traceback holds no frame that holds the future: the collector has no work."""
    futures: list[weakref.ref[Future[JsonObject]]] = []

    def failing(
        _weight: Weight, _function: Callable[[str], JsonObject], _path: str, /
    ) -> Future[JsonObject]:
        future: Future[JsonObject] = Future()
        future.set_exception(ValueError("odd"))
        futures.append(weakref.ref(future))
        return future

    gc.disable()
    try:
        run_job(files("a"), failing)
        assert [future() for future in futures] == [None, None]
    finally:
        gc.enable()


def test_an_interruption_comes_through() -> None:
    """Ctrl-C while a result is taken is no row."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt):
        run_job(
            files("a"),
            lambda _weight, _function, path: executor.submit(lambda: {"path": path}),
            on_task_done=interrupt,
        )


def test_an_error_ends_an_executor_early() -> None:
    """What waits is cancelled, and what runs is waited for; without an error all of it is done."""
    release, begun = threading.Event(), threading.Event()

    def run() -> bool:
        begun.set()
        return release.wait(30)

    executor = ThreadPoolExecutor(1)
    running, waiting = executor.submit(run), executor.submit(run)
    assert begun.wait(30)
    threading.Timer(0.02, release.set).start()
    with pytest.raises(KeyboardInterrupt), ending_early_on_error(executor):
        raise KeyboardInterrupt
    assert running.result() is True
    assert waiting.cancelled()

    with ending_early_on_error(ThreadPoolExecutor(1)) as executor:
        both = [executor.submit(run) for _ in range(2)]
    assert [future.result() for future in both] == [True, True]
