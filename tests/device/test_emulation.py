"""The emulated board itself: what a guest is, what can be done to it, and that it never outlives its use."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.device import snapshot_entry

from harness.emulation import (
    Image,
    Machine,
    Profile,
    build_image,
    cache_entries,
    extend_lease,
    find_machine,
    has_snapshot,
    list_machines,
    power_on,
    remove_cache_entry,
    runs,
    start,
    stop_machine,
)
from harness.errors import ConfigError, ConnectionLost, UnknownDevice
from harness.model import QemuBoard

pytestmark = pytest.mark.device
BOARD = QemuBoard()
LONG_S = 240.0  # only ends what hangs
SERIAL = "/proc/device-tree/serial-number"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def image() -> Image:
    return build_image(BOARD)


@pytest.fixture(scope="module")
def machine(image: Image, key: str) -> Iterator[Machine]:
    with start(image, BOARD, name="emulation-a", profile=Profile.FUNCTIONAL) as running:
        yield running


@pytest.fixture(scope="module")
def key(image: Image) -> Iterator[str]:
    """A snapshot's key that nobody else uses; what `machine` saved under it is removed once that is down."""
    made = f"test-{uuid.uuid4().hex}"
    yield made
    if has_snapshot(image, Profile.FUNCTIONAL, made):
        remove_cache_entry(snapshot_entry(image, Profile.FUNCTIONAL, made))


def ssh(machine: Machine, *command: str, user: str | None = None, timeout_s: float = LONG_S) -> str:
    """Return what a command prints on the guest; its host key is verified against the image's."""
    known_host = f"[127.0.0.1]:{machine.ssh_port} {machine.image.host_public_key}"
    options = {
        "UserKnownHostsFile": "/dev/null",
        "KnownHostsCommand": f"/bin/echo {known_host}",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "60",
    }
    argv = ["ssh", "-F", "/dev/null", "-i", str(machine.image.ssh_key_path), "-p", str(machine.ssh_port)]
    argv += [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    done = subprocess.run(
        [*argv, f"{user or machine.image.user}@127.0.0.1", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], bool], what: str, timeout_s: float = LONG_S) -> None:
    assert runs.wait_until(condition, timeout_s), f"waited {timeout_s} s in vain: {what}"


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_guest_is_a_pi_like_board(machine: Machine) -> None:
    said = ssh(
        machine,
        "id -un; uname -m; nproc; "
        "tr '\\0' '\\n' </proc/device-tree/model; tr '\\0' '\\n' </proc/device-tree/serial-number; "
        "python3 -I -S -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'; "
        "df --output=avail -B1 / | tail -1; grep MemTotal /proc/meminfo; date +%s.%N",
    ).splitlines()
    user, arch, cores, model, serial, python, free, memory, clock = said
    assert (user, arch, cores, model) == ("pi", "aarch64", "2", "Raspberry Pi 4 Model B (emulated)")
    assert serial == machine.serial
    assert python == machine.image.python
    assert int(free) > 1 << 30
    assert 0.9 * BOARD.memory_bytes < int(memory.split()[1]) << 10 <= BOARD.memory_bytes
    assert abs(float(clock) - time.time()) < 30  # the clock of a restored guest is hours or days behind


def test_its_user_may_limit_its_own_processes_and_nothing_more(machine: Machine) -> None:
    said = ssh(
        machine,
        "cd /sys/fs/cgroup/harness && mkdir t && echo 33554432 >t/memory.max && echo '1000 2000' >t/cpu.max; "
        "sh -c 'echo $$ >t/cgroup.procs && cat /proc/self/cgroup'; "
        "sh -c 'echo $$ >t/cgroup.procs; python3 -S -c \"b = bytearray(1 << 26)\"; echo ended $?'; "
        "cat t/memory.events; rmdir t; "
        "echo 1 2>/dev/null >/sys/fs/cgroup/cgroup.procs && echo escaped; true",
    )
    assert "0::/harness/t" in said
    assert "ended 137" in said  # killed for want of memory
    assert "oom_kill 1" in said
    assert "escaped" not in said


def test_the_guest_reaches_no_network(machine: Machine) -> None:
    probe = (
        "import socket\n"
        "for address in (('10.0.2.2', 22), ('10.0.2.3', 53), ('1.1.1.1', 443)):\n"
        "    s = socket.socket(); s.settimeout(1)\n"
        "    try: s.connect(address); print('reached', address)\n"
        "    except OSError as error: print('no', error)\n"
    )
    said = ssh(machine, f'python3 -S -c "{probe}"')
    assert "reached" not in said
    assert len(said.splitlines()) == 3


