"""A VISA resource that is asked line by line: opened when first needed, and anew after a failure.

PyVISA with pyvisa-py (pure Python: TCP sockets, USB, serial, GPIB where their packages are installed). Both
are an optional extra of this package: `instruments`.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
from typing import Any

from harness.errors import ConfigError, ConnectionLost, DataError, DeadlineExceeded, HostSetupError

# SCPI-1999, volume 1, section 7.2.1: 9.9E37 stands for infinity, 9.91E37 for "not a number"
_SCPI_INFINITY, _SCPI_NAN = 9.9e37, 9.91e37
_SOCKET = re.compile(r"TCPIP\d*::(?P<host>[^:]+|\[[^]]+\])::(?P<port>\d+)::SOCKET", re.IGNORECASE)
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?:[A-Za-z°%]+)?\s*")
_SHOWN_CHARS = 80


def parse_scpi_number(text: str, where: str, query: str) -> float:
    """Return the number of an answer (NR1, NR2 or NR3; a unit may follow). Raises DataError."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise DataError(f"answered {text[:_SHOWN_CHARS]!r} to `{query}`, expected a number.", where=where)
    value = float(match[1])
    if abs(value) in (_SCPI_INFINITY, _SCPI_NAN):
        word = "overload" if abs(value) == _SCPI_INFINITY else "no measurement"
        raise DataError(f"answered {text.strip()} to `{query}`: {word}.", where=where)
    if not math.isfinite(value):
        raise DataError(
            f"answered {text[:_SHOWN_CHARS]!r} to `{query}`, which is no finite number.", where=where
        )
    return value


class VisaLine:
    """One resource. Not for two threads at once. `library` is PyVISA's: "@py", "@sim", a file of either."""

    def __init__(self, address: str, *, library: str, timeout_s: float, where: str) -> None:
        self.where = where
        self._address = address
        self._library = library
        self._timeout_s = timeout_s
        self._resource: Any = None
        self._manager: Any = None

    def query(self, text: str) -> str:
        """Return the answer to one line. Raises ConnectionLost, DeadlineExceeded; also as `open` does."""
        self.open()
        errors = _pyvisa().errors
        try:
            return str(self._resource.query(text))
        except (errors.VisaIOError, errors.InvalidSession, OSError, UnicodeDecodeError) as error:
            raise self._failed(text, error) from error

    def write(self, text: str) -> None:
        """Send one line that has no answer. Raises as `query` does."""
        self.open()
        errors = _pyvisa().errors
        try:
            self._resource.write(text)
        except (errors.VisaIOError, errors.InvalidSession, OSError) as error:
            raise self._failed(text, error) from error

    def _failed(self, text: str, error: Exception) -> DeadlineExceeded | ConnectionLost:
        # an answer that comes late would be taken for the next question's: begin anew
        self.close()
        if "VI_ERROR_TMO" in str(error):
            return DeadlineExceeded(
                f"no answer to `{text}` within {self._timeout_s:g} s (timeout_s).",
                where=self.where,
                next_step="Check that the meter knows this command and that nobody else talks to it.",
            )
        return ConnectionLost(
            f"`{text}` failed: {error}.", where=self.where, next_step="Check the meter and its cable."
        )

    def open(self) -> None:
        """Connect if that isn't done. Raises HostSetupError without PyVISA, ConfigError for an address that
        is none, ConnectionLost when nobody answers there."""
        if self._resource is not None:
            return
        pyvisa = _pyvisa()
        self._look(self._address)
        try:
            self._manager = pyvisa.ResourceManager(self._library)
        except (OSError, ValueError) as error:
            raise ConfigError(f"VISA library {self._library!r}: {error}.", where=self.where) from error
        timeout_ms = math.ceil(self._timeout_s * 1000)
        try:
            self._resource = self._manager.open_resource(
                self._address,
                open_timeout=timeout_ms,
                timeout=timeout_ms,
                read_termination="\n",
                write_termination="\n",
            )
        except (pyvisa.errors.VisaIOError, OSError) as error:
            self.close()
            raise ConnectionLost(
                f"{self._address} can't be opened: {error}.",
                where=self.where,
                next_step="Check its address and that it is on.",
            ) from error
        except (ValueError, pyvisa.errors.Error) as error:
            self.close()
            raise ConfigError(f"{self._address} is no VISA address: {error}.", where=self.where) from error

    def _look(self, address: str) -> None:
        """Raise ConnectionLost where nobody listens: pyvisa-py 0.8 opens a socket without telling."""
        match = _SOCKET.fullmatch(address)
        if match is None or not self._library.endswith("@py"):
            return
        host, port = match["host"].strip("[]"), int(match["port"])
        try:
            socket.create_connection((host, port), timeout=self._timeout_s).close()
        except OSError as error:
            raise ConnectionLost(
                f"no connection to {host} port {port}: {error}.",
                where=self.where,
                next_step="Check its address and that it is on.",
            ) from error

    def close(self) -> None:
        """Let go of the resource. Safe to call twice."""
        resource, manager = self._resource, self._manager
        self._resource = self._manager = None
        for held in (resource, manager):
            if held is not None:
                # a session that the peer has ended can't be closed in order; nothing is left of it either way
                with contextlib.suppress(OSError, _pyvisa().errors.Error):
                    held.close()


def _pyvisa() -> Any:
    try:
        import pyvisa
    except ImportError:
        raise HostSetupError(
            "PyVISA is not installed.", next_step="Run: pip install 'hil-harness[instruments]'."
        ) from None
    return pyvisa
