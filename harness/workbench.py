"""Open boards and models made ready on them, for as long as a session lasts; owns their leases.

One device at a time, in one profile: a second emulated machine would share the host's cores. The host itself,
where reference outputs come from, stays open beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from harness import board as boards
from harness import bundles, counting, leases, model_files, runtimes
from harness.board import Board
from harness.errors import ConnectionLost, DeviceBusy, HarnessError
from harness.measure.bench import Bench, Look
from harness.measure.prepare import prepare
from harness.model import Device, DeviceFacts, DeviceType, ModelCase, Plan, PlanModel
from harness.progress import Progress
from harness.remote.soak import SoakClient
from harness.selection import Target
from harness.soak.machines import require_no_soak
from harness.units import format_duration


class Workbench:
    """Boards by device and profile, benches by model; opened when first asked for. Close it."""

    def __init__(
        self,
        plan: Plan,
        targets: Iterable[Target],
        local: Device | None,
        threads: int,
        progress: Progress,
        purpose: str,
    ) -> None:
        self._plan = plan
        self._targets = tuple(targets)
        self._local = local or Device("local", DeviceType("local"), "local")
        self._threads = threads
        self._progress = progress
        self._purpose = purpose
        self._boards: dict[tuple[str, str], Board] = {}
        self._benches: dict[tuple[str, str, str], Bench] = {}
        self._facts: dict[str, DeviceFacts] = {}
        self._cases: dict[str, ModelCase] = {}
        self._looks: dict[str, Look] = {}
        self._no_counts: dict[str, str] = {}
        self._leases = contextlib.ExitStack()
        self._leased: set[str] = set()

    def bench(self, device: Device, model: PlanModel, profile: str) -> Bench:
        """Return `model` made ready on `device`, opening the board where it isn't."""
        profile = boards.profile_for(device, profile)
        return self._bench(self._board(device, profile), self.case(model))

    def why_no_counts(self, device: Device) -> str:
        """Return why a device's machine was started without the counting plugin; "" if it wasn't."""
        return self._no_counts.get(device.name, "")

    def reference(self, bench: Bench) -> Bench:
        """Return the same case made ready on this host, same runtime and build."""
        return self._bench(self._board(self._local, boards.NATIVE), bench.case)

    def _bench(self, board: Board, case: ModelCase) -> Bench:
        key = (board.device.name, board.profile, case.name)
        if key not in self._benches:
            self._benches[key] = prepare(
                board,
                case,
                self.descriptor(case),
                threads=self._threads,
                progress=self._progress,
                known=self._looks.get(case.name),
            )
            self._looks[case.name] = self._benches[key].look
        return self._benches[key]

    def descriptor(self, case: ModelCase) -> runtimes.RuntimeDescriptor:
        return runtimes.descriptor(case.runtime, case.artifact.format, self._plan.runtimes)

    def case(self, model: PlanModel) -> ModelCase:
        """Return a model with its file read, once a name. Raises ConfigError where that can't be."""
        if model.name not in self._cases:
            case = model_files.resolve_case(runtimes.settled(model))
            self._cases[model.name] = bundles.with_all_files(case, self.descriptor(case))
        return self._cases[model.name]

    def known_case(self, model: PlanModel) -> ModelCase | None:
        """Return a model's case if its file was read already."""
        return self._cases.get(model.name)

    def runtime_version(self, case: ModelCase) -> str | None:
        """Return the build a case runs with: the one asked for, else what the runtime itself said."""
        if case.runtime.version is not None:
            return case.runtime.version
        look = self._looks.get(case.name)
        return look.runtime_version if look else self.descriptor(case).default_version

    # -- boards

    def facts(self, device: Device) -> DeviceFacts:
        """Return what is known of a device; little where it was never open."""
        board = next((b for (name, _), b in self._boards.items() if name == device.name), None)
        known = board.facts if board else self._facts.get(device.name)
        return known or DeviceFacts(device.name, device.type.name, device.kind, device.serial, "unknown")

    def _board(self, device: Device, profile: str) -> Board:
        key = (device.name, profile)
        if key not in self._boards:
            if device.kind != "local":
                for name in {n for n, _ in self._boards} - {self._local.name}:
                    self.close_board(name)
            self._lease(device)
            require_no_soak(device, profile)
            # on a board of its own each environment is pushed when a model needs it
            wanted = self._requests(device) if device.kind == "qemu" else []
            board = self._boards[key] = self._open(device, profile, wanted)
            if device.kind not in ("local", "qemu"):
                _require_no_soak(board)
            self._facts.setdefault(device.name, self._boards[key].facts)
        return self._boards[key]

    def _open(self, device: Device, profile: str, wanted: list[boards.RuntimeRequest]) -> Board:
        """Open a board; with the counting plugin where its type counts, unless QEMU doesn't start with it."""
        arguments, why_not = counting.plugin_for(device, profile)
        self._no_counts[device.name] = why_not
        if arguments:
            try:
                return boards.open_board(device, profile, wanted, self._progress, qemu_arguments=arguments)
            except ConnectionLost as why:
                self._no_counts[device.name] = f"it did not start with the counting plugin: {why.what}"
        return boards.open_board(device, profile, wanted, self._progress)

    def _requests(self, device: Device) -> list[boards.RuntimeRequest]:
        """Return the runtimes that the targets on `device` need, each once."""
        models: list[PlanModel] = []
        for target in self._targets:
            if target.device.name == device.name or device.name == self._local.name:
                beside = target.baseline.model if target.baseline else None
                models += [model for model in (target.model, beside) if model is not None]
        return self.requests(models)

    def requests(self, models: Iterable[PlanModel]) -> list[boards.RuntimeRequest]:
        """Return the runtimes that `models` need, each once."""
        requests: list[boards.RuntimeRequest] = []
        for model in models:
            case = self.case(model)
            request = (case.runtime, self.descriptor(case))
            if request not in requests:
                requests.append(request)
        return requests

    def _lease(self, device: Device) -> None:
        """Hold a device that is measured until the end; the host as a reference needs none."""
        measured = any(target.device.name == device.name for target in self._targets)
        if measured and device.name not in self._leased:
            self._leases.enter_context(leases.lease(device, purpose=self._purpose))
            self._leased.add(device.name)

    def has_lost_agent(self, name: str) -> bool:
        """Return whether an open board of this device has an agent that ended: it serves no further run."""
        return any(key[0] == name and not board.client.is_running for key, board in self._boards.items())

    def close_board(self, name: str) -> None:
        """Close every open board of a device; the next bench opens it anew."""
        for key in [k for k in self._boards if k[0] == name]:
            board = self._boards.pop(key)
            self._benches = {k: b for k, b in self._benches.items() if k[:2] != key}
            # a board that is gone can't be closed in order; what it held dies with its connection
            with contextlib.suppress(HarnessError):
                board.close()

    def close(self) -> None:
        """Close every board and give back every lease. Safe to call twice."""
        for name, _ in list(self._boards):
            self.close_board(name)
        self._leases.close()
        self._leased.clear()


def _require_no_soak(board: Board) -> None:
    """Raise DeviceBusy where a soak runs on a board: it and a measurement would spoil each other."""
    running = [status for status in SoakClient(board.client).list() if status.state == "running"]
    if running:
        left_s = max(0.0, (running[0].duration_ns - running[0].t_ns) / 1e9)
        name = board.device.name
        raise DeviceBusy(
            f"soak {running[0].id} runs on it for another {format_duration(left_s)}.",
            where=name,
            next_step=f"Wait for it, or end it: harness soak stop {running[0].id} --device {name}",
        )
