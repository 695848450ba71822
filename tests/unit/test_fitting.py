"""`harness devices fit` without a device: what it keeps, refuses and marks. Measuring is replaced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.tiny import MODELS

from harness import fitting
from harness.cli.main import main
from harness.errors import HostSetupError
from harness.estimate import calibration, estimator
from harness.estimating import own_path
from harness.model import Condition

DEVICES = """
schema_version = 1
[types.host]
[types.pi]
[devices.desk]
type = "host"
kind = "local"
[devices.pi-emulated]
type = "pi"
kind = "qemu"
[devices.pi-emulated.qemu]
cpu = "cortex-a72"
"""
SHIPPED = estimator.shipped()[0]
NETWORKS = [n for n in SHIPPED.networks if n.precision == "fp32"]


class Place:
    """A repository with an emulated board and a desk; networks take what a shipped calibration says."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.moved: tuple[Condition, ...] = ()
        self.features: Any = None
        (root / "devices.toml").write_text(DEVICES)
        monkeypatch.chdir(root)
        monkeypatch.setenv("HIL_HARNESS_STATE", str(root / "state"))
        monkeypatch.setattr(fitting, "take_emulated", self._emulated)
        monkeypatch.setattr(fitting, "take_real", self._real)

    def models(self, count: int) -> list[str]:
        argv = []
        for number in range(count):
            path = self.root / f"n{number}.onnx"
            path.write_bytes((MODELS / "tiny.onnx").read_bytes())
            argv += ["--model", str(path)]
        return argv

    @staticmethod
    def _network(model: Any) -> Any:
        return NETWORKS[int(Path(model.name).stem.removeprefix("n"))]

    def _emulated(self, workbench: Any, device: Any, model: Any) -> fitting.Emulated:
        assert device.type.estimate == "counts"
        n = self._network(model)
        return fitting.Emulated("onnxruntime", "1.2.3", "fp32", n.input_shape, n.features, n.virtual_ms)

    def _real(self, workbench: Any, device: Any, model: Any) -> fitting.Real:
        problems = tuple(f"{model.name}: {c.name}: {c.observed}" for c in self.moved)
        return fitting.Real(self._network(model).board_ms[1], problems)

    @property
    def path(self) -> Path:
        return own_path(self.root / "reports", "pi", "onnxruntime")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place(tmp_path, monkeypatch)


def fit(*argv: str) -> int:
    return main(["devices", "fit", "pi", "--against", "desk", *argv])


def test_it_is_kept_and_serves_from_then_on(place, capsys):
    assert fit(*place.models(10)) == 0
    said = capsys.readouterr().out
    assert "desk-onnxruntime: fp32 on 1 thread: 10 networks, off by" in said
    assert "few" not in said
    found = calibration.load(place.path)
    assert (found.device_type, found.core, found.statistic) == ("pi", "cortex-a72", "p50")
    network = next(n for n in NETWORKS[10:] if n.name == "squeezenet_ssd")
    answer = estimator.answer(
        [found], device_type="pi", runtime="onnxruntime", precision="fp32", threads=1,
        virtual_ns=network.virtual_ms * 1e6, features=network.features,
    )  # fmt: skip
    assert answer.estimate is not None
    assert answer.estimate.n == 10
    assert answer.calibration == "desk-onnxruntime"


def test_under_nine_it_is_marked_and_no_band_is_narrower_than_the_worst(place, capsys):
    assert fit(*place.models(5)) == 0
    assert "5 networks" in (said := capsys.readouterr().out)
    assert "few networks: estimates are marked" in said
    found = calibration.load(place.path)
    answer = estimator.answer(
        [found], device_type="pi", runtime="onnxruntime", precision="fp32", threads=1,
        virtual_ns=1e6, features=NETWORKS[1].features,
    )  # fmt: skip
    assert answer.estimate is not None
    assert "only 5 networks" in answer.notes
    assert answer.estimate.high_ms / answer.estimate.board_ms >= 1 + (answer.worst_error_ratio or 0) / 2


def test_three_networks_give_one_factor_that_says_so(place):
    assert fit(*place.models(3)) == 0
    found = calibration.load(place.path)
    answer = estimator.answer(
        [found], device_type="pi", runtime="onnxruntime", precision="fp32", threads=1,
        virtual_ns=1e6, features=NETWORKS[1].features,
    )  # fmt: skip
    assert answer.estimate is not None
    assert any("too few networks for more" in note for note in answer.notes)


def test_under_three_it_is_refused_before_anything_is_measured(place, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "take_emulated", lambda *_: pytest.fail("measured"))
    assert fit(*place.models(2)) == 2
    assert "2 networks, expected at least 3" in capsys.readouterr().err
    assert not place.path.exists()


def test_a_board_whose_clock_moved_is_invalid_and_nothing_is_kept(place, capsys):
    place.moved = (Condition("clock", "stepped by 2 s", "no step", False),)
    assert fit(*place.models(3)) == 11
    said = capsys.readouterr().out
    assert said.startswith("desk: INVALID  nothing was kept:\n")
    assert "clock: stepped by 2 s" in said
    assert not place.path.exists()


def test_two_emulated_boards_or_two_real_ones_are_refused(place, capsys):
    argv = place.models(3)
    assert main(["devices", "fit", "pi", "--against", "pi-emulated", *argv]) == 2
    assert "it is emulated too" in capsys.readouterr().err
    assert main(["devices", "fit", "desk", "--against", "desk", *argv]) == 2
    assert "Name an emulated device first" in capsys.readouterr().err


def test_without_models_or_a_plan_it_says_what_to_give(place, capsys):
    assert fit() == 2
    assert "Give files: --model FILE" in capsys.readouterr().err


def one(precision: str, number: int) -> fitting.Emulated:
    n = NETWORKS[number]
    return fitting.Emulated("onnxruntime", "1", precision, n.input_shape, n.features, n.virtual_ms)


def test_a_precision_with_too_few_is_left_out_and_named():
    from datetime import date

    from harness import registry as registries

    device = registries.load_registry(registries.find_devices_file(None, Path("/"))).devices["rpi4-emulated"]
    emulated = {f"f{n}": one("fp32", n) for n in range(4)} | {"i": one("int8", 5)}
    real = {name: fitting.Real(10.0 + n, ()) for n, name in enumerate(emulated)}
    more = {
        "device": device,
        "board": device,
        "described": "a board",
        "threads": 1,
        "today": date(2026, 1, 1),
    }
    (found,), lines = fitting.make_calibrations(emulated, real, **more)  # type: ignore[arg-type]
    assert {n.name for n in found.networks} == {"f0", "f1", "f2", "f3"}
    assert lines == ["onnxruntime, int8: 1 networks, expected at least 3: left out"]


def test_what_cannot_count_ends_it(monkeypatch):
    from harness import counting

    monkeypatch.setattr(fitting, "measure_single_stream", lambda bench: None)
    monkeypatch.setattr(counting, "read_features", lambda bench: (None, "no plugin"))
    bench = SimpleNamespace()
    workbench = SimpleNamespace(bench=lambda *_: bench, why_no_counts=lambda device: "no C compiler")
    with pytest.raises(HostSetupError, match="no C compiler"):
        fitting.take_emulated(workbench, SimpleNamespace(name="pi"), SimpleNamespace())  # type: ignore[arg-type]
