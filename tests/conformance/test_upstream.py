"""CPython's own tests of thread pools, futures and asyncio's use of them, run against our classes.

Every test of CPython is one result here, run in an interpreter of its own by `upstream.py`. Not
every build of CPython ships its tests; what is not there is skipped, and named.

``TOKENGATE_CONFORMANCE_SUBJECT=stdlib`` runs them against the standard library's own classes.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SUBJECT = os.environ.get("TOKENGATE_CONFORMANCE_SUBJECT", "tokengate")
UPSTREAM = Path(__file__).with_name("upstream.py")
SUITES = ("test.test_concurrent_futures", "test.test_asyncio")
SECONDS_PER_TEST = 120.0

# The tests of concurrent.futures left out: "Class.method" -> the private attribute of the standard
# class that it checks. Only that counts: a test that fails for another reason shows our defect.
LEFT_OUT: dict[str, str] = {
    "FutureTests.test_cancel": (
        "checks _state == CANCELLED after cancel(); a token is CANCELLED_AND_NOTIFIED at once"
    ),
    "FutureTests.test_exception_with_success": (
        "settles the future by writing _state and _exception under _condition, not by a method"
    ),
}


def call_upstream(*arguments: str) -> tuple[object, str]:
    """Run `upstream.py`; return its answer (`None` where it gave none) and all it printed."""
    with tempfile.TemporaryDirectory() as directory:
        outcome_file = Path(directory, "outcome.json")
        command = [sys.executable, str(UPSTREAM), "--subject", SUBJECT, *arguments]
        try:
            process = subprocess.run(
                [*command, str(outcome_file)],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS_PER_TEST,
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as expiry:
            return None, f"did not end within {SECONDS_PER_TEST:.0f} s\n{expiry.output or ''}"
        output = process.stdout
        if process.returncode != 0:
            return None, f"the interpreter ended with status {process.returncode}\n{output}"
        return json.loads(outcome_file.read_text(encoding="utf-8")), output


@functools.cache
def upstream_tests() -> dict[str, list[str]]:
    """Return CPython's tests that concern us: full name of the module -> "Class.method" names."""
    answer, output = call_upstream("list")
    if not isinstance(answer, dict):
        raise RuntimeError(f"the tests of this interpreter could not be listed: {output}")
    return answer


TESTS = upstream_tests()


@pytest.mark.parametrize("suite", SUITES)
def test_suite_is_shipped(suite: str) -> None:
    """This interpreter ships CPython's tests, and each of the modules listed has some for us."""
    modules = {module: names for module, names in TESTS.items() if module.startswith(suite)}
    if not modules:
        pytest.skip(
            f"{platform.python_implementation()} {platform.python_version()} here does not ship "
            f"{suite}, so these tests of CPython were not run against our classes"
        )
    assert [module for module, names in modules.items() if not names] == []


@pytest.mark.timeout(SECONDS_PER_TEST + 30.0)
@pytest.mark.parametrize(
    "test_id",
    [
        pytest.param(f"{module}.{name}", id=f"{module.removeprefix('test.')}.{name}")
        for module, names in TESTS.items()
        for name in names
        if SUBJECT == "stdlib" or name not in LEFT_OUT
    ],
)
def test_upstream(test_id: str) -> None:
    """CPython's own test passes with our classes in place of the standard library's."""
    answer, output = call_upstream("run", test_id)
    if not isinstance(answer, dict):
        pytest.fail(output, pytrace=False)
    if answer["outcome"] == "skipped":
        pytest.skip(f"skipped by CPython's test itself: {answer['details']}")
    if answer["outcome"] != "passed":
        pytest.fail(f"{answer['details']}\n{output}", pytrace=False)


def test_left_out_tests_exist_upstream() -> None:
    """Every entry of the table of tests left out still names a test of CPython."""
    if not any(module.startswith(SUITES[0]) for module in TESTS):
        pytest.skip(f"{SUITES[0]} is not shipped, so the table cannot be compared with it")
    known = {name for names in TESTS.values() for name in names}
    assert set(LEFT_OUT) - known == set()
