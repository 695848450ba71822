"""`harness devices fit` without a device: what it keeps, refuses, marks and takes up again."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support import fit_place
from support.fit_place import NETWORKS, Place

from harness import counting
from harness.agent.probes import Probes
from harness.cli.main import main
from harness.errors import ConnectionLost, ModelRejected
from harness.estimate import calibration, estimator
from harness.estimating import known_calibrations
from harness.fitting import choose, take


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place(tmp_path, monkeypatch)


def ask(place: Place, **changed: Any) -> estimator.Answer:
    network = next(n for n in NETWORKS[10:] if n.name == "squeezenet_ssd")
    asked = {
        "device_type": "pi",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "threads": 1,
        "virtual_ns": network.virtual_ms * 1e6,
        "features": network.features,
    }
    return estimator.answer(known_calibrations(place.root / "reports"), **(asked | changed))


# -- what is kept


def test_it_is_kept_and_serves_from_then_on(place, capsys):
    assert place.fit(*place.models(10)) == 0
    said = capsys.readouterr().out
    assert "desk-onnxruntime-fp32: fp32 on 1 thread: 10 networks, off by" in said
    assert "90% band of an estimate: -" in said
    assert "Estimates of pi with onnxruntime use it from now on, as in:\n" in said
    assert "few" not in said
    assert f"Kept in {place.kept()}.\n" in said
    found = calibration.load(place.kept())
    assert (found.device_type, found.core, found.statistic) == ("pi", "cortex-a72", "p50")
    assert found.board == "Pi 4, A72, linux-aarch64, 600 to 1500 MHz, ondemand"
    answer = ask(place)
    assert answer.estimate is not None
    assert answer.estimate.n == 10
    assert answer.calibration == "desk-onnxruntime-fp32"


def test_each_network_is_told_as_it_comes(place, capsys):
    place.fit(*place.models(3))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("desk  1 of 3  n0.onnx: ")
    assert said[0].endswith(" ms")
    assert said[3].startswith("pi-emulated  1 of 3  n0.onnx: ")
    assert said[3].endswith(" million instructions")


def test_under_nine_it_is_marked_and_no_band_is_narrower_than_the_worst(place, capsys):
    assert place.fit(*place.models(8)) == 0
    assert "few networks: estimates are marked; 9 or more aren't" in capsys.readouterr().out
    answer = ask(place)
    assert answer.estimate is not None
    assert "only 8 networks" in answer.notes
    assert answer.estimate.high_ms / answer.estimate.board_ms >= 1 + (answer.worst_error_ratio or 0) / 2


@pytest.mark.parametrize("count", [3, 4])
def test_three_or_four_networks_give_one_factor_that_says_so(place, capsys, count):
    assert place.fit(*place.models(count)) == 0
    assert "by one factor of the instructions: from 5 networks on" in capsys.readouterr().out
    assert any("too few networks for more" in note for note in ask(place).notes)


def make_wild(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = [dataclasses.replace(n, board_ms={1: 3.0 * 10**i}) for i, n in enumerate(NETWORKS[:5])]
    monkeypatch.setattr(fit_place, "NETWORKS", wild)


def test_a_calibration_that_is_of_no_use_says_so(place, capsys, monkeypatch):
    make_wild(monkeypatch)
    assert place.fit(*place.models(5)) == 0
    said = capsys.readouterr().out
    assert "90% band of an estimate: × or ÷ " in said
    assert "too wide to be of use: more networks, or leave out what is unlike the others (n" in said
    assert "Estimates of pi with onnxruntime use it where no other's band is narrower, as in:\n" in said
    assert ask(place).calibration == "desk-onnxruntime-fp32"  # there is no other


def test_it_does_not_take_the_place_of_one_that_is_of_use(place, capsys, monkeypatch):
    assert place.fit(*place.models(6)) == 0
    before = place.kept().read_text()
    make_wild(monkeypatch)
    assert place.fit(*place.models(5), "--anew") == 11
    said = capsys.readouterr().out
    assert f"{place.kept()}: stays as it is, desk-onnxruntime-fp32 of 2026-03-01, which is of use:\n" in said
    assert "Remove that file and give the same command again" in said
    assert place.kept().read_text() == before
    place.kept().unlink()
    place.measured.clear()
    assert place.fit(*place.models(5)) == 0
    assert place.measured == []
    assert place.fit(*place.models(5)) == 0  # of no more use than this one


def test_threads_and_precisions_are_kept_beside_each_other(place, capsys):
    assert place.fit(*place.models(4)) == 0
    first = place.kept().read_bytes()
    assert place.fit(*place.models(4), "--threads", "4") == 0
    place.quantised = {f"n{number}.onnx" for number in range(10, 14)}
    assert place.fit(*place.models(4, first=10)) == 0
    assert place.kept().read_bytes() == first
    assert calibration.load(place.kept(threads=4)).name == "desk-onnxruntime-fp32-4-threads"
    assert {n.precision for n in calibration.load(place.kept(precision="int8")).networks} == {"int8"}
    assert ask(place, threads=4).calibration == "desk-onnxruntime-fp32-4-threads"
    assert "in place of" not in capsys.readouterr().out


def test_the_one_that_is_replaced_is_named_also_one_that_is_broken(place, capsys):
    place.fit(*place.models(3))
    place.fit(*place.models(3))
    assert "in place of desk-onnxruntime-fp32 of 2026-03-01.\n" in capsys.readouterr().out
    place.kept().write_text("schema_version = 1\n")
    assert place.fit(*place.models(3)) == 0
    assert "in place of one that could not be read" in capsys.readouterr().out
    assert calibration.load(place.kept()).name == "desk-onnxruntime-fp32"


def test_runtimes_and_precisions_are_fitted_apart_and_a_small_group_is_left_out(place, capsys):
    place.quantised = {"n9.onnx"}
    models = place.models(3) + place.models(1, first=9) + place.models(3, suffix=".tflite", first=3)
    assert place.fit(*models) == 0
    said = capsys.readouterr().out
    assert "onnxruntime, int8: 1 network (n9.onnx), expected at least 3: left out\n" in said
    assert "n9.onnx" not in place.times()
    names = [{n.name for n in calibration.load(place.kept(r)).networks} for r in ("onnxruntime", "litert")]
    assert names == [{f"n{n}.onnx" for n in range(3)}, {f"n{n}.tflite" for n in range(3, 6)}]


def test_the_runtime_that_is_named_is_calibrated_each_apart(place):
    models = place.models(3, suffix=".tflite")
    assert place.fit(*models, "--runtime", "tflite-runtime==2.14.0") == 0
    assert calibration.load(place.kept("tflite-runtime")).runtime == "tflite-runtime"
    assert not place.kept("litert").exists()
    assert place.fit(*models, "--runtime", "litert", "--runtime", "tflite-runtime") == 0
    names = [{n.name for n in calibration.load(place.kept(r)).networks} for r in ("litert", "tflite-runtime")]
    assert names == [{f"n{n}.tflite" for n in range(3)}] * 2


def test_names_that_no_file_of_ours_may_have_are_made_plain(place):
    models = place.models(3)
    odd = ["_a b+1.onnx", "ä.onnx", "ö.onnx"]
    for given, name in zip(models[1::2], odd, strict=True):
        Path(given).rename(place.root / name)
    place.numbers = dict(zip(("_a_b+1.onnx", *odd[1:]), range(3), strict=True))
    assert place.fit(*[text for name in odd for text in ("--model", str(place.root / name))]) == 0
    assert {n.name for n in calibration.load(place.kept()).networks} == {"a_b_1.onnx", "onnx", "onnx-2"}


def test_models_of_another_format_keep_their_runtime(place):
    models = place.models(3) + place.models(3, suffix=".tflite", first=3)
    assert place.fit(*models, "--runtime", "tflite-runtime") == 0
    assert place.kept("onnxruntime").exists()
    assert place.kept("tflite-runtime").exists()


def test_a_type_that_asks_for_no_counts_is_told_of(place, capsys):
    devices = place.root / "devices.toml"
    devices.write_text(devices.read_text().replace("[types.pi]\n", '[types.pi]\nestimate = "clock"\n'))
    assert place.fit(*place.models(3)) == 0
    assert 'one factor of the clock until types.pi.estimate = "counts"' in capsys.readouterr().out


def test_a_board_of_another_type_is_warned_of(place, capsys):
    assert place.fit(*place.models(3), against="other-desk") == 0
    said = capsys.readouterr().out
    assert "other-desk is of type host, not pi: estimates of pi will be of a board like other-desk" in said


# -- what is refused


def test_under_three_it_is_refused_before_anything_is_measured(place, capsys):
    assert place.fit(*place.models(2)) == 2
    assert "2 networks, expected at least 3" in capsys.readouterr().err
    assert place.measured == []
    assert not place.kept().exists()


def test_groups_that_are_all_too_small_are_refused_before_anything_is_measured(place, capsys):
    place.quantised = {"n0.onnx", "n1.onnx"}
    assert place.fit(*place.models(2), *place.models(2, suffix=".tflite", first=2)) == 2
    said = capsys.readouterr().err
    assert "litert, fp32: 2 networks (n2.tflite, n3.tflite), expected at least 3" in said
    assert "onnxruntime, int8: 2 networks (n0.onnx, n1.onnx), expected at least 3" in said
    assert place.measured == []


@pytest.mark.parametrize(
    ("runtimes", "said"),
    [
        (["litertt"], "--runtime: unknown runtime `litertt`; did you mean `litert`?"),
        (["litert"], "--runtime: litert runs none of the chosen models (.onnx)"),
        (["onnxruntime="], "'onnxruntime=' is not a runtime; expected NAME or NAME==VERSION"),
        (["command"], "runtime `command` doesn't say which executable to run"),
        (
            ["onnxruntime==1.30.0", "onnxruntime"],
            "n0.onnx@onnxruntime has the same content as n0.onnx@onnxruntime==1.30.0; a network counts once",
        ),
    ],
)
def test_a_runtime_that_can_not_be_calibrated_is_refused_before_anything_is_measured(
    place, capsys, runtimes, said
):
    asked = [text for name in runtimes for text in ("--runtime", name)]
    assert place.fit(*place.models(3), *asked) == 2
    assert said in capsys.readouterr().err
    assert place.measured == []


def test_a_network_that_is_there_twice_is_refused(place, capsys):
    models = place.models(4)
    (place.root / "n3.onnx").write_bytes((place.root / "n0.onnx").read_bytes())
    assert place.fit(*models) == 2
    assert "n3.onnx has the same content as n0.onnx; a network counts once" in capsys.readouterr().err
    assert place.measured == []


def test_two_builds_of_a_runtime_are_refused_before_anything_is_measured(place, capsys):
    place.versions = {"n1.onnx": "1.30.0"}
    assert place.fit(*place.models(3)) == 2
    assert capsys.readouterr().err == (
        "harness: --runtime: onnxruntime, fp32: builds 1.2.3 (n0.onnx) and 1.30.0 (n1.onnx), expected one: "
        "a calibration is of one build. Name one: --runtime NAME==VERSION.\n"
    )
    assert place.measured == []


def test_a_network_that_the_runtime_refuses_is_named(place, capsys, monkeypatch):
    def refuse(self: object, device: object, model: Any, profile: object) -> None:
        raise ModelRejected("not a protobuf", where="desk", next_step="Measure it with another runtime.")

    monkeypatch.setattr(fit_place.Workbench, "bench", refuse)
    assert place.fit(*place.models(3)) == 1
    said = capsys.readouterr().err
    assert said == "harness: desk: n0.onnx: not a protobuf. Leave it out, or export it for this runtime.\n"


def test_two_emulated_boards_or_two_real_ones_are_refused(place, capsys):
    argv = place.models(3)
    assert place.fit(*argv, against="pi-emulated") == 2
    assert "it is emulated too" in capsys.readouterr().err
    assert main(["devices", "fit", "other-desk", "--against", "desk", *argv]) == 2
    assert "Name an emulated device first" in capsys.readouterr().err


def test_without_models_or_a_plan_it_says_what_to_give(place, capsys):
    assert place.fit() == 2
    assert "there is no" in (said := capsys.readouterr().err)
    assert "Give files: --model FILE" in said
    (place.root / "suites").mkdir()
    (place.root / "suites" / "release.toml").write_text("schema_version = 1\n")
    assert place.fit() == 2
    assert "release.toml names no models" in capsys.readouterr().err


def test_what_cannot_count_is_refused_before_anything_is_measured(place, capsys, monkeypatch):
    monkeypatch.setattr(counting, "plugin_for", lambda device, profile: ([], "no C compiler: install gcc"))
    assert place.fit(*place.models(3)) == 75
    assert "pi-emulated: nothing can count there: no C compiler: install gcc" in capsys.readouterr().err
    assert place.measured == []


def test_a_unit_that_does_not_answer_ends_it(place, capsys, monkeypatch):
    def gone(*_: object) -> None:
        raise ConnectionLost("no answer", where="desk", next_step="Check its power.")

    monkeypatch.setattr(choose, "look_into", gone)
    assert place.fit(*place.models(3)) == 75
    assert capsys.readouterr().err == "harness: desk: no answer. Check its power.\n"


# -- a board whose numbers don't count


def change(place: Place, **readings: Any) -> None:
    place.reading = {**place.reading, **readings}


DISTURBANCES = {
    "wall clock": {"realtime_ns": 2_000_000_000},
    "throttling": {"throttled_bits": 0x50005},
    "clock": {"freq_max_hz": {"cpu0": 1_000_000_000}, "freq_hz": {"cpu0": 1_000_000_000}},
    "freq": {"governor": {"cpu0": "powersave"}},
    "other load": {"monotonic_ns": 10**9, "realtime_ns": 10**9, "cpu_busy_ns": {"total": 9 * 10**8}},
    "same boot": {"boot_id": "another"},
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbed_board_is_invalid_and_no_calibration_is_kept(place, capsys, name):
    def disturb(device: str, network: str) -> None:
        if (device, network) == ("desk", "n2.onnx"):
            change(place, **DISTURBANCES[name])

    place.meanwhile = disturb
    assert place.fit(*place.models(3)) == 11
    said = capsys.readouterr().out
    assert "desk: INVALID  no calibration is kept:\n" in said
    assert f"\n  n2.onnx: {name}: " in said
    assert "2 of 3 times are sound and kept in" in said
    assert not place.kept().exists()
    assert all(device == "desk" for device, _ in place.measured)


def test_the_same_command_takes_what_was_disturbed_alone(place, capsys):
    place.meanwhile = lambda device, network: change(place, realtime_ns=0 if network == "n0.onnx" else 10**10)
    assert place.fit(*place.models(3)) == 11
    place.times()
    assert place.fit(*place.models(3)) == 0
    assert place.times() == ["n1.onnx"]
    assert " ms (kept from 2026-03-01T12:00:00+00:00)\n" in capsys.readouterr().out


def test_a_clock_that_moved_between_two_networks_is_invalid_and_the_earlier_is_taken_anew(
    place, capsys, monkeypatch
):
    lower = {"freq_max_hz": {"cpu0": 1_000_000_000}, "freq_hz": {"cpu0": 1_000_000_000}}
    take_real = take.take_real

    def take_and_lower(workbench: Any, device: Any, network: Any, pieces: Any) -> take.Timed:
        timed = take_real(workbench, device, network, pieces)
        change(place, **lower)
        return timed

    monkeypatch.setattr(take, "take_real", take_and_lower)
    assert place.fit(*place.models(3)) == 11
    said = capsys.readouterr().out
    assert (
        "  n0.onnx: clock: 600 to 1500 MHz, ondemand, expected 600 to 1000 MHz, ondemand as for n2.onnx\n"
        in said
    )
    assert not place.kept().exists()
    place.times()
    assert place.fit(*place.models(3)) == 0
    assert place.times() == ["n0.onnx"]
    assert " ms (measured anew: another clock than" in capsys.readouterr().out


def write_cpufreq(root: Path, highest_khz: int) -> None:
    for cpu in ("cpu0", "cpu1"):
        folder = root / "sys/devices/system/cpu" / cpu / "cpufreq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scaling_min_freq").write_text("600000\n")
        (folder / "scaling_max_freq").write_text(f"{highest_khz}\n")
        (folder / "scaling_cur_freq").write_text(f"{highest_khz}\n")
        (folder / "scaling_governor").write_text("ondemand\n")


def test_a_clock_that_the_agent_sees_move_is_invalid(place, capsys):
    """A tree of sysfs files stands for the board's: the readings are what the agent makes of them."""
    root = place.root / "board"

    def read() -> None:
        seen = Probes(str(root)).conditions()
        change(place, **{key: seen[key] for key in ("freq_hz", "freq_min_hz", "freq_max_hz", "governor")})

    def cap(device: str, network: str) -> None:
        if network == "n1.onnx":
            write_cpufreq(root, 1_000_000)
            read()

    write_cpufreq(root, 1_800_000)
    read()
    place.meanwhile = cap
    assert place.fit(*place.models(3)) == 11
    said = capsys.readouterr().out
    expected = "600 to 1800 MHz, ondemand before, 600 to 1000 MHz, ondemand after"
    assert f"\n  n1.onnx: clock: {expected}, expected the same range and governor throughout\n" in said
    assert not place.kept().exists()


