"""A repository with an emulated board and a desk for `harness devices fit`: what they answer is scripted.

All of the fit is the product's. Scripted are the two boards: the agent's readings, what a measurement gives,
what one look into a model tells; and what the emulated one is made of, so that no compiler is needed.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import counting, model_files, runtimes
from harness.cli import fit as fit_command
from harness.cli.main import main
from harness.emulation import plugins
from harness.estimate import estimator
from harness.estimating import own_path, pieces_path
from harness.fitting import take
from harness.measure.bench import Bench, Look, Observation
from harness.measure.inputs import Inputs
from harness.model import DeviceFacts, Fidelity, Measurement, Signature, TensorSpec
from harness.progress import Progress
from support.tiny import MODELS

DEVICES = """
schema_version = 1
[types.pi]
[types.host]
[devices.desk]
type = "pi"
kind = "local"
[devices.other-desk]
type = "host"
kind = "local"
[devices.pi-emulated]
type = "pi"
kind = "qemu"
[devices.pi-emulated.qemu]
cpu = "cortex-a72"
"""
SHIPPED = next(c for c in estimator.shipped() if c.device_type == "rpi4")
NETWORKS = [n for n in SHIPPED.networks if n.precision == "fp32"]
START = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
QUIET = {
    "boot_id": "b",
    "monotonic_ns": 0,
    "realtime_ns": 0,
    "psi_cpu_some_avg10": 0.0,
    "cpu_busy_ns": {"total": 0},
    "agent_cpu_ns": 0,
    "throttled_bits": 0,
    "governor": {"cpu0": "ondemand"},
    "freq_hz": {"cpu0": 1_500_000_000},
    "freq_min_hz": {"cpu0": 600_000_000},
    "freq_max_hz": {"cpu0": 1_500_000_000},
}


class Place:
    """The repository, and what its boards answer. `measured` names what was measured, in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.measured: list[tuple[str, str]] = []
        self.now = START
        self.reading: dict[str, Any] = dict(QUIET)
        self.kernel = "6.1.0"
        self.runtime_version = "1.2.3"
        self.versions: dict[str, str] = {}  # of the runtime, for networks that have another
        self.quantised: set[str] = set()
        self.numbers: dict[str, int] = {}  # of networks whose names don't say it
        # called after each measurement with (device, network): what happens to a board meanwhile
        self.meanwhile: Callable[[str, str], None] = lambda device, network: None
        (root / "devices.toml").write_text(DEVICES)
        monkeypatch.chdir(root)
        monkeypatch.setattr(fit_command, "Workbench", lambda *args: Workbench(self, args[3]))
        monkeypatch.setattr(fit_command, "_now", lambda: self.now)
        monkeypatch.setattr(take, "measure_single_stream", self._measure)
        monkeypatch.setattr(
            counting, "read_features", lambda bench, virtual_ns=None: (self.network(bench).features, "")
        )
        monkeypatch.setattr(counting, "plugin_for", lambda device, profile: (["-plugin"], ""))
        monkeypatch.setattr(plugins, "build_plugin", lambda: Path("plugins/1a2b/count.so"))
        monkeypatch.setattr(runtimes, "environment", lambda *_: SimpleNamespace(sha256="e"))

    def fit(self, *argv: str, against: str = "desk") -> int:
        return main(["devices", "fit", "pi", "--against", against, *argv])

    def models(self, count: int, *, suffix: str = ".onnx", first: int = 0) -> list[str]:
        """Return --model for `count` files; the number in a name says which network its file stands for."""
        argv = []
        for number in range(first, first + count):
            path = self.root / f"n{number}{suffix}"
            if not path.exists():
                path.write_bytes((MODELS / f"tiny{suffix}").read_bytes() + bytes([number]))
            argv += ["--model", str(path)]
        return argv

    def kept(self, runtime: str = "onnxruntime", precision: str = "fp32", threads: int = 1) -> Path:
        return own_path(self.root / "reports", "pi", runtime, precision, threads)

    @property
    def pieces(self) -> Path:
        return pieces_path(self.root / "reports", "pi", "desk", 1)

    def times(self) -> list[str]:
        """Return the networks that the real board measured, and forget them and the emulated one's."""
        found = [name for device, name in self.measured if device != "pi-emulated"]
        self.measured.clear()
        return found

    def network(self, bench: Any) -> Any:
        name = bench.case.name
        return NETWORKS[self.numbers[name] if name in self.numbers else int(name.partition(".")[0][1:])]

    def _measure(self, bench: Any) -> Observation:
        device = bench.board.device
        self.measured.append((device.name, bench.case.name))
        self.meanwhile(device.name, bench.case.name)
        network = self.network(bench)
        if device.kind == "qemu":
            assert bench.threads == 1  # one core is emulated
        ms = network.virtual_ms if device.kind == "qemu" else network.board_ms[bench.threads]
        return Observation((Measurement("latency_p50_ns", ms * 1e6, None, None, 64, Fidelity.MEASURED),))


class Workbench:
    """What the fit asks of a workbench."""

    def __init__(self, place: Place, threads: int) -> None:
        self._place = place
        self._threads = threads

    def bench(self, device: Any, model: Any, profile: str) -> Any:
        case, place = self.case(model), self._place
        fidelity = Fidelity.VIRTUAL if device.kind == "qemu" else Fidelity.MEASURED
        board = SimpleNamespace(
            device=device,
            governor={},
            facts=self.facts(device),
            conditions=lambda: dict(place.reading),
            time_fidelity=fidelity,
        )
        signature = Signature((TensorSpec("x", (None, 3, 8, 8), "float32"),), ())
        made = Inputs(b"", hashlib.sha256(case.name.encode()).hexdigest(), 1, None, True)
        version = place.versions.get(case.name, place.runtime_version)
        look = Look(signature, made, case.name in place.quantised, version)
        runtime, env = self.descriptor(case), SimpleNamespace(sha256="e")
        parts: list[Any] = [board, case, runtime, env, None, look, "inputs", self._threads, Progress(None)]
        return Bench(*parts)

    def facts(self, device: Any) -> DeviceFacts:
        details = {"model": "Pi 4", "cpu_model": "A72", "kernel": self._place.kernel}
        return DeviceFacts(device.name, device.type.name, device.kind, None, "linux-aarch64", details)

    def case(self, model: Any) -> Any:
        return model_files.resolve_case(model)

    def descriptor(self, case: Any) -> Any:
        return runtimes.descriptor(case.runtime, case.artifact.format, ())

    def why_no_counts(self, device: Any) -> str:
        return ""

    def close(self) -> None:
        """Nothing is open."""
