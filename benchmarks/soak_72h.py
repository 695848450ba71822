"""72 hours of a soak, 1 s windows, 20 channels: collected, judged, stored, rendered, in time and memory.

The spool is made here, as the device's runner writes it; what is timed runs in a process of its own, on the
host's own code: the ledger takes the segments, the table is read, judged, stored and rendered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.table import Goal, Row
from harness.model import DeviceFacts, Fidelity, SoakSettings, SoakStream
from harness.soak.about import About, about_to_plain
from harness.soak.spool import encode_record
from harness.stats.histograms import bucket_of
from harness.store.atomic import write_bytes

HOURS = 72
WINDOW_S = 1.0
CHANNELS = 20
SEGMENT_BYTES = 1 << 20
GOAL_S, GOAL_BYTES, GOAL_HTML_BYTES = 60.0, 1 << 30, 5e6
SOAK_ID = "20260101-000000-ab12"
_NS = 1_000_000_000
_CALLS = 200  # a window's
_BLOCK = 1024  # windows made at once
_TIMEOUT_S = 900.0


def run(quick: bool) -> list[Row]:
    """Return rows for time, peak memory and the page's size, against their limits.

    A shorter soak would be another figure: `quick` changes nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_spool(place, HOURS)
        told = _measured(place)
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in told["steps_s"].items())
    what = f"{HOURS} h of soak at {WINDOW_S:g} s windows, {CHANNELS} channels"
    return [
        Row(f"{what}, less its waits for a CPU", "s", told["own_s"], goal=Goal("ours", high=GOAL_S), n=1),
        Row(f"its wall time, others running beside ({steps})", "s", told["wall_s"], n=1),
        Row("its CPU time", "s", told["cpu_s"], n=1),
        Row(
            "its peak memory, of 1 GiB", "share", told["peak_bytes"] / GOAL_BYTES,
            goal=Goal("ours", high=1.0), n=1,
        ),
        Row(
            "its report.html, of 5 MB", "share", told["html_bytes"] / GOAL_HTML_BYTES,
            goal=Goal("ours", high=1.0), n=1,
        ),
    ]  # fmt: skip


def _measured(place: Path) -> dict[str, Any]:
    """Return what the process in which it all happens says of itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak_72h", str(place)],
        cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"concluding the soak exited with {done.returncode}: {done.stderr.strip()[-600:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# --- what is timed --------------------------------------------------------------------------------


def conclude_spool(place: Path) -> dict[str, Any]:
    """Return wall time of each step, peak memory and the page's size of concluding the spool in `place`."""
    import resource
    import time

    from harness.report import write_report
    from harness.soak.conclude import conclude, stored_in
    from harness.soak.ledger import Ledger

    marks, cpu_s, waited_s = [("", time.monotonic())], time.process_time(), _waited_s()
    spec = json.loads((place / "spec.json").read_text())
    ledger = Ledger.create(place / "soaks", spec, {"device": "rpi4-01", "kind": "ssh"})
    ledger.adopt(1, "benchmark")
    for path in sorted((place / "spool").iterdir()):
        number = int(path.stem)
        ledger.append(1, number, ledger.held(number), path.read_bytes(), closed=True)
    marks.append(("collect", time.monotonic()))
    conclude(ledger, place / "reports")
    marks.append(("judge, store, render", time.monotonic()))
    wall_s, cpu_s = marks[-1][1] - marks[0][1], time.process_time() - cpu_s
    waited_s = _waited_s() - waited_s
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    folder = stored_in(ledger.folder)
    if folder is None:
        raise RuntimeError("the soak wasn't stored")
    begin = time.monotonic()
    html = write_report(folder).html
    marks.append(("of which render", marks[-1][1] + time.monotonic() - begin))
    steps = {name: end - marks[n][1] for n, (name, end) in enumerate(marks[1:])}
    return {
        "own_s": wall_s - waited_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "steps_s": steps,
        "peak_bytes": peak_bytes,
        "html_bytes": html.stat().st_size,
    }


