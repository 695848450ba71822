"""The whole exception tree. Every error a user can meet is one of these.

    HarnessError
    ├── ConfigError            a file or an option is wrong; nothing was measured
    │   ├── UnknownDevice      no such device; carries the names that exist
    │   └── HostSetupError     the host lacks a package or a right
    ├── TransientError         the lab failed; trying again may help
    │   ├── ConnectionLost     could not connect, or the peer went away
    │   ├── DeadlineExceeded   a remote wait passed its limit
    │   └── DeviceBusy         another process holds the unit
    ├── DeviceError            the device answered, and the answer is a failure
    │   ├── HostKeyError       its SSH host key is unknown or changed (never retried)
    │   ├── AuthenticationError  it refused our key (never retried)
    │   ├── CommandFailed      a command exited non-zero
    │   ├── DeviceFull         not enough room on the device's disk
    │   ├── Unsupported        it lacks a capability that was asked for
    │   ├── RuntimeUnavailable the runtime environment can't be made or imported there
    │   ├── AgentError         the agent raised
    │   ├── FencedError        another collector took this soak over (never retried)
    │   └── ModelRejected      the runtime refuses the model: the model's failure, not the lab's
    └── DataError              bytes are not what they should be
        ├── WireError          a bad frame from the agent
        └── StoredRunError     a stored run can't be read

A message says where, what, observed against expected, and the next step. `docs/errors.md` lists each
slug with its exit code; a test keeps page and tree together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_USAGE = 4  # pytest's own number; the `harness` command uses its parser's 2
EXIT_INCONCLUSIVE = 10
EXIT_INVALID = 11
EXIT_INFRA = 75  # EX_TEMPFAIL of sysexits.h: try again


class HarnessError(Exception):
    """Root of all errors the harness raises on purpose.

    `where` names the file, key, device or run; `next_step` is what the reader can do. Both are part of
    the text. `slug` is the heading in docs/errors.md, `exit_code` what a session ends with because of it.
    """

    slug = "harness-error"
    exit_code = EXIT_INFRA

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.next_step = next_step
        super().__init__(what, where, next_step)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.next_step:
            return text
        stop = "" if text.endswith((".", "!", "?", "\n")) else "."
        return f"{text}{stop} {self.next_step}"


class ConfigError(HarnessError):
    """A configuration is wrong. `problems` holds every problem found, each with its place."""

    slug = "config"
    exit_code = EXIT_USAGE

    def __init__(self, what: str | Sequence[str], *, where: str = "", next_step: str = "") -> None:
        self.problems: tuple[str, ...] = (what,) if isinstance(what, str) else tuple(what)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            text = f"{len(self.problems)} problems:\n" + "\n".join(f"  - {p}" for p in self.problems)
        super().__init__(text, where=where, next_step=next_step)


class UnknownDevice(ConfigError):
    slug = "unknown-device"


class HostSetupError(ConfigError):
    slug = "host-setup"
    exit_code = EXIT_INFRA


class TransientError(HarnessError):
    slug = "transient"
    exit_code = EXIT_INFRA


class ConnectionLost(TransientError):
    slug = "connection-lost"


class DeadlineExceeded(TransientError):
    slug = "deadline-exceeded"


class DeviceBusy(TransientError):
    slug = "device-busy"


class DeviceError(HarnessError):
    """The device answered with a failure. `details`: what it gave with it, e.g. of a process that died."""

    slug = "device"
    exit_code = EXIT_INFRA

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        next_step: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.details = dict(details or {})


class HostKeyError(DeviceError):
    slug = "host-key"


class AuthenticationError(DeviceError):
    slug = "authentication"


class CommandFailed(DeviceError):
    """A command on the device exited non-zero. Carries `argv`, `returncode`, `stderr` (its tail)."""

    slug = "command-failed"

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str, *, where: str = "") -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr
        tail = stderr.strip()[-400:]
        what = f"{argv[0]} exited with {returncode}, expected 0: {tail or '(no output)'}"
        super().__init__(what, where=where)


class DeviceFull(DeviceError):
    slug = "device-full"


class Unsupported(DeviceError):
    slug = "unsupported"


class RuntimeUnavailable(DeviceError):
    slug = "runtime-unavailable"


class AgentError(DeviceError):
    slug = "agent-error"


class FencedError(DeviceError):
    slug = "fenced"


class ModelRejected(DeviceError):
    """The runtime on the device refuses to load or run the model: FAIL, not a lab failure."""

    slug = "model-rejected"
    exit_code = EXIT_FAIL


class DataError(HarnessError):
    slug = "data"
    exit_code = EXIT_INVALID


class WireError(DataError):
    slug = "wire"
    exit_code = EXIT_INFRA


class StoredRunError(DataError):
    slug = "stored-run"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return '; did you mean `x`?' for the closest valid name, else the list of valid ones."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; valid: {', '.join(names)}" if names else ""
