"""The tables of ``top``: what each shows of a snapshot, and how many rows it would like to have.

A table asks for as many rows as it may come to need, not as it has just now: so the screen stays where
it is while calls come and go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokengate_executor.terminal_lines import Span, Style
from tokengate_executor.top.facts import Facts, count, duration
from tokengate_executor.top.panels import Column, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["panels_of"]

_MOST_ROWS: Final = 50
_NAME: Final = 19
_BAR: Final = 10

_HEALTH: Final[dict[str, tuple[str, Style]]] = {
    "EXCELLENT": ("excellent", "good"),
    "HEALTHY": ("healthy", "good"),
    "AT_RISK": ("at risk", "warn"),
    "PROBLEMATIC": ("problematic", "bad"),
    "UNKNOWN": ("unknown", "faint"),
}

_STATES: Final[dict[str, Style]] = {
    "completed": "good",
    "failed": "bad",
    "timeout": "bad",
    "killed": "warn",
    "retrying": "warn",
    "quarantined": "warn",
}


def panels_of(snapshot: Facts, moment: float) -> dict[str, Panel]:
    """The tables that there is something to be shown in, by name.

    Args:
        snapshot: of an executor.
        moment: now, as Unix time.
    """
    made = {name: make(snapshot, moment) for name, make in _MAKERS.items()}
    return {name: panel for name, panel in made.items() if panel is not None}


def _operations(snapshot: Facts, _moment: float) -> Panel:
    found = snapshot.parts("operations")
    found.sort(key=lambda each: (_is_untroubled(each[1]), -each[1].number("calls"), each[0]))
    rows = [(Span(name), *_operation_cells(facts)) for name, facts in found]
    columns = (
        Column("HEALTH", 11, 1, right=False),
        Column("OK", 5, 0),
        Column("CALLS", 7, 2),
        Column("MEAN", 7, 3),
        Column("FAILED", 6, 4),
        Column("TIMEOUT", 7, 5),
        Column("CIRCUIT", 11, 0, right=False),
    )
    total = len(rows) + int(snapshot.number("operations_left_out"))
    wanted = max(1, len(rows))
    return Panel("OPERATIONS", _NAME, columns, rows, total, min(3, wanted), wanted, "no calls yet")


def _is_untroubled(facts: Facts) -> bool:
    return facts.text("circuit") in ("closed", "") and not facts.flag("paused")


def _operation_cells(facts: Facts) -> tuple[Span, ...]:
    health, style = _HEALTH.get(facts.text("health"), (facts.text("health").lower(), ""))
    rate = facts.maybe("success_rate")
    failures, timeouts = facts.number("failures"), facts.number("timeouts")
    return (
        Span(health, style),
        Span("-" if rate is None else f"{_percent(rate)} %"),
        Span(count(facts.number("calls"))),
        Span(duration(facts.maybe("mean_seconds"))),
        Span(count(failures), "bad" if failures else "faint"),
        Span(count(timeouts), "bad" if timeouts else "faint"),
        _circuit(facts),
    )


def _percent(share: float) -> int:
    """Rounded, but nothing is 100 % that is not whole, and nothing 0 % that is there."""
    rounded = round(share * 100)
    return max(1, min(99, rounded)) if 0 < share < 1 else rounded


def _circuit(facts: Facts) -> Span:
    if facts.flag("paused"):
        return Span("paused", "warn")
    match facts.text("circuit"):
        case "open":
            seconds = facts.maybe("retry_after_seconds")
            return Span("open" if seconds is None else f"open {duration(seconds)}", "bad")
        case "half_open" | "half-open":
            return Span("half open", "warn")
        case text:
            return Span(text or "-", "faint")


def _lanes(snapshot: Facts, _moment: float) -> Panel:
    found = sorted(snapshot.parts("lanes"), key=lambda each: (len(each[0]), each[0]))
    rows = [(Span(_lane_name(name, facts)), *_lane_cells(facts)) for name, facts in found]
    columns = (
        Column("WORKERS", 7, 2),
        Column("RUNNING", 7, 0),
        Column("QUEUED", 6, 0),
        Column("DONE", 7, 1),
        Column("FAILED", 6, 3),
        Column("STOLEN", 6, 6),
        Column("HEAVY", 6, 7),
        Column("MEDIUM", 6, 7),
        Column("LIGHT", 6, 7),
        Column("WAIT", 7, 4),
        Column("BUSY", 7, 5),
    )
    wanted = max(1, len(rows))
    return Panel("LANES", 13, columns, rows, len(rows), min(2, wanted), wanted, "no lanes")


def _lane_name(name: str, facts: Facts) -> str:
    cpus = ",".join(map(str, facts.numbers("cpus")))
    return f"{name} · cpu {cpus}" if cpus else name


def _lane_cells(facts: Facts) -> tuple[Span, ...]:
    running, queued = facts.number("executing"), facts.number("depth")
    failed, started = facts.number("failed"), facts.part("started_by_weight")
    return (
        Span(count(facts.number("workers"))),
        Span(count(running), "good" if running else "faint"),
        Span(count(queued), "warn" if queued else "faint"),
        Span(count(facts.number("completed"))),
        Span(count(failed), "bad" if failed else "faint"),
        Span(count(facts.number("stolen"))),
        *(Span(count(started.number(weight))) for weight in ("heavy", "medium", "light")),
        Span(duration(facts.maybe("mean_wait_seconds"))),
        Span(duration(facts.maybe("busy_seconds"))),
    )


def _running(snapshot: Facts, moment: float) -> Panel:
    found = sorted(snapshot.parts("running"), key=lambda each: each[1].number("started_at"))
    rows: list[tuple[Span, ...]] = []
    for token_id, facts in found:
        killed = facts.flag("kill_requested")
        rows.append(
            (
                Span(facts.text("operation")),
                Span(duration(_since(facts, "started_at", moment)), "strong"),
                Span(count(facts.number("lane"))),
                Span(count(facts.number("worker"))),
                Span(count(facts.number("attempt"))),
                Span("kill asked" if killed else "", "warn"),
                Span(token_id, "faint"),
            )
        )
    columns = (
        Column("FOR", 7, 0),
        Column("LANE", 4, 1),
        Column("WORKER", 6, 3),
        Column("TRY", 3, 2),
        Column("", 10, 4, right=False),
        Column("TOKEN", 12, 5, right=False),
    )
    executing = int(snapshot.part("tokens").number("executing"))
    workers = int(snapshot.part("system").number("max_workers"))
    wanted = max(1, min(workers, _MOST_ROWS))
    total = max(len(rows), executing)
    return Panel("RUNNING", _NAME, columns, rows, total, min(2, wanted), wanted, "nothing")


def _waiting(snapshot: Facts, moment: float) -> Panel:
    found = sorted(snapshot.parts("waiting"), key=lambda each: each[1].number("submitted_at"))
    rows: list[tuple[Span, ...]] = []
    for token_id, facts in found:
        state = facts.text("state").lower()
        rows.append(
            (
                Span(facts.text("operation")),
                Span(duration(_since(facts, "submitted_at", moment)), "strong"),
                Span("held" if state == "quarantined" else state, _STATES.get(state, "")),
                Span(facts.text("weight") or "-"),
                Span(count(facts.number("attempts"))),
                Span(token_id, "faint"),
            )
        )
    columns = (
        Column("FOR", 7, 0),
        Column("STATE", 8, 1, right=False),
        Column("WEIGHT", 6, 3, right=False),
        Column("TRIED", 5, 2),
        Column("TOKEN", 12, 4, right=False),
    )
    tokens = snapshot.part("tokens")
    total = max(len(rows), sum(int(tokens.number(name)) for name in _NOT_RUNNING))
    return Panel("WAITING", _NAME, columns, rows, total, 1, 4, "nothing")


_NOT_RUNNING: Final = ("waiting", "retrying", "quarantined")


def _limits(snapshot: Facts, _moment: float) -> Panel | None:
    found = sorted(snapshot.parts("limits"), key=lambda each: each[0])
    if not found:
        return None
    rows: list[tuple[Span, ...]] = []
    for name, facts in found:
        free, waiting = facts.number("free"), facts.number("waiting")
        rows.append(
            (
                Span(name),
                *_use(facts),
                Span(count(free), "" if free else "warn"),
                Span(count(waiting), "warn" if waiting else "faint"),
            )
        )
    columns = (
        Column("", _BAR, 2, right=False),
        Column("IN USE", 15, 1, right=False),
        Column("FREE", 5, 0),
        Column("WAITING", 7, 0),
    )
    return Panel("LIMITS", 16, columns, rows, len(rows), 1, len(rows))


def _use(facts: Facts) -> tuple[Span, Span]:
    """How much of a limit is used, as a bar and in words."""
    if facts.text("kind") == "rate":
        whole = facts.number("burst")
        used = whole - facts.number("free")
        words = f"{count(facts.number('limit'))} per {facts.number('per'):g} s"
    else:
        whole, used = facts.number("limit"), facts.number("used")
        words = f"{count(used)} of {count(whole)}"
    share = min(1.0, max(0.0, used / whole)) if whole > 0 else 0.0
    filled = round(share * _BAR)
    style: Style = "bad" if share >= 1 else "warn" if share >= 0.75 else "good"
    return Span("█" * filled + "░" * (_BAR - filled), style), Span(words)


def _quarantine(snapshot: Facts, moment: float) -> Panel | None:
    quarantine = snapshot.part("quarantine")
    counts = quarantine.part("counts")
    pending = int(counts.number("pending") + counts.number("approved"))
    found = quarantine.parts("calls")
    problem = quarantine.text("problem")
    if not found and not problem and not any(counts.number(name) for name in _STATUSES):
        return None
    found.sort(key=lambda each: -each[1].number("added_at"))
    rows: list[tuple[Span, ...]] = []
    for identifier, facts in found:
        error = facts.text("error_type").rpartition(".")[2]
        rows.append(
            (
                Span(facts.text("operation")),
                Span(facts.text("reason")),
                Span(facts.text("status"), "warn"),
                Span(_ago(_since(facts, "added_at", moment))),
                Span(count(facts.number("attempts"))),
                Span(error or "-", "bad" if error else "faint"),
                Span(identifier, "faint"),
            )
        )
    columns = (
        Column("REASON", 8, 0, right=False),
        Column("STATUS", 8, 1, right=False),
        Column("AGO", 7, 2),
        Column("TRIED", 5, 4),
        Column("ERROR", 17, 3, right=False),
        Column("ID", 16, 5, right=False),
    )
    total = max(len(rows), pending)
    nothing = problem or "nothing to decide"
    return Panel("QUARANTINE", _NAME, columns, rows, total, 1, 5, nothing)


_STATUSES: Final = ("pending", "approved", "rejected", "replayed")


def _recent(snapshot: Facts, moment: float) -> Panel:
    found = sorted(snapshot.parts("recent"), key=lambda each: -each[1].number("settled_at"))
    rows: list[tuple[Span, ...]] = []
    for token_id, facts in found:
        state, error = facts.text("state").lower(), facts.text("error")
        rows.append(
            (
                Span(facts.text("operation")),
                Span(state, _STATES.get(state, "")),
                Span(_ago(_since(facts, "settled_at", moment))),
                Span(duration(facts.maybe("waited_seconds"))),
                Span(duration(facts.maybe("run_seconds"))),
                Span(count(facts.number("attempts"))),
                Span(error or "-", "bad" if error else "faint"),
                Span(facts.text("weight") or "-"),
                Span(facts.text("complexity").lower() or "-"),
                Span(token_id, "faint"),
            )
        )
    columns = (
        Column("STATE", 9, 0, right=False),
        Column("AGO", 7, 5),
        Column("WAITED", 7, 3),
        Column("RAN", 7, 1),
        Column("TRY", 3, 4),
        Column("ERROR", 17, 2, right=False),
        Column("WEIGHT", 6, 6, right=False),
        Column("COMPLEXITY", 10, 7, right=False),
        Column("TOKEN", 12, 8, right=False),
    )
    return Panel("RECENT", _NAME, columns, rows, len(rows), 2, 8, "nothing has ended yet")


def _since(facts: Facts, name: str, moment: float) -> float | None:
    # The clocks of two machines differ: what has just begun may seem to lie ahead.
    then = facts.maybe(name)
    return None if then is None else max(0.0, moment - then)


def _ago(seconds: float | None) -> str:
    return f"{seconds:.0f} s" if seconds is not None and seconds < 120 else duration(seconds)


_MAKERS: Final[dict[str, Callable[[Facts, float], Panel | None]]] = {
    "operations": _operations,
    "lanes": _lanes,
    "running": _running,
    "waiting": _waiting,
    "limits": _limits,
    "quarantine": _quarantine,
    "recent": _recent,
}