def _waited_s() -> float:
    """Return how long this thread was ready to run and had no CPU (kernel: scheduler/sched-stats)."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / _NS


# --- the spool ------------------------------------------------------------------------------------


def write_spool(place: Path, hours: int) -> None:
    """Write `place`/spec.json and the segments of a soak of so many hours, seeded."""
    channels = [
        {"id": f"rail{n}-{kind}", "kind": kind, "unit": unit}
        for n in range(CHANNELS // 4)
        for kind, unit in (("temp_c", "°C"), ("power_w", "W"), ("voltage_v", "V"), ("current_a", "A"))
    ]
    write_bytes(place / "spec.json", json.dumps(_spec(hours, channels)).encode())
    (place / "spool").mkdir()
    parts: list[bytes] = []
    size = number = 0
    for line in map(encode_record, _records(hours, channels)):
        if size + len(line) > SEGMENT_BYTES:
            number += 1
            (place / "spool" / f"{number:08d}.seg").write_bytes(b"".join(parts))
            parts, size = [], 0
        parts.append(line)
        size += len(line)
    (place / "spool" / f"{number + 1:08d}.seg").write_bytes(b"".join(parts))


def _spec(hours: int, channels: list[dict[str, str]]) -> dict[str, Any]:
    settings = SoakSettings(duration_s=hours * 3600.0, window_s=WINDOW_S)
    about = About(
        model="door",
        artifact_sha256="c" * 64,
        runtime="onnxruntime",
        runtime_version="1.20.1",
        threads=1,
        device=DeviceFacts("rpi4-01", "rpi4", "ssh", "1000", "linux-aarch64", {"ram_bytes": 2 * 10**9}),
        fidelity=Fidelity.MEASURED,
        settings=settings,
        streams=(SoakStream("main", "door", "closed loop", ("fp32",)),),
        started_at="2026-01-01T00:00:00.000+00:00",
        harness_version="0.1.0",
        command=("harness", "soak", "start"),
    )
    return {
        "version": 1,
        "id": SOAK_ID,
        "duration_ns": hours * 3600 * _NS,
        "window_ns": round(WINDOW_S * _NS),
        "streams": [{"name": "main", "cycle": {"kind": "closed"}, "variants": [{"name": "fp32"}]}],
        "channels": channels,
        "about": about_to_plain(about),
    }


def _records(hours: int, channels: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the records of a soak with two lives and some events."""
    windows = round(hours * 3600 / WINDOW_S)
    seq, life, t_ns = 1, 1, 0
    yield {"seq": seq, **_life(life, t_ns, 0, channels)}
    for first in range(0, windows, _BLOCK):
        for window in _windows(first, min(_BLOCK, windows - first)):
            if window["i"] == windows // 2:
                seq, life = seq + 1, 2
                yield {"seq": seq, **_life(life, window["t0_ns"], 5 * _NS, channels)}
            seq += 1
            yield {"seq": seq, "k": "window", "life": life, **window}
            if window["i"] % 21600 == 10800:
                seq += 1
                text = {"event": "clock_step", "text": "the wall clock moved by 0.8 s"}
                details = {"step_ns": 800_000_000}
                yield {
                    "seq": seq,
                    "k": "event",
                    "t_ns": window["t1_ns"],
                    "life": life,
                    **text,
                    "details": details,
                }
    end_ns = round(windows * WINDOW_S * _NS)
    yield {"seq": seq + 1, "k": "end", "t_ns": end_ns, "life": life, "reason": "duration"}


def _life(life: int, t_ns: int, gap_ns: int, channels: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "k": "life", "life": life, "t_ns": t_ns, "gap_ns": gap_ns, "boot_id": "b1",
        "gap_from": "start" if life == 1 else "boottime", "boottime_ns": t_ns, "realtime_ns": t_ns,
        "pid": 100 + life, "agent_sha256": "a" * 64, "channels": channels, "not_observable": {},
    }  # fmt: skip


def _windows(first: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield windows from `first` on without what the runner numbers: times of calls, memory, sensors."""
    random = np.random.default_rng(first)
    window_ns = round(WINDOW_S * _NS)
    noise = random.standard_normal((count, CHANNELS))
    for n in range(count):
        i = first + n
        calls_ns = 4.9e6 * (
            1 + 0.01 * random.standard_normal(_CALLS) + 0.02 * random.exponential(0.4, _CALLS)
        )
        index, number = np.unique(bucket_of(calls_ns.astype(np.int64)), return_counts=True)
        rss = int(62_400_000 + 4096 * random.integers(-40, 40))
        stream = {
            "variant": "fp32", "calls": _CALLS, "errors": {}, "late": 0, "max_late_ns": 0,
            "busy_ns": int(calls_ns.sum()), "sum_ns": int(calls_ns.sum()), "min_ns": int(calls_ns.min()),
            "max_ns": int(calls_ns.max()), "h": np.stack([index, number], 1).tolist(), "rss_bytes": rss,
            "pss_bytes": rss - 7_000_000, "private_dirty_bytes": rss - 20_000_000, "fds": 17, "threads": 4,
            "restarts": 0,
        }  # fmt: skip
        yield {
            "i": i, "n": 1, "t0_ns": i * window_ns, "t1_ns": (i + 1) * window_ns, "streams": {"main": stream},
            "v": [round(50 + float(v), 3) for v in noise[n]],
            "dev": {
                "freq_hz": 1_500_000_000, "throttled_bits": 0, "load1": 1.0,
                "mem_available_bytes": 1_500_000_000 - 4096 * (i % 97), "ram_bytes": 2_000_000_000,
                "disk_free_bytes": 9_000_000_000 - 1000 * i,
                "realtime_minus_boottime_ns": 1_767_225_600 * _NS, "runner_cpu_ns": 2_000_000,
                "runner_rss_bytes": 14_000_000,
            },
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(conclude_spool(Path(sys.argv[1]))))
