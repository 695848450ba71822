"""Who holds which unit on this host: one row per unit in SQLite, tied to the process that holds it.

A holder that died (killed, crashed, or gone with a reboot) holds nothing: the next one takes over. Each
lease has a fencing token, larger than any before it for that unit, so that work done under an old lease
can be told from work done under the present one. Leases over many hosts are the lab's job.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import DataError, DeviceBusy, HarnessError, HostSetupError
from harness.model import Device

ENV_VARIABLE = "HIL_HARNESS_STATE"
POLL_S = 0.5  # chosen: how often a wait looks again
_LOCK_TIMEOUT_S = 10.0  # chosen: a transaction here takes milliseconds

_HOLDER_COLUMNS = "pid, start_ticks, boot_id, pid_namespace, purpose, acquired_at"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    device TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    pid_namespace TEXT NOT NULL,
    purpose TEXT NOT NULL,
    acquired_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tokens (device TEXT PRIMARY KEY, last INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Holder:
    """A process, told from any later one of the same number by when it started and in which boot."""

    pid: int
    start_ticks: int  # since boot: proc(5), /proc/PID/stat, field 22
    boot_id: str
    pid_namespace: str  # numbers of another one mean nothing here
    purpose: str = ""
    acquired_at: str = ""

    def __str__(self) -> str:
        what = f", {self.purpose}" if self.purpose else ""
        return f"process {self.pid} since {self.acquired_at}{what}"


@dataclass(frozen=True)
class Lease:
    """A held unit. `token` is 0 for a unit that needs no lease."""

    device: Device
    token: int


def needs_lease(device: Device) -> bool:
    """Return whether only one session may use `device` at a time.

    An emulated unit is a recipe: each session boots a machine of its own. Everything else is one thing,
    this host too, whose processors two measurements would share.
    """
    return device.kind != "qemu"


def default_path() -> Path:
    """Return the host's lease file: under $HIL_HARNESS_STATE, else the platform's state folder."""
    if set_by_user := os.environ.get(ENV_VARIABLE):
        return Path(set_by_user) / "leases.sqlite"
    import platformdirs

    return Path(platformdirs.user_state_path("hil-harness")) / "leases.sqlite"


@contextlib.contextmanager
def lease(
    candidates: Device | Sequence[Device],
    *,
    purpose: str = "",
    path: Path | None = None,
    wait_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Lease]:
    """Hold the first free unit of `candidates` for the length of a with block.

    Waits up to `wait_s` for one to come free, then raises DeviceBusy with who holds them. `purpose` is
    what others read about this holder.
    """
    devices = (candidates,) if isinstance(candidates, Device) else tuple(candidates)
    path = path or default_path()
    deadline = clock() + wait_s
    while (held := _acquire_first(devices, purpose, path)) is None:
        if clock() >= deadline:
            what = _busy_text(devices, path)
            raise DeviceBusy(what, next_step="Wait for that to end, or choose another unit.")
        sleep(min(POLL_S, max(0.0, deadline - clock())))
    try:
        yield held
    except BaseException as first:
        try:
            _release(held, path)
        except HarnessError as error:  # what ended the block matters more
            first.add_note(f"Releasing {held.device.name} failed too: {error}")
        raise
    _release(held, path)


def is_held(held: Lease, path: Path | None = None) -> bool:
    """Return whether `held` is still the unit's present lease; units without one are always free to use."""
    if not needs_lease(held.device):
        return True
    with _transaction(path or default_path()) as db:
        row = db.execute("SELECT token FROM leases WHERE device = ?", (held.device.name,)).fetchone()
    return row is not None and row[0] == held.token


def holders(path: Path | None = None) -> dict[str, Holder]:
    """Return who holds which unit now, dead holders left out."""
    path = path or default_path()
    if not path.exists():
        return {}
    with _transaction(path) as db:
        rows = db.execute(f"SELECT device, {_HOLDER_COLUMNS} FROM leases").fetchall()
    found = {str(device): Holder(*rest) for device, *rest in rows}
    return {device: holder for device, holder in found.items() if is_alive(holder)}


def _acquire_first(devices: Sequence[Device], purpose: str, path: Path) -> Lease | None:
    for device in devices:
        if not needs_lease(device):
            return Lease(device, 0)
        token = _acquire(device.name, purpose, path)
        if token is not None:
            return Lease(device, token)
    return None


def _acquire(name: str, purpose: str, path: Path) -> int | None:
    """Return the token of a new lease, None where a living process holds the unit."""
    me = this_process()
    acquired_at = datetime.now(UTC).isoformat(timespec="seconds")
    with _transaction(path) as db:
        row = db.execute(f"SELECT {_HOLDER_COLUMNS} FROM leases WHERE device = ?", (name,)).fetchone()
        if row is not None and is_alive(Holder(*row)):
            return None
        last = db.execute("SELECT last FROM tokens WHERE device = ?", (name,)).fetchone()
        token = 1 + (int(last[0]) if last else 0)
        db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (name, token))
        db.execute(
            f"INSERT OR REPLACE INTO leases (device, token, {_HOLDER_COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, token, me.pid, me.start_ticks, me.boot_id, me.pid_namespace, purpose, acquired_at),
        )
    return token


def _release(held: Lease, path: Path) -> None:
    if not needs_lease(held.device):
        return
    with _transaction(path) as db:
        # under another token the lease is another's by now
        db.execute("DELETE FROM leases WHERE device = ? AND token = ?", (held.device.name, held.token))


def _busy_text(devices: Sequence[Device], path: Path) -> str:
    by_name = holders(path)
    who = [f"{d.name} is held by {by_name[d.name]}" for d in devices if d.name in by_name]
    return "; ".join(who) + "." if who else "no unit to choose from."


@contextlib.contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file, hold its write lock for the block, commit; roll back on any error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise _unusable(path, error) from error
    try:
        db.executescript(_SCHEMA)
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from error
    except sqlite3.DatabaseError as error:
        raise DataError(
            f"the lease file is damaged: {error}.",
            where=str(path),
            next_step="When no session runs on this host, delete it.",
        ) from error
    finally:
        db.close()


def _unusable(path: Path, error: Exception) -> HostSetupError:
    return HostSetupError(
        f"the lease file can't be used: {error}.",
        where=str(path),
        next_step=f"Make its folder writable, or set {ENV_VARIABLE} to one that is.",
    )


# --- processes ------------------------------------------------------------------------------------


def this_process() -> Holder:
    """Return the calling process. Raises HostSetupError where /proc doesn't tell."""
    start_ticks = _read_start_ticks(os.getpid())
    if start_ticks is None:
        raise HostSetupError(
            "/proc doesn't show this process, so a lease can't be tied to it.",
            next_step=f"Leases need Linux with /proc mounted; this is {sys.platform}.",
        )
    return Holder(os.getpid(), start_ticks, _read_boot_id(), _read_pid_namespace())


def is_alive(holder: Holder) -> bool:
    """Return whether the process still runs; in doubt (another container's process) it does."""
    if holder.boot_id != _read_boot_id():
        return False
    if holder.pid_namespace != _read_pid_namespace():
        return True
    return _read_start_ticks(holder.pid) == holder.start_ticks


def _read_boot_id() -> str:
    # kernel: admin-guide/sysctl/kernel, random: boot_id
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read_pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _read_start_ticks(pid: int) -> int | None:
    """Return when process `pid` started, None where there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # field 2, the command in parentheses, may hold spaces and parentheses itself
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], int(fields[19])  # fields 3 and 22 of the whole line
    return None if state in ("Z", "X") else start_ticks
