"""The examples in README.md and docs/ run, and print what the pages say that they print."""

from __future__ import annotations

import re
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
HOW_TO: Final = ROOT / "docs" / "how-to"

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN: Final = re.compile(r"<!-- not run: \S.* -->")


@dataclass(frozen=True, slots=True)
class Example:
    """One ``python`` block that is to run.

    Attributes:
        line: of the page, where its code begins.
        code: what is in it.
        expected: the ``text`` block that follows directly, if one does.
    """

    line: int
    code: str
    expected: str | None


def examples_of(page: Path) -> list[Example]:
    """Return the blocks that are to run; refuse a skipped one without a reason."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    found = sum(fence[1] == "python" for fence in fences)
    assert found == text.count("```python"), f"{page.name}: a block is indented or has no end"
    examples: list[Example] = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] != "python":
            continue
        line = text.count("\n", 0, fence.start()) + 2
        before = text[: fence.start()].rstrip("\n").rpartition("\n")[2]
        if before.startswith("<!-- not run"):
            assert _NOT_RUN.fullmatch(before), f"{page.name}:{line - 2}: say why: {before}"
            continue
        expected: str | None = None
        if following is not None and following[1] == "text":
            between = text[fence.end() : following.start()]
            expected = following[2] if not between.strip() else None
        examples.append(Example(line, fence[2], expected))
    return examples


def run_page(page: Path) -> None:
    """Run the blocks of a page one after the other; what fails is named by page and line."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in examples_of(page):
        printed = StringIO()
        # With so many empty lines before it, tracebacks show the lines of the page.
        code = "\n" * (example.line - 1) + example.code
        try:
            with redirect_stdout(printed):
                exec(compile(code, str(page), "exec", dont_inherit=True), namespace)
        except Exception as error:
            where = f"{page.name}:{_line_of(error, page) or example.line}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        if example.expected is not None:
            where = f"{page.name}:{example.line}"
            assert printed.getvalue() == example.expected, f"{where}: it prints something else"


def _line_of(error: Exception, page: Path) -> int | None:
    """Return the line of the page that raised, or that cannot be compiled."""
    if isinstance(error, SyntaxError) and error.filename == str(page):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(page)]
    return lines[-1] if lines else None


PAGES: Final = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```python" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples(page: Path) -> None:
    """Each block runs as it stands, in the namespace that those before it have left."""
    run_page(page)


def test_the_index_names_each_how_to() -> None:
    """No page is missing, and no link leads nowhere."""
    linked = re.findall(r"\]\((.+?\.md)\)", (HOW_TO / "index.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(
        page.name for page in HOW_TO.glob("*.md") if page.name != "index.md"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "```python\nx = 1\n```\n\n```python\nassert x == 1\nassert x == 2\n```\n",
            r"page\.md:7: ",
        ),
        ("```python\nx = 1\nx = = 2\n```\n", r"page\.md:3: SyntaxError"),
        ("# Title\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n", r"page\.md:4: it prints"),
        ("```python\n```\n\n```text\n1\n```\n", r"page\.md:2: it prints something else"),
        ("<!-- not run -->\n```python\nx = 1\n```\n", r"page\.md:1: say why"),
        ("<!-- not run: -->\n```python\nx = 1\n```\n", r"page\.md:1: say why"),
        ("1. One\n\n   ```python\n   x = 1\n   ```\n", r"page\.md: a block is indented"),
    ],
)
def test_a_wrong_page_is_found(tmp_path: Path, text: str, message: str) -> None:
    """A page that does not do what it says fails, with its name and the line."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError, match=message):
        run_page(page)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- not run: it never ends -->\n```python\nwhile True: ...\n```\n\n```text\n1\n```\n",
        "```python\nprint(1)\n```\n\n```text\n1\n```\n",
        "```python\nprint(1)\n```\n\nElsewhere:\n\n```text\n2\n```\n",
    ],
)
def test_a_right_page_passes(tmp_path: Path, text: str) -> None:
    """Skipped for a reason, printing what it says, or saying nothing of what it prints."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    run_page(page)
