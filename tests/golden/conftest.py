"""Golden files: what is rendered is held to `expected/`, after scrubs that each have a name.

A mismatch writes what was rendered to tests/actual/. `pytest tests/golden --update-golden` (or
`make golden`) accepts it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

EXPECTED = Path(__file__).parent / "expected"
ACTUAL = Path(__file__).parents[1] / "actual"

# name → (what, by what): only what may differ between two machines or two versions of a drawing library
SCRUBS: dict[str, tuple[str, str]] = {
    "drawing": (r"(<svg .*?</desc>).*?</svg>", r"\1<!-- drawing --></svg>"),
    "data": (r"(href=\"data:[^;]+;charset=utf-8;base64,)[^\"]*", r"\1…"),
    "style": (r"<style>.*?</style>", "<style>…</style>"),
}

Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="accept what the tests render as golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """A function (name, text, scrubs): compares the scrubbed text with expected/<name>."""
    # absent where this folder isn't named on the command line
    update = bool(request.config.getoption("--update-golden", default=False))

    def compare(name: str, text: str, scrubs: tuple[str, ...] = ()) -> None:
        for scrub in scrubs:
            text = re.sub(*SCRUBS[scrub], text, flags=re.DOTALL)
        expected, actual = EXPECTED / name, ACTUAL / name
        if update:
            expected.write_text(text, encoding="utf-8")
            return
        wanted = expected.read_text(encoding="utf-8") if expected.exists() else ""
        if text == wanted:
            actual.unlink(missing_ok=True)
            return
        actual.parent.mkdir(exist_ok=True)
        actual.write_text(text, encoding="utf-8")
        diff = list(
            difflib.unified_diff(wanted.splitlines(), text.splitlines(), "expected", "actual", "", "", 1)
        )
        shown = "\n".join(line[:200] for line in diff[:40])
        pytest.fail(
            f"{name} differs from its golden:\n{shown}\n"
            f"It is in {actual}. If it is right: pytest tests/golden --update-golden",
            pytrace=False,
        )

    return compare
