"""The package: what importing it needs, and what it does not bring into others."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = ("starlette", "uvicorn", "websockets", "anyio", "h11")


def run(script: str) -> str:
    """What it prints."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    ).stdout


def test_the_executor_does_without_it() -> None:
    """Nothing of what it needs is imported with the executor."""
    found = run(
        "import sys, tokengate_executor, tokengate_executor.cli\n"
        f"print([name for name in {(*EXTRAS, 'tokengate_executor.dashboard')} if name in sys.modules])"
    )
    assert found == "[]\n"


@pytest.mark.parametrize("missing", EXTRAS)
def test_what_is_missing_is_named(missing: str) -> None:
    """And how to get it."""
    found = run(
        f"import sys\nsys.modules[{missing!r}] = None\n"
        "try:\n    import tokengate_executor.dashboard\n"
        "except ImportError as error:\n    print(error.name, error)"
    )
    assert found == (
        f'{missing} the dashboard needs {missing}: pip install "tokengate-executor[dashboard]"\n'
    )


def test_what_it_has() -> None:
    """Its public names."""
    found = run("import tokengate_executor.dashboard as dashboard; print(*dashboard.__all__)")
    assert found == "DashboardServer dashboard_app hash_password serve\n"
