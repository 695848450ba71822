"""A board's milliseconds from what the emulation counted: the plugin in the machine, marks in the agent."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from support.repository import Finished, Repository
from support.tiny import MODELS

from harness.emulation.command import QEMU
from harness.emulation.plugins import build_plugin, plugin_arguments

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the counting plugin needs a C compiler"),
]
NAME = "pi-counted"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    repository = Repository.make(tmp_path_factory.mktemp("counted") / "theirs")
    devices = repository.root / "devices.toml"
    text = devices.read_text().replace("rpi4-emulated", NAME)
    devices.write_text(text.replace("[types.rpi4]\n", '[types.rpi4]\nestimate = "counts"\n'))
    return repository.pytest("--device", "rpi4", "--model", str(MODELS / "tiny.onnx"), "-k", "single_stream")


def test_the_installed_qemu_takes_the_plugin_that_was_built_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path))
    library = build_plugin()
    loads = plugin_arguments(
        library, tmp_path / "counts.txt", caches=[(32768, 2), (1 << 20, 16)], tlb=(1024, 4)
    )
    argv = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-monitor", "stdio", *loads]
    done = subprocess.run(argv, input="quit\n", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "counts.txt").read_text() == "H 1 2\n"


def test_it_rests_on_counts_and_says_so(done):
    assert done.returncode == 0, done.output
    (row,) = (r for r in done.summary()["results"] if r["fidelity"] == "estimated")
    assert "by what the emulation counted" in row["reasons"][0], json.dumps(row, indent=1)
    assert row["low"] < row["value"] < row["high"]
    assert row["settings"]["estimate"]["calibration"] == "rpi4-ncnn"
    assert "no_counts" not in row["settings"]["estimate"]


def test_the_virtual_number_is_of_processes_that_nothing_counted(done):
    (row,) = (r for r in done.summary()["results"] if r["metric"] == "latency_p50_ns")
    assert (row["fidelity"], row["n"]) == ("virtual", 64)
    assert row["high"] / row["low"] < 1.05
