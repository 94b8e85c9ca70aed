"""What the mixed demo calls: operations that compute or write files, with weights and storage tiers.

All of them are short, and come to the same for the same arguments. Files are written below a directory
that the call is given; ``content_of`` says afterwards what is in it, whoever wrote it in what order.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokengate_executor import TaskOptions

from .made_up import made_up_call

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from tokengate_executor.policies.weights import Weight

    from .stage import Stage
    from .work import JsonValue

__all__ = ["OPERATIONS", "Operation", "content_of"]

_LOGS: Final = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call.

    Attributes:
        function: called with the stage, the directory, and the arguments.
        arguments: makes these from a source of random numbers and the number of the call.
        weight: of its calls.
        storage: the storage tier, of those that write.
    """

    function: Callable[..., JsonValue]
    arguments: Callable[[random.Random, int], tuple[int, ...]]
    weight: Weight
    storage: str | None = None

    def options(self, name: str) -> TaskOptions:
        """Return the options of its calls."""
        return TaskOptions(operation=name, weight=self.weight, storage=self.storage)


def add_one(_stage: Stage, _directory: str, number: int) -> int:
    """Next to nothing."""
    return number + 1


def sum_up_to(_stage: Stage, _directory: str, number: int) -> int:
    """A short loop that runs in C."""
    return sum(range(number))


def count_words(_stage: Stage, _directory: str, words: int) -> int:
    """Join words, change their case, and count some."""
    text = " ".join(f"word{number % 97}" for number in range(words))
    return text.upper().split().count("WORD42")


def fibonacci(_stage: Stage, _directory: str, number: int) -> int:
    """The last nine digits of a Fibonacci number, step by step."""
    last, this = 0, 1
    for _ in range(number):
        last, this = this, (last + this) % 1_000_000_000
    return last


def filter_squares(_stage: Stage, _directory: str, size: int) -> int:
    """Make a list, and sum a part of it."""
    squares = [number * number for number in range(size)]
    return sum(square for square in squares if square % 3 == 1)


def count_primes(_stage: Stage, _directory: str, limit: int) -> int:
    """The sieve of Eratosthenes."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(sieve[number * number :: number]))
    return sum(sieve)


def round_trip(_stage: Stage, _directory: str, records: int) -> str:
    """Write records as JSON, read them, group them and sum up."""
    made = [
        {"id": number, "group": f"g{number % 7}", "value": number / 3} for number in range(records)
    ]
    groups = Counter[str]()
    for record in json.loads(json.dumps(made)):
        groups[record["group"]] += record["id"]
    return json.dumps(dict(sorted(groups.items())))


def hash_long(stage: Stage, _directory: str, seed: int, milliseconds: int) -> JsonValue:
    """Hash for some milliseconds, outside of the interpreter lock."""
    call = made_up_call("hash", seed, milliseconds, TaskOptions())
    return call.function(stage, *call.arguments)


def write_blob(_stage: Stage, directory: str, number: int, kilobytes: int) -> JsonValue:
    """Write a file of some kilobytes."""
    blob = hashlib.sha256(b"%d" % number).digest() * (32 * kilobytes)
    Path(directory, f"blob-{number}.bin").write_bytes(blob)
    return {"bytes": len(blob)}


def write_json(_stage: Stage, directory: str, number: int, fields: int) -> JsonValue:
    """Write a small JSON file."""
    text = json.dumps({f"field{index}": number * index for index in range(fields)})
    Path(directory, f"record-{number}.json").write_text(text, encoding="utf-8")
    return {"characters": len(text)}


def append_log(_stage: Stage, directory: str, number: int, log: int) -> JsonValue:
    """Append a line to a file to which others append, too, and wait until the disk has it."""
    line = f"call {number} was here\n".encode()
    # One write at the end of the file: lines of several threads never mix.
    with Path(directory, f"calls-{log}.log").open("ab", buffering=0) as file:
        written = file.write(line)
        os.fsync(file.fileno())
    return {"bytes": written}


OPERATIONS: Final[Mapping[str, Operation]] = {
    "trivial_operation": Operation(add_one, lambda source, _: (source.randrange(1000),), "light"),
    "simple_operation": Operation(
        sum_up_to, lambda source, _: (source.randrange(1000, 20_000),), "light"
    ),
    "string_operation": Operation(
        count_words, lambda source, _: (source.randrange(200, 2000),), "light"
    ),
    "fibonacci_operation": Operation(
        fibonacci, lambda source, _: (source.randrange(1000, 10_000),), "medium"
    ),
    "moderate_operation": Operation(
        filter_squares, lambda source, _: (source.randrange(1000, 10_000),), "medium"
    ),
    "prime_operation": Operation(
        count_primes, lambda source, _: (source.randrange(10_000, 100_000),), "medium"
    ),
    "complex_operation": Operation(
        round_trip, lambda source, _: (source.randrange(50, 500),), "medium"
    ),
    "heavy_operation": Operation(
        hash_long, lambda source, _: (source.randrange(2**32), source.randrange(2, 9)), "heavy"
    ),
    "write_blob_moderate": Operation(
        write_blob, lambda source, number: (number, source.randrange(1, 64)), "medium", "moderate"
    ),
    "write_json_fast": Operation(
        write_json, lambda source, number: (number, source.randrange(5, 50)), "light", "fast"
    ),
    "append_log_slow": Operation(
        append_log, lambda source, number: (number, source.randrange(_LOGS)), "light", "slow"
    ),
}
"""Name → what it is."""


def content_of(directory: str) -> dict[str, JsonValue]:
    """Return the digest of each file; of a log, that of its lines sorted, as their order is open."""
    found: dict[str, JsonValue] = {}
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        content = Path(directory, name).read_bytes()
        if name.endswith(".log"):
            content = b"".join(sorted(content.splitlines(keepends=True)))
        found[name] = hashlib.sha256(content).hexdigest()[:16]
    return found
