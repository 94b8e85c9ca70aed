"""The floors: a file imports from its own floor or below, and no ring of imports exists."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tokengate_executor"
FLOORS = {
    "errors": 0,
    "policies": 1,
    "lifecycle": 2,
    "options": 2,
    "contracts": 2,
    "unread": 2,
    "waiting": 2,
    "token": 2,
    "mapping": 2,
    "engine": 3,
    "guard": 3,
    "observe": 3,
    "following": 2,
    "aio": 4,
    "view": 4,
    "executor": 4,
    "decorators": 5,
    "coordinator": 5,
    "coordinator_options": 5,
    "coordinator_runs": 5,
    "token_guard": 5,
    "dashboard": 6,
    "demos": 6,
    "exporters": 6,
    "cli": 6,
    "quarantine_cli": 6,
    "cli_arguments": 6,
    "serve_demo_cli": 6,
    "terminal_lines": 6,
    "terminal_text": 6,
    "top": 6,
    "topology_cli": 6,
    "__main__": 6,
}


def imports() -> dict[str, set[str]]:
    """Return module → modules of this package that it imports when it runs."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):  # what only type checkers read is no import at run time
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = []
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        found[name] = set()
        for node in nodes:
            top, _, rest = (node.module or "").partition(".")
            if top == "tokengate_executor" and rest:
                found[name].add(rest)
            elif top == "tokengate_executor":
                found[name] |= {alias.name for alias in node.names if alias.name in FLOORS}
    return found


def test_imports_go_down() -> None:
    """No file imports from a floor above its own."""
    for module, imported in imports().items():
        if module == "__init__":
            continue
        floor = FLOORS[module.split(".")[0]]
        upward = {name for name in imported if FLOORS[name.split(".")[0]] > floor}
        assert not upward, f"{module} (floor {floor}) imports {upward} from above"


def test_no_ring_of_imports() -> None:
    """The imports can be put in an order."""
    TopologicalSorter(imports()).prepare()
