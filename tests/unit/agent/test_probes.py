"""Probes: what a Pi's files say, and what a device that lacks them reads as."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.agent import parsing
from harness.agent.parsing import Unreadable
from harness.agent.probes import Probes

# user nice system idle iowait irq softirq steal guest guest_nice, in 1/100 s (proc(5))
STAT = (
    "cpu  100 10 50 1000 40 3 2 7 60 5\ncpu0 60 10 30 400 40 3 2 7 60 5\ncpu3 40 0 20 600 0 0 0 0 0 0\n"
    "intr 14859495 0 0\nctxt 51850027\n"
)
PI = {
    "/proc/cpuinfo": "Serial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "/proc/meminfo": (
        "MemTotal: 1893156 kB\nMemAvailable: 1500000 kB\nSwapTotal: 102396 kB\nSwapFree: 100348 kB\n"
    ),
    "/proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
    "/proc/uptime": "350735.47 234388.90\n",
    "/proc/sys/kernel/random/boot_id": "c0ffee00-0000-4000-8000-000000000001\n",
    "/proc/pressure/cpu": "some avg10=1.25 avg60=0.30 avg300=0.10 total=12345\n",
    "/proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 total=0\n",
    "/proc/pressure/io": "some avg10=12.50 avg60=3.10 avg300=0.70 total=98765\nfull avg10=9.00 total=9\n",
    "/proc/stat": STAT,
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/vmstat": "nr_free_pages 1\noom_kill 3\n",
    "/sys/class/thermal/thermal_zone0/temp": "48686\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/hwmon/hwmon1/temp1_input": "-5500\n",
    "/sys/class/hwmon/hwmon1/name": "lm75\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "600000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1500000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors": "powersave performance ondemand\n",
    "/sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
    "/sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
}


@pytest.fixture
def board(tmp_path: Path) -> Probes:
    for name, text in PI.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Probes(str(tmp_path))


def test_conditions_of_a_pi(board: Probes) -> None:
    found = board.conditions()
    assert found["load1"] == 0.52
    assert found["psi_cpu_some_avg10"] == 1.25
    assert found["temp_c"] == {"thermal_zone0:cpu-thermal": 48.686, "hwmon1:lm75:temp1": -5.5}
    assert found["freq_hz"] == {"cpu0": 1_500_000_000}
    assert found["governor"] == {"cpu0": "performance"}
    assert found["throttled_bits"] == 0x50005
    assert found["mem_available_bytes"] == 1_500_000 * 1024
    assert set(found["not_observable"]) == {"freq_boost"}  # its driver has no boost


def test_what_others_may_be_doing(board: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    found = board.conditions()
    assert found["psi_memory_some_avg10"] == 0.0
    assert found["psi_io_some_avg10"] == 12.5
    # user + nice + system + irq + softirq + steal
    assert found["cpu_busy_ns"] == {"total": 1_720_000_000, "cpu0": 1_120_000_000, "cpu3": 600_000_000}
    assert found["steal_ns"] == 70_000_000
    assert found["swap_used_bytes"] == 2048 * 1024
    assert (found["freq_min_hz"], found["freq_max_hz"]) == ({"cpu0": 600_000_000}, {"cpu0": 1_500_000_000})


@pytest.mark.parametrize(
    ("file", "text", "boost"),
    [
        ("cpufreq/boost", "1", True),
        ("intel_pstate/no_turbo", "1", False),
        ("intel_pstate/no_turbo", "0", True),
    ],
)
def test_boost(board: Probes, tmp_path: Path, file: str, text: str, boost: bool) -> None:
    path = tmp_path / "sys/devices/system/cpu" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    assert board.conditions()["freq_boost"] is boost


def test_the_cpu_time_of_this_process_and_its_children() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    before = Probes().conditions()["agent_cpu_ns"]
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    living = Probes().conditions()["agent_cpu_ns"]
    child.communicate(b"\n")
    ended = Probes().conditions()["agent_cpu_ns"]
    assert living - before >= 180_000_000  # it still lives; counted in ticks of 10 ms
    assert ended - before >= 200_000_000


def test_a_stat_file_that_says_nothing() -> None:
    with pytest.raises(Unreadable, match="no line `cpu`"):
        parsing.parse_busy_ns("intr 1 2 3\n", 100)


def test_processes_are_told_apart_by_when_they_started() -> None:
    found = Probes().start_ticks(os.getpid())
    assert Probes().lives(os.getpid(), found)
    assert not Probes().lives(os.getpid(), found + 1)
    assert not Probes().lives(2**22 + 1, found)


def test_facts_of_a_pi(board: Probes, tmp_path: Path) -> None:
    found = board.facts(str(tmp_path))
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["serial"] == "10000000abcdef01"
    assert found["ram_bytes"] == 1_893_156 * 1024
    assert found["uptime_s"] == 350735.47
    assert found["clock"]["source"] == "arch_sys_counter"
    assert found["cpufreq_governors"] == ["ondemand", "performance", "powersave"]
    assert found["cgroup_v2"] is True
    assert found["disk_free_bytes"] > 0
    assert found["not_observable"] == {}


def test_what_is_not_there_is_null_with_a_reason(tmp_path: Path) -> None:
    found = Probes(str(tmp_path)).conditions()
    for name in (
        "load1",
        "temp_c",
        "freq_hz",
        "governor",
        "throttled_bits",
        "boot_id",
        "mem_available_bytes",
        "psi_memory_some_avg10",
        "cpu_busy_ns",
        "steal_ns",
        "swap_used_bytes",
        "freq_max_hz",
    ):
        assert found[name] is None
        assert found["not_observable"][name]
    assert found["monotonic_ns"] > 0


def test_a_dead_zone_does_not_hide_the_others(board: Probes, tmp_path: Path) -> None:
    dead = tmp_path / "sys/class/thermal/thermal_zone1"
    dead.mkdir()
    (dead / "temp").write_text("")
    assert set(board.conditions()["temp_c"]) == {"thermal_zone0:cpu-thermal", "hwmon1:lm75:temp1"}


@pytest.mark.parametrize(("text", "bits"), [("throttled=0x0\n", 0), ("throttled=0x50005\n", 0x50005)])
def test_vcgencmd(text: str, bits: int) -> None:
    assert parsing.parse_throttled(text) == bits


@pytest.mark.parametrize("text", ["", 'error=1 error_msg="Command not registered"', "throttled=0xZZ"])
def test_vcgencmd_that_says_nothing(text: str) -> None:
    with pytest.raises(Unreadable):
        parsing.parse_throttled(text)


def test_memory_of_this_process() -> None:
    found = Probes().memory(os.getpid())
    assert found["vm_hwm_bytes"] >= found["vm_rss_bytes"] > 1 << 20
    assert 0 < found["pss_bytes"] <= found["rss_bytes"]
    assert found["threads"] >= 1
    assert found["fds"] >= 3


def test_pages_of_the_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(bytes(range(256)) * 256)  # 16 pages
    (tmp_path / "link").symlink_to(model)
    assert Probes().memory(os.getpid(), str(model))["model_pages_bytes"] == 0
    assert Probes().memory(os.getpid())["model_pages_bytes"] is None
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as pages:
        assert sum(pages[::512]) == 0  # touched, every one of them
        assert Probes().memory(os.getpid(), str(tmp_path / "link"))["model_pages_bytes"] == 1 << 16
        pages[0] = 1  # a copy of its own, no page of the file any more
        assert Probes().memory(os.getpid(), str(model))["model_pages_bytes"] == (1 << 16) - mmap.PAGESIZE


def test_pages_of_another_file_or_a_removed_one() -> None:
    text = (
        "7f00-7f10 r--p 00000000 fd:03 96                        /a/model\nRss: 64 kB\nAnonymous: 4 kB\n"
        "7f20-7f30 r--p 00000000 fd:03 97 /a/model.so\nRss: 500 kB\nAnonymous: 0 kB\n"
        "7f40-7f50 rw-p 00000000 00:00 0 \nRss: 40 kB\nAnonymous: 40 kB\n"
        "7f60-7f70 r--s 00000000 fd:03 96 /a/model (deleted)\nRss: 8 kB\nAnonymous: 0 kB\n"
    )
    assert parsing.parse_file_pages(text, "/a/model") == (60 + 8) << 10
    assert parsing.parse_file_pages(text, "/a/mod") == 0


def test_memory_of_a_process_that_is_gone() -> None:
    with pytest.raises(Unreadable):
        Probes().memory(2**22 + 1)


def test_smaps_of_an_old_kernel_are_added_up() -> None:
    text = (
        "00400000-0048a000 r-xp 00000000 fd:03 96 /bin/bash\nRss: 460 kB\nPss: 100 kB\nPrivate_Dirty: 0 kB\n"
        "7f-80 rw-p 00000000 00:00 0\nRss: 40 kB\nPss: 40 kB\nPrivate_Dirty: 40 kB\n"
    )
    assert parsing.parse_smaps(text) == {"Rss": 500 << 10, "Pss": 140 << 10, "Private_Dirty": 40 << 10}


def test_oom_kills(board: Probes, tmp_path: Path) -> None:
    assert board.oom_kills() == 3
    assert Probes(str(tmp_path / "nowhere")).oom_kills() is None