def test_a_board_whose_frequency_is_not_to_be_seen_says_so_in_the_file(place):
    change(place, freq_hz=None, freq_min_hz=None, freq_max_hz=None, governor=None)
    assert place.fit(*place.models(3)) == 0
    assert calibration.load(place.kept()).board.endswith(", frequency not observable")


# -- interrupted, and taken up again


@pytest.mark.parametrize("where", ["desk", "pi-emulated"])
def test_an_interrupted_fit_goes_on_from_there(place, capsys, where):
    def interrupt(device: str, network: str) -> None:
        if (device, network) == (where, "n1.onnx"):
            raise KeyboardInterrupt

    place.meanwhile = interrupt
    assert place.fit(*place.models(3)) == 130
    said = capsys.readouterr()
    assert said.err == "harness: interrupted\n"
    assert f"kept in {place.pieces}: the same command again goes on from there.\n" in said.out
    assert not place.kept().exists()
    before = set(place.measured) - {(where, "n1.onnx")}
    place.measured.clear()
    place.meanwhile = lambda device, network: None
    assert place.fit(*place.models(3)) == 0
    assert not before & set(place.measured)
    assert len(before) + len(place.measured) == 6
    resumed = place.kept().read_text()
    assert place.fit(*place.models(3), "--anew") == 0
    assert place.kept().read_text() == resumed


