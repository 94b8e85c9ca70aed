"""``exporters.forks``: what is remembered is forgotten in forked children."""

from __future__ import annotations

import gc
import os
from typing import Final

import pytest

from tokengate_executor.exporters import forks
from tokengate_executor.exporters.forks import renew_in_children

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Memory:
    """Something that remembers."""

    def __init__(self) -> None:
        self.facts = ["the parent's"]

    def renew(self) -> None:
        """Forget."""
        self.facts = []


@needs_fork
def test_children_forget_and_parents_do_not() -> None:
    """It is renewed in the child before that goes on, and there alone."""
    memory = Memory()
    renew_in_children(memory)
    pid = os.fork()
    if pid == 0:
        os._exit(len(memory.facts))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert memory.facts


def test_nothing_is_held() -> None:
    """What nobody else has is gone."""
    gc.collect()
    before = len(forks._renewables)
    memory = Memory()
    renew_in_children(memory)
    assert len(forks._renewables) == before + 1
    del memory
    gc.collect()
    assert len(forks._renewables) == before
