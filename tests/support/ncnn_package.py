"""The example package of examples/harness-ncnn as pip installs it: its code, its entry point beside it."""

from __future__ import annotations

import shutil
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "harness-ncnn"


def install(site: Path) -> dict[str, str]:
    """Put the package into the new folder `site`; return the environment variables that bring it in."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"harness_ncnn-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copytree(
        PACKAGE / "harness_ncnn", site / "harness_ncnn", ignore=shutil.ignore_patterns("__pycache__")
    )
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    points = [
        line
        for group, named in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    return {"PYTHONPATH": str(site)}


def load_descriptor_module() -> types.ModuleType:
    """Return the package's module for the host, without installing it."""
    return _load("harness_ncnn_example", PACKAGE / "harness_ncnn" / "__init__.py")


def load_adapter(**ncnn: Any) -> types.ModuleType:
    """Return the adapter beside a stand-in for ncnn that has these names alone."""
    stand_in = types.ModuleType("ncnn")
    stand_in.__dict__.update(ncnn)
    before = sys.modules.get("ncnn")
    sys.modules["ncnn"] = stand_in
    try:
        return _load("harness_ncnn_adapter", PACKAGE / "harness_ncnn" / "adapter.py")
    finally:
        del sys.modules["ncnn"]
        if before is not None:
            sys.modules["ncnn"] = before


def _load(name: str, path: Path) -> types.ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
