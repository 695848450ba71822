"""The ready-made CI files name packages, targets and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CI_FILES = (".github/workflows/ci.yml", ".gitlab-ci.yml")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CI_FILES)
def test_gate_job_installs_the_packages_of_the_emulated_board(name: str) -> None:
    packages = []
    for group in ("EMULATION", "COMPILER"):
        found = re.search(rf'^{group}="([^"]+)"', read("tools/setup.sh"), re.MULTILINE)
        assert found is not None, group
        packages += found[1].split()
    assert [p for p in packages if not re.search(rf"\s{re.escape(p)}\s", read(name))] == []


@pytest.mark.parametrize("name", CI_FILES)
def test_make_targets_exist(name: str) -> None:
    targets = re.findall(r"\bmake ([a-z]+)$", read(name), re.MULTILINE)
    assert targets == ["check", "test", "nightly"]
    assert [t for t in targets if not re.search(rf"^{t}:", read("Makefile"), re.MULTILINE)] == []


@pytest.mark.parametrize("name", CI_FILES)
def test_options_and_variables_exist(name: str) -> None:
    command = re.search(r"pytest (suites/.*)$", read(name), re.MULTILINE)
    assert command is not None
    assert {o for o in command[1].split() if o.startswith("--")} == {"--device", "--report-dir"}
    plugin = read("harness/plugin.py")
    assert all(f'add("{option}"' in plugin for option in ("--device", "--report-dir"))
    assert 'ENV_VARIABLE = "HIL_HARNESS_CACHE"' in read("harness/cache.py")
    assert re.search(r"HIL_HARNESS_CACHE(: |=).*\.harness-cache", read(name))


def test_licence_is_apache_2() -> None:
    assert "Apache License" in read("LICENSE")
    assert 'license = { text = "Apache-2.0" }' in read("pyproject.toml")
