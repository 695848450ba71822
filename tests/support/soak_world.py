"""A soak's runner among scripted children, on a clock of their own. The code of the calls is the real one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.agent.faults import Fault
from harness.agent.soak.calls import Caller
from harness.agent.soak.cycles import parse_cycle
from harness.agent.soak.disk import Disk
from harness.agent.soak.folder import SoakFolder
from harness.agent.soak.links import Happening
from harness.agent.soak.lives import Clocks, Life, begin_life
from harness.agent.soak.records import decode_line
from harness.agent.soak.runner import Runner
from harness.agent.soak.spec import parse_spec
from harness.agent.soak.spool import Spool
from harness.agent.soak.watch import Watch
from harness.agent.soak.writer import Writer
from harness.agent.wire import Frame
from support import soak_specs

S = 10**9
MS = 10**6
LOAD_NS = 2 * S  # how long a scripted child takes to load


class Death(BaseException):
    """The child dies here."""

    def __init__(self, **details: Any) -> None:
        self.details = {
            "signal": 11,
            "exit_code": None,
            "stderr_tail": "bad pointer\n",
            "oom": False,
        } | details


class Hang(BaseException):
    """The child answers no more."""


# what a child's call does: given its number (from 1) and its soak time, returns ns or raises
Call = Callable[[int, int], int]


class Local:
    """A child's own time: it goes on by itself, from when it is asked to when it answers."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.told = False

    def wait(self, duration_ns: int) -> None:
        self.now_ns += max(1, duration_ns)


