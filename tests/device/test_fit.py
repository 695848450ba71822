"""`harness devices fit` end to end: this host against the emulated board, interrupted, resumed and then used.

How busy this host is isn't the subject: its readings of load and CPU time are scripted where they are read.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.networks import make_networks
from support.repository import Repository

from harness.board import Board
from harness.cli.main import main
from harness.estimate import calibration
from harness.estimating import own_path, pieces_path
from harness.fitting import take
from harness.measure import single_stream

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the counting plugin needs a C compiler"),
]
QUIET = {"psi_cpu_some_avg10": 0.0, "psi_memory_some_avg10": 0.0, "cpu_busy_ns": None, "steal_ns": None}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository in which a fit may run; the host reads as a quiet one."""
    repository = Repository.make(tmp_path_factory.mktemp("fit") / "theirs")
    read, measure = Board.conditions, single_stream.measure_window

    def conditions(board: Board) -> dict[str, Any]:
        return {**read(board), **QUIET} if board.device.kind == "local" else read(board)

    def window(bench: Any, *args: Any) -> Any:
        block = measure(bench, *args)
        return dataclasses.replace(block, usage={**block.usage, "cpu_ns": block.elapsed_ns})

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository.root)
        patch.setattr(Board, "conditions", conditions)
        patch.setattr(single_stream, "measure_window", window)
        yield repository


@pytest.fixture(scope="module")
def networks(place: Repository) -> list[Path]:
    return make_networks(place.root)


def fit(networks: list[Path]) -> int:
    given = [argument for path in networks for argument in ("--model", str(path))]
    return main(["devices", "fit", "rpi4-emulated", "--against", "local", *given])


@pytest.fixture(scope="module")
def fitted(place: Repository, networks: list[Path]) -> Path:
    """Return the calibration of a fit that was interrupted while the second network was counted."""
    count, counted = take.count, []

    def count_some(*args: Any) -> take.Counted:
        counted.append(args[2].name)
        if len(counted) == 2:
            raise KeyboardInterrupt
        return count(*args)

    reports = place.root / "reports"
    path = own_path(reports, "rpi4", "onnxruntime", "fp32", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(take, "count", count_some)
        assert fit(networks) == 130
        assert not path.exists()
        assert pieces_path(reports, "rpi4", "local", 1).exists()
        assert fit(networks) == 0
    assert counted == [networks[0].name, networks[1].name, networks[1].name, networks[2].name]
    return path


def test_what_is_kept_rests_on_both_boards(fitted):
    found = calibration.load(fitted)
    assert (found.device_type, found.runtime, found.core) == ("rpi4", "onnxruntime", "cortex-a72")
    assert len(found.networks) == 3
    for network in found.networks:
        assert 0 < network.board_ms[1] < network.virtual_ms
        # its clock goes a nanosecond an instruction, those of the kernel included
        assert network.features.instructions / 1e6 == pytest.approx(network.virtual_ms, rel=0.25)


def test_a_session_uses_it_with_its_age_and_its_error(fitted, place, networks):
    done = place.pytest("--device", "rpi4-emulated", "--model", str(networks[0]), "-k", "single_stream")
    assert done.returncode == 0, done.output
    (row,) = (r for r in done.summary()["results"] if r["fidelity"] == "estimated")
    assert row["settings"]["estimate"]["calibration"] == "local-onnxruntime-fp32"
    assert row["low"] < row["value"] < row["high"]
    said = row["reasons"][0]
    assert "calibration local-onnxruntime-fp32 (of " in said
    assert ", taken today), by what the emulation counted: off by" in said
    assert "only 3 networks" in row["reasons"]


def test_a_second_fit_measures_nothing_anew(fitted, networks, capsys):
    before = fitted.read_text()
    assert fit(networks) == 0
    said = capsys.readouterr().out
    assert said.count("(kept from ") == 6
    assert "in place of local-onnxruntime-fp32 of " in said
    assert fitted.read_text() == before
