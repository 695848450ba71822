"""The soak's runner: one life of it, from the lock to the end. Its loop is the only place that waits."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Dict, Optional

from ..channels import Channels
from ..parsing import Unreadable, read_text
from ..store import hash_file
from .disk import note
from .folder import SoakFolder
from .frequency import FrequencyWatch, parse_policies, policies_to_args, read_policies
from .links import World
from .lives import Clocks, Life, begin_life, write_life
from .spec import Spec, parse_spec
from .spool import Spool
from .streams import Rules, Stream
from .watch import ClockWatch, KernelLog, Reading, ShortageWatch, ThrottleWatch, Watch
from .windows import DeviceReader
from .workers import S
from .writer import Writer

Details = Dict[str, Any]
EXIT_BUSY = 6  # another runner lives
BEAT_NS = S  # docs/soak-format.md: at most once a second
STOP_GRACE_NS = 20 * S  # chosen: for a call under way when the soak is stopped
END_TRIES, END_PAUSE_S = 30, 1.0  # for room for the last records


class Runner:
    """One life. `run` returns when it ends."""

    def __init__(
        self,
        folder: SoakFolder,
        spec: Spec,
        world: Any,
        life: Life,
        writer: Writer,
        device: DeviceReader,
        watch: Watch,
        signals: Any,
    ) -> None:
        """`world` has the children and the clocks, `signals.came` whether this life shall end."""
        self._folder = folder
        self._spec = spec
        self._world = world
        self._life = life
        self._writer = writer
        self._device = device
        self._watch = watch
        self._signals = signals
        self._start_ns = life.t_ns  # of the present window
        self._beat_ns = 0
        rules = Rules(
            spec.window_ns,
            spec.slice_ns,
            spec.duration_ns,
            life.epoch_ns,
            spec.restart.crash,
            spec.restart.max_per_h,
            spec.pinned_cpus,
        )
        self._streams = [Stream(s, rules, world.start, self._tell) for s in spec.streams]

    def now_ns(self) -> int:
        """Return soak time."""
        return int(self._world.boottime_ns()) - self._life.epoch_ns

    def _tell(self, event: str, text: str, stream: str, details: Details) -> None:
        self._writer.event(event, text, stream, details)

    def run(self) -> Optional[str]:
        """Run until the soak ends; return its `end` reason, None where only this life does."""
        self._beat("running", force=True)
        while True:
            now_ns = self.now_ns()
            self._hear_overdue(now_ns)
            for stream in self._streams:
                stream.turn(now_ns)
            reason = self._reason(now_ns)
            if reason is not None or self._signals.came:
                return self._leave(reason)
            self._writer.flush()
            end_ns = self._window_end_ns()
            if now_ns >= end_ns and self._settled(end_ns, now_ns):
                self._close_window(self._reached_ns(end_ns, now_ns))
                continue
            self._wait(end_ns, now_ns)

    def _reason(self, now_ns: int) -> Optional[str]:
        """Return why the soak ends now, None if it doesn't."""
        asked = self._folder.stop_reason()
        if asked is not None:
            return asked if asked.startswith("aborted: ") else "stopped"  # an alert that did it is named
        if all(stream.gave_up for stream in self._streams):
            return "aborted: every stream gave up"
        over = now_ns >= self._spec.duration_ns and self._start_ns >= self._spec.duration_ns
        return "duration" if over else None

    def _window_end_ns(self) -> int:
        window_ns = self._spec.window_ns
        return min((self._start_ns // window_ns + 1) * window_ns, self._spec.duration_ns)

    def _grace_ns(self) -> int:
        """Return how long a window waits for calls under way: chosen, a quarter of it."""
        return self._spec.window_ns // 4

    def _settled(self, end_ns: int, now_ns: int) -> bool:
        return now_ns >= end_ns + self._grace_ns() or all(s.settled(end_ns) for s in self._streams)

    def _reached_ns(self, end_ns: int, now_ns: int) -> int:
        """Return where a window ends: where it should, or, a whole window late, as many windows on."""
        if now_ns < end_ns + self._spec.window_ns:
            return end_ns
        whole_ns = now_ns // self._spec.window_ns * self._spec.window_ns
        return min(whole_ns, max(end_ns, self._spec.duration_ns))

    def _wait(self, end_ns: int, now_ns: int) -> None:
        times = [stream.next_ns() for stream in self._streams]
        times.append(end_ns if now_ns < end_ns else end_ns + self._grace_ns())
        self._hear(min(ns for ns in times if ns is not None))

    def _hear_overdue(self, now_ns: int) -> None:
        """Take the answers that are there before any is called late.

        The one who was away may be the runner: a sync can take a medium minutes, and in a compressed soak,
        where the board is idle meanwhile, a busy host's second is many of the board's minutes.
        """
        due = [ns for ns in (stream.next_ns() for stream in self._streams) if ns is not None]
        while due and min(due) <= now_ns and self._hear(now_ns):
            due = [ns for ns in (stream.next_ns() for stream in self._streams) if ns is not None]

    def _hear(self, until_ns: int) -> bool:
        """Wait until something happens or the time has come; pass it on. Return whether anything did."""
        happenings = self._world.wait(until_ns + self._life.epoch_ns)
        if self._signals.came:  # a device that shuts down ends all processes at once: no child has crashed
            for stream in self._streams:
                stream.stop()
        for happening in happenings:
            for stream in self._streams:
                if stream.owns(happening.link):
                    if happening.fault is not None:
                        stream.died(happening.link, happening.fault, self.now_ns())
                    else:
                        stream.answered(happening.link, happening.frame, self.now_ns())
        return bool(happenings)

    def _close_window(self, end_ns: int) -> None:
        """Write the window that ends at `end_ns` with what was seen in it."""
        start_ns, window_ns = self._start_ns, self._spec.window_ns
        realtime_ns, boottime_ns = self._world.realtime_ns(), self._world.boottime_ns()
        streams = {s.name: s.take_window(start_ns, end_ns) for s in self._streams}
        dev = self._device.device(realtime_ns - boottime_ns)
        told = sum(s.take_ooms() for s in self._streams)
        for event, text, details in self._watch.look(
            Reading(realtime_ns, boottime_ns, dev["throttled_bits"], told)
        ):
            self._writer.event(event, text, details=details)
            if event == "clock_step":
                self._life = self._life._replace(realtime_minus_boottime_ns=realtime_ns - boottime_ns)
                write_life(self._folder, self._life)
        self._start_ns = end_ns
        self._writer.window(
            {
                "k": "window",
                "i": start_ns // window_ns,
                "n": max(1, -(-(end_ns - start_ns) // window_ns)),
                "t0_ns": start_ns,
                "t1_ns": end_ns,
                "life": self._life.number,
                "streams": streams,
                "v": self._device.values(),
                "dev": dev,
            }
        )
        self._beat("running")

    def _beat(self, state: str, force: bool = False) -> None:
        """Write the heartbeat, at most once a second unless forced. A full disk doesn't stop the runner."""
        boottime_ns = self._world.boottime_ns()
        if not force and boottime_ns - self._beat_ns < BEAT_NS:
            return
        self._beat_ns = boottime_ns
        beat = {
            "pid": os.getpid(),
            "start_ticks": self._life.start_ticks,
            "boot_id": self._life.boot_id,
            "life": self._life.number,
            "beat_boottime_ns": boottime_ns,
            "seq": self._writer.seq,
            "state": state,
        }
        try:
            self._folder.write_heartbeat(beat)
            self._world.keep_log_small()
        except OSError as error:
            note("no heartbeat: %s" % error)

    def _leave(self, reason: Optional[str]) -> Optional[str]:
        """End the slices and the children, and write the last records."""
        now_ns = self.now_ns()
        if reason != "duration":
            why = self._folder.stop_reason() or (reason or "a signal ended the runner; the soak hasn't ended")
            self._writer.event("stopping", why)
            for stream in self._streams:
                stream.stop()
            due_ns = now_ns + STOP_GRACE_NS
            while now_ns < due_ns and not all(stream.stopped for stream in self._streams):
                self._wait(due_ns, now_ns)
                now_ns = self.now_ns()
            end_ns = min(now_ns, self._spec.duration_ns)
            if end_ns > self._start_ns:
                self._close_window(end_ns)
        for stream in self._streams:
            stream.terminate()
        for stream in self._streams:
            stream.close()
        self._beat("ended" if reason else "stopped", force=True)
        return reason


class Signals:
    """SIGTERM and SIGINT: the life ends after its slice. `fd` becomes readable when one comes."""

    def __init__(self) -> None:
        self.came = False
        self.fd, write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _take(self, _number: int, _frame: Any) -> None:
        self.came = True


def run_soak(home: str, soak_id: str, location: str) -> int:
    """Run one life of a soak; return the exit code. A second runner leaves at once."""
    folder = SoakFolder(home, soak_id)
    spec = parse_spec(folder.spec())
    lock = folder.take_lock()
    if lock is None:
        return EXIT_BUSY
    signals = Signals()
    try:
        spool = folder.open_spool()
        try:
            if spool.end.ended is not None:
                return 0
            return _run_life(folder, spec, World(folder, location, signals.fd), spool, signals)
        finally:
            spool.close()
    finally:
        os.close(lock)


def _run_life(folder: SoakFolder, spec: Spec, world: World, spool: Spool, signals: Signals) -> int:
    probes = world.probes
    clocks = Clocks(_boot_id(), world.boottime_ns(), world.realtime_ns())
    ticks = probes.start_ticks(os.getpid())
    frequency = FrequencyWatch(lambda: read_policies(_sensors_root(), spec.pinned_cpus))
    cpufreq = policies_to_args(frequency.now)
    life = begin_life(folder, spool.end, spec.compressed, clocks, os.getpid(), ticks, cpufreq)
    frequency.hold_against(parse_policies(life.cpufreq))
    device = DeviceReader(probes, folder.home, spec.channels, Channels(_sensors_root(), spec.i2c))
    kernel = KernelLog(from_start=life.is_new_boot)
    watch = Watch(
        ClockWatch(clocks.realtime_ns, clocks.boottime_ns),
        ShortageWatch(probes.oom_kills),
        kernel,
        ThrottleWatch(),
        frequency,
    )
    if kernel.why_not:
        device.not_observable["kernel_log"] = kernel.why_not
    if frequency.why_not:
        device.not_observable["governor"] = frequency.why_not
    writer = Writer(spool, lambda: {"t_ns": world.boottime_ns() - life.epoch_ns, "life": life.number})
    sha256 = _agent_sha256(world.location)
    writer.record(life.record(spec.channels, device.not_observable, sha256, cpufreq))
    if spool.dropped_bytes:
        text = "a torn or damaged end of the spool was cut off"
        writer.event("spool_repaired", text, details={"dropped_bytes": spool.dropped_bytes})
    for event, text, details in life.events():
        writer.event(event, text, details=details)
    try:
        reason = Runner(folder, spec, world, life, writer, device, watch, signals).run()
    finally:
        watch.close()
    if reason is not None:
        writer.record(
            {"t_ns": world.boottime_ns() - life.epoch_ns, "life": life.number, "k": "end", "reason": reason}
        )
    return 0 if _finish(writer) else 1


def _finish(writer: Writer) -> bool:
    """Write the last records; return whether there was room for them."""
    for _ in range(END_TRIES):
        if writer.finish():
            return True
        time.sleep(END_PAUSE_S)
    note("no room for the last records; the next start writes its own")
    return False


def _boot_id() -> str:
    try:
        return read_text("/proc/sys/kernel/random/boot_id")
    except Unreadable:
        return ""  # then every start counts as one after a reboot


def _sensors_root() -> str:
    return os.environ.get("HIL_AGENT_SENSORS_ROOT", "")  # for tests, as in ops.py


def _agent_sha256(location: str) -> str:
    """Return the hash of the archive that this agent came from, "" where it runs from plain sources."""
    archive = location[: -len(".d")] if location.endswith(".pyz.d") else location
    return hash_file(archive) if os.path.isfile(archive) else ""
