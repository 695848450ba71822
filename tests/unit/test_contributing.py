"""The examples of CONTRIBUTING.md work as printed."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest

from harness import instruments, metrics
from harness.agent.parsing import Unreadable
from harness.registry import load_registry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language: str, marker: str) -> str:
    """Return the one fenced block of `language` that holds `marker`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    (found,) = (b for b in blocks if marker in b)
    return textwrap.dedent(found)


def run_module(source: str, **names: object) -> types.ModuleType:
    module = types.ModuleType("example")
    module.__dict__.update(names)
    exec(compile(source, "CONTRIBUTING.md", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    return module


def test_device_example_is_a_valid_registry(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(block("toml", "[types.rpi3]"), encoding="utf-8")
    device = load_registry(path).devices["rpi3-01"]
    assert device.type.requires_evidence == ("throttle_bits",)
    assert device.ssh is not None
    assert device.ssh.host == "rpi3-01.lan"


def test_sensor_example_reads_a_fan_and_finds_none_where_there_is_none(tmp_path: Path) -> None:
    module = run_module(block("python", "The fan of a Jetson"), __package__="harness.agent.sensors")
    assert module.find(str(tmp_path)) == []
    folder = tmp_path / "sys/class/hwmon/hwmon2"
    folder.mkdir(parents=True)
    (folder / "rpm").write_text("2950\n", encoding="utf-8")
    (sensor,) = module.find(str(tmp_path))
    assert (sensor.id, sensor.read()) == ("tachometer/fan/fan/fan_rpm", 2950.0)
    (folder / "rpm").write_text("off\n", encoding="utf-8")
    with pytest.raises(Unreadable, match="off"):
        sensor.read()


def test_instrument_example_names_its_kind_in_devices_toml() -> None:
    project = tomllib.loads(block("toml", "hil-meterd"))["project"]
    (kind,) = project["entry-points"][instruments.ENTRY_POINT_GROUP]
    (table,) = tomllib.loads(block("toml", "instruments.meter]"))["devices"]["rpi3-01"][
        "instruments"
    ].values()
    assert table["kind"] == kind  # the example itself: tests/contract/test_instruments.py, `contributed`


def test_metric_example_is_a_row() -> None:
    row = eval(block("python", "Metric(").strip().rstrip(","), vars(metrics))  # noqa: S307
    assert row.unit in {m.unit for m in metrics.METRICS.values()}
    assert row.kind in {m.kind for m in metrics.METRICS.values()}
    assert row.name not in metrics.METRICS
    budget = tomllib.loads(block("toml", "[budgets."))["budgets"]["rpi4"]["digits_int8_onnx"]
    assert list(budget) == [row.name]


def test_runtime_example_runs(tmp_path: Path) -> None:
    source = block("python", 'NAME = "matrix"')
    ast.parse(source, feature_version=(3, 9))
    adapter = run_module(source)
    model = tmp_path / "weights.json"
    model.write_text(json.dumps([[1, 2, 3], [4, 5, 6]]), encoding="utf-8")
    session = adapter.load(str(model), 1, {})
    session.prepare({"x": np.ones((2, 2), np.float32)})()
    assert session.read_outputs()["y"].tolist() == [[5, 7, 9], [5, 7, 9]]
    model.write_text("not a matrix", encoding="utf-8")
    with pytest.raises(adapter.ModelError):
        adapter.load(str(model), 1, {})


def test_runtime_example_is_found_by_its_entry_point(tmp_path: Path) -> None:
    from harness import runtimes

    package = tmp_path / "hil_matrix"
    package.mkdir()
    descriptor = run_module(block("python", "DESCRIPTOR ="), __file__=str(package / "__init__.py")).DESCRIPTOR
    project = tomllib.loads(block("toml", "hil-matrix"))["project"]
    assert list(project["entry-points"][runtimes.ENTRY_POINT_GROUP]) == [descriptor.name]
    assert descriptor.adapter == package / "adapter.py"


def test_files_that_it_names_exist() -> None:
    named = set(re.findall(r"`((?:harness|tests|docs|suites)/[\w./]+\.(?:py|md|toml))`", TEXT))
    assert named
    assert sorted(n for n in named if not (ROOT / n).exists()) == []
