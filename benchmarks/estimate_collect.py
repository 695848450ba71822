"""Counts the features of a shipped calibration's networks anew, on an emulated board with the counting
plugin.

    python -m benchmarks.estimate_collect rpi4-ncnn --models CLONE/benchmark/models

`--models`: the topologies (.param) of ncnn's own benchmark, from a clone of github.com/Tencent/ncnn.
Published figures stay as the calibration has them. A quarter of an hour on an idle host; no root.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.processes import ROOT
from harness import cache, counting
from harness.emulation import Profile, build_image, command, launch, snapshots
from harness.emulation.image import Image
from harness.emulation.plugins import build_plugin, plugin_arguments
from harness.emulation.qmp import Qmp
from harness.errors import DeadlineExceeded, DeviceError
from harness.estimate import calibration, cores
from harness.estimate.calibration import Calibration, Network
from harness.estimate.counts import Window, parse_counts
from harness.estimate.features import Features, compute_features
from harness.model import QemuBoard
from harness.signals import Termination

GUEST = ROOT / "benchmarks" / "estimate_guest.py"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
TIMED = 4  # inferences on the clock, of which the fastest is taken (chosen)
COUNTED = 3  # with the plugin; another program ran beside one in ten (measured)
MOST_RUNS = 5  # chosen
BOOT_TIMEOUT_S = 300.0
SETTLING_RUNS = 20
SETTLED_TIMES = 3  # in a row: two have been alike by chance
SETTLED_RATIO = 0.005  # chosen: ten times what repeats show
NETWORK_TIMEOUT_S = 900.0  # the longest takes some 20 s of an idle host


@dataclasses.dataclass(frozen=True)
class Guest:
    """A running board that answers on SSH."""

    image: Image
    port: int
    known_hosts: Path

    def options(self) -> list[str]:
        fixed = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}", "ConnectTimeout=30")
        return ["-F", "/dev/null", "-i", str(self.image.ssh_key_path), *(w for o in fixed for w in ("-o", o))]

    def run(self, *words: str, timeout_s: float) -> str:
        """Return a command's output; its words hold nothing that a shell reads. Raises DeviceError if it
        fails.
        """
        argv = ["ssh", *self.options(), "-p", str(self.port), "root@127.0.0.1", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise DeviceError(
                f"`{' '.join(words)}` exited with {done.returncode}: {done.stderr.strip()[-400:]}"
            )
        return done.stdout

    def push(self, paths: Sequence[Path], folder: str) -> None:
        argv = ["scp", "-q", "-r", *self.options(), "-P", str(self.port)]
        subprocess.run([*argv, *map(str, paths), f"root@127.0.0.1:{folder}"], check=True, timeout=600)


@contextlib.contextmanager
def counting_board(core: cores.Core, folder: Path) -> Iterator[Guest]:
    """Yield a board with such a core whose counts go to `folder`/counts.txt; it ends with the block."""
    board = QemuBoard(cpu=core.name)
    image = build_image(board)
    snapshots.make_overlay(folder / "disk.qcow2", image.disk_path, "raw")
    argv = command.machine_arguments(
        board,
        Profile.TIMING,
        kernel=image.kernel_path,
        initrd=image.initrd_path,
        device_tree=launch.device_tree(image, board, Profile.TIMING),
        serial=command.NO_SERIAL,
    )
    argv = argv[: -len(command.SENSOR_ARGUMENTS)]  # nobody serves sensors here
    argv += plugin_arguments(
        build_plugin(),
        folder / "counts.txt",
        caches=[(level.size_bytes, level.ways) for level in core.caches],
        tlb=(core.tlb_entries, core.tlb_ways),
    )
    with open(folder / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            ["nice", "-n", "10", *argv], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield wait_for_guest(image, process, folder)
        finally:
            process.terminate()
            process.wait(30)


def wait_for_guest(image: Image, process: subprocess.Popen[bytes], folder: Path) -> Guest:
    """Return the guest once it runs a command. Raises DeviceError, DeadlineExceeded."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (folder / "qemu.log").read_text(errors="replace")[-400:]
            raise DeviceError(f"QEMU ended with {process.returncode}: {said}")
        if (folder / "qmp.sock").exists():
            port = command.parse_forwarded_port(Qmp(folder / "qmp.sock", "counting").hmp("info usernet"))
            known_hosts = folder / "known_hosts"
            known_hosts.write_text(f"[127.0.0.1]:{port} {image.host_public_key}\n", encoding="ascii")
            guest = Guest(image, port, known_hosts)
            with contextlib.suppress(DeviceError, subprocess.TimeoutExpired):  # until it is up
                guest.run("true", timeout_s=30)
                return guest
        time.sleep(1)
    raise DeadlineExceeded(f"no SSH within {BOOT_TIMEOUT_S:g} s", where="counting board")


