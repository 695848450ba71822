"""A user's repository, and one whole session in one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repository import Finished, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "theirs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A whole session on this host, of a model that came without any configuration."""
    root = tmp_path_factory.mktemp("whole") / "theirs"
    return Repository.make(root).local("tiny.onnx", f"--benchmark-json={root / 'bench.json'}", "-rA")
