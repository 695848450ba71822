"""`harness devices calibrate` without a device: what it says, keeps and refuses. Measuring is replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import duets
from support.tiny import MODELS

from harness.calibrations import load_calibrations
from harness.cli import calibrate as command
from harness.cli.main import main
from harness.measure.calibrate import Taken
from harness.measure.duet import MEASURED
from harness.model import Fidelity
from harness.progress import Progress

DEVICES = """
schema_version = 1
[types.host]
[devices.desk]
type = "host"
kind = "local"
"""
TINY = str(MODELS / "tiny.onnx")


class Place:
    """A repository with one device, and duets that are there at once. `asked` is what measuring was given."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.asked: dict[str, Any] = {}
        self.taken = Taken(tuple(duets.keep(40)), MEASURED, Fidelity.MEASURED, 1, (), False)
        (root / "devices.toml").write_text(DEVICES)
        monkeypatch.chdir(root)
        monkeypatch.setenv("HIL_HARNESS_STATE", str(root / "state"))
        monkeypatch.setattr(command, "take_duets", self._take)
        monkeypatch.setattr(command.Workbench, "bench", self._bench)

    def _take(self, bench: Any, **asked: Any) -> Taken:
        self.asked = asked
        return self.taken

    def _bench(self, device: Any, model: Any, profile: str) -> Any:
        return SimpleNamespace(
            board=SimpleNamespace(device=device),
            case=SimpleNamespace(
                name=model.name,
                artifact=SimpleNamespace(sha256="ab" * 32),
                runtime=SimpleNamespace(name="onnxruntime"),
            ),
            look=SimpleNamespace(runtime_version="1.2.3"),
            progress=Progress(None),
        )

    @property
    def kept(self) -> tuple[Any, ...]:
        return load_calibrations(self.root / "reports", ["desk"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def call(*argv: str) -> int:
    return main(["devices", "calibrate", *argv])


def test_it_keeps_and_says_what_trials_gave(place: Place, capsys: pytest.CaptureFixture[str]):
    assert call("desk", "--model", TINY, "--trials", "20", "--minutes", "2") == 0
    (kept,) = place.kept
    assert (kept.device, kept.model, kept.trials, kept.margin) == ("desk", "tiny.onnx", 20, 0.01)
    assert place.asked["minutes"] == 2.0
    said = capsys.readouterr().out
    assert "desk: tiny.onnx (onnxruntime 1.2.3) against itself, measured times, 40 duets in 0.3 min" in said
    assert "0% of 20 trials" in said
    assert said.count("extrapolated") == 3  # 20 s were measured
    assert str(place.root / "reports" / "units" / "desk" / "calibration.json") in said


def test_as_json_it_is_what_is_kept(place: Place, capsys: pytest.CaptureFixture[str]):
    assert call("desk", "--model", TINY, "--trials", "5", "--margin", "0.5%", "--format", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["margin"] == 0.005
    assert said["settings"]["duets"] == 40
    assert [d["minutes"] for d in said["detectable"]] == [1.0, 5.0, 20.0]


def test_a_unit_that_changed_keeps_the_calibration_before(place: Place, capsys: pytest.CaptureFixture[str]):
    assert call("desk", "--model", TINY, "--trials", "5") == 0
    before = place.kept
    place.taken = replace(place.taken, problems=("throttling: 0x0 before, 0x4 after, expected none.",))
    assert call("desk", "--model", TINY, "--trials", "5") == 11
    assert place.kept == before
    said = capsys.readouterr().out
    assert "INVALID" in said
    assert "throttling: 0x0 before" in said


def test_an_early_end_is_told(place: Place, capsys: pytest.CaptureFixture[str]):
    place.taken = replace(place.taken, interrupted=True)
    assert call("desk", "--model", TINY, "--trials", "5") == 0
    assert "ended early" in capsys.readouterr().out
    assert place.kept[0].settings["interrupted"] is True


def test_the_plans_first_model_is_taken(place: Place):
    (place.root / "suites").mkdir()
    (place.root / "suites" / "release.toml").write_text(
        f'schema_version = 1\n[models.door]\npath = "{TINY}"\n[models.gate]\npath = "{TINY}"\n'
    )
    assert call("desk", "--trials", "5") == 0
    assert place.kept[0].model == "door"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("desk",), "Give a file: --model FILE"),
        (("desc", "--model", TINY), "Did you mean `desk`?"),
        (("desk", "--model", "absent.onnx"), "absent.onnx"),
    ],
)
def test_what_can_not_be_is_refused(place: Place, capsys: pytest.CaptureFixture[str], argv, said: str):
    assert call(*argv) == 2
    assert said in capsys.readouterr().err
    assert place.kept == ()


@pytest.mark.parametrize(
    "option", ["--minutes=0", "--trials=0", "--margin=-1", "--margin=200", "--minutes=soon"]
)
def test_numbers_that_make_no_sense_are_refused(place: Place, option: str):
    with pytest.raises(SystemExit) as exit_:
        call("desk", "--model", TINY, option)
    assert exit_.value.code == 2
