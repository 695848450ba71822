"""docs/configuration.md: its examples load, its keys are those that the readers ask for, no more, no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import plan as plans
from harness import registry as registries
from harness.metrics import METRICS
from harness.toml_schema import Section

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
# names that the user chooses
CHOSEN = {"types", "devices", "models", "runtimes", "budgets", "release", "schema_version", "image"}
EMULATED = {"emulated", "compressed", "max_windows"}  # keys of a soak that devices.toml alone has


def documented(part: str) -> set[str]:
    """Return the keys in the tables of one half of the page."""
    tables = re.findall(r"^\| key \|.*?(?=^$|\Z)", part, re.MULTILINE | re.DOTALL)
    return {key for table in tables for key in re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)}


def asked_for(load, monkeypatch) -> set[str]:
    """Return every key that reading a file asks for."""
    seen: set[str] = set()
    finish = Section.finish

    def recording(self):
        seen.update(self._known)
        finish(self)

    monkeypatch.setattr(Section, "finish", recording)
    load()
    return seen - CHOSEN


@pytest.mark.parametrize("name", ["devices.toml", "release.toml"])
def test_the_example_loads_and_uses_every_key_of_the_page(tmp_path, monkeypatch, name):
    (text,) = [body for file, body in BLOCKS if file == name]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    load = registries.load_registry if name == "devices.toml" else plans.load_plan
    first, _, rest = PAGE.partition("## release.toml")
    rest, _, of_soaks = rest.partition("\n## Soaks\n")
    shared = documented(of_soaks)  # of both files
    keys = documented(first if name == "devices.toml" else rest)
    asked = asked_for(lambda: load(path), monkeypatch)
    assert asked | shared == keys | shared
    if name == "release.toml":  # the other example leaves the tables of limits and policy out
        assert shared - asked == EMULATED
    unused = [key for key in keys if not used(key, text)]
    assert unused == []
    assert [key for key in shared if not any(used(key, body) for _, body in BLOCKS)] == []


def used(key: str, text: str) -> bool:
    return re.search(rf"\b{key}\b *(=|\]|\.)", text) is not None


def test_the_page_lists_every_metric():
    listed = PAGE[PAGE.index("\nMetrics: ") :].partition("\n\n")[0]
    names = re.findall(r"`(\w+)`", listed)
    assert names == list(METRICS)
    higher = set(re.findall(r"`(\w+)` \(higher is better\)", listed.replace("\n", " ")))
    assert higher == {name for name, row in METRICS.items() if row.direction == "higher"}
