"""What importing the package brings in, and what it does not."""

from __future__ import annotations

import subprocess
import sys

EXTRAS = (
    *("starlette", "uvicorn", "websockets", "anyio", "h11", "httpx", "fastapi"),
    *("prometheus_client", "opentelemetry", "tenacity", "selenium"),
)

PROGRAM = """
import sys
import tokengate_executor
with tokengate_executor.TokenGateExecutor(1, listeners=[print], max_pending=1) as executor:
    executor.measure()
    executor.submit(int).result()
    executor.statistics(), executor.histograms(), executor.history(), executor.tokens()
print("loaded:", *sorted(name for name in sys.modules if "." not in name))
print("ours:", *sorted(name for name in sys.modules if name.startswith("tokengate_executor.")))
"""


def run(*arguments: str) -> str:
    """Run another interpreter, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, timeout=50
    )
    return done.stdout


def test_no_extra_is_imported() -> None:
    """Neither importing the package nor using an executor brings in the roof or its libraries."""
    lines = dict(line.split(": ", 1) for line in run("-c", PROGRAM).splitlines() if ": " in line)
    assert not set(EXTRAS) & set(lines["loaded"].split())
    ours = lines["ours"].split()
    assert "tokengate_executor.executor" in ours
    for above in ("dashboard", "exporters", "cli", "demos"):
        assert not [name for name in ours if name.split(".")[1].startswith(above)]


def test_without_the_extras_they_say_so() -> None:
    """Where its libraries are missing, a part says which extra has them."""
    program = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
for module in ("dashboard", "exporters.prometheus", "exporters.opentelemetry"):
    try:
        __import__("tokengate_executor." + module)
    except ImportError as error:
        print(error)
"""
    printed = run("-c", program)
    for extra in ("dashboard", "prometheus", "otel"):
        assert f'pip install "tokengate-executor[{extra}]"' in printed