def test_one_network_more_measures_that_one(place):
    place.fit(*place.models(3))
    place.measured.clear()
    assert place.fit(*place.models(4)) == 0
    assert place.measured == [("desk", "n3.onnx"), ("pi-emulated", "n3.onnx")]


def test_anew_measures_everything_again(place):
    place.fit(*place.models(3))
    place.measured.clear()
    assert place.fit(*place.models(3), "--anew") == 0
    assert len(place.measured) == 6


def test_another_model_of_the_same_name_is_measured_on_both_boards(place, capsys):
    models = place.models(3)
    place.fit(*models)
    place.measured.clear()
    with open(models[1], "ab") as file:
        file.write(b"more")
    assert place.fit(*models) == 0
    assert place.measured == [("desk", "n0.onnx"), ("pi-emulated", "n0.onnx")]
    assert "(measured anew: another model than 2026-03-01T12:00:00+00:00)" in capsys.readouterr().out


def test_another_kernel_on_the_board_leaves_what_was_counted(place):
    place.fit(*place.models(3))
    place.measured.clear()
    place.kernel = "6.12.0"
    assert place.fit(*place.models(3)) == 0
    assert {device for device, _ in place.measured} == {"desk"}
    assert len(place.measured) == 3


def test_another_build_of_the_runtime_is_measured_on_both_boards(place):
    place.fit(*place.models(3))
    place.measured.clear()
    place.runtime_version = "1.3.0"
    assert place.fit(*place.models(3)) == 0
    assert len(place.measured) == 6


