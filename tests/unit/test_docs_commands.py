"""Commands and options that documentation and messages name are ones that exist; links lead somewhere."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from harness import plugin
from harness.cli.main import build_parser
from harness.plan import load_plan
from harness.registry import load_registry, select

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")])
# pytest's own, and its plugins', that the pages speak of
PYTESTS = {
    "-k", "-m", "-x", "-q", "-n", "--lf", "--junitxml", "--collect-only", "--benchmark-json", "--html",
}  # fmt: skip
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def commands(page: Path, first: str) -> list[str]:
    """Return the page's lines of code that begin with `first`, without their comments."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += [line[4:] for line in text.splitlines() if line.startswith("    ")]
    found = [line.removeprefix("$ ") for line in lines]
    return [re.sub(r"\s{2,}#.*|\s+…$", "", line) for line in found if line.startswith(f"{first} ")]


SHOWN = [(page, line) for page in PAGES for line in commands(page, "harness")]
MEASURED = [(page, line) for page in PAGES for line in commands(page, "pytest")]


SOURCES = [*PAGES, *sorted((ROOT / "harness").rglob("*.py"))]
NAMED = [
    (path, text)
    for path in SOURCES
    for text in re.findall(r"`(harness [a-z][^`\n{]*)", path.read_text(encoding="utf-8"))
]


class Options:
    """Stands in for pytest's parser: takes note of the options that the plugin adds."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def getgroup(self, *_: str) -> Options:
        return self

    def addoption(self, *names: str, **_: object) -> None:
        self.names.update(names)


def test_there_are_commands_to_check():
    assert len(SHOWN) >= 10
    assert len(MEASURED) >= 12
    assert len(NAMED) > 50


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_that_is_shown_is_one(page, line):
    assert build_parser().parse_args(shlex.split(line)[1:]).command, page.name


def test_a_command_that_is_named_in_a_sentence_is_one():
    for path, text in NAMED:
        parser = build_parser()
        for word in text.split()[1:]:
            below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
            if not below or not re.fullmatch(r"[a-z-]+", word) or word.startswith("-"):
                break
            assert word in below[0].choices, f"{path.relative_to(ROOT)}: `{text}`"
            parser = below[0].choices[word]


@pytest.mark.parametrize(
    ("page", "line"), MEASURED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_option_of_pytest_that_is_shown_is_one(page, line):
    options = Options()
    plugin.pytest_addoption(options)  # type: ignore[arg-type]
    words = [word.partition("=")[0] for word in shlex.split(line)[1:] if word.startswith("-")]
    assert set(words) <= options.names | PYTESTS, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading_that_exist(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page.name}: {target}"


def anchors(text: str) -> set[str]:
    """Return the ids that a page's headings and `<a id>`s have where GitHub shows it."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_the_tutorials_plan_loads(tmp_path):
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    plan, devices = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    starter = ROOT / "harness" / "starter"
    for name, more in (("suites/release.toml", plan), ("devices.toml", devices)):
        path = tmp_path / Path(name).name
        path.write_text((starter / name).read_text(encoding="utf-8") + "\n" + more, encoding="utf-8")
    assert [model.name for model in load_plan(tmp_path / "release.toml").models] == ["digits"]
    found = load_registry(tmp_path / "devices.toml")
    assert [device.name for device in select(found, "rpi4")] == ["rpi4-01"]