def test_a_saved_state_goes_on_in_several_machines_that_share_nothing(
    image: Image, machine: Machine, key: str
) -> None:
    assert not has_snapshot(image, Profile.FUNCTIONAL, key)
    with pytest.raises(ConfigError, match="no snapshot"):
        start(image, BOARD, name="emulation-b", profile=Profile.FUNCTIONAL, snapshot=key)
    # on the disk, in memory, and in a process that runs on
    mark = uuid.uuid4().hex
    ssh(
        machine,
        f"echo {mark} >/home/pi/mark; echo {mark} >/dev/shm/mark; "
        f"setsid sh -c 'sleep 3600; : {mark}' >/dev/null 2>&1 </dev/null &",
    )
    machine.sync()
    machine.save(key)
    assert ssh(machine, "cat mark").strip() == mark  # goes on
    assert has_snapshot(image, Profile.FUNCTIONAL, key)

    def restore(name: str) -> Machine:
        return start(image, BOARD, name=name, profile=Profile.FUNCTIONAL, snapshot=key)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one, two = pool.map(restore, ("emulation-b", "emulation-c"))
    with one, two:
        assert len({m.ssh_port for m in (machine, one, two)}) == 3
        assert len({m.serial for m in (machine, one, two)}) == 3
        for restored in (one, two):
            said = ssh(restored, f"cat mark /dev/shm/mark; pgrep -cx sleep; cat {SERIAL}")
            assert said.splitlines()[:3] == [mark, mark, "1"]
            assert said.rstrip("\0").endswith(restored.serial)
        ssh(one, "echo mine >/home/pi/mark; sync")
        assert ssh(two, "cat mark").strip() == mark
        entry = snapshot_entry(image, Profile.FUNCTIONAL, key)
        assert [e.in_use for e in cache_entries() if e.name == entry] == [True]
        with pytest.raises(ConfigError, match="in use by a running machine"):
            remove_cache_entry(entry)


def test_pause_stops_its_clock_and_resume_sets_it(machine: Machine) -> None:
    began = time.monotonic()
    before = float(ssh(machine, "cut -d' ' -f1 /proc/uptime"))
    machine.pause()
    time.sleep(1.5)
    machine.resume()
    after = float(ssh(machine, "cut -d' ' -f1 /proc/uptime"))
    assert after - before < time.monotonic() - began - 1.4  # uptime did not jump
    assert abs(float(ssh(machine, "date +%s.%N")) - time.time()) < 30


def test_a_pulled_cable_cuts_ssh_until_it_is_back(machine: Machine) -> None:
    machine.set_link(False)
    try:
        with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
            ssh(machine, "true", timeout_s=3)
    finally:
        machine.set_link(True)
    assert ssh(machine, "echo back") == "back\n"


def test_a_throttled_disk_is_slow_until_it_is_not(machine: Machine) -> None:
    write = "dd if=/dev/zero of=/home/pi/t bs=1M count=8 oflag=direct 2>/dev/null; rm /home/pi/t"
    uptime = "cut -d' ' -f1 /proc/uptime"

    def seconds() -> float:
        began, ended = ssh(machine, f"{uptime}; {write}; {uptime}").split()
        return float(ended) - float(began)

    machine.block_throttle(4 << 20)
    try:
        throttled = seconds()
    finally:
        machine.block_throttle(None)
    assert throttled > 1.0  # 8 MiB at 4 MiB/s, less one burst
    until(lambda: seconds() < throttled, "a disk that is faster again")  # a busy host has slow moments


def test_a_power_cut_keeps_what_was_flushed_and_loses_the_rest(image: Image) -> None:
    with start(image, BOARD, name="emulation-p", profile=Profile.FUNCTIONAL) as machine:
        ssh(machine, "echo safe >safe && sync safe . && echo lost >/dev/shm/lost")
        ssh(machine, "(while :; do head -c 300000 /dev/urandom >busy; done) >/dev/null 2>&1 </dev/null &")
        machine.power_cut()
        assert not machine.is_running()
        with pytest.raises(ConnectionLost, match="emulation-p: its QEMU is not there"):
            machine.pause()
        power_on(machine)
        assert ssh(machine, "cat safe; ls /dev/shm") == "safe\n"
        assert ssh(machine, "dmesg", user="root").count("EXT4-fs error") == 0
        with pytest.raises(ConfigError, match="it is running; cut its power first"):
            power_on(machine)

        boot_id = ssh(machine, f"cat {BOOT_ID}")
        machine.reset()

        patience_s = itertools.chain((2.5, 5.0, 10.0, 20.0), itertools.repeat(40.0))  # a busy host is slow

        def booted() -> bool:
            try:
                return ssh(machine, f"cat {BOOT_ID}", timeout_s=next(patience_s)) != boot_id
            except (AssertionError, subprocess.TimeoutExpired):
                return False

        until(booted, "the boot after a reset")
        assert ssh(machine, f"cat {SERIAL}").rstrip("\0") == machine.serial