@pytest.mark.parametrize(("hours", "again"), [(24, 0), (25, 3), (-1, 3)])
def test_times_of_more_than_a_day_ago_or_of_the_future_are_taken_again(place, hours, again):
    place.fit(*place.models(3))
    place.measured.clear()
    place.now += datetime.timedelta(hours=hours)
    assert place.fit(*place.models(3)) == 0
    assert len(place.measured) == again  # counts don't age


def test_a_calibration_is_as_old_as_the_oldest_time_in_it(place):
    place.now += datetime.timedelta(hours=11, minutes=59)
    place.fit(*place.models(3))
    place.now += datetime.timedelta(hours=2)
    assert place.fit(*place.models(4)) == 0
    assert calibration.load(place.kept()).taken_on == "2026-03-01"


@pytest.mark.parametrize("full_at", ["n1.onnx", "the calibration"])
def test_a_full_disk_is_told_with_its_folder_and_what_was_kept_before_serves(
    place, capsys, monkeypatch, full_at
):
    sync, full = os.fsync, [False]

    def refuse(handle: int) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    def fill(device: str, network: str) -> None:
        full[0] = (device, network) == ("desk", full_at)

    monkeypatch.setattr(os, "fsync", refuse)
    place.meanwhile = fill
    if full_at == "the calibration":
        save = calibration.save
        monkeypatch.setattr(calibration, "save", lambda *a, **k: (full.__setitem__(0, True), save(*a, **k)))
    assert place.fit(*place.models(3)) == 75
    said = capsys.readouterr()
    folder = place.pieces.parent
    assert said.err.startswith(f"harness: {folder}/pi-")
    assert "can't be written: No space left on device. Free some room or fix its rights. " in said.err
    assert f"Or move {folder} to a disk with room and leave a link in its place" in said.err
    assert "--report-dir" not in said.err
    assert "the same command again goes on from there" in said.out
    assert sorted(p.name for p in folder.iterdir()) == [place.pieces.name]
    full[0] = False
    monkeypatch.undo()


BROKEN = {
    "half a file": lambda text: text[: len(text) // 2],
    "another version": lambda text: text.replace('"schema_version": 1', '"schema_version": 99'),
    "a list": lambda text: "[]",
    "an unknown key": lambda text: text.replace('"network"', '"net"', 1),
    "no zone": lambda text: text.replace("+00:00", "", 1),
    "no number": lambda text: text.replace('"board_ms"', '"board_s"', 1),
    "text for a number": lambda text: text.replace('"cycles": ', '"cycles": "x", "was": ', 1),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_pieces_are_one_error_and_stay_as_they_are(place, capsys, how):
    place.fit(*place.models(3))
    broken = BROKEN[how](place.pieces.read_text())
    place.pieces.write_text(broken)
    assert place.fit(*place.models(3)) == 2
    said = capsys.readouterr().err
    assert f"{place.pieces}: what an earlier fit had measured can't be read: " in said
    assert "Remove it, or give --anew" in said
    assert place.pieces.read_text() == broken
    assert place.fit(*place.models(3), "--anew") == 0
    assert json.loads(place.pieces.read_text())["schema_version"] == 1
