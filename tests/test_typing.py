"""The types of the public interface: what a checker makes of `typing/public_api.py`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None,
    reason="mypy is not installed here: it comes with the extra 'lint' (make check-mypy)",
)
def test_mypy_sees_the_types_of_the_public_interface(tmp_path: Path) -> None:
    """Each call has the type that is asserted, and each deliberate error is reported."""
    # A cache of its own: two runs of mypy that share one may disturb each other.
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "tests/typing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
