"""The programs of TokenGate's proof of concept run here, with only their import lines changed.

``seed_programs`` has them as they were written. Each runs in an interpreter and a directory of its own;
warnings are errors there.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tokengate_executor import TokenGateExecutor

ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = Path(__file__).parent / "seed_programs"


def run(directory: Path, program: str, driver: str | None = None) -> str:
    """Run a program of the seed, or a driver that imports it; return what it prints."""
    shutil.copy(PROGRAMS / program, directory)
    what = [program] if driver is None else ["-c", driver]
    ended = subprocess.run(
        [sys.executable, "-W", "error", *what],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=55,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr
    return ended.stdout


def test_series_saturation(tmp_path: Path) -> None:
    """Twenty calls of a second overfill the workers: all come back, the last ones later, in rounds."""
    printed = run(tmp_path, "series_saturation.py")
    assert "Submitting 20 x 1.0s tasks." in printed
    assert printed.endswith("SERIES SATURATION PASSED — backpressure observed, no failures.\n")
    earliest, latest, spread = (float(told) for told in re.findall(r": +([\d.]+)s$", printed, re.M))
    with TokenGateExecutor() as executor:
        rounds = math.ceil(20 / executor._max_workers)
    assert earliest >= 1.0
    assert rounds == 1 or latest > 1.5, "it waited while others ran for a second"
    assert abs(latest - earliest - spread) <= 0.0015, "each is rounded"


def test_series_saturation_gives_its_results(tmp_path: Path) -> None:
    """Its demo returns each call's index, time and result; they are those of the plain function."""
    driver = """
import json
from series_saturation import run_series_saturation_demo, series_long
print(json.dumps([run_series_saturation_demo(), series_long.__wrapped__(0.0)]))
"""
    results, at_once = json.loads(run(tmp_path, "series_saturation.py", driver).splitlines()[-1])
    assert [index for index, _, _ in results] == list(range(20))
    assert all(seconds >= 1.0 for _, seconds, _ in results)
    assert all(isinstance(result, float) and result != at_once for _, _, result in results)


def test_json_files_from_a_coroutine(tmp_path: Path) -> None:
    """`async def main` starts, submits and stops: all files are there then, written side by side."""
    assert run(tmp_path, "json_files.py") == "", "starting and stopping print nothing"
    written: list[dict[str, Any]] = [
        json.loads((tmp_path / f"output_{index}.json").read_text(encoding="utf-8"))
        for index in range(10)
    ]
    assert [data["index"] for data in written] == list(range(10))
    assert all(data["message"].endswith(f"task {data['index']}.") for data in written)
    begun = [data["timestamp"] for data in written]
    assert max(begun) - min(begun) < 9 * 0.5, "one after the other would have taken longer"
    assert len(list(tmp_path.iterdir())) == 11, "the program and its files"


def test_accepted_tasks(tmp_path: Path) -> None:
    """The decorated functions, which the seed only defines, return tokens of what they are tagged as."""
    driver = """
import json
from accepted_tasks import *
with OperationsCoordinator() as coordinator:
    tokens = [moderate_operation(1000), string_operation(50), write_blob_moderate("blobs/one", 3)]
    told = [[token.operation, token.weight, token.get(timeout=30)] for token in tokens]
print(json.dumps(told))
"""
    told = json.loads(run(tmp_path, "accepted_tasks.py", driver))
    assert told == [
        ["list_process", "medium", sum(2 * number for number in range(0, 1000, 3))],
        ["string_ops", "light", 101],
        ["write_blob_moderate", "medium", {"path": "blobs/one", "bytes": 3072}],
    ]
    assert (tmp_path / "blobs" / "one").read_bytes() == b"x" * 3072


def test_task_types(tmp_path: Path) -> None:
    """Each weight and each storage speed that the seed lists is one here, with the same number."""
    driver = """
import json
from task_types import STORAGE_SPEEDS, TaskWeight
from tokengate_executor import OperationsCoordinator, task_token_guard

def limits_in_use():
    return {name: limit.spec for name, limit in coordinator.statistics().limits.items()}

def told_by(**tags):
    return task_token_guard(tags=tags)(limits_in_use)()

with OperationsCoordinator() as coordinator:
    weights = [told_by(weight=weight.value).weight for weight in TaskWeight]
    limits = {speed: told_by(storage_speed=speed).get(timeout=30) for speed in STORAGE_SPEEDS}
print(json.dumps([weights, limits, STORAGE_SPEEDS]))
"""
    weights, limits, speeds = json.loads(run(tmp_path, "task_types.py", driver))
    assert weights == ["heavy", "medium", "light"]
    assert speeds == {"SLOW": 10, "MODERATE": 25, "FAST": 50, "INSANE": 70}
    assert limits == {name: {f"storage:{name.lower()}": speeds[name]} for name in speeds}
