"""A window's readings from captures of a board, and several windows as one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.agent.channels import Channels
from harness.agent.probes import Probes
from harness.agent.soak.tally import Tally
from harness.agent.soak.windows import DeviceReader, merge_windows


def stream(*latencies: int, errors: int = 0, **more: Any) -> dict[str, Any]:
    tally = Tally()
    for latency in latencies:
        tally.succeeded(latency)
    if errors:
        tally.failed("ValueError", errors)
    levels = {"rss_bytes": 1, "pss_bytes": 1, "private_dirty_bytes": 1, "fds": 3, "threads": 1}
    return dict(tally.to_args(), variant="a", restarts=0, **levels) | more


def window(i: int, v: list[float | None], **streams: dict[str, Any]) -> dict[str, Any]:
    dev = {"throttled_bits": None, "runner_cpu_ns": 100 + i, "load1": float(i)}
    return {
        "k": "window",
        "i": i,
        "n": 1,
        "t0_ns": i * 10,
        "t1_ns": i * 10 + 10,
        "life": 1,
        "streams": streams,
        "v": v,
        "dev": dev,
    }


def test_two_windows_as_one() -> None:
    a = window(4, [10.0, None, None], main=stream(5, 900, restarts=1, rss_bytes=7))
    b = window(5, [20.0, 4.0, None], main=stream(70, errors=2, rss_bytes=None), other=stream(3))
    a["dev"]["throttled_bits"], b["dev"]["throttled_bits"] = 0x4, 0x1
    before = copy.deepcopy((a, b))
    merged = merge_windows(a, b)
    assert (a, b) == before
    assert (merged["i"], merged["n"], merged["t0_ns"], merged["t1_ns"]) == (4, 2, 40, 60)
    assert merged["v"] == [15.0, 4.0, None]
    assert merged["dev"] == {"throttled_bits": 0x5, "runner_cpu_ns": 209, "load1": 5.0}
    main = merged["streams"]["main"]
    assert (main["calls"], main["errors"], main["restarts"]) == (5, {"ValueError": 2}, 1)
    assert (main["sum_ns"], main["min_ns"], main["max_ns"], main["rss_bytes"]) == (975, 5, 900, 7)
    assert merged["streams"]["other"] == b["streams"]["other"]


@given(st.lists(st.lists(st.integers(0, 10**9), max_size=4), min_size=2, max_size=6))
def test_merging_loses_no_call(parts: list[list[int]]) -> None:
    windows = [window(i, [float(i)], main=stream(*part)) for i, part in enumerate(parts)]
    merged = windows[0]
    for each in windows[1:]:
        merged = merge_windows(merged, each)
    whole = stream(*(value for part in parts for value in part))
    assert merged["streams"]["main"] == whole
    assert merged["n"] == len(parts)
    assert abs(merged["v"][0] - (len(parts) - 1) / 2) < 1e-9


def board(root: Path) -> Path:
    files = {
        "proc/meminfo": "MemTotal:        1000 kB\nMemAvailable:     600 kB\n",
        "proc/loadavg": "0.50 0.40 0.30 1/99 1234\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpufreq/policy0/related_cpus": "0 1\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def reader(root: Path, channels: list[str], home: Path) -> DeviceReader:
    asked = [{"id": id_, "kind": "temp_c", "unit": "°C"} for id_ in channels]
    return DeviceReader(Probes(str(root)), str(home), asked, Channels(str(root)))


def test_what_a_board_shows(tmp_path: Path) -> None:
    root = board(tmp_path / "root")
    ids = [c["id"] for c in Channels(str(root)).look()["channels"] if c["kind"] == "temp_c"]
    it = reader(root, [*ids, "hwmon/none/temp1/temp_c"], tmp_path)
    dev = it.device(12345)
    assert dev["freq_hz"] == 1.5e9
    assert dev["throttled_bits"] == 0x50005
    assert (dev["ram_bytes"], dev["mem_available_bytes"]) == (1000 * 1024, 600 * 1024)
    assert (dev["load1"], dev["realtime_minus_boottime_ns"]) == (0.5, 12345)
    assert dev["disk_free_bytes"] > 0
    assert dev["runner_rss_bytes"] > 1 << 20
    assert it.values() == [48.312, None]
    assert list(it.not_observable) == ["hwmon/none/temp1/temp_c"]
    (root / "sys/class/thermal/thermal_zone0/temp").unlink()
    assert it.values() == [None, None]  # a sensor that is pulled out


def test_what_a_board_does_not_show_has_its_reason(tmp_path: Path) -> None:
    it = reader(tmp_path / "empty", [], tmp_path)
    dev = it.device(0)
    missing = {"freq_hz", "throttled_bits", "mem_available_bytes", "load1", "ram_bytes"}
    assert missing <= set(it.not_observable)
    assert all(dev[key] is None for key in missing)
    assert all(it.not_observable[key] for key in missing)
