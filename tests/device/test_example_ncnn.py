"""Another package's runtime on the emulated board: a model of two files, its outputs, its own calibration."""

from __future__ import annotations

import shutil

import pytest
from support import ncnn_package
from support.ncnn_model import write_network
from support.repository import Finished, Repository

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the counting plugin needs a C compiler"),
]
NAME = "pi-ncnn"  # of no other file's board


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("ncnn")
    repository = Repository.make(folder / "theirs")
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("rpi4-emulated", NAME))
    write_network(repository.root)
    return repository.pytest(
        *("--device", "rpi4", "--model", "small.param", "-k", "accuracy or single_stream"),
        env=ncnn_package.install(folder / "site"),
    )


def test_its_outputs_there_are_those_of_the_same_runtime_here(done):
    assert done.returncode == 0, done.output
    (error,) = done.results("output_max_abs_error")
    assert error["verdict"] == "PASS"
    assert 0 < error["value"] < 2e-3  # ncnn keeps half floats between layers there
    assert error["runtime"] == "ncnn"


def test_the_estimate_is_of_its_own_calibration(done):
    (row,) = done.results("estimated_latency_p50_ns")
    estimate = row["settings"]["estimate"]
    assert (estimate["calibration"], estimate["precision"]) == ("rpi4-ncnn", "fp32")
    assert estimate["by"] == "what the emulation counted"
    assert not [note for note in estimate["notes"] if "borrowed" in note]
    assert row["low"] < row["value"] < row["high"]


def test_a_run_says_which_files_it_was(done):
    runs = done.runs()
    assert len(runs) == 2
    for run in runs:
        names = [path.rpartition("/")[2] for path in run["settings"]["artifact_files"]]
        assert names == ["small.param", "small.bin"]
        assert run["runtime_version"]
