"""The first command of a new user, on the emulated board: a model that came without any configuration."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

import jsonschema
import pytest
from support.bench import eventually
from support.repository import Finished, Repository
from support.tiny import MODELS

from harness.emulation import runs
from harness.metrics import METRICS
from harness.store import read_session

pytestmark = pytest.mark.device
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"


@pytest.fixture(scope="module")
def name() -> str:
    """A board's name that no other machine has."""
    return f"rpi4-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, name: str) -> Finished:
    repository = Repository.make(tmp_path_factory.mktemp("whole") / "theirs")
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("rpi4-emulated", name))
    return repository.pytest("--device", "rpi4", "--model", str(MODELS / "tiny.onnx"))


def test_it_passes(done):
    assert done.returncode == 0, done.output
    assert "5 passed" in done.output
    assert "session  PASS" in done.output


def test_times_are_virtual_and_the_rest_is_measured(done):
    jsonschema.validate(done.summary(), json.loads(SCHEMA.read_text()))
    found = {(METRICS[r["metric"]].kind, r["fidelity"]) for r in done.summary()["results"]}
    kinds = ("size", "memory", "agreement", "count")  # instructions are counted, whatever the clock says
    # and beside the median what a board would take
    assert found == {("time", "virtual"), ("time", "estimated"), *((kind, "measured") for kind in kinds)}


def test_the_estimate_has_its_band_its_word_and_its_source(done):
    (row,) = (r for r in done.summary()["results"] if r["fidelity"] == "estimated")
    assert row["metric"] == "estimated_latency_p50_ns"
    assert row["low"] < row["value"] < row["high"]
    assert "calibration rpi4-ncnn" in row["reasons"][0]
    assert "estimate tiny.onnx on" in done.output
    assert ": estimated " in done.output


@pytest.mark.skipif(shutil.which("cc") is None, reason="the counting plugin needs a C compiler")
def test_the_estimate_rests_on_counts_and_says_so(done):
    (row,) = (r for r in done.summary()["results"] if r["fidelity"] == "estimated")
    assert "by what the emulation counted" in row["reasons"][0], json.dumps(row, indent=1)
    assert row["settings"]["estimate"]["calibration"] == "rpi4-ncnn"
    assert "no_counts" not in row["settings"]["estimate"]


def test_the_virtual_number_is_of_processes_that_nothing_counted(done):
    (row,) = (r for r in done.results("latency_p50_ns") if r["scenario"] == "single_stream")
    assert (row["fidelity"], row["n"]) == ("virtual", 64)
    assert row["high"] / row["low"] < 1.05


def test_the_device_says_what_it_is(done, name):
    device = done.summary()["device"]
    assert (device["name"], device["type"], device["kind"]) == (name, "rpi4", "qemu")
    assert device["platform"] == "linux-aarch64"
    assert len(device["serial"]) == 16


def test_every_run_has_its_envelope(done):
    for run in read_session(done.folder).runs:
        envelope = {c.name: c for c in run.conditions}
        assert {"same boot", "wall clock", "throttling", "temp", "freq", "load"} <= set(envelope)
        assert envelope["same boot"].ok is True
        assert envelope["wall clock"].ok is True, envelope["wall clock"]
        assert envelope["throttling"].observed == "not observable"
        assert all(c.ok is not False for c in run.conditions)
        assert run.settings["profile"] == ("timing" if run.suite == "latency" else "functional")


def test_latency_has_its_raw_samples(done):
    (run,) = (r for r in read_session(done.folder).runs if r.scenario == "single_stream")
    (series,) = (s for s in run.series if s.name == "latency_ns")
    assert len(series.values) == 64
    assert set(series.process.tolist()) == {0, 1}
    p50 = next(m for m in run.measurements if m.metric == "latency_p50_ns")
    assert p50.low is not None
    assert p50.high is not None
    assert series.values.min() <= p50.low <= p50.value <= p50.high <= series.values.max()


def test_the_report_is_there_with_the_files_for_ci(done):
    html = (done.folder / "report.html").read_text()
    assert "virtual" in html
    for file in ("summary.json", "summary.md", "junit.xml", "session.json"):
        assert (done.folder / file).stat().st_size > 100


def test_no_machine_is_left(done, name):
    assert eventually(lambda: not list(runs.ephemeral_root().glob(f"{name}.*")))
