"""The process beside QEMU: started as the keeper starts it, asked as the harness asks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.emulation import keeper, launch, runs
from harness.emulation.sensors import serve
from harness.emulation.sensors.client import ModelReading, Sensors
from harness.emulation.sensors.i2c_chips import Nak
from harness.emulation.sensors.serve import Board
from harness.errors import ConfigError, ConnectionLost, DeviceError
from harness.model import PowerModel

PI4 = PowerModel(2.7, 6.4, 5.1, 10.1, 12.0, 20.0, 80.0, 2.0, 0.5)
READING = {"at_ns": 5, "temp_c": 50.0, "power_w": 2.55, "busy_cores": 0.0, "throttled_bits": 0}
DEADLINE_S = 240.0  # only ends what hangs


class Firmware:
    """The guest's end of the port."""

    def __init__(self, folder):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(str(folder / "board.sock"))
        self.stream.settimeout(DEADLINE_S)

    def say(self, message):
        self.stream.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        data = b""
        while not data.endswith(b"\n"):
            data += self.stream.recv(1)
        return json.loads(data)


@pytest.fixture
def served(tmp_path):
    """A real server on the sockets of a run folder; yields (folder, console lines, sensors)."""
    (tmp_path / "spec.json").write_text(json.dumps({"argv": [], "companion": launch.companion()}))
    process = keeper.start_companion(str(tmp_path))
    assert process is not None
    said = []
    try:
        yield tmp_path, said, Sensors(tmp_path / "chips.sock", "board-a", said.append)
        assert (tmp_path / "companion.log").read_text() == ""
    finally:
        process.kill()
        process.wait()


def test_starting_waits_for_the_models_first_reading(served):
    folder, said, sensors = served
    assert sensors.read_model() is None
    guest = Firmware(folder)

    def console(line):
        said.append(line)
        guest.say({"hello": 1})
        told = guest.hear()
        assert (told["parameters"]["cores"], told["parameters"]["time_scale"]) == (4, 50.0)
        assert told["period_s"] == 0.25
        guest.say(READING)

    sensors._control = console
    sensors.start(PI4, cores=4, time_scale=50.0, period_s=0.25)
    assert said == ["board on"]
    # 0.5 A at 5.1 V
    shown = {"ambient_c": 20.0, "shown_power_w": pytest.approx(2.55), "shown_temp_c": 50.0}
    assert sensors.read_model() == ModelReading(**READING, **shown)
    guest.say({**READING, "at_ns": 6})
    assert runs.wait_until(lambda: len(sensors.read_steps()) == 2, DEADLINE_S)
    assert [step.at_ns for step in sensors.read_steps(after_ns=5)] == [6]
    sensors.set_ambient(60.0)
    assert guest.hear() == {"ambient_c": 60.0}
    guest.say({"bye": 1})
    deadline = time.monotonic() + DEADLINE_S
    while sensors.read_model() is not None:
        assert time.monotonic() < deadline
    guest.stream.close()


def test_a_restored_firmware_is_told_its_board_anew():
    board = Board()
    told = []
    board.to_guest = lambda data: told.append(json.loads(data))
    board.hear(READING)  # it was saved while it ran
    assert told == []
    board.answer({"op": "configure", "parameters": {"supply_voltage_v": 5.1}, "period_s": 0.1})
    assert told == [{"parameters": {"supply_voltage_v": 5.1}, "period_s": 0.1}]
    assert board.answer({"op": "state"})["count"] == 0
    board.hear(READING)
    assert board.answer({"op": "state"})["count"] == 1


def test_chips_show_what_the_firmware_says_until_the_guest_boots():
    board = Board()
    board.answer({"op": "configure", "parameters": {"supply_voltage_v": 5.1}, "period_s": 0.1})
    board.hear(READING)
    board.bus.write(0x40, b"\x01")
    assert int.from_bytes(board.bus.read(0x40, 2), "big") == 5000  # 0.5 A
    board.new_adapter()._on_reset()
    assert board.answer({"op": "state"})["reading"] is None
    with pytest.raises(Nak):
        board.bus.read(0x40, 2)


