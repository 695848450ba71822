"""A climatic chamber by SCPI: set a temperature, wait until it holds, run, and on to the next.

The defaults are the commands of Watlow's F4T controller (its User's Guide, "SCPI": SOURCE:CLOOP1:SPOINT
sets the first loop's set point, SOURCE:CLOOP1:PVALUE? reads its process value); devices.toml names those of
others.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.errors import ConfigError, DeadlineExceeded
from harness.instruments.base import Context, InstrumentKind, find_channel
from harness.instruments.options import make_channel, parse_common, parse_uncertainty
from harness.instruments.polling import Poller
from harness.instruments.scpi import open_line, parse_line
from harness.instruments.visa import parse_scpi_number
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Reading
from harness.toml_schema import Section

SET_COMMAND = "SOURCE:CLOOP1:SPOINT {temp_c:.1f}"
READ_QUERY = "SOURCE:CLOOP1:PVALUE?"
CHANNEL = "temp_c"
POLL_S = 5.0  # chosen: a chamber moves by a few degrees a minute
STABLE_S = 300.0  # chosen: some time constants of a small board, so that the board follows the air
SETTLE_TIMEOUT_S = 2 * 3600.0
TOLERANCE_C = 0.5  # what such chambers hold

Result = TypeVar("Result")


@dataclass(frozen=True)
class ChamberRun(Generic[Result]):
    """What ran at one temperature."""

    asked_temp_c: float
    before_temp_c: float  # when it began, and when it had ended
    after_temp_c: float
    result: Result


def _parse(section: Section) -> Mapping[str, Any]:
    options: dict[str, Any] = {
        **parse_line(section),
        **parse_common(section, rate_hz=1.0, boundary="chamber"),
        **parse_uncertainty(section),
        "set_command": section.text("set_command") or SET_COMMAND,
        "read_query": section.text("read_query") or READ_QUERY,
        "min_temp_c": section.quantity("min_temp", "°C", required=True),
        "max_temp_c": section.quantity("max_temp", "°C", required=True),
        "rest_temp_c": section.quantity("rest_temp", "°C"),
        "tolerance_c": section.quantity("tolerance", "°C", at_least=0.01) or TOLERANCE_C,
        "stable_for_s": section.quantity("stable_for_s", "s", at_least=0),
        "settle_timeout_s": section.quantity("settle_timeout_s", "s", at_least=1) or SETTLE_TIMEOUT_S,
    }
    if options["stable_for_s"] is None:
        options["stable_for_s"] = STABLE_S
    _check_command(section, options["set_command"])
    low, high = options["min_temp_c"], options["max_temp_c"]
    if low is not None and high is not None:
        if low >= high:
            section.problem("max_temp", f"expected more than min_temp ({low:g} °C), got {high:g}")
        rest = options["rest_temp_c"]
        if rest is not None and not low <= rest <= high:
            section.problem("rest_temp", f'expected "{low:g} °C" to "{high:g} °C", got {rest:g}')
    return options


def _check_command(section: Section, command: str) -> None:
    what = f"expected one place `{{temp_c}}` or `{{temp_c:.1f}}` for the temperature, got {command!r}"
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(command) if name is not None]
        if fields == ["temp_c"]:
            command.format(temp_c=20.0)
            return
    except ValueError as error:
        what = f"{what} ({error})"
    section.problem("set_command", what)


class Chamber:
    """The chamber, and its air's temperature as a channel. Opened at once."""

    def __init__(self, spec: InstrumentSpec, context: Context) -> None:
        options = spec.options
        self.name = spec.name
        self._options = options
        self._where = spec.where or spec.name
        self._clock_ns, self._sleep = context.clock_ns, context.sleep
        source = f"{options['address']} {options['read_query']}"
        self._channels = (make_channel(options, CHANNEL, "air", ChannelKind.TEMP_C, source),)
        self._poller = Poller(
            self.name,
            lambda channels: [self.read_temp_c() for _ in channels],
            clock_ns=context.clock_ns,
            timeout_s=float(options["timeout_s"]),
            stale_s=options["stale_after_s"],
        )
        self._line = open_line(spec)

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        self._poller.start(self._channels, channel_ids, rate_hz)

    def stop(self) -> tuple[Capture, ...]:
        return self._poller.stop()

    def read(self, channel_id: str) -> Reading:
        return self._poller.read(find_channel(self.name, self._channels, channel_id))

    def read_temp_c(self) -> float:
        """Return the air's temperature in degrees C."""
        query = self._options["read_query"]
        return parse_scpi_number(self._line.query(query), self._where, query)

    def set_temp_c(self, temp_c: float) -> None:
        """Set the temperature to reach. Raises ConfigError beyond `min_temp` or `max_temp`."""
        low, high = self._options["min_temp_c"], self._options["max_temp_c"]
        if not low <= temp_c <= high:
            raise ConfigError(
                f"{temp_c:g} °C is not within {low:g} to {high:g} °C (min_temp, max_temp).", where=self._where
            )
        self._line.write(self._options["set_command"].format(temp_c=temp_c))

    def wait_until_stable(self, temp_c: float) -> float:
        """Wait until the air has kept within `tolerance` of `temp_c` for `stable_for_s`; return where it is.

        Raises DeadlineExceeded after `settle_timeout_s`.
        """
        options = self._options
        began_ns = self._clock_ns()
        inside_ns: int | None = None
        while True:
            now_c, now_ns = self.read_temp_c(), self._clock_ns()
            if abs(now_c - temp_c) > options["tolerance_c"]:
                inside_ns = None
            elif inside_ns is None:
                inside_ns = now_ns
            if inside_ns is not None and now_ns - inside_ns >= options["stable_for_s"] * 1e9:
                return now_c
            if now_ns - began_ns > options["settle_timeout_s"] * 1e9:
                raise self._not_stable(temp_c, now_c)
            self._sleep(POLL_S)

    def _not_stable(self, temp_c: float, now_c: float) -> DeadlineExceeded:
        cap_s, held_s = self._options["settle_timeout_s"], self._options["stable_for_s"]
        return DeadlineExceeded(
            f"the air is at {now_c:.1f} °C after {cap_s:g} s, expected {temp_c:g} ± "
            f"{self._options['tolerance_c']:g} °C for {held_s:g} s.",
            where=self._where,
            next_step="Check its door and its load, or raise settle_timeout_s.",
        )

    def run_at(
        self, temps_c: Sequence[float], run: Callable[[float], Result]
    ) -> tuple[ChamberRun[Result], ...]:
        """Run once at each temperature, in this order, and return what came of it.

        All temperatures are checked before the first is set. At the end, also of a failure, the chamber is
        set to `rest_temp` where one is given; nobody waits for it.
        """
        low, high = self._options["min_temp_c"], self._options["max_temp_c"]
        beyond = [f"{t:g}" for t in temps_c if not low <= t <= high]
        if beyond:
            raise ConfigError(
                f"{', '.join(beyond)} °C: not within {low:g} to {high:g} °C (min_temp, max_temp).",
                where=self._where,
            )
        done = []
        try:
            for temp_c in temps_c:
                self.set_temp_c(temp_c)
                before_c = self.wait_until_stable(temp_c)
                result = run(temp_c)
                done.append(ChamberRun(temp_c, before_c, self.read_temp_c(), result))
        finally:
            if self._options["rest_temp_c"] is not None:
                self.set_temp_c(self._options["rest_temp_c"])
        return tuple(done)

    def close(self) -> None:
        try:
            self._poller.close()
        finally:
            self._line.close()


KIND = InstrumentKind(parse=_parse, open=Chamber)
