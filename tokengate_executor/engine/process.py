"""What happens to all crews of the process when the interpreter ends and when it forks."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Final

from tokengate_executor.engine.crew import Crew
from tokengate_executor.engine.gate import AFTER_EXIT
from tokengate_executor.engine.watchdog import live_stack
from tokengate_executor.waiting import process

__all__ = ["look_after"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

# Whether to wait for the crew's work at exit. Workers hold their crew, so one with work is in here.
_crews: weakref.WeakKeyDictionary[Crew, bool] = weakref.WeakKeyDictionary()
_exiting = False


def look_after(crew: Crew, *, wait_at_exit: bool) -> None:
    """From here on the crew is ended with the interpreter and begins again in a forked child."""
    _crews[crew] = wait_at_exit
    if _exiting:
        crew.gate.close(AFTER_EXIT)


def _end_all() -> None:
    """Before ``atexit`` handlers, as the standard library does: finish or abandon what is left."""
    global _exiting  # noqa: PLW0603
    _exiting = True
    crews = list(_crews.items())
    for crew, wait in crews:
        crew.gate.close(AFTER_EXIT)
        if not wait:
            crew.cancel_waiting()
    for crew, wait in crews:
        if wait:
            crew.join()
        else:
            _log_abandoned(crew)


def _log_abandoned(crew: Crew) -> None:
    for worker in crew.workers:
        token, thread = worker.current, worker.thread
        if token is not None and thread is not None:
            stack = live_stack(worker)
            _LOGGER.warning("abandoned at exit: %s on %s\n%s", token.operation, thread.name, stack)


def _begin_again() -> None:
    process.is_forked = True
    process.renew_locks()
    for crew in list(_crews):
        crew.begin_again()


# Not atexit: it comes after the interpreter has joined its threads, and takes no new ones.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