def test_a_chips_faults_are_in_what_the_host_reads_of_it():
    board = Board()
    board.answer(
        {"op": "configure", "parameters": {"supply_voltage_v": 5.1, "ambient_c": 20.0}, "period_s": 0.1}
    )

    def shown(**request):
        if request:
            assert board.answer({**request}).get("ok")
        reading = board.answer({"op": "state"})["reading"]
        power_w = reading["shown_power_w"]
        return reading["shown_temp_c"], None if power_w is None else round(power_w, 6)

    board.hear(READING)
    assert shown() == (50.0, 2.55)
    assert shown(op="nak", chip="lm75") == (None, 2.55)
    assert shown(op="heal", chip="lm75") == (50.0, 2.55)
    assert shown(op="spike", chip="ina219", factor=4, readings=1) == (50.0, 10.2)
    board.hear({**READING, "at_ns": 6})
    assert shown() == (50.0, 2.55)
    assert shown(op="stick", chip="lm75") == (50.0, 2.55)
    board.hear({**READING, "at_ns": 7, "temp_c": 55.0, "power_w": 5.1})
    assert shown() == (50.0, 5.1)
    assert [step["shown_temp_c"] for step in board.answer({"op": "steps", "after_ns": 0})["steps"]] == [
        50.0
    ] * 3
    board.new_adapter()
    board.to_usb = lambda data: None
    assert shown(op="unplug") == (None, None)
    board.hear({**READING, "at_ns": 8})
    assert shown() == (None, None)
    assert shown(op="plug") == (50.0, 2.55)
    assert board.answer({"op": "ambient", "ambient_c": 35.0})["ok"]
    board.hear({**READING, "at_ns": 9})
    assert board.answer({"op": "state"})["reading"]["ambient_c"] == 35.0


def test_faults_that_make_no_sense_are_refused(served):
    _, _, sensors = served
    with pytest.raises(ConfigError, match=r"no chip `lm57`.*did you mean `lm75`"):
        sensors.nak("lm57")
    with pytest.raises(DeviceError, match=r"board-a: its sensors refused `unplug`.*QEMU has not connected"):
        sensors.unplug()
    with pytest.raises(DeviceError, match="unknown request 'explode'"):
        sensors._request("explode", chip="lm75")


def test_a_server_that_is_gone_is_told_so(tmp_path):
    with pytest.raises(ConnectionLost, match="board-a: its sensors are not there"):
        Sensors(tmp_path / "chips.sock", "board-a", print).read_model()


def test_lines_may_come_in_pieces_and_broken():
    assert serve.take_lines(b'{"a": 1}\nnonsense\n[1]\n{"b"') == ([{"a": 1}], b'{"b"')


def test_the_keeper_ends_it_with_the_machine(tmp_path):
    (tmp_path / "run").mkdir()
    folder = tmp_path / "run"
    spec = {"argv": ["sleep", "600"], "companion": launch.companion()}
    (folder / "spec.json").write_text(json.dumps(spec))
    read_fd, write_fd = os.pipe()
    subprocess.run(
        [sys.executable, "-I", "-S", keeper.__file__, str(folder), str(os.getpid())],
        stdin=read_fd,
        start_new_session=True,
        check=True,
    )
    os.close(read_fd)
    deadline = time.monotonic() + DEADLINE_S

    def until(condition):
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def pid():
        return keeper.read_json(str(folder / "status.json")).get("companion_pid")

    def is_gone(number):
        try:
            return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    until(lambda: isinstance(pid(), int))
    first = pid()
    sensors = Sensors(folder / "chips.sock", "board-a", print)
    assert sensors.read_model() is None
    # a power cut and power on: a fresh one, with fresh sockets
    status = keeper.read_json(str(folder / "status.json"))
    os.kill(status["qemu_pid"], signal.SIGKILL)
    until(lambda: keeper.read_json(str(folder / "status.json")).get("exit_code") is not None)
    os.kill(status["keeper_pid"], signal.SIGUSR1)
    until(lambda: pid() not in (first, None))
    assert is_gone(first)
    assert sensors.read_model() is None
    second = pid()
    os.close(write_fd)
    until(lambda: not folder.exists() and is_gone(second))
