"""Lists and runs CPython's own tests with our classes in place of the standard library's.

A program and not a test module: it must put our classes in place before CPython's test modules
are imported, and what it does to the standard library must not reach the process of the test
suite. So `test_upstream.py` starts it once to list the tests, and once more for every test; a test
that hangs, crashes or leaves the interpreter unable to exit then costs that one test only.

Usage::

    python upstream.py [--subject stdlib] list OUTCOME_FILE
    python upstream.py [--subject stdlib] run MODULE.CLASS.METHOD OUTCOME_FILE

The answer is written to the outcome file as JSON, because the tests themselves may print. With
``--subject stdlib`` nothing is replaced: a control that shows whether a failure is ours or comes
from the machine.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import concurrent.futures.process
import concurrent.futures.thread
import contextlib
import faulthandler
import fnmatch
import importlib
import importlib.util
import json
import sys
import unittest
from collections.abc import Callable
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

CONFORMANCE_DIRECTORY = Path(__file__).resolve().parent
PACKAGE_PARENT = CONFORMANCE_DIRECTORY.parent.parent

CONCURRENT_FUTURES = "test.test_concurrent_futures"
CONCURRENT_FUTURES_PARTS = (
    "test_thread_pool",
    "test_wait",
    "test_as_completed",
    "test_future",
    "test_init",
    "test_shutdown",
)
FUTURE_TEST_CLASS = "FutureTests"
# The classes that test futures which no executor made. `wait` is tested with those of the standard
# class beside our tokens, as one is in the state CANCELLED, which no public method leads to alone.
BARE_FUTURE_CLASSES = (FUTURE_TEST_CLASS, "ThreadPoolAsCompletedTest")

ASYNCIO_FUTURES = "test.test_asyncio.test_futures"

# The tests of asyncio which hand work to an executor or wrap its futures; module -> "Class.method".
ASYNCIO_PATTERNS: dict[str, tuple[str, ...]] = {
    "test.test_asyncio.test_threads": ("ToThreadTests.*",),
    "test.test_asyncio.test_base_events": (
        "*.test_set_default_executor*",
        "*.test_shutdown_default_executor*",
        "*.test_asyncgen_finalization_by_gc_in_other_thread",
    ),
    "test.test_asyncio.test_events": ("*.test_run_in_executor*",),
    ASYNCIO_FUTURES: (
        "*FutureTests.test_wrap_future",
        "*FutureTests.test_wrap_future_cancel*",
        "*FutureTests.test_wrap_future_use_*_loop",
        "*FutureTests.test_wrap_future_without_loop",
    ),
    "test.test_asyncio.test_tasks": ("RunCoroutineThreadsafeTests.*",),
}

HANG_SECONDS = 90.0


def concurrent_futures_modules() -> list[str]:
    """Return the test modules of `concurrent.futures` that this interpreter ships, by full name.

    They were one file at first, and became a package later.
    """
    if not is_shipped(CONCURRENT_FUTURES):
        return []
    parts = [f"{CONCURRENT_FUTURES}.{part}" for part in CONCURRENT_FUTURES_PARTS]
    shipped_parts = [part for part in parts if is_shipped(part)]
    return shipped_parts or [CONCURRENT_FUTURES]


def asyncio_modules() -> list[str]:
    """Return the test modules of `asyncio` that this interpreter ships, by full name."""
    return [module for module in ASYNCIO_PATTERNS if is_shipped(module)]


def is_shipped(module_name: str) -> bool:
    """Say whether this interpreter has the module; many distributions leave the tests out."""
    try:
        return importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError:
        return False


def replace(module: ModuleType, name: str, value: object) -> None:
    """Rebind a module's global name; a function of its own, as type checkers refuse to do this."""
    setattr(module, name, value)


def substitute_executor() -> type[concurrent.futures.ThreadPoolExecutor]:
    """Put our executor in place of `ThreadPoolExecutor` in this process, and return it.

    It is a subclass of the same name, because the default prefix of thread names, and the scripts
    that CPython's tests hand to child interpreters, are made from the name of the class.
    """
    # The pool of sub-interpreters is built on the standard class; imported later, it would be
    # built on ours.
    with contextlib.suppress(ImportError):
        importlib.import_module("concurrent.futures.interpreter")
    from tokengate_executor import TokenGateExecutor

    class ThreadPoolExecutor(TokenGateExecutor):
        pass

    replace(concurrent.futures, "ThreadPoolExecutor", ThreadPoolExecutor)
    replace(concurrent.futures.thread, "ThreadPoolExecutor", ThreadPoolExecutor)
    return ThreadPoolExecutor


def make_future_class() -> type[concurrent.futures.Future[Any]]:
    """Return our token as a class named `Future`, which is what CPython's tests expect to read."""
    from tokengate_executor import Token

    class Future(Token[Any]):
        """A token that CPython's `create_future` can make.

        It assigns `_state`, `_exception` and `_result`, in this order, to a new future; here the
        last assignment says them by the public verbs.
        """

        def __setattr__(self, name: str, value: Any) -> None:
            if sys._getframe(1).f_code.co_name != "create_future":
                super().__setattr__(name, value)
            elif name != "_result":
                self.__dict__[name] = value
            else:
                wanted, exception = self.__dict__["_state"], self.__dict__["_exception"]
                if wanted == "RUNNING":
                    self.set_running_or_notify_cancel()
                elif wanted in {"CANCELLED", "CANCELLED_AND_NOTIFIED"}:
                    self.cancel()
                elif exception is not None:
                    self.set_exception(exception)
                elif wanted == "FINISHED":
                    self.set_result(value)

    return Future


