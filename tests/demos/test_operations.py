"""The operations of the mixed demo: what they come to, and what they write."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tokengate_executor.demos.operations import (
    OPERATIONS,
    add_one,
    append_log,
    content_of,
    count_primes,
    count_words,
    fibonacci,
    filter_squares,
    round_trip,
    sum_up_to,
    write_blob,
    write_json,
)
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.stage import PlainLoop, Stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stage() -> Stage:
    """Return a stage."""
    return Stage(PlainLoop(), Progress(None, "", 0))


def test_what_they_come_to(stage: Stage) -> None:
    """Each in a case that can be checked by hand, or against a simpler way."""
    assert add_one(stage, "", 4) == 5
    assert sum_up_to(stage, "", 5) == 10
    assert count_words(stage, "", 150) == 2, "word42 of 0 to 96, and of 97 to 149"
    assert [fibonacci(stage, "", number) for number in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]
    assert fibonacci(stage, "", 100) == 354224848179261915075 % 10**9
    assert filter_squares(stage, "", 6) == 1 + 4 + 16 + 25
    primes = [n for n in range(2, 500) if all(n % d for d in range(2, n))]
    for limit in (10, 11, 12, 25, 26, 499, 500):
        assert count_primes(stage, "", limit) == sum(prime < limit for prime in primes)
    assert round_trip(stage, "", 9) == (
        '{"g0": 7, "g1": 9, "g2": 2, "g3": 3, "g4": 4, "g5": 5, "g6": 6}'
    )


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_the_same_arguments_come_to_the_same(name: str, stage: Stage, tmp_path: Path) -> None:
    """Made from the same source; in files, too."""
    operation = OPERATIONS[name]
    found: list[tuple[object, object]] = []
    for directory in (tmp_path / "one", tmp_path / "other"):
        directory.mkdir()
        source = random.Random(3)
        outcomes = [
            operation.function(stage, str(directory), *operation.arguments(source, number))
            for number in range(3)
        ]
        found.append((outcomes, content_of(str(directory))))
    assert found[0] == found[1]
    assert bool(found[0][1]) == (operation.storage is not None)


def test_options() -> None:
    """Weights of all kinds, and storage tiers of those that write."""
    assert {operation.weight for operation in OPERATIONS.values()} == {"heavy", "medium", "light"}
    options = OPERATIONS["append_log_slow"].options("append_log_slow")
    assert (options.operation, options.weight, options.storage) == (
        "append_log_slow",
        "light",
        "slow",
    )


def test_files(stage: Stage, tmp_path: Path) -> None:
    """They hold what the call says."""
    directory = str(tmp_path)
    assert write_blob(stage, directory, 1, 3) == {"bytes": 3072}
    assert (tmp_path / "blob-1.bin").stat().st_size == 3072
    assert write_json(stage, directory, 2, 2) == {"characters": 26}
    assert (tmp_path / "record-2.json").read_text() == '{"field0": 0, "field1": 2}'
    assert append_log(stage, directory, 3, 0) == {"bytes": 16}
    assert (tmp_path / "calls-0.log").read_text() == "call 3 was here\n"


def test_lines_of_several_threads_do_not_mix(stage: Stage, tmp_path: Path) -> None:
    """Whatever their order is, the log comes to the same."""

    def append(number: int) -> None:
        append_log(stage, str(tmp_path), number, 0)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(append, range(200)))
    lines = (tmp_path / "calls-0.log").read_text().splitlines()
    assert sorted(lines) == sorted(f"call {number} was here" for number in range(200))
    found = content_of(str(tmp_path))
    (tmp_path / "calls-0.log").write_text("".join(f"{line}\n" for line in reversed(lines)))
    assert content_of(str(tmp_path)) == found


def test_content_tells_files_apart(tmp_path: Path) -> None:
    """By name and by content; of what is no log the order of lines counts."""
    (tmp_path / "a.bin").write_bytes(b"1\n2\n")
    before = content_of(os.fspath(tmp_path))
    (tmp_path / "a.bin").write_bytes(b"2\n1\n")
    after = content_of(os.fspath(tmp_path))
    assert before.keys() == after.keys() == {"a.bin"}
    assert before != after
