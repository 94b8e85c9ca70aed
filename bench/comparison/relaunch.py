"""Start the script again: in a fresh process for one sample, or in another interpreter."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import UsageError
from .contenders import Contender
from .workloads import Metrics

SCRIPT = str(Path(__file__).resolve().parent.parent / "side_by_side.py")
REQUIRED_MODULES = ("psutil", "typing_extensions")


def take_sample_in_process(
    contender: Contender, name: str, size: int, arguments: argparse.Namespace
) -> Metrics:
    """Take the sample in a fresh interpreter, so that no earlier run left memory to reuse."""
    command = [sys.executable, SCRIPT, "--sample", json.dumps([contender.name, name, size])]
    command += ["--candidate", arguments.candidate]
    command += ["--hang-seconds", str(arguments.hang_seconds)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["no message"]
        reason = lines[0] if lines[0].startswith("Timeout") else lines[-1]
        raise RuntimeError(f"the measuring process failed: {reason}\n{finished.stderr}")
    metrics: Metrics = json.loads(finished.stdout)
    return metrics


def check_interpreter(path: str) -> None:
    """Raise UsageError unless the interpreter can run this script and the package."""
    imports = ", ".join(REQUIRED_MODULES)
    probe = f"import sys; assert sys.version_info >= (3, 11), 'older than 3.11'; import {imports}"
    try:
        finished = subprocess.run([path, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"--python {path}: {error.strerror or error}") from error
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["it failed without a message"])[-1]
        raise UsageError(f"--python {path}: {reason} (needed: Python 3.11 or later with {imports})")


def report_of_interpreter(path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the calling script with another interpreter; its table goes to our standard output."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "report.json")
        command = [path, sys.argv[0], "--json", str(result), "--rows", ",".join(arguments.rows)]
        command += ["--rounds", str(arguments.rounds)]
        command += ["--hang-seconds", str(arguments.hang_seconds)]
        if "candidate" in arguments:
            command += ["--candidate", arguments.candidate]
        for flag in ("quick", "quiet", "markdown", "only_pair", "one_cpu"):
            if getattr(arguments, flag, False):
                command.append("--" + flag.replace("_", "-"))
        status = subprocess.run(command, check=False).returncode
        if status or not result.exists():
            raise UsageError(f"--python {path}: ended with status {status} and without a report")
        report: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["reports"][0]
        return report
