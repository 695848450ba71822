"""Power cycles of a soak on a schedule. Each is told before it is made: its reboot is a planned one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from harness.emulation import Profile, find_machine
from harness.emulation import power_on as boot_machine
from harness.model import Device
from harness.soak.ledger import Ledger


class PowerSwitch(Protocol):
    """What cuts a device's power."""

    def is_on(self) -> bool: ...

    def off(self) -> None: ...

    def on(self) -> None:
        """Switch it on; returns once it has booted, or as soon as that can't be seen."""


class MachineSwitch:
    """The power of an emulated board's supervised machine."""

    def __init__(self, device: Device, *, compressed: bool) -> None:
        self._name = device.name
        self._compressed = compressed

    def is_on(self) -> bool:
        return find_machine(self._name).is_running()

    def off(self) -> None:
        find_machine(self._name).power_cut()

    def on(self) -> None:
        machine = find_machine(self._name)
        boot_machine(machine)
        if self._compressed and machine.profile is Profile.TIMING:
            machine.set_spin(False)


class PowerSchedule:
    """Cuts the power each `every_ns` of soak time, as soon as a visit has seen that it is due.

    What was done is read from the ledger: whoever collects goes on with the schedule.
    """

    def __init__(
        self, switch: PowerSwitch, every_ns: int, duration_ns: int, pause: Callable[[], None] = lambda: None
    ) -> None:
        self._switch = switch
        self._every_ns = every_ns
        self._duration_ns = duration_ns
        self._pause = pause

    def run_due(self, ledger: Ledger, t_ns: int) -> bool:
        """Cycle the power if that is due at soak time `t_ns`; return whether it was.

        A cycle that was missed, because nobody collected, isn't made up for. Raises as the switch does; the
        power is on again then if that could be done.
        """
        number = min(t_ns, self._duration_ns - 1) // self._every_ns
        if number <= self._last_cut(ledger) or t_ns >= self._duration_ns:
            return False
        # told first: a reboot that nobody announced would be a failure of the device
        ledger.add_event("power_cut", t_ns, f"power cycle {number}", {"number": number, "planned": True})
        try:
            self._switch.off()
            self._pause()
        finally:
            self._switch.on()
        ledger.add_event("power_on", t_ns, f"power cycle {number}", {"number": number})
        return True

    def next_due_ns(self, t_ns: int) -> int | None:
        """Return when after soak time `t_ns` the power is cut next; None: not any more."""
        due_ns = (t_ns // self._every_ns + 1) * self._every_ns
        return due_ns if due_ns < self._duration_ns else None

    def recover(self, ledger: Ledger, t_ns: int) -> bool:
        """Switch on what a collector that broke off half-way has left off; return whether that was needed."""
        if self._switch.is_on():
            return False
        self._switch.on()
        number = self._last_cut(ledger)
        ledger.add_event(
            "power_on", t_ns, f"power cycle {number}, after its collector had gone", {"number": number}
        )
        return True

    @staticmethod
    def _last_cut(ledger: Ledger) -> int:
        cuts = [r for r in ledger.read_events() if r["event"] == "power_cut"]
        return max((int(r["details"]["number"]) for r in cuts), default=0)
