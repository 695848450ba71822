"""Fresh duets and peers' processes for the detection table, banked setting by setting.

Models take turns, a few duets each, so that all meet the same host. Whatever ends this, the next call goes
on where it was.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bank, detection_peers, devices, results
from benchmarks.detection_models import STEPS, Slowed, make_models, place_of
from benchmarks.processes import busy_neighbours
from harness import board as boards
from harness.board import Board
from harness.measure.bench import Bench
from harness.measure.duet import DuetSettings, fresh_duets, settings_for
from harness.measure.duet_effects import Duet
from harness.measure.trials import KeptDuet
from harness.model import Fidelity

FOLDER = results.FOLDER / "detection"
# share of the time in which a task waited for a CPU during a duet: above it, the host wasn't quiet. A duet
# alone on an idle host makes 1% of it (measured).
QUIET_PRESSURE = 0.1
# with busy neighbours every task waits, and the load average tells whether there were more: theirs, ours, and
# some room for what it remembers of the minute before (chosen)
BUSY_LOAD_ROOM = 2.5
IDLE_TASKS = 0.3  # that run or wait for a CPU beside us, on average over LOOKS: the host is quiet (chosen)
LOOKS, LOOK_S = 10, 0.05
WAIT_S = 5.0  # before the next look at a host that isn't
DUET, PEER = ".npz", ".json"
DUETS_A_TURN = 4  # of one model, before the next one's turn: children start faster than benches


@dataclass(frozen=True)
class Setting:
    """One block of the table."""

    name: str
    title: str
    fidelity: Fidelity
    margin: float
    neighbours: int
    duets: int  # to bank of each model, whole
    quick_duets: int
    peer_runs: dict[str, int]  # to bank of each model

    @property
    def duet_settings(self) -> DuetSettings:
        return settings_for(self.fidelity)


_PEERS = {detection_peers.PYTEST_BENCHMARK: 8, detection_peers.PYPERF: 2}
SETTINGS = {
    s.name: s
    for s in (
        Setting("quiet", "`local`, quiet", Fidelity.MEASURED, 0.005, 0, 72, 12, _PEERS),
        Setting("busy", "`local`, two busy neighbours", Fidelity.MEASURED, 0.005, 2, 72, 12, _PEERS),
        Setting("emulated", "emulated Pi 4, timing profile", Fidelity.VIRTUAL, 0.001, 0, 12, 4, {}),
    )
}


def folder_of(setting: Setting) -> Path:
    """Return where a setting's measurements are, beside their models: those of other duets are elsewhere."""
    s = setting.duet_settings
    shape = f"{s.pairs}x{s.block_ns / 1e6:g}ms-{s.block_calls}-{s.drop}-{s.warmup_calls}-{s.settle_ns}"
    return models_folder(setting) / f"{setting.name}-{shape}"


def models_folder(setting: Setting) -> Path:
    return place_of(FOLDER, virtual=setting.fidelity is Fidelity.VIRTUAL)


def duets_folder(setting: Setting, step: float) -> Path:
    return folder_of(setting) / "duets" / f"{100 * step:g}"


def peers_folder(setting: Setting, name: str, step: float) -> Path:
    return models_folder(setting) / f"{setting.name}-{name}" / f"{100 * step:g}"


def load_duets(setting: Setting, step: float) -> list[KeptDuet]:
    """Return the banked duets of one cell that count: those that met what the setting says."""
    return [kept for kept, around in _all_duets(setting, step) if counts(setting, around)]


def counts(setting: Setting, around: bank.Around) -> bool:
    """Return whether the host was as the setting says. A virtual clock doesn't see it."""
    if setting.fidelity is Fidelity.VIRTUAL:
        return True
    if setting.neighbours:
        return around.load1 <= setting.neighbours + BUSY_LOAD_ROOM
    return around.pressure is None or around.pressure <= QUIET_PRESSURE


def _all_duets(setting: Setting, step: float) -> list[tuple[KeptDuet, bank.Around]]:
    return bank.load(duets_folder(setting, step), DUET, bank.decode_duet)


def load_peers(setting: Setting, name: str, step: float) -> list[detection_peers.PeerRun]:
    """Return a peer's banked runs of one cell that count."""
    return [run for run, around in _all_peers(setting, name, step) if counts(setting, around)]


def _all_peers(setting: Setting, name: str, step: float) -> list[tuple[detection_peers.PeerRun, bank.Around]]:
    return bank.load(peers_folder(setting, name, step), PEER, detection_peers.decode_run)


# --- banking --------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_boards(setting: Setting) -> Iterator[Board]:
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as folder:
        if setting.fidelity is Fidelity.VIRTUAL:
            device, profile = devices.emulated_device(), boards.TIMING
            wanted = [devices.request_of(devices.resolve(devices.MODEL))]
        else:
            cpu = max(os.sched_getaffinity(0))
            device, profile, wanted = devices.local_device(Path(folder), (cpu,)), boards.NATIVE, []
        with devices.closing(boards.open_board(device, profile, wanted, devices.quiet())) as board:
            yield board


