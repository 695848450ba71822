"""The harness's way to an emulated board's sensors: the board model on and off, and faults of the chips.

Requests go to the process beside QEMU (`serve`); the model itself runs in the guest (`firmware`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.emulation.qmp import connect_unix
from harness.emulation.runs import wait_until
from harness.emulation.sensors.board_model import Parameters
from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, DeviceError, nearest
from harness.model import PowerModel

CHIPS = ("lm75", "ltc4151", "ina219")
DEFAULT_PERIOD_S = 0.1  # of guest time; chosen: heat takes seconds, and a tick costs under 1 ms
START_TIMEOUT_S = 60.0  # takes under 1 s on an idle host
ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ModelReading:
    """What the board model says now. `at_ns` is the guest's monotonic clock.

    `shown_power_w` (INA219) and `shown_temp_c` (LM75) are what the chips on the bus show of it, with the
    faults that are set, before their registers' resolution; None: they give no answer.
    """

    at_ns: int
    temp_c: float
    power_w: float
    busy_cores: float
    throttled_bits: int  # as `vcgencmd get_throttled`
    ambient_c: float | None = None
    shown_power_w: float | None = None
    shown_temp_c: float | None = None


class Sensors:
    """One machine's sensors. Every number from them is an estimate: a board model's."""

    def __init__(self, socket_path: Path, machine_name: str, control: Callable[[str], None]) -> None:
        self._path = socket_path
        self._name = machine_name
        self._control = control  # sends a request over the guest's console

    def start(
        self, model: PowerModel, *, cores: int, time_scale: float = 1.0, period_s: float = DEFAULT_PERIOD_S
    ) -> None:
        """Run the board model in the guest; returns once the chips show it, the board idle for long.

        `cores` are the board's own: one busy core of the guest is one of them. Its temperature moves
        `time_scale` times as fast as the board's. Until then, and after `stop`, the chips answer no reading.
        Raises DeadlineExceeded.
        """
        board = Parameters(**asdict(model), cores=cores, time_scale=time_scale)
        self._request("configure", parameters=asdict(board), period_s=period_s)
        self._control("board on")
        if not wait_until(lambda: self._request("state")["count"] > 0, START_TIMEOUT_S):
            raise DeadlineExceeded(
                f"its board model did not start within {START_TIMEOUT_S:g} s",
                where=self._name,
                next_step="Look at /run/hil/firmware.log on the board (`harness devices ssh`).",
            )

    def stop(self) -> None:
        """End the board model; what it throttled runs at full speed again, and the chips fall silent.

        Raises DeadlineExceeded. The LTC4151's driver shows its last reading for another sixth of a second.
        """
        self._control("board off")
        if not wait_until(lambda: self.read_model() is None, ANSWER_TIMEOUT_S):
            raise DeadlineExceeded(
                f"its board model was still heard {ANSWER_TIMEOUT_S:g} s after its end", where=self._name
            )

    def read_model(self) -> ModelReading | None:
        """Return the model's last reading without touching the bus; None: it isn't running."""
        reading = self._request("state")["reading"]
        return None if reading is None else ModelReading(**reading)

    def read_steps(self, after_ns: int = 0) -> tuple[ModelReading, ...]:
        """Return every step of the running model later than `after_ns`, of the last 1000 s of guest time.

        Guest time can pass faster than a poll of `read_model` follows.
        """
        return tuple(ModelReading(**step) for step in self._request("steps", after_ns=after_ns)["steps"])

    def set_ambient(self, temp_c: float) -> None:
        """Move the running board into air of `temp_c`, as a chamber would."""
        self._request("ambient", ambient_c=temp_c)

    def nak(self, chip: str) -> None:
        """Have a chip answer nothing; the guest's reads fail with ENXIO."""
        self._fault("nak", chip)

    def stick(self, chip: str) -> None:
        """Have a chip show its present value for ever."""
        self._fault("stick", chip)

    def spike(self, chip: str, factor: float, *, readings: int = 1) -> None:
        """Have a chip show `factor` times its temperature or current, now and for `readings` in all."""
        self._fault("spike", chip, factor=factor, readings=readings)

    def heal(self, chip: str) -> None:
        """End every fault of a chip."""
        self._fault("heal", chip)

    def unplug(self) -> None:
        """Pull the bus out of the board: its chips, their drivers and /dev/i2c-* go."""
        self._request("unplug")

    def plug(self) -> None:
        """Put the bus back; returns once its chips' drivers are bound again."""
        self._request("plug")
        self._control("sensors")

    def _fault(self, name: str, chip: str, **values: float) -> None:
        if chip not in CHIPS:
            raise ConfigError(f"no chip `{chip}`{nearest(chip, CHIPS)}", where=self._name)
        self._request(name, chip=chip, **values)

    def _request(self, name: str, **values: Any) -> dict[str, Any]:
        line = json.dumps({"op": name, **values}).encode() + b"\n"
        try:
            with connect_unix(self._path) as stream:
                stream.settimeout(ANSWER_TIMEOUT_S)
                stream.sendall(line)
                received = b""
                while not received.endswith(b"\n"):
                    data = stream.recv(65536)
                    if not data:
                        raise ConnectionResetError("it closed the connection")
                    received += data
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"its sensors did not answer `{name}` within {ANSWER_TIMEOUT_S:g} s", where=self._name
            ) from error
        except OSError as error:
            raise ConnectionLost(f"its sensors are not there ({error}).", where=self._name) from error
        answer: dict[str, Any] = json.loads(received)
        if not answer.get("ok"):
            raise DeviceError(f"its sensors refused `{name}`: {answer.get('message')}", where=self._name)
        return answer
