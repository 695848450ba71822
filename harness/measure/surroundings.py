"""What is read of a device around a run, and the wait until it is quiet before one that needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from harness.measure.bench import Bench
from harness.measure.envelope import compute_conditions
from harness.model import Condition, Device, Fidelity, Scope

# PSI's avg10 forgets what was pushed and unpacked just before within some 10 s (kernel: accounting/psi)
QUIET_WAIT_S = 15.0
QUIET_POLL_S = 1.5


class Surroundings:
    """Readings around one run of `bench`: made before it, turned into its envelope after it."""

    def __init__(self, bench: Bench, device: Device) -> None:
        self._bench = bench
        self._device = device
        self._virtual = bench.time_fidelity is not Fidelity.MEASURED
        self.before: Mapping[str, Any] = bench.board.conditions()

    def wait_until_quiet(self, *, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Wait, for a bounded time, until others leave the CPU alone; return whether they do.

        What the harness itself did there a moment ago counts as load too. A virtual clock sees none of it.
        """
        if self._virtual:
            return True
        most = self._device.type.limits.max_cpu_pressure_ratio * 100
        waited_s = 0.0
        while (self.before.get("psi_cpu_some_avg10") or 0.0) > most:
            if waited_s >= QUIET_WAIT_S:
                return False
            self._bench.progress.say("waiting for other load to end")
            sleep(QUIET_POLL_S)
            waited_s += QUIET_POLL_S
            self.before = self._bench.board.conditions()
        return True

    def conditions(self) -> tuple[Condition, ...]:
        """Return the envelope's lines, once the run is over."""
        around = compute_conditions(
            self.before,
            self._bench.board.conditions(),
            self._device.type.requires_evidence,
            limits=self._device.type.limits,
            virtual=self._virtual,
            cpus=self._device.pinned_cpus,
            governor=self._device.governor or self._device.type.governor,
        )
        return (*around, *self._governor())

    def _governor(self) -> tuple[Condition, ...]:
        """Return a line for a governor that was asked for and can't be set; none otherwise."""
        state = self._bench.board.governor
        if "not_set" not in state:
            return ()
        return (
            Condition(
                "governor",
                f"not set: {state['not_set']}",
                str(state["asked"]),
                None if self._virtual else False,
                "Allow it, or leave `governor` out of devices.toml: then it is recorded as it is.",
                Scope.ABSOLUTE,
            ),
        )
