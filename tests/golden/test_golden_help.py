"""What `harness … --help` and `pytest --help` say, at a fixed width."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = "100"

Golden = Callable[..., None]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and every subcommand's below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize("name", [p.prog for p in parsers(build_parser())])
def test_help(golden: Golden, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    (parser,) = (p for p in parsers(build_parser()) if p.prog == name)
    golden(f"help/{name.replace(' ', '-')}.txt", parser.format_help())


def test_the_options_that_pytest_gets(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "suites", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"^hardware-in-the-loop benchmarks:\n(.*?)\n\n", done.stdout, re.MULTILINE | re.DOTALL)
    assert found is not None, done.stdout
    golden("help/pytest.txt", found[0])


@pytest.mark.parametrize("parser", list(parsers(build_parser())), ids=lambda p: p.prog)
def test_every_option_and_action_says_what_it_does(parser: argparse.ArgumentParser) -> None:
    assert parser.description
    assert parser.description[0].isupper()
    assert parser.description.strip().endswith((".", "NAME`.", "uname -m"))
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