@dataclass(eq=False)
class Child:
    """One scripted child; also the link to it."""

    world: World
    name: str
    call: Call
    setup_fault: Fault | None = None
    queue: list[tuple[int, Happening]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    calls: int = 0
    is_gone: bool = False
    _requests: int = 0
    _caller: Caller | None = None
    _epoch_ns: int = 0

    def __post_init__(self) -> None:
        self.local = Local()

    def send(self, op: str, args: dict[str, Any], payload: bytes = b"") -> int:
        self._requests += 1
        self.asked.append(op)
        self.local.now_ns = max(self.local.now_ns, self.world.now_ns)
        if not self.is_gone:
            try:
                self._answer(op, args)
            except Death as death:
                self._ends(f"died of signal {death.details['signal']}", death.details)
            except Hang:
                self.is_gone = True
        return self._requests

    def _answer(self, op: str, args: dict[str, Any]) -> None:
        if op == "load":
            self.local.wait(LOAD_NS)
            if self.setup_fault is not None:
                self._put(Frame(self._requests, "error", op, self.setup_fault.to_args()))
                return
        result: dict[str, Any] = {}
        if op == "soak_begin":
            self._epoch_ns = args["epoch_ns"]
            after_ns = args.get("after_ns", self._now_ns())
            schedule = parse_cycle(args["cycle"], "test")
            self._caller = Caller(self._make, schedule, after_ns, self._now_ns, self.local)  # type: ignore[arg-type]
            result = {"after_ns": after_ns}
            self.local.now_ns += self.world.begin_ns
        elif op == "soak":
            assert self._caller is not None
            result = self._caller.slice(args["until_ns"])
        self._put(Frame(self._requests, "result", op, result))

    def _now_ns(self) -> int:
        return self.local.now_ns - self._epoch_ns

    def _make(self) -> int:
        self.calls += 1
        duration_ns = self.call(self.calls, self._now_ns())
        self.local.wait(duration_ns)
        return duration_ns

    def _put(self, frame: Frame) -> None:
        self.queue.append((self.local.now_ns, Happening(self, frame, None)))

    def _ends(self, how: str, details: dict[str, Any]) -> None:
        self.is_gone = True
        fault = Fault("child_died", f"child `{self.name}` {how}", **details)
        self.queue.append((max(self.local.now_ns, self.world.now_ns), Happening(self, None, fault)))

    def end_slices(self) -> None:
        self.local.told = True
        self.queue = [(min(at, self.world.now_ns), happening) for at, happening in self.queue]

    def kill(self, why: str) -> None:
        self._ends("was ended by the agent: " + why, {"signal": 9, "killed_by_agent": True})

    def memory(self) -> dict[str, Any]:
        return {
            "rss_bytes": 1 << 20,
            "pss_bytes": 1 << 19,
            "private_dirty_bytes": 1 << 18,
            "fds": 3,
            "threads": 1,
        }

    def set_measured_pid(self, pid: int) -> None:
        raise AssertionError("no child here is a command")

    def terminate(self) -> None:
        self.is_gone = True

    def close(self) -> None:
        self.is_gone = True
        self.queue.clear()
        self.world.children.remove(self)


@dataclass
class World:
    """Clocks and children. `script(name, number)` is the call of the number-th child of that name."""

    script: Callable[[str, int], Call | Fault]
    now_ns: int = 5000 * S
    apart_ns: int = 10**18  # realtime − boottime
    at: dict[int, Callable[[World], None]] = field(default_factory=dict)  # what happens at boottimes
    children: list[Child] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    waits: int = 0
    begin_ns: int = 0  # how long a loaded child takes to begin

    def boottime_ns(self) -> int:
        return self.now_ns

    def realtime_ns(self) -> int:
        return self.now_ns + self.apart_ns

    def keep_log_small(self) -> None:
        return  # the log is this test's own

    def start(self, name: str, variant: Any, cpus: list[int]) -> Child:
        self.started.append(name)
        what = self.script(name, self.started.count(name))
        call = what if not isinstance(what, Fault) else (lambda _number, _t: 0)
        child = Child(self, name, call, what if isinstance(what, Fault) else None)
        self.children.append(child)
        child.send("start", {})
        return child

    def wait(self, until_ns: int) -> list[Happening]:
        self.waits += 1
        times = [*(at for child in self.children for at, _ in child.queue[:1]), *self.at]
        due_ns = min([*times, until_ns])
        self.now_ns = max(self.now_ns, due_ns)
        for at in [at for at in self.at if at <= self.now_ns]:
            self.at.pop(at)(self)
        for child in self.children:
            if child.queue and child.queue[0][0] <= self.now_ns:
                happening = child.queue.pop(0)[1]
                if happening.fault is not None:
                    self.children.remove(child)
                return [happening]
        return []


class Device:
    """What a device shows; `throttled_bits` is for the test to set."""

    def __init__(self) -> None:
        self.throttled_bits: int | None = None
        self.v: list[float | None] = []

    def device(self, apart_ns: int) -> dict[str, Any]:
        shown = {"realtime_minus_boottime_ns": apart_ns, "throttled_bits": self.throttled_bits}
        return shown | {"runner_cpu_ns": 1000}

    def values(self) -> list[float | None]:
        return list(self.v)


class Quick(Disk):
    """A disk that doesn't wait for the medium; `room_bytes` may be set."""

    def __init__(self, room_bytes: int | None = None) -> None:
        self.room_bytes = room_bytes

    def sync(self, descriptor: int) -> None:
        return

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.room_bytes is not None:
            if self.room_bytes < len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room_bytes -= len(data)
        return super().pwrite(descriptor, data, offset)


class Signals:
    came = False


def variant(name: str = "a", **more: Any) -> dict[str, Any]:
    return soak_specs.variant(**{"name": name, "model_path": "/m", "npz_path": "/in.npz", **more})


def spec(duration_s: float = 60, window_s: float = 10, **more: Any) -> dict[str, Any]:
    """Return a spec of one stream that is called each second."""
    stream = soak_specs.stream(variant(), cycle={"kind": "every", "period_ns": S})
    times = {"duration_ns": int(duration_s * S), "window_ns": int(window_s * S), "slice_ns": 5 * S}
    return soak_specs.spec(**{"id": "20260101-000000-abcd", "streams": [stream], **times, **more})


@dataclass
class Stage:
    """A soak's folder with what one life after another writes into it."""

    home: Path
    values: dict[str, Any]
    world: World
    disk: Quick = field(default_factory=Quick)
    watch: Watch | None = None
    device: Device = field(default_factory=Device)
    boot_id: str = "boot-1"

    def __post_init__(self) -> None:
        self.folder = SoakFolder(str(self.home), self.values["id"])
        (self.home / "soak" / self.values["id"]).mkdir(parents=True)
        self.folder.write_object("spec.json", self.values)
        self.signals = Signals()

    def play(self) -> str | None:
        """Run one life; return why the soak ended, None where it hasn't."""
        checked = parse_spec(self.values)
        spool = Spool(self.folder.spool_path, checked.max_spool_bytes, 0, disk=self.disk)
        clocks = Clocks(self.boot_id, self.world.now_ns, self.world.realtime_ns())
        life = begin_life(self.folder, spool.end, checked.compressed, clocks, 1, 2)
        writer = Writer(spool, lambda: {"t_ns": self.world.now_ns - life.epoch_ns, "life": life.number})
        writer.record(life.record([], {}, ""))
        for event, text, details in life.events():
            writer.event(event, text, details=details)
        watch: Any = self.watch or NoWatch()
        device: Any = self.device
        reason = Runner(self.folder, checked, self.world, life, writer, device, watch, self.signals).run()
        if reason is not None:
            writer.record(
                {"t_ns": self.world.now_ns - life.epoch_ns, "life": life.number, "k": "end", "reason": reason}
            )
        writer.finish()
        spool.close()
        self.life: Life = life
        return reason

    def records(self) -> list[dict[str, Any]]:
        """Return all records of the spool, each line checked."""
        return list(read_records(Path(self.folder.spool_path)))

    def windows(self) -> list[dict[str, Any]]:
        return [r for r in self.records() if r["k"] == "window"]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events, of some kinds if any are given."""
        found = [r for r in self.records() if r["k"] == "event"]
        return [r for r in found if r["event"] in kinds] if kinds else found

    def total(self, key: str, stream: str = "main") -> int:
        return sum(w["streams"][stream][key] for w in self.windows())


class NoWatch:
    def look(self, reading: Any) -> Sequence[Any]:
        return []


def read_records(spool: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a spool. Raises AssertionError for a damaged line."""
    for path in sorted(spool.glob("*.seg")):
        for line in path.read_bytes().splitlines(keepends=True):
            record = decode_line(line)
            assert record is not None, line[:80]
            yield record
