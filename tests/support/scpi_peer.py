"""A bench supply and a chamber that speak SCPI on a TCP port: a process of its own, as a real one would be.

    python scpi_peer.py

prints its port. It obeys `TEST:` commands that make it fail, from then on for every connection:

    TEST:MODE ok | mute | garbage | overload | hangup
    TEST:AIR degrees

and answers `TEST:COUNT?` with how many measurements it was asked for. Its air moves by 5 °C whenever it is
asked.
"""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IDN = "EXAMPLE INSTRUMENTS,PSU-3,SN0042,1.07"
ANSWERS = {"MEAS:POW?": "+4.20000E+00", "MEAS:VOLT?": "5.00", "MEAS:CURR?": "8.400E-01A"}
STEP_C = 5.0
LONG_S = 60.0


class Bench:
    """The state that all connections share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.mode = "ok"
        self.count = 0
        self.air_c = 23.0
        self.set_c = 23.0

    def answer(self, line: str) -> str | None:
        """Return the answer to a line, None where there is none. Raises EOFError to hang up."""
        with self.lock:
            if line.startswith("TEST:MODE "):
                self.mode = line.split(" ", 1)[1]
                return None
            if line.startswith("TEST:AIR "):
                self.air_c = self.set_c = float(line.split(" ", 1)[1])
                return None
            if line == "TEST:COUNT?":
                return str(self.count)
            return self._measure(line)

    def _measure(self, line: str) -> str | None:
        if self.mode == "hangup":
            raise EOFError
        if self.mode == "mute":
            return None
        if line == "*IDN?":
            return IDN
        if line.startswith("SOURCE:CLOOP1:SPOINT "):
            self.set_c = float(line.split(" ", 1)[1])
            return None
        if not line.endswith("?"):
            return None
        self.count += 1
        if self.mode == "garbage":
            return "Ohm's law"
        if self.mode == "overload":
            return "9.9E37"
        if line == "SOURCE:CLOOP1:PVALUE?":
            self.air_c += max(-STEP_C, min(STEP_C, self.set_c - self.air_c))
            return f"{self.air_c:.1f}"
        return ANSWERS.get(line)


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for raw in self.rfile:
            try:
                answer = self.server.bench.answer(raw.decode().strip())  # type: ignore[attr-defined]
            except EOFError:
                return
            if answer is not None:
                self.wfile.write(answer.encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.bench = Bench()


@contextmanager
def running_peer() -> Iterator[int]:
    """Start the process; yield its port."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__))], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    with _Server() as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
