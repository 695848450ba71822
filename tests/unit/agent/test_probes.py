"""Probes: what a Pi's files say, and what a device that lacks them reads as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.agent import probes
from harness.agent.probes import Probes, Unreadable

PI = {
    "/proc/cpuinfo": "Serial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "/proc/meminfo": "MemTotal:        1893156 kB\nMemAvailable:    1500000 kB\n",
    "/proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
    "/proc/uptime": "350735.47 234388.90\n",
    "/proc/sys/kernel/random/boot_id": "c0ffee00-0000-4000-8000-000000000001\n",
    "/proc/pressure/cpu": "some avg10=1.25 avg60=0.30 avg300=0.10 total=12345\n",
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/vmstat": "nr_free_pages 1\noom_kill 3\n",
    "/sys/class/thermal/thermal_zone0/temp": "48686\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/hwmon/hwmon1/temp1_input": "-5500\n",
    "/sys/class/hwmon/hwmon1/name": "lm75\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
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
    assert found["not_observable"] == {}


def test_facts_of_a_pi(board: Probes, tmp_path: Path) -> None:
    found = board.facts(str(tmp_path))
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["serial"] == "10000000abcdef01"
    assert found["ram_bytes"] == 1_893_156 * 1024
    assert found["uptime_s"] == 350735.47
    assert found["clock"]["source"] == "arch_sys_counter"
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
    assert probes.parse_throttled(text) == bits


@pytest.mark.parametrize("text", ["", 'error=1 error_msg="Command not registered"', "throttled=0xZZ"])
def test_vcgencmd_that_says_nothing(text: str) -> None:
    with pytest.raises(Unreadable):
        probes.parse_throttled(text)


def test_memory_of_this_process() -> None:
    found = Probes().memory(os.getpid())
    assert found["vm_hwm_bytes"] >= found["vm_rss_bytes"] > 1 << 20
    assert 0 < found["pss_bytes"] <= found["rss_bytes"]
    assert found["threads"] >= 1
    assert found["fds"] >= 3


def test_memory_of_a_process_that_is_gone() -> None:
    with pytest.raises(Unreadable):
        Probes().memory(2**22 + 1)


def test_smaps_of_an_old_kernel_are_added_up() -> None:
    text = (
        "00400000-0048a000 r-xp 00000000 fd:03 96 /bin/bash\nRss: 460 kB\nPss: 100 kB\nPrivate_Dirty: 0 kB\n"
        "7f-80 rw-p 00000000 00:00 0\nRss: 40 kB\nPss: 40 kB\nPrivate_Dirty: 40 kB\n"
    )
    assert probes.parse_smaps(text) == {"Rss": 500 << 10, "Pss": 140 << 10, "Private_Dirty": 40 << 10}


def test_oom_kills(board: Probes, tmp_path: Path) -> None:
    assert board.oom_kills() == 3
    assert Probes(str(tmp_path / "nowhere")).oom_kills() is None
