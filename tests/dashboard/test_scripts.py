"""The modules of the page, one by one: what they make of values that a dashboard seldom has."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor import TokenGateExecutor

for needed in ("selenium", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(needed, reason=f"the browser tests need {needed}: pip install {needed}")

sys.path.insert(0, str(Path(__file__).parent))
from browser import Page, hindrance, started  # noqa: E402

from tokengate_executor.dashboard import serve  # noqa: E402
from tokengate_executor.dashboard.patches import JsonObject, apply, diff  # noqa: E402

if (reason := hindrance()) is not None:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Page]:
    """A dashboard of an executor that does nothing."""
    with TokenGateExecutor(1) as executor, serve(executor) as server, started() as driver:
        shown = Page(driver)
        shown.open(server.url)
        shown.wait_until_live()
        yield shown
        shown.leave()


@pytest.fixture
def page(dashboard: Page) -> Iterator[Page]:
    """The dashboard; at the end of the test the browser must have had nothing to complain of."""
    yield dashboard
    assert dashboard.problems() == []


def run(page: Page, module: str, code: str, *arguments: object) -> Any:
    """Run the body of an asynchronous function, to which the module's names are known as ``m``."""
    return page.script(
        "const url = new URL(`static/${arguments[0]}`, document.baseURI);"
        "const given = arguments[1];"
        f"return import(url).then((m) => {{ {code} }})",
        module,
        arguments,
    )


def some_object(choose: random.Random, depth: int = 3) -> JsonObject:
    """An object of few keys, so that two of them share some."""

    def some_value() -> Any:
        if depth > 0 and choose.random() < 0.4:
            return some_object(choose, depth - 1)
        return choose.choice([0, 1.5, "", "text", True, False, [], [1, "a"]])

    names = ("a", "b", "7", "10", "__proto__", "constructor", "toString", "ü")
    return {name: some_value() for name in names if choose.random() < 0.5}


def test_merge_patches(page: Page) -> None:
    """The model follows patches as the server makes them, whatever the keys are called."""
    choose = random.Random(7)
    states = [some_object(choose) for _ in range(60)]
    patches = [diff(before, after) for before, after in pairwise(states)]
    # As text: to pass a value on, the driver would set a key `__proto__`.
    told: list[str] = run(
        page,
        "model.js",
        "const model = new m.Model();"
        "const [first, ...patches] = JSON.parse(given[0]);"
        "model.replace(first);"
        "const told = [JSON.stringify(model.data)];"
        "for (const patch of patches) {"
        "  model.change(patch); told.push(JSON.stringify(model.data));"
        "}"
        "return told;",
        json.dumps([states[0], *patches]),
    )
    assert [json.loads(one) for one in told] == states
    assert apply(states[0], patches[0]) == states[1]


def test_what_was_touched(page: Page) -> None:
    """Only what a patch names is shown anew; a section that comes whole, whole."""
    told = run(
        page,
        "model.js",
        "const model = new m.Model();"
        "model.replace({tokens: {waiting: 1}, lanes: {1: {depth: 0}}});"
        "const named = () => [...model.takeTouched()].map(([section, keys]) =>"
        "  [section, keys === m.ALL ? 'all' : [...keys].sort()]);"
        "const first = named();"
        "model.change({tokens: {waiting: 2}}); model.change({tokens: {failed: 1}, limits: {db: {}}});"
        "return [first, named(), named()];",
    )
    assert told == [
        [["tokens", "all"], ["lanes", "all"]],
        [["tokens", ["failed", "waiting"]], ["limits", "all"]],
        [],
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("count", {"1234567": "1,234,567", "undefined": "\N{EN DASH}"}),
        ("bound", {"undefined": "any number", "5": "5"}),
        ("rate", {"0": "0", "0.25": "0.3", "99.94": "99.9", "1234.5": "1,235"}),
        ("share", {"1": "100 %", "0.99999": "> 99.9 %", "0.5": "50 %", "0.00001": "< 0.1 %"}),
        (
            "duration",
            {
                "0": "0 s",
                "0.0000004": "1 \N{MICRO SIGN}s",
                "0.0052": "5.2 ms",
                "0.52": "520 ms",
                "5.25": "5.3 s",
                "59.9": "59 s",
                "61": "1 min 01 s",
                "3725": "1 h 02 min",
                "90000": "1 d 01 h",
                "-1": "0 s",
                "undefined": "\N{EN DASH}",
            },
        ),
        ("elapsed", {"0.9": "0 s", "59.9": "59 s", "60": "1 min 00 s"}),
        ("word", {"'HALF_OPEN'": "half open", "undefined": "\N{EN DASH}"}),
    ],
)
def test_formats(page: Page, name: str, values: dict[str, str]) -> None:
    """As a person reads them, and never as ``NaN`` or ``undefined``."""
    code = f"return [{', '.join(f'm.{name}({value})' for value in values)}]"
    assert run(page, "format.js", code) == list(values.values())


def test_the_chart(page: Page) -> None:
    """Even work is a level line; a break is a gap, and is not taken for a rest."""
    level, after_break, held = run(
        page,
        "chart.js",
        "const chart = new m.Chart(document.createElement('div'), document.createElement('p'));"
        "for (let at = 0; at <= 10; at += 0.25) chart.sample(at, 40 * at, 0);"
        "const level = chart.draw(10.1);"
        "chart.interrupt();"
        "for (let at = 20; at <= 20.5; at += 0.25) chart.sample(at, 4000, 0);"
        "const afterBreak = Number.isNaN(chart.draw(20.6));"
        "chart.hold(22.2);"
        "return [level, afterBreak, chart.draw(22.2)];",
    )
    assert level == pytest.approx(40)
    assert after_break is True
    assert held == 0


def test_the_adaptive_state(page: Page) -> None:
    """Whatever an executor says of how it adapts is shown by name, as text."""
    run(
        page,
        "review.js",
        "new m.Adaptive().render({adaptive:"
        " {active_workers: 1234, lanes: {1: {gain: 0.123456}}, mode: '<b>calm</b>'}});",
    )
    text = page.text("#adaptive")
    assert "active workers1,234" in text
    assert "lanes · 1 · gain0.1235" in text
    assert "<b>calm</b>" in text
    assert page.is_visible("#adaptive-panel")
