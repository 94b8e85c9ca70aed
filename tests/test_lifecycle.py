"""The table of states and moves, and the page made from it."""

from __future__ import annotations

from pathlib import Path

from tokengate_executor.lifecycle import MOVES, SETTLED, TokenState, mermaid

PAGE = Path(__file__).parents[1] / "docs" / "lifecycle.md"


def test_page_is_generated_from_table() -> None:
    """The page in the docs holds just what the table says."""
    head = "# The states of a token\n\nGenerated from `lifecycle.MOVES`.\n\n"
    expected = f"{head}```mermaid\n{mermaid()}```\n"
    assert PAGE.read_text(encoding="utf-8") == expected


def test_settled_states_are_final() -> None:
    """Every state is in the table; the settled ones, and only they, have no way out."""
    assert set(MOVES) == set(TokenState)
    assert {state for state, moves in MOVES.items() if not moves} == SETTLED
