"""The screen of ``top``: a snapshot and a size in, lines out. Nothing here reads a clock or writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tokengate_executor.terminal_lines import Line, Span, Style, fitted, width_of
from tokengate_executor.terminal_text import columns_of, cut, padded
from tokengate_executor.top.facts import Facts, clock, count, duration
from tokengate_executor.top.panels import Panel, panel_lines
from tokengate_executor.top.tables import panels_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["View", "finished", "screen"]

_BESIDE: Final = 120
"""From so many columns on there are two stacks of tables, one beside the other."""

_GAP: Final = 2

_ONE_STACK: Final = (
    *("operations", "lanes", "running", "limits", "quarantine", "waiting", "recent"),
)
_LEFT_STACK: Final = ("lanes", "running", "limits", "waiting")
_RIGHT_STACK: Final = ("operations", "quarantine", "recent")
"""Tables from top to bottom; the last one gets the rows that nobody else wants."""

_MOST_WANTED: Final = (
    *("operations", "lanes", "running", "limits", "recent", "quarantine", "waiting"),
)
"""Which tables are there if not all can be, and which get more rows first."""

_BARS: Final = "▁▂▃▄▅▆▇█"

_STATE_STYLES: Final[dict[str, Style]] = {
    "running": "good",
    "paused": "warn",
    "draining": "warn",
    "shutdown": "bad",
}

_CELL: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is shown besides the snapshot.

    Attributes:
        moment: now, as Unix time.
        throughput: calls that were finished per second lately; ``None``: the mean since the
            executor was made is shown.
        trend: the same for each of the last seconds, the latest last.
        foot: the last line.
        trouble: in its place, if something is wrong.
        is_still: whether no other screen will follow: then no rows are kept free for what may come.
    """

    moment: float
    throughput: float | None = None
    trend: Sequence[float] = ()
    foot: str = ""
    trouble: str = ""
    is_still: bool = False


def screen(given: object, columns: int, rows: int, view: View) -> list[Line]:
    """A whole screen: ``rows`` lines of exactly ``columns`` columns each.

    Args:
        given: the snapshot, as it came from the server.
        columns: of the terminal, at least 1.
        rows: of the terminal, at least 1.
        view: what is shown besides.
    """
    snapshot = Facts(given)
    lines = [_title(snapshot, columns, view), *_figures(snapshot, columns, rows)]
    panels = panels_of(snapshot, view.moment)
    if view.is_still:
        panels = {name: _as_it_is(panel) for name, panel in panels.items()}
    room = rows - len(lines) - 1
    if columns >= _BESIDE:
        left = columns // 2 - _GAP
        lefts = _stack(panels, _LEFT_STACK, left, room)
        rights = _stack(panels, _RIGHT_STACK, columns - left - _GAP, room)
        lines += [
            (*fitted(one, left), Span(" " * _GAP), *other)
            for one, other in zip(lefts, rights, strict=True)
        ]
    else:
        lines += _stack(panels, _ONE_STACK, columns, room)
    # The last line is there however low the terminal is: it says what is wrong.
    del lines[rows - 1 :]
    lines.append((Span(view.trouble, "bad") if view.trouble else Span(view.foot, "faint"),))
    return [fitted(line, columns) for line in lines]


def finished(given: object) -> float:
    """How many calls of a snapshot have ended by themselves, whatever came of them."""
    tokens = Facts(given).part("tokens")
    return sum(tokens.number(name) for name in ("completed", "failed", "timed_out"))