HARNESS = """
import sys
from harness.emulation import Profile, build_image, start
from harness.model import QemuBoard
board = QemuBoard()
supervised = sys.argv[2] == "supervised"
machine = start(build_image(board), board, name=sys.argv[1], profile=Profile.FUNCTIONAL,
                supervised=supervised, lifetime_s=600)
print(machine.pid, machine.status()["keeper_pid"], machine.folder, flush=True)
if not supervised:
    sys.stdin.read()
"""


def _other_harness(name: str, kind: str) -> tuple[subprocess.Popen[str], int, int, Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HARNESS, name, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline().split(maxsplit=2)
    assert len(line) == 3, "the other harness did not start its machine"
    return process, int(line[0]), int(line[1]), Path(line[2].strip())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_no_machine_outlives_a_harness_that_is_killed(image: Image, number: signal.Signals) -> None:
    process, qemu_pid, keeper_pid, folder = _other_harness("emulation-k", "ephemeral")
    with process:
        process.send_signal(number)
        process.wait(timeout=LONG_S)
    until(lambda: is_gone(qemu_pid) and is_gone(keeper_pid), "its QEMU to end")
    assert not folder.exists()


def test_a_killed_keeper_takes_its_machine_along_and_the_next_start_sweeps(image: Image) -> None:
    with start(image, BOARD, name="emulation-s", profile=Profile.FUNCTIONAL) as machine:
        qemu_pid = machine.pid
        os.kill(machine.status()["keeper_pid"], signal.SIGKILL)
        until(lambda: is_gone(qemu_pid), "its QEMU to end")
        assert not machine.is_running()
        runs.sweep()  # or another harness's start, which does the same
        assert not machine.folder.exists()


def test_a_supervised_machine_is_found_by_name_until_it_is_stopped(image: Image) -> None:
    name = f"emulation-{uuid.uuid4().hex[:8]}"
    process, qemu_pid, _, folder = _other_harness(name, "supervised")
    with process:
        assert process.wait(timeout=LONG_S) == 0  # the one who started it is gone
    try:
        info = {m.name: m for m in list_machines()}[name]
        assert (info.state, info.profile) == ("running", Profile.FUNCTIONAL)
        assert 0 < info.seconds_left <= 600
        with find_machine(name) as machine:
            assert machine.ssh_port == info.ssh_port
            assert ssh(machine, "hostname") == "raspberrypi\n"
        assert find_machine(name).is_running()  # closing a handle does not end it
        with pytest.raises(ConfigError, match=f"a supervised machine `{name}` is already up"):
            start(image, BOARD, name=name, profile=Profile.FUNCTIONAL, supervised=True)
    finally:
        stop_machine(name)
    assert is_gone(qemu_pid)
    assert not folder.exists()
    with pytest.raises(UnknownDevice, match=f"no supervised machine `{name}` is up"):
        find_machine(name)


def test_a_supervised_machine_ends_with_its_lease(image: Image) -> None:
    name = f"emulation-{uuid.uuid4().hex[:8]}"
    machine = start(image, BOARD, name=name, profile=Profile.FUNCTIONAL, supervised=True, lifetime_s=600)
    qemu_pid = machine.pid
    extend_lease(name, -1.0)
    until(lambda: is_gone(qemu_pid) and not machine.folder.exists(), "its end")


BENCH = """
import gc, time
gc.disable()
def work():
    total = 0.0
    for i in range(20000):
        total += i * 1.5
    return total
times = []
for _ in range(31):
    began = time.monotonic_ns()
    work()
    times.append(time.monotonic_ns() - began)
print(sorted(times)[15])
"""


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_the_timing_profile_repeats_itself_whatever_the_host_does(image: Image) -> None:
    medians: list[int] = []

    def measure(machine: Machine) -> None:
        said = ssh(machine, f"nproc; for i in 1 2; do python3 -I -S -c '{BENCH}'; done").split()
        assert said[0] == "1"
        medians.extend(int(word) for word in said[1:])

    with busy_host(), start(image, BOARD, name="emulation-t", profile=Profile.TIMING) as machine:
        measure(machine)
    with start(image, BOARD, name="emulation-t", profile=Profile.TIMING) as machine:
        measure(machine)
        check_that_idle_time_flies_only_on_request(machine)
    spread = (max(medians) - min(medians)) / statistics.median(medians)
    assert len(medians) == 4
    assert spread < 0.001, medians


def check_that_idle_time_flies_only_on_request(machine: Machine) -> None:
    uptime = "cut -d' ' -f1 /proc/uptime"
    began_s, began = time.monotonic(), float(ssh(machine, uptime))
    time.sleep(1.0)
    passed = float(ssh(machine, uptime)) - began
    assert passed < 4 * (time.monotonic() - began_s)
    # while the busy loop stands still, idle time costs nothing
    gate = f"p=$(cat /run/hil/spin.pid); {uptime}; kill -STOP $p; sleep 600; kill -CONT $p; {uptime}"
    before, after = ssh(machine, gate).split()
    assert float(after) - float(before) >= 600
