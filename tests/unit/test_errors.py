"""The exception tree, its drawing and its page are one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import errors, gate
from harness.model import Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r'^\| <a id="([^"]+)"></a>`([^`]+)` \| `(\w+)` \| (\d+) \| (.+) \| (.+) \|$', re.MULTILINE)


def tree(root: type[errors.HarnessError] = errors.HarnessError) -> list[type[errors.HarnessError]]:
    """Return `root` and all its descendants that errors.py defines."""
    below = [c for child in root.__subclasses__() if child.__module__ == errors.__name__ for c in tree(child)]
    return [root, *below]


def test_the_page_has_a_row_for_each_class_with_its_exit_code():
    rows = {slug: (name, int(code)) for _, slug, name, code, _, _ in ROW.findall(PAGE)}
    assert rows == {kind.slug: (kind.__name__, kind.exit_code) for kind in tree()}


def test_each_row_can_be_linked_to_and_says_what_to_do():
    found = ROW.findall(PAGE)
    assert len(found) == PAGE.count("<a id=")
    for anchor, slug, _, _, meaning, next_step in found:
        assert anchor == slug
        assert len(meaning) > 20
        assert next_step


def test_slugs_are_each_of_one_class():
    slugs = [kind.slug for kind in tree()]
    assert len(set(slugs)) == len(slugs)


def test_the_drawing_in_the_docstring_is_the_tree():
    drawn = re.findall(r"^ {4}(?:[│ ]*[├└]── )?(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in tree())


def test_no_other_module_grows_the_tree_with_a_slug_of_its_own():
    definition = re.compile(r"^    slug = ", re.MULTILINE)
    grown = [
        path.name
        for path in (ROOT / "harness").rglob("*.py")
        if path.name != "errors.py" and definition.search(path.read_text(encoding="utf-8"))
    ]
    assert grown == []


def test_the_page_lists_the_exit_codes_of_every_verdict():
    listed = dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE))
    for verdict in Verdict:
        if verdict is not Verdict.NOT_JUDGED:
            assert verdict in listed[str(gate.exit_code(verdict))]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"what": "is off"}, "is off"),
        ({"what": "is off.", "where": "rpi4-01"}, "rpi4-01: is off."),
        (
            {"what": "is off.", "where": "rpi4-01", "next_step": "Switch it on."},
            "rpi4-01: is off. Switch it on.",
        ),
    ],
)
def test_a_message_says_where_what_and_the_next_step(arguments, text):
    assert str(errors.ConnectionLost(**arguments)) == text


def test_a_configs_problems_come_together():
    one = errors.ConfigError("a: wrong", where="f.toml")
    assert (one.problems, str(one)) == (("a: wrong",), "f.toml: a: wrong")
    two = errors.ConfigError(["a: wrong", "b: wrong"], where="f.toml")
    assert two.problems == ("a: wrong", "b: wrong")
    assert str(two) == "f.toml: 2 problems:\n  - a: wrong\n  - b: wrong"


def test_a_failed_command_keeps_its_facts():
    error = errors.CommandFailed(["cp", "a"], 1, "no space\n", where="rpi4-01")
    assert (error.argv, error.returncode, error.stderr) == (("cp", "a"), 1, "no space\n")
    assert str(error) == "rpi4-01: cp exited with 1, expected 0: no space"


def test_the_nearest_name_or_all_of_them():
    assert errors.nearest("limt", ["limit", "rule"]) == "; did you mean `limit`?"
    assert errors.nearest("zzz", ["b", "a"]) == "; valid: a, b"
    assert errors.nearest("zzz", []) == ""
