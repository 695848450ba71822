"""The process beside one QEMU that serves its I2C bus and the port of its firmware.

Runs as `python -I -S`, standard library only; the keeper starts it with its listening sockets and ends it
with QEMU. Three sockets: QEMU's usb-redir connects to `usb`, the firmware's port to `board`, the harness to
`chips`, where one line of JSON asks for something and one answers.
"""

from __future__ import annotations

import collections
import json
import selectors
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .i2c_chips import Bus, Faulty, Reading
from .usbredir import Adapter, ProtocolError

MAX_LINE_BYTES = 1 << 16
KEPT_STEPS = 10_000  # chosen: 1000 s of guest time, under 2 MB


def take_lines(received: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return (the whole lines as objects, the rest). What isn't a JSON object is left out: a cut line."""
    *lines, rest = received.split(b"\n")
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found, rest[-MAX_LINE_BYTES:]


class Board:
    """The bus, what the firmware says, and what the harness asks for."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.adapter: Adapter | None = None
        self.to_guest: Callable[[bytes], None] = lambda data: None  # on the firmware's port
        self.to_usb: Callable[[bytes], None] = lambda data: None
        self.configuration: dict[str, Any] | None = None
        self.reading: dict[str, Any] | None = None  # the firmware's last, and what the chips make of it
        self.ambient_c: float | None = None
        self.is_plugged = True
        self.count = 0  # of the firmware's readings
        self.steps: collections.deque[dict[str, Any]] = collections.deque(maxlen=KEPT_STEPS)

    def new_adapter(self) -> Adapter:
        """Return the adapter for a new connection of QEMU's."""
        self.adapter = Adapter(self.bus, on_reset=self.forget)
        self.is_plugged = True
        return self.adapter

    def forget(self) -> None:
        """The guest boots, or its firmware has ended: nothing is measured any more."""
        self.reading = None
        self.steps.clear()
        self.bus.set(None)

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take one line of the firmware's."""
        if "hello" in message:
            if self.configuration is not None:
                self.tell(self.configuration)
        elif "bye" in message:
            self.forget()
        else:
            self.count += 1
            self.reading = dict(message)
            self.steps.append(self.reading)
            self.show()
            self.note()

    def note(self) -> None:
        """Put beside the firmware's last reading what INA219 and LM75 show of it, faults included.

        The host reads them so: a read by the guest takes time from the core that is measured.
        """
        if self.reading is None:
            return
        chips = self.bus.chips if self.is_plugged else {}
        power, temp = (chips[name].shown if name in chips else None for name in ("ina219", "lm75"))
        self.reading["ambient_c"] = self.ambient_c
        self.reading["shown_power_w"] = None if power is None else power.voltage_v * power.current_a
        self.reading["shown_temp_c"] = None if temp is None else temp.temp_c

    def show(self) -> None:
        """Have the chips show the firmware's last reading."""
        if self.reading is None or self.configuration is None:
            return
        volts = float(self.configuration["parameters"]["supply_voltage_v"])
        self.bus.set(Reading(self.reading["temp_c"], volts, self.reading["power_w"] / volts))

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line to the firmware."""
        self.to_guest(json.dumps(message).encode() + b"\n")

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request of the harness."""
        try:
            return {"ok": True, **self._answer(request)}
        except (KeyError, ValueError, TypeError) as error:
            return {"ok": False, "message": f"{type(error).__name__}: {error}"}

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        name = request["op"]
        if name == "configure":
            self.configuration = {k: request[k] for k in ("parameters", "period_s")}
            self.ambient_c = request["parameters"].get("ambient_c")
            self.count = 0
            if self.reading is not None:  # the firmware runs already: the machine was restored with it
                self.tell(self.configuration)
        elif name == "state":
            return {"reading": self.reading, "count": self.count, "transfers": self._transfers()}
        elif name == "steps":
            after_ns = int(request["after_ns"])
            return {"steps": [step for step in self.steps if step["at_ns"] > after_ns]}
        elif name == "ambient":
            self.ambient_c = float(request["ambient_c"])
            self.tell({"ambient_c": self.ambient_c})
        elif name in ("unplug", "plug"):
            if self.adapter is None:
                raise ValueError("QEMU has not connected to the bus")
            self.to_usb(self.adapter.unplug() if name == "unplug" else self.adapter.plug())
            self.is_plugged = name == "plug"
            self.note()
        else:
            self._fault(name, self.bus.chips[request["chip"]], request)
        return {}

    def _fault(self, name: str, chip: Faulty, request: Mapping[str, Any]) -> None:
        if name == "nak":
            chip.is_silent = True
        elif name == "stick":
            chip.is_stuck = True
        elif name == "spike":
            chip.spike(float(request["factor"]), int(request["readings"]))
            self.show()
        elif name == "heal":
            chip.heal()
            self.show()
        else:
            raise ValueError(f"unknown request {name!r}")
        self.note()

    def _transfers(self) -> int:
        return 0 if self.adapter is None else self.adapter.transfers


class Server:
    """The three sockets."""

    def __init__(self, listeners: Mapping[str, socket.socket]) -> None:
        self.board = Board()
        self._selector = selectors.DefaultSelector()
        accept = {"usb": self._accept_usb, "board": self._accept_board, "chips": self._accept_chips}
        for name, listener in listeners.items():
            self._selector.register(listener, selectors.EVENT_READ, self._acceptor(listener, accept[name]))

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _acceptor(
        self, listener: socket.socket, open_: Callable[[socket.socket], Callable[[bytes], None]]
    ) -> Callable[[], None]:
        def accept() -> None:
            stream, _ = listener.accept()
            receive = open_(stream)
            self._selector.register(stream, selectors.EVENT_READ, lambda: self._read(stream, receive))

        return accept

    def _read(self, stream: socket.socket, receive: Callable[[bytes], None]) -> None:
        try:
            data = stream.recv(65536)
            if data:
                receive(data)
                return
        except (OSError, ProtocolError) as error:
            print(f"sensors: {error}", file=sys.stderr, flush=True)
        self._selector.unregister(stream)
        stream.close()

    def _accept_usb(self, stream: socket.socket) -> Callable[[bytes], None]:
        adapter = self.board.new_adapter()
        self.board.to_usb = stream.sendall
        return lambda data: stream.sendall(adapter.receive(data))

    def _accept_board(self, stream: socket.socket) -> Callable[[bytes], None]:
        self.board.to_guest = stream.sendall
        return self._by_line(self.board.hear)

    def _accept_chips(self, stream: socket.socket) -> Callable[[bytes], None]:
        stream.settimeout(5.0)  # a harness that doesn't read its answer

        def answer(request: dict[str, Any]) -> None:
            stream.sendall(json.dumps(self.board.answer(request)).encode() + b"\n")

        return self._by_line(answer)

    @staticmethod
    def _by_line(take: Callable[[dict[str, Any]], None]) -> Callable[[bytes], None]:
        rest = b""

        def receive(data: bytes) -> None:
            nonlocal rest
            lines, rest = take_lines(rest + data)
            for line in lines:
                take(line)

        return receive


def main(arguments: list[str]) -> int:
    """Serve the sockets named as NAME=DESCRIPTOR."""
    listeners = {}
    for word in arguments:
        name, _, number = word.partition("=")
        listeners[name] = socket.socket(fileno=int(number))
    Server(listeners).run()
    return 0