def _title(snapshot: Facts, columns: int, view: View) -> Line:
    executor, system = snapshot.part("executor"), snapshot.part("system")
    state = executor.text("state") or "unknown"
    uptime = max(0.0, view.moment - (executor.maybe("started_at") or view.moment))
    tokens = snapshot.part("tokens")
    if view.throughput is not None:
        rate = f"{view.throughput:.1f}/s"
    else:
        ended = sum(tokens.number(name) for name in ("completed", "failed", "timed_out"))
        rate = f"{ended / uptime if uptime else 0.0:.1f}/s on average"
    line = [
        Span(cut(executor.text("name") or "executor", max(8, columns // 3)), "strong"),
        Span("  "),
        Span(state.upper(), _STATE_STYLES.get(state, "warn")),
        Span(f"  up {clock(uptime)}  "),
        Span(rate, "strong"),
    ]
    busy, most = system.number("busy_workers"), system.number("max_workers")
    more = [
        Span(f"  {count(busy)} of {count(most)} busy"),
        Span(f" {_bars(view.trend)}" if view.trend else "", "good"),
    ]
    for span in more:
        if width_of([*line, span]) <= columns:
            line.append(span)
    facts = (("pid", f"{executor.number('pid'):.0f}"), ("Python", executor.text("python")))
    ending = "  " + " · ".join(f"{name} {fact}" for name, fact in facts)
    left = columns - width_of(line)
    if columns_of(ending) <= left:
        line.append(Span(padded(ending, left, right=True), "faint"))
    return tuple(line)


def _bars(trend: Sequence[float]) -> str:
    most = max(trend)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(each / most * steps) if most > 0 else 0] for each in trend)


def _figures(snapshot: Facts, columns: int, rows: int) -> list[Line]:
    """The numbers of the whole executor, the most telling ones first, in cells of equal width."""
    tokens, queue, system = (snapshot.part(name) for name in ("tokens", "queue", "system"))
    capacity = queue.maybe("capacity")
    pending = count(queue.number("pending"))
    cells: list[tuple[str, str, Style]] = [
        ("running", count(tokens.number("executing")), "good"),
        ("waiting", count(tokens.number("waiting")), "warn"),
        ("retrying", count(tokens.number("retrying")), "warn"),
        ("held", count(tokens.number("quarantined")), "warn"),
        ("completed", count(tokens.number("completed")), "strong"),
        ("failed", count(tokens.number("failed")), "bad"),
        ("timed out", count(tokens.number("timed_out")), "bad"),
        ("cancelled", count(tokens.number("cancelled")), "strong"),
        ("rejected", count(tokens.number("rejected")), "warn"),
        ("oldest wait", _time(queue.number("oldest_wait_seconds")), "strong"),
        ("longest run", _time(queue.number("longest_running_seconds")), "strong"),
        ("retries", count(tokens.number("retries")), "strong"),
        ("queue", pending if capacity is None else f"{pending}/{count(capacity)}", "strong"),
        ("parked", count(tokens.number("parked")), "strong"),
        ("submitted", count(tokens.number("submitted")), "strong"),
        ("held back", count(queue.number("blocked_producers")), "warn"),
        ("unfinished", _time(queue.number("unfinished_seconds")), "strong"),
        ("idle workers", count(system.number("idle_workers")), "strong"),
        ("nested waits", count(system.number("blocked_workers")), "strong"),
        ("spare workers", count(system.number("spare_workers")), "strong"),
        ("abandoned", count(system.number("abandoned")), "bad"),
    ]
    in_a_line = max(1, columns // _CELL)
    most = 3 if rows < 30 else 5
    return [
        tuple(span for cell in cells[start : start + in_a_line] for span in _cell(*cell))
        for start in range(0, min(len(cells), in_a_line * most), in_a_line)
    ]


def _time(seconds: float) -> str:
    return duration(seconds) if seconds else "-"


def _cell(name: str, figure: str, style: Style) -> tuple[Span, ...]:
    is_nothing = figure in ("0", "-")
    figure = figure.rjust(_CELL - _GAP - len(name))
    return Span(name), Span(figure, "faint" if is_nothing else style), Span(" " * _GAP)


def _as_it_is(panel: Panel) -> Panel:
    rows = max(1, len(panel.rows))
    return replace(panel, least=min(panel.least, rows), wanted=rows)


def _stack(
    panels: Mapping[str, Panel], order: Sequence[str], columns: int, room: int
) -> list[Line]:
    """Tables one below the other, in exactly so many lines, or in none if there is no room."""
    shown, is_spaced = _rows_of(panels, order, room)
    lines: list[Line] = []
    for name in order:
        if name in shown:
            if lines and is_spaced:
                lines.append(())
            lines += panel_lines(panels[name], columns, shown[name])
    return lines + [()] * (room - len(lines))


def _rows_of(
    panels: Mapping[str, Panel], order: Sequence[str], room: int
) -> tuple[dict[str, int], bool]:
    """How many rows each table gets, and whether there is an empty line between two of them."""
    names = [name for name in _MOST_WANTED if name in order and name in panels]
    shown: dict[str, int] = {}
    for name in names:
        need = panels[name].least + 1
        if need <= room:
            shown[name] = panels[name].least
            room -= need
    gaps = max(0, len(shown) - 1)
    is_spaced = room >= 2 * gaps
    if is_spaced:
        room -= gaps
    while growing := [name for name in shown if shown[name] < panels[name].wanted][:room]:
        for name in growing:
            shown[name] += 1
        room -= len(growing)
    if shown:
        shown[max(shown, key=order.index)] += room
    return shown, is_spaced
