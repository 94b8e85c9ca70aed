"""Measure what an open dashboard costs the executor that it shows.

    python bench/dashboard_cost.py                  this interpreter, about a minute
    python bench/dashboard_cost.py --check          exit status 1 if it costs more than it may
    python bench/dashboard_cost.py --rounds 40 --watchers 10

How the number is made
    One executor with 4 workers serves its dashboard. A *sample* is so many fan-outs of 20,000 no-op
    calls, one after the other, that they take about a second: some gatherings fall into it. A
    *round* takes one sample while nobody watches, one while another process has the live feed open
    and applies every change to its own copy, and one while nobody watches again. It gives one
    **ratio**: the watched throughput / the mean of the other two, so that what grows or shrinks
    evenly during a round cancels out. The table has the median of the ratios and the quartiles, and
    beside it those of the second unwatched sample / the first, which should be 1: what these differ
    by is the noise of the machine. The same with the **CPU time** of the process for the wall time
    is hardly moved by what else the machine does, and says what the dashboard's own work is.

    The dashboard may cost less than 10 %: the median has to be above 0.9.

What the number cannot show
    No-ops saturate the executor and the interpreter lock, which real calls do not; all that the
    dashboard does comes out of their time. The watching process has a CPU of its own if the machine
    has one to spare.

Exit status: 0 if it measured; with `--check` 1 if it costs more; 2 for unusable arguments. A round that
hangs ends it, after `--hang-seconds`, with the stacks of all threads and status 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import threading
from contextlib import ExitStack
from time import perf_counter, process_time
from typing import Any, NamedTuple

from comparison.command_line import positive
from comparison.measuring import ending_if_it_hangs, meet_all_workers
from comparison.workloads import no_operation

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import serve

WORKERS = 4
SIZE = 20_000
LEAST_RATIO = 0.9


class Rates(NamedTuple):
    """Calls a second of wall time, and a second of CPU time."""

    wall: float
    cpu: float


def fan_outs(executor: TokenGateExecutor, count: int) -> Rates:
    """Return how many calls a second go through."""
    gc.collect()
    submit = executor.submit
    started, cpu_started = perf_counter(), process_time()
    for _ in range(count):
        tokens = [submit(no_operation) for _ in range(SIZE)]
        for token in tokens:
            token.result()
    calls = count * SIZE
    return Rates(calls / (perf_counter() - started), calls / (process_time() - cpu_started))


# -- the other process ------------------------------------------------------------------------------


def watch(url: str) -> None:
    """Open and close the feed as standard input says; answer with what was received."""
    from websockets.sync.client import connect

    from tokengate_executor.dashboard.patches import apply

    for line in sys.stdin:
        assert line == "open\n"
        with connect(url, proxy=None, max_size=None) as socket:
            known: Any = json.loads(socket.recv())["data"]
            received = [0, 0]

            def follow(socket: Any = socket, known: Any = known, received: Any = received) -> None:
                for text in socket:
                    known = apply(known, json.loads(text)["data"])
                    received[0] += 1
                    received[1] += len(text)

            following = threading.Thread(target=follow)
            following.start()
            print("open", flush=True)
            assert sys.stdin.readline() == "close\n"
        following.join()
        print(*received, flush=True)


class Watcher:
    """That process."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        url = f"ws://127.0.0.1:{port}/live"
        command = [sys.executable, __file__, "--watch", url]
        self._process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        self.messages = self.characters = 0

    def _tell(self, what: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def open(self) -> None:
        """Watch, from the first snapshot on."""
        assert self._tell("open") == "open\n"

    def close(self) -> None:
        """Stop it."""
        messages, characters = map(int, self._tell("close").split())
        self.messages += messages
        self.characters += characters

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()


# -- rounds -----------------------------------------------------------------------------------------


def one_round(
    executor: TokenGateExecutor, watchers: list[Watcher], count: int
) -> tuple[float, float, float]:
    """Return the ratio that counts, the one that should be 1, and that of CPU time."""
    before = fan_outs(executor, count)
    for watcher in watchers:
        watcher.open()
    try:
        watched = fan_outs(executor, count)
    finally:
        for watcher in watchers:
            watcher.close()
    after = fan_outs(executor, count)
    return (
        2 * watched.wall / (before.wall + after.wall),
        after.wall / before.wall,
        2 * watched.cpu / (before.cpu + after.cpu),
    )


def told(name: str, ratios: list[float]) -> str:
    """One line of the result."""
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{name:<24} {median:6.3f}   quartiles {low:.3f} to {high:.3f}   {len(ratios)} rounds"


def measure(arguments: argparse.Namespace) -> int:
    """Measure and tell; return the exit status."""
    with ExitStack() as stack:
        executor = stack.enter_context(TokenGateExecutor(WORKERS))
        server = stack.enter_context(serve(executor))
        for token in meet_all_workers(executor.submit, WORKERS):
            token.result()
        fan_outs(executor, 3)
        watchers = [Watcher(server.port, stack) for _ in range(arguments.watchers)]
        for watcher in watchers:
            stack.callback(watcher.end)
        rate = fan_outs(executor, 3).wall
        count = max(3, round(arguments.seconds * rate / SIZE))
        rounds: list[tuple[float, float, float]] = []
        for _ in range(arguments.rounds):
            with ending_if_it_hangs(arguments.hang_seconds):
                rounds.append(one_round(executor, watchers, count))
        ratios, noise, of_cpu = map(list, zip(*rounds, strict=True))
        messages = sum(watcher.messages for watcher in watchers)
        characters = sum(watcher.characters for watcher in watchers)
        print(f"{rate:,.0f} calls/s unwatched, {count} fan-outs of {SIZE:,} in a sample")
        print(told(f"{len(watchers)} watching / nobody", ratios))
        print(told("nobody / nobody", noise))
        print(told("the first by CPU time", of_cpu))
        print(f"{messages} changes were sent, {characters / max(1, messages):,.0f} characters each")
        median = statistics.median(ratios)
        is_cheap = median > LEAST_RATIO
        print(f"{'ok' if is_cheap else 'short'}: it costs {1 - median:.1%}, and may cost 10 %")
    return 1 if arguments.check and not is_cheap else 0


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure what an open dashboard costs.")
    add = parser.add_argument
    add("--rounds", type=positive, default=20, help="default 20")
    add("--watchers", type=positive, default=1, help="how many processes watch; default 1")
    add("--seconds", type=float, default=1.0, help="about how long a sample takes; default 1")
    add("--check", action="store_true", help="exit with status 1 if it costs more than it may")
    add("--hang-seconds", type=positive, default=120, help="end a round that takes longer")
    add("--watch", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: there are no quartiles of fewer than 2")
    if arguments.watch:
        watch(arguments.watch)
        return 0
    return measure(arguments)


if __name__ == "__main__":
    sys.exit(main())
