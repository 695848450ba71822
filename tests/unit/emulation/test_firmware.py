"""The board's firmware on a tree that stands for the guest, the host at the other end of a socket."""

import dataclasses
import json
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from harness.emulation.sensors import firmware
from harness.emulation.sensors.board_model import Parameters
from harness.emulation.sensors.firmware import Firmware, Stopped, Throttle

BOARD = Parameters(2.0, 6.0, 4, 5.0, 10.0, 5.0, 20.0, 70.0, 5.0, 0.5)
DEADLINE_S = 240.0  # only ends what hangs


@pytest.fixture
def root(tmp_path):
    for path, text in {
        firmware.GROUP + "/cpu.max": "max 100000\n",
        firmware.GROUP + "/cpu.stat": "usage_usec 5000000\nuser_usec 1\n",
        firmware.SPIN_PID: "4711\n",
        "/sys/class/virtio-ports/vport0p1/name": "hil.board\n",
    }.items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(tmp_path)


def read(root, path):
    return Path(root + path).read_text()


class Host:
    """The host's end of the port."""

    def __init__(self, stream):
        self.stream = stream
        self.file = stream.makefile("r")
        stream.settimeout(DEADLINE_S)

    def say(self, message):
        self.stream.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        return json.loads(self.file.readline())


@pytest.fixture
def running(root):
    """A firmware in a thread, which ends when the fixture does; yields (host, firmware, root)."""
    ours, theirs = socket.socketpair()
    made = Firmware(theirs.fileno(), root)
    stopping = threading.Event()
    listen = made._listen

    def listen_until_stopped(until_ns):
        if stopping.is_set():
            raise Stopped
        listen(until_ns)

    made._listen = listen_until_stopped
    made.throttle = Throttle(root, kill=lambda pid, number: None)
    thread = threading.Thread(target=made.run)
    thread.start()
    host = Host(ours)
    assert host.hear() == {"hello": 1}
    host.say({"parameters": dataclasses.asdict(BOARD), "period_s": 0.001})
    try:
        yield host, made, root, stopping
    finally:
        stopping.set()
        thread.join(DEADLINE_S)
        host.file.close()
        ours.close()
        theirs.close()
    assert not thread.is_alive()


def test_its_port_is_found_by_name(root):
    assert firmware.find_port(root) == root + "/dev/vport0p1"
    with pytest.raises(FileNotFoundError, match=r"hil\.board"):
        firmware.find_port(root + "/nowhere")


def test_usage_of_a_group():
    assert firmware.parse_usage_ns("user_usec 2\nusage_usec 17\n") == 17_000
    with pytest.raises(ValueError, match="usage_usec"):
        firmware.parse_usage_ns("user_usec 2\n")


def test_throttling_is_the_groups_quota(root):
    throttle = Throttle(root)
    throttle.apply(0.5)
    assert read(root, firmware.GROUP + "/cpu.max").split() == ["1000", "2000"]
    throttle.apply(0.25)
    assert read(root, firmware.GROUP + "/cpu.max").split() == ["1000", "4000"]
    throttle.apply(None)
    assert read(root, firmware.GROUP + "/cpu.max").split() == ["max", "100000"]


def test_the_busy_loop_is_stopped_as_long_as_asked_and_never_otherwise_touched(root):
    sent = []
    throttle = Throttle(root, kill=lambda pid, number: sent.append((pid, number)))
    throttle.keep_time(False)
    assert sent == []  # the agent may have stopped it: not ours to continue
    throttle.keep_time(True)
    throttle.keep_time(True)
    throttle.keep_time(False)
    throttle.keep_time(False)
    assert sent == [(4711, signal.SIGSTOP)] * 2 + [(4711, signal.SIGCONT)]


def test_a_board_without_a_busy_loop_has_none_to_stop(root):
    os.unlink(root + firmware.SPIN_PID)
    Throttle(root).keep_time(True)


def test_it_tells_the_model_and_shows_it_to_vcgencmd(running):
    host, _, root, _ = running
    first = host.hear()
    assert (first["temp_c"], first["power_w"], first["throttled_bits"]) == (40.0, 2.0, 0)
    second = host.hear()
    assert second["at_ns"] > first["at_ns"]
    assert second["busy_cores"] == 0.0
    lines = read(root, firmware.READINGS).splitlines()
    assert [line.split()[0] for line in lines] == ["throttled=0x0", "temp=40.0"]


def test_hot_air_throttles_and_its_end_undoes_everything(running):
    host, _, root, stopping = running
    host.hear()
    host.say({"ambient_c": 5000.0})  # past the trip point within a millisecond or two
    while not host.hear()["throttled_bits"] & 4:
        pass
    host.hear()
    assert read(root, firmware.GROUP + "/cpu.max").split() == ["1000", "2000"]
    assert read(root, firmware.READINGS).startswith("throttled=0xc000c")
    stopping.set()
    while "bye" not in host.hear():
        pass
    assert read(root, firmware.GROUP + "/cpu.max").split() == ["max", "100000"]
    assert not os.path.exists(root + firmware.READINGS)


def test_its_sources_need_the_standard_library_alone():
    folder = Path(firmware.__file__).parent
    for name in ("firmware.py", "board_model.py", "serve.py", "usbredir.py", "i2c_chips.py"):
        assert "harness" not in [
            word
            for line in (folder / name).read_text().splitlines()
            if line.startswith(("import ", "from "))
            for word in line.replace(".", " ").split()
        ]