def substitute_future(module: ModuleType) -> None:
    """Put our token in place of `Future`, and of the futures in given states, in a test module.

    Only there: process pools make their futures of the standard class, and are not what is tested.
    CPython's tests bring a future into a state by writing its private attributes, so `create_future`
    and the futures it made are replaced by ours that came there by public methods.
    """
    future_class = make_future_class()

    def create_future(
        state: str = PENDING, exception: BaseException | None = None, result: object = None
    ) -> concurrent.futures.Future[Any]:
        future = future_class()
        if state == RUNNING:
            future.set_running_or_notify_cancel()
        elif state in {CANCELLED, CANCELLED_AND_NOTIFIED}:
            future.cancel()
        elif exception is not None:
            future.set_exception(exception)
        elif state == FINISHED:
            future.set_result(result)
        return future

    replacements = {
        "Future": future_class,
        "create_future": create_future,
        "PENDING_FUTURE": create_future(PENDING),
        "RUNNING_FUTURE": create_future(RUNNING),
        "CANCELLED_FUTURE": create_future(CANCELLED),
        "CANCELLED_AND_NOTIFIED_FUTURE": create_future(CANCELLED_AND_NOTIFIED),
        "EXCEPTION_FUTURE": create_future(FINISHED, exception=OSError()),
        "SUCCESSFUL_FUTURE": create_future(FINISHED, result=42),
    }
    for name, replacement in replacements.items():
        if hasattr(module, name):
            replace(module, name, replacement)


def substitute_in_child_scripts(module: ModuleType) -> None:
    """Make scripts that `module` runs in child interpreters start with the same substitution."""
    original: Callable[..., Any] | None = getattr(module, "assert_python_ok", None)
    if original is None:
        return
    prelude = (
        f"import sys; sys.path[:0] = [{str(PACKAGE_PARENT)!r}, {str(CONFORMANCE_DIRECTORY)!r}]\n"
        "import upstream; upstream.substitute_executor()\n"
    )

    def assert_python_ok(*args: str, **environment: str) -> Any:
        option, script = args
        if option != "-c":
            raise NotImplementedError(f"expected a script after '-c', got {args!r}")
        return original(option, prelude + script, **environment)

    replace(module, "assert_python_ok", assert_python_ok)


def load(module_name: str, class_name: str, subject: str) -> ModuleType:
    """Import one of CPython's test modules with the substitutions that the test class needs."""
    if subject == "stdlib":
        return importlib.import_module(module_name)
    sys.path.insert(0, str(PACKAGE_PARENT))
    substitute_executor()
    module = importlib.import_module(module_name)
    if module_name == ASYNCIO_FUTURES:
        # It looks the class up when a test runs, in a module that asyncio looks into as well.
        names = {**vars(concurrent.futures), "Future": make_future_class()}
        replace(module, "concurrent", SimpleNamespace(futures=SimpleNamespace(**names)))
    if class_name in BARE_FUTURE_CLASSES:
        substitute_future(module)
    substitute_in_child_scripts(module)
    return module


def chosen_tests(module_name: str) -> list[str]:
    """Return the names "Class.method" of those tests in a module which concern thread pools."""
    module = importlib.import_module(module_name)
    names = [
        f"{test_class.__name__}.{method}"
        for test_class in vars(module).values()
        if isinstance(test_class, type)
        and issubclass(test_class, unittest.TestCase)
        and test_class.__module__ == module_name
        and (module_name in ASYNCIO_PATTERNS or concerns_thread_pools(test_class))
        for method in unittest.defaultTestLoader.getTestCaseNames(test_class)
    ]
    patterns = ASYNCIO_PATTERNS.get(module_name, ("*",))
    return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in patterns)]


def concerns_thread_pools(test_class: type[unittest.TestCase]) -> bool:
    """Say whether a class of the `concurrent.futures` tests uses thread pools or bare futures."""
    executor_type = getattr(test_class, "executor_type", None)
    return (
        executor_type is concurrent.futures.ThreadPoolExecutor
        or test_class.__name__ == FUTURE_TEST_CLASS
    )


def list_tests() -> dict[str, list[str]]:
    """Return, for every shipped module, the tests that concern thread pools."""
    modules = concurrent_futures_modules() + asyncio_modules()
    return {module: chosen_tests(module) for module in modules}


def run_test(test_id: str, subject: str) -> dict[str, str]:
    """Run one test, and return its outcome ("passed", "failed", "skipped") and the details."""
    module_name, class_name, method = test_id.rsplit(".", 2)
    try:
        module = load(module_name, class_name, subject)
    except unittest.SkipTest as skip:
        return {"outcome": "skipped", "details": str(skip)}
    from test import support

    support.environment_altered = False
    result = unittest.TestResult()
    # Found through the class, so that the module's own set-up and tear-down run as well.
    unittest.TestSuite([getattr(module, class_name)(method)]).run(result)
    problems = [text for _, text in result.errors + result.failures]
    if result.unexpectedSuccesses:
        problems.append("the test is marked as an expected failure, and passed")
    if support.environment_altered:
        problems.append("the test left threads or child processes behind")
    if problems:
        return {"outcome": "failed", "details": "\n".join(problems)}
    if result.skipped:
        return {"outcome": "skipped", "details": result.skipped[0][1]}
    if result.testsRun != 1:
        return {"outcome": "failed", "details": f"{result.testsRun} tests ran instead of one"}
    return {"outcome": "passed", "details": ""}


def main() -> None:
    """Do what the command line asks; see the description of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--subject", choices=("tokengate", "stdlib"), default="tokengate")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("list")
    command.add_argument("outcome_file", type=Path)
    command = commands.add_parser("run")
    command.add_argument("test_id")
    command.add_argument("outcome_file", type=Path)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    answer: object
    if arguments.command == "list":
        answer = list_tests()
    else:
        answer = run_test(arguments.test_id, arguments.subject)
    arguments.outcome_file.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