def fill(
    setting: Setting,
    duets: int,
    peer_share: float,
    until_s: float,
    say: Callable[[str], None],
    steps: Collection[float] = STEPS,
) -> None:
    """Bank what is missing of a setting: `duets` of each model, and of the peers this share of theirs.

    Ends at `until_s` (monotonic) at the latest, between two measurements.
    """
    with open_boards(setting) as board:
        base = devices.ready(board, devices.resolve(devices.MODEL))
        models = make_models(FOLDER, base)
        benches = {m.step: devices.ready(board, devices.resolve(m.path)) for m in models}
        missing = _missing(setting, duets, peer_share, steps)
        say(f"{setting.name}: {sum(missing.values())} measurements to take")
        while any(missing.values()) and _is_quiet_by(setting, until_s, say):
            with busy_neighbours(setting.neighbours):
                for step, name in [key for key, left in missing.items() if left]:
                    if time.monotonic() >= until_s or not (setting.neighbours or is_quiet(setting)):
                        break
                    if name:
                        missing[step, name] -= _bank_peer(setting, name, step, models, base)
                    else:
                        wanted = min(DUETS_A_TURN, missing[step, name])
                        taken = _bank_duets(setting, step, benches, wanted)
                        missing[step, name] -= taken
            left = sum(missing.values())
            say(f"{setting.name}: {left} left")


def is_quiet(setting: Setting) -> bool:
    """Return whether little runs here beside this process; a virtual clock doesn't mind."""
    if setting.fidelity is Fidelity.VIRTUAL:
        return True
    running = []
    for _ in range(LOOKS):
        running.append(int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1)
        time.sleep(LOOK_S)
    return sum(running) / LOOKS <= IDLE_TASKS


def _is_quiet_by(setting: Setting, until_s: float, say: Callable[[str], None]) -> bool:
    """Wait until the host is quiet; return False where it isn't before `until_s` (monotonic)."""
    told = False
    while time.monotonic() < until_s:
        if is_quiet(setting):
            return True
        if not told:
            say(f"{setting.name}: waiting for a quiet host")
            told = True
        time.sleep(WAIT_S)
    return False


def _missing(
    setting: Setting, duets: int, peer_share: float, steps: Collection[float]
) -> dict[tuple[float, str], int]:
    """Return how many measurements are missing by (step, peer's name or "" for duets)."""
    found = {}
    for step in steps:
        found[step, ""] = max(0, duets - len(load_duets(setting, step)))
        for name, runs in setting.peer_runs.items():
            found[step, name] = max(0, round(runs * peer_share) - len(load_peers(setting, name, step)))
    return found


def _bank_duets(setting: Setting, step: float, benches: dict[float, Bench], wanted: int) -> int:
    """Bank fresh duets of one slowed model; return how many count."""
    seed = int.from_bytes(os.urandom(4), "big")
    source = fresh_duets(benches[step], benches[0.0], setting.duet_settings, seed)
    good = 0
    with contextlib.closing(source):
        for _ in range(wanted):
            begin, before = time.monotonic(), read_stall_us()
            duet: Duet = next(source)
            wall_s = time.monotonic() - begin
            around = look_around(before, wall_s)
            bank.add(duets_folder(setting, step), DUET, bank.encode_duet(KeptDuet(duet, wall_s), around))
            good += counts(setting, around)
    return good


def _bank_peer(setting: Setting, name: str, step: float, models: Sequence[Slowed], base: Bench) -> bool:
    """Bank one run of a peer; return whether it counts."""
    path = next(m.path for m in models if m.step == step)
    args = [devices.site_of(base), str(path), base.inputs_path, base.threads, -1]
    before = read_stall_us()
    run = detection_peers.take(name, args)
    around = look_around(before, run.wall_s)
    bank.add(peers_folder(setting, name, step), PEER, detection_peers.encode_run(run, around))
    return counts(setting, around)


def read_stall_us() -> int | None:
    """Return how long tasks have waited for a CPU since boot, in µs (PSI, some); None without PSI."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return None
    return int(line.rpartition("total=")[2])


def look_around(before_us: int | None, wall_s: float) -> bank.Around:
    after_us = read_stall_us()
    pressure = None
    if before_us is not None and after_us is not None:
        pressure = (after_us - before_us) / 1e6 / wall_s
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return bank.Around(pressure, os.getloadavg()[0], now)


def describe(setting: Setting) -> str:
    """Return what is banked of a setting, and what of it counts."""
    lines = []
    for step in STEPS:
        every = _all_duets(setting, step)
        good = sum(counts(setting, around) for _, around in every)
        peers = ", ".join(
            f"{name} {len(load_peers(setting, name, step))}/{runs}"
            for name, runs in setting.peer_runs.items()
        )
        pressures = sorted(around.pressure for _, around in every if around.pressure is not None)
        pressure = f", pressure {pressures[len(pressures) // 2]:.0%}" if pressures else ""
        line = f"{setting.name} +{100 * step:g}%: {good}/{setting.duets} of {len(every)} duets{pressure}"
        lines.append(", ".join(filter(None, (line, peers))))
    return "\n".join(lines)
