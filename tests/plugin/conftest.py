"""A user's repository in a temporary folder, and pytest run in it as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.tiny import MODELS

from harness.cli.main import main

TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Finished:
    """A finished pytest call."""

    returncode: int
    output: str
    folder: Path

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "summary.json").read_text()))

    def results(self, metric: str) -> list[dict[str, Any]]:
        return [r for r in self.summary()["results"] if r["metric"] == metric]


@dataclass(frozen=True)
class Repository:
    """What `harness init` makes, and a way to call pytest in it."""

    root: Path

    def pytest(self, *args: str, env: dict[str, str] | None = None) -> Finished:
        folder = self.root / "report"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "suites",
                "--report-dir",
                folder,
                *args,
            ],
            cwd=self.root,
            env={**os.environ, "HIL_HARNESS_STATE": str(self.root / "state"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Finished(done.returncode, done.stdout, folder)

    def local(self, model: str, *args: str) -> Finished:
        """Measure one of the tiny models on this host."""
        return self.pytest("--device", "local", "--model", str(MODELS / model), *args)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "theirs"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    assert main(["init", str(root)]) == 0
    return Repository(root)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A whole session on this host, of a model that came without any configuration."""
    root = tmp_path_factory.mktemp("whole")
    (root / "pytest.ini").write_text("[pytest]\n")
    assert main(["init", str(root)]) == 0
    return Repository(root).local("tiny.onnx", f"--benchmark-json={root / 'bench.json'}", "-rA")