def fetch_ncnn(version: str, folder: Path) -> list[Path]:
    """Return the parts of ncnn's wheel for the board that its interpreter needs, unpacked in `folder`."""
    wanted = ["--only-binary=:all:", "--python-version", "311", "--implementation", "cp", "--no-deps"]
    wanted += [word for platform in PLATFORMS for word in ("--platform", platform)]
    argv = [sys.executable, "-m", "pip", "download", "-q", f"ncnn=={version}", *wanted, "-d", str(folder)]
    subprocess.run(argv, check=True, timeout=600)
    (wheel,) = folder.glob("ncnn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.count("/") == 1 and n.startswith(("ncnn/", "ncnn.libs/"))]
        archive.extractall(folder, names)
    return [folder / "ncnn", folder / "ncnn.libs"]


def collect(found: Calibration, models: Path, only: Sequence[str]) -> Calibration:
    """Return the calibration with new features and virtual times of its networks, or of `only` those."""
    chosen = [n for n in found.networks if not only or n.name in only]
    with tempfile.TemporaryDirectory(prefix="hil-count-", dir=cache.root()) as name:
        folder = Path(name)
        with counting_board(cores.core_named(found.core), folder) as guest:
            guest.run("mkdir", "-p", "/root/count", timeout_s=60)
            parts = fetch_ncnn(found.runtime_version, folder)
            guest.push([*parts, GUEST, *(models / f"{n.name}.param" for n in chosen)], "/root/count/")
            _settle(guest, min(chosen, key=lambda n: n.virtual_ms))
            counted = {n.name: _count(guest, n, folder / "counts.txt", found.core) for n in chosen}
    networks = tuple(counted.get(n.name, n) for n in found.networks)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return dataclasses.replace(found, networks=networks, taken_on=today, schedule_format=cores.FORMAT)


def _settle(guest: Guest, network: Network) -> None:
    """Run a network until its time repeats: right after booting the kernel still works on its disk beside
    it."""
    times: list[float] = []
    while len(times) < SETTLING_RUNS:
        times.append(_run(guest, network))
        last = times[-SETTLED_TIMES:]
        if len(last) == SETTLED_TIMES and max(last) - min(last) < SETTLED_RATIO * min(last):
            return
    raise DeviceError(
        f"{network.name} still took {times[-1]:.3f} virtual ms, another time in each of {SETTLING_RUNS} runs"
    )


def _count(guest: Guest, network: Network, path: Path, core: str) -> Network:
    """Return the network with its fastest virtual time and its least count, once two counts agree.

    `path`: what the plugin writes.
    """
    taken: list[Features] = []
    times_ms: list[float] = []
    for _ in range(MOST_RUNS):
        had = len(_windows(path))
        times_ms.append(_run(guest, network))
        taken += [compute_features(window, core) for window in _windows(path)[had:]]
        if counting.is_sure(taken):
            least = min(taken, key=lambda features: features.instructions)
            return dataclasses.replace(network, features=least, virtual_ms=min(times_ms))
    told = ", ".join(f"{one.instructions / 1e6:.4g}" for one in taken)
    raise DeviceError(f"{network.name}: no two counts agree: {told} million instructions")


def _windows(path: Path) -> list[Window]:
    with open(path, encoding="ascii") as counts:
        return list(parse_counts(counts))


def _run(guest: Guest, network: Network) -> float:
    """Run one network in the guest; return its fastest inference in virtual milliseconds."""
    began = time.monotonic()
    words = [f"/root/count/{network.name}.param", *map(str, (*network.input_shape, TIMED, COUNTED))]
    text = guest.run("python3", f"/root/count/{GUEST.name}", *words, timeout_s=NETWORK_TIMEOUT_S)
    best = float(min(json.loads(text)["times_ns"])) / 1e6
    print(f"{network.name}: {best:.3f} virtual ms, {time.monotonic() - began:.1f} s", flush=True)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate_collect")
    parser.add_argument("calibration", choices=sorted(p.stem for p in calibration.SHIPPED.glob("*.toml")))
    parser.add_argument("--models", type=Path, required=True, help="folder of ncnn's benchmark topologies")
    parser.add_argument("--networks", nargs="*", default=(), metavar="NAME", help="only these")
    parser.add_argument("--out", type=Path, help="default: the calibration itself")
    given = parser.parse_args(argv)
    path = calibration.SHIPPED / f"{given.calibration}.toml"
    termination = Termination()
    termination.install()  # the board ends with us
    try:
        collected = collect(calibration.load(path), given.models, given.networks)
    finally:
        termination.restore()
    calibration.save(given.out or path, collected)
    print(f"wrote {given.out or path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
