"""What every test may rely on: no worker thread outlives it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_thread_leaks() -> Iterator[None]:
    """Join the threads that the test started; one that does not end fails the test."""
    before = set(threading.enumerate())
    yield
    if set(threading.enumerate()) <= before:
        return
    gc.collect()  # slow, but an executor that nobody refers to ends only when it is gone
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=20)
        assert not thread.is_alive(), f"the test leaves {thread.name} behind"
