"""The history as JSON, for people and for programs that come later."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Any

from tokengate_executor.observe.history import TokenRecord
from tokengate_executor.policies.complexity import ComplexityLevel

__all__ = ["history_as_json", "write_atomically"]


def history_as_json(records: Iterable[TokenRecord]) -> str:
    """An array with an object for each record, oldest first, a line each.

    The fields of each: ``token_id``, ``operation_type``, ``success``, ``execution_time`` (seconds, last
    attempt), ``core_id`` (the lane), ``worker_id``, ``complexity_score`` (if there is code to look at),
    ``complexity_level``, ``weight``, ``state``, ``error`` (the name of its type), ``attempts``,
    ``wait_time`` (seconds, from submission to the first start) and ``settled_at`` (ISO 8601). Names and
    numbers, never arguments or results.
    """
    ago = time() - perf_counter()  # from the clock of the records to that of people
    rows = [json.dumps(_row(record, ago)) for record in records]
    return "[" + ",".join(f"\n  {row}" for row in rows) + "\n]\n"


def _row(record: TokenRecord, ago: float) -> dict[str, Any]:
    settled_at = datetime.fromtimestamp(record.settled_at + ago, UTC)
    is_unknown = record.complexity.level is ComplexityLevel.UNKNOWN
    row: dict[str, Any] = {
        "token_id": record.token_id,
        "operation_type": record.operation,
        "success": record.success,
        "execution_time": round(record.run_seconds, 6),
        "core_id": record.lane,
        "worker_id": f"worker_{record.worker}_core_{record.lane}",
        "complexity_score": None if is_unknown else record.complexity.score,
        "complexity_level": record.complexity.level.name,
        "weight": record.weight,
        "state": record.state.name,
        "error": record.error,
        "attempts": record.attempts,
        "wait_time": round(record.waited_seconds, 6),
        "settled_at": settled_at.isoformat(timespec="microseconds"),
    }
    return {name: value for name, value in row.items() if value is not None}


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Have the file hold the text: who reads it finds all of it, or what was there before.

    Raises:
        OSError: it cannot be written. What was there before is still there.
    """
    target = Path(os.path.realpath(path))  # a link stays a link: what it leads to is replaced
    new = target.with_name(f".tokengate-{secrets.token_hex(8)}.tmp")
    try:
        with new.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            new.chmod(target.stat().st_mode & 0o777)
        new.replace(target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
