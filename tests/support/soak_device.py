"""A device as a soak's collector meets it: the agent's own soak ops over a folder, without a process.

Its runner is the test: it grows the spool by `put`. The link can be cut for some visits.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.soak.folder import SoakFolder
from harness.agent.soak.hooks import BootHooks
from harness.agent.soak.ops import SOAK_OPS, Place
from harness.errors import ConnectionLost
from harness.remote.failures import to_error
from harness.remote.requests import Reply
from harness.remote.soak import SoakClient
from support import soak_specs, spools

SOAK_ID = "20250101-000000-abcd"


def spec(soak_id: str = SOAK_ID, **changes: Any) -> dict[str, Any]:
    """Return a spec that the device takes: its channels are those of `spools`."""
    channels = [dict(channel) for channel in spools.CHANNELS]
    restart = {"crash": True, "reboot": True, "max_per_h": 3}
    return soak_specs.spec(**{"id": soak_id, "channels": channels, "restart": restart, **changes})


class SoakDevice:
    """One device with one soak on it; an agent of it answers while a `visit` lasts."""

    def __init__(self, home: Path, **changes: Any) -> None:
        self.home = home
        self.spec = spec(**changes)
        self.started = 0
        self.requests: list[str] = []
        self.cut_visits = 0  # so many more visits fail
        self.busy = 0  # so many more reads meet another agent at the same moment
        self.living = False  # whether its runner lives
        self.start_lives = True  # whether one that is started goes on living
        self.on_stop: Callable[[str], None] = lambda reason: None  # what its runner does then
        self._lock: int | None = None
        (home / "envs").mkdir(parents=True)
        self.request("soak_start", {"spec": self.spec})
        self.started, self.living = 0, False

    @property
    def folder(self) -> SoakFolder:
        return SoakFolder(str(self.home), self.spec["id"])

    @property
    def spool(self) -> Path:
        return Path(self.folder.spool_path)

    def segment(self, number: int) -> Path:
        return self.spool / f"{number:08d}.seg"

    def put(self, segments: Sequence[bytes], *, first: int = 1) -> None:
        """Have the spool hold these segments."""
        self.spool.mkdir(exist_ok=True)
        for number, data in enumerate(segments, first):
            self.segment(number).write_bytes(data)

    def put_records(self, records: Sequence[spools.Record], segment_bytes: int = 3000) -> None:
        self.put(list(spools.segments(records, segment_bytes)))

    def beat(self, **values: Any) -> None:
        """Write the runner's heartbeat."""
        (Path(self.folder.path) / "runner.json").write_text(json.dumps(values))

    def request(
        self, op: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Reply:
        """Answer as an agent does."""
        self.requests.append(op)
        if self.busy and op == "soak_read":
            self.busy -= 1
            raise to_error({"kind": "busy", "message": "another agent holds collector.lock"}, op, "device")
        if op == "soak_stop":
            self.on_stop(str((args or {})["reason"]))
        self._hold_lock(self.living)
        place = Place(str(self.home), "agent.pyz", self._start_runner, _NoHooks)
        try:
            answer = SOAK_OPS[op](place, Args(op, dict(args or {})))
        except Fault as fault:
            raise to_error({"kind": fault.kind, "message": str(fault)}, op, "device") from fault
        found, payload = answer if isinstance(answer, tuple) else (answer, b"")
        return Reply(json.loads(json.dumps(found)), payload)

    @contextlib.contextmanager
    def visit(self) -> Iterator[SoakClient]:
        """Yield its soaks as an open connection shows them."""
        if self.cut_visits:
            self.cut_visits -= 1
            raise ConnectionLost("no route to host", where="device")
        yield SoakClient(self)

    def _start_runner(self, folder: SoakFolder, location: str) -> int:
        self.started += 1
        self.living = self.start_lives
        return 1000 + self.started

    def _hold_lock(self, wanted: bool) -> None:
        """Have the runner's lock held, as by a living runner, or free."""
        if wanted and self._lock is None:
            self._lock = self.folder.take_lock()
        elif not wanted and self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _NoHooks(BootHooks):
    """Leaves the crontab of whoever runs the tests alone."""

    def install(self, soak_id: str, argv: list[str]) -> None:
        return None

    def remove(self, soak_id: str) -> None:
        return None
