"""Take the pictures of the dashboard anew, of an executor under a mixed load.

    .venv/bin/python docs/images/make_screenshots.py

It takes two minutes, as the chart shows the last two. It needs what the browser tests need.
"""

from __future__ import annotations

import argparse
import base64
import logging
import math
import random
import sys
import threading
import time
from pathlib import Path
from typing import Final

from tokengate_executor import (
    BreakerPolicy,
    OperationBlockedError,
    RateLimit,
    RetryPolicy,
    SpikePolicy,
    TokenGateExecutor,
)
from tokengate_executor.dashboard import serve
from tokengate_executor.policies.weights import Weight
from tokengate_executor.view import ExecutorView

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "dashboard"))
from browser import Page, hindrance, started  # noqa: E402

PASSWORD: Final = "for the pictures"
PAUSED: Final = "newsletter.send"

# Operation, weight, limits, seconds, share that fails, how often it comes.
WORK: Final[tuple[tuple[str, Weight | None, tuple[str, ...], float, float, float], ...]] = (
    ("catalog.search", "light", (), 0.004, 0.0, 30.0),
    ("catalog.render", "medium", (), 0.012, 0.002, 16.0),
    ("orders.book", "medium", ("db",), 0.02, 0.01, 8.0),
    ("mail.send", "light", ("api",), 0.03, 0.08, 3.0),
    ("images.resize", "heavy", (), 0.09, 0.004, 2.0),
    ("payments.charge", None, ("db",), 0.04, 0.33, 1.3),
    ("reports.export", "heavy", (), 0.25, 0.0, 1.0),
    ("legacy.sync", None, (), 0.02, 0.97, 0.5),
)
RETRIED: Final = {"mail.send", "payments.charge"}


def work(seconds: float, failing: float) -> None:
    """Take some time, and fail now and then."""
    time.sleep(seconds)
    if random.random() < failing:
        raise ConnectionError("no route to host")


def rebuild_index() -> None:
    """Rebuild the search index."""
    time.sleep(0.5)


def monthly_report() -> None:
    """Write the report of the last month."""
    time.sleep(1.0)


def some_load(executor: TokenGateExecutor, over: threading.Event) -> None:
    """Submit calls, now more, now fewer, until it is over."""
    retry = RetryPolicy(attempts=3, on=ConnectionError, delay=0.4)
    views: list[ExecutorView] = [
        executor.options(
            operation=name,
            weight=weight,
            limits=limits,
            retry=retry if name in RETRIED else None,
        )
        for name, weight, limits, *_ in WORK
    ]
    shares = [share for *_, share in WORK]
    began = time.monotonic()
    while not over.wait(0.05):
        wave = math.sin((time.monotonic() - began) / 9)
        for index in random.choices(range(len(WORK)), shares, k=int(14 + 6 * wave)):
            _, _, _, seconds, failing, _ = WORK[index]
            try:
                views[index].submit(work, seconds * random.uniform(0.4, 1.8), failing)
            except OperationBlockedError:
                continue  # counted as rejected, and seen so


def some_history(executor: TokenGateExecutor, over: threading.Event) -> None:
    """What does not come by itself: something held, something paused, something that takes long."""
    report = executor.options(operation="reports.export_all", spikes=SpikePolicy())
    for size in (2, 2, 3, 2, 2, 3, 900):
        report.submit(len, list(range(size)))
    executor.options(operation="uploads.scan", weight="heavy").submit(over.wait)
    executor.pause(PAUSED)
    for _ in range(6):
        executor.options(operation=PAUSED, weight="light").submit(work, 0.01, 0.0)


def take(page: Page, name: str, size: tuple[int, int], scale: float, scheme: str) -> None:
    """Take one picture."""
    width, height = size
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.devtools("Emulation.setEmulatedMedia", features=features)
    page.devtools(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=scale,
        mobile=width < 600,
    )
    page.script("scrollTo(0, 0)")
    page.wait(lambda: page.script("return innerWidth") == width, f"it is {width} wide")
    time.sleep(1.2)  # the chart is drawn anew every second
    picture = page.devtools("Page.captureScreenshot", format="png")["data"]
    (HERE / f"{name}.png").write_bytes(base64.b64decode(picture))


def main() -> None:
    """Start, wait, take the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the dashboard anew.")
    parser.add_argument("--seconds", type=float, default=122.0, help="how much load to show")
    seconds: float = parser.parse_args().seconds
    if (reason := hindrance()) is not None:
        sys.exit(reason)
    logging.getLogger("tokengate_executor").setLevel(logging.CRITICAL)
    random.seed(5)
    over = threading.Event()
    executor = TokenGateExecutor(
        12,
        "orders",
        lanes=4,
        max_pending=400,
        on_full="discard_newest",
        limits={"db": 5, "api": RateLimit(40, per=1.0, burst=20)},
        breaker=BreakerPolicy(open_for=20.0),
        quarantine=True,
    )
    launch = {"rebuild index": rebuild_index, "monthly report": monthly_report}
    load = threading.Thread(target=some_load, args=(executor, over))
    with executor, serve(executor, password=PASSWORD, launch=launch, show_arguments=True) as server:
        some_history(executor, over)
        load.start()
        try:
            with started() as driver:
                page = Page(driver)
                page.log_in(server.url, PASSWORD)
                time.sleep(seconds)
                take(page, "dashboard-light", (1440, 1180), 1.5, "light")
                take(page, "dashboard-dark", (1440, 1180), 1.5, "dark")
                take(page, "dashboard-phone", (390, 844), 2, "light")
        finally:
            over.set()
            load.join()
            executor.shutdown(cancel_futures=True)


if __name__ == "__main__":
    main()
