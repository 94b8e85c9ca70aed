"""``kill -9`` at any moment: what was committed stays, and the file can be read.

``TOKENGATE_KILL_ROUNDS=200`` runs the long loop; ``TOKENGATE_KILL_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tokengate_executor
from tokengate_executor.guard.store import QuarantineStore

ROUNDS = int(os.environ.get("TOKENGATE_KILL_ROUNDS", "20"))
SEED = int(os.environ.get("TOKENGATE_KILL_SEED", time.time_ns() % 1_000_000))
ROUNDS_PER_FILE = 5
LONGEST_LIFE = 0.12  # seconds
PACKAGE = str(Path(tokengate_executor.__file__).parent)

# Only what the store needs is imported, as an interpreter is begun in each round. It says "ready"
# before there is a file, so that it is killed while it makes one, too. Pickles of all sizes, and
# deletions, make SQLite move its log into the file often.
WRITER = """
import os, random, sys, types
package = types.ModuleType("tokengate_executor")
package.__path__ = [sys.argv[1]]
sys.modules["tokengate_executor"] = package
from tokengate_executor.guard.calls import Call
from tokengate_executor.guard.store import QuarantineStore

dice = random.Random(int(sys.argv[3]))
os.write(1, b"ready\\n")
store = QuarantineStore(sys.argv[2])
while True:
    length = dice.choice((0, 100, 5_000, 100_000, 500_000))
    one = store.add(Call("shop.pay", divmod, (length, "x" * length)))
    os.write(1, f"added {one}\\n".encode())
    if dice.random() < 0.3:
        os.write(1, f"rejecting {one}\\n".encode())
        store.reject(one)
        os.write(1, f"rejected {one}\\n".encode())
    if dice.random() < 0.05:
        store.purge("rejected")
"""


class Told:
    """What the writers of a file have said that they had done, or were about to do."""

    def __init__(self) -> None:
        self.added: set[str] = set()
        self.rejecting: set[str] = set()
        self.rejected: set[str] = set()
        self.writers = 0

    def hear(self, words: bytes) -> None:
        """Take in what one writer has said in its life."""
        self.writers += 1
        for line in words.decode().splitlines():
            verb, one = line.split()
            getattr(self, verb).add(one)

    def check(self, path: Path) -> None:
        """Open the file as anybody would, and compare."""
        with QuarantineStore(path) as store:
            with store._database.reading() as connection:  # pyright: ignore[reportPrivateUsage]
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = {entry.id: entry for entry in store.entries()}
            lost = self.added - found.keys() - self.rejecting  # those may have been purged
            assert not lost
            pending = {one for one, entry in found.items() if entry.status == "pending"}
            assert not pending & self.rejected
            # A writer may be killed between a commit and its word; it has one such moment.
            assert len(found.keys() - self.added) <= self.writers
            for one in found:
                fn, (length, text), kwargs = store.load(one)
                assert (fn, text, kwargs) == (divmod, "x" * length, {})


def begun(path: Path, seed: int) -> subprocess.Popen[bytes]:
    """Start a writer and wait until it is about to open the file."""
    arguments = [sys.executable, "-S", "-E", "-c", WRITER, PACKAGE, str(path), str(seed)]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, bufsize=0)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.timeout(60 + 2 * ROUNDS)
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """One or two writers at a time, again and again on the same file, and on new ones."""
    dice = random.Random(SEED)
    print(f"seed {SEED}")  # noqa: T201  shown when it fails
    total = 0
    for number in range(ROUNDS):
        path = tmp_path / f"quarantine-{number // ROUNDS_PER_FILE}.db"
        if number % ROUNDS_PER_FILE == 0:
            told = Told()
        writers = [begun(path, dice.randrange(10**9)) for _ in range(dice.choice((1, 1, 2)))]
        # Most of what can go wrong goes wrong early, so short lives are frequent.
        time.sleep(LONGEST_LIFE * dice.random() ** 2)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            told.hear(writer.communicate(timeout=20)[0])
            assert writer.returncode == -signal.SIGKILL
        told.check(path)
        total += len(told.added)
    assert total, "no writer lived long enough: the test proves nothing"
