"""What the parent answers about soaks, without their runners' help. One function per op: SOAK_OPS."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union

from ..args import Args
from ..faults import Fault
from ..parsing import Unreadable, read_text
from ..store import sync_folder
from .claims import Claims, read_boottime_ns
from .folder import SOAKS, SoakFolder, list_ids
from .hooks import BootHooks
from .launch import archive_of, runner_argv, start_runner
from .records import whole_lines
from .spec import Spec, parse_spec
from .spool import End, segment_name

_MAX_READ_BYTES = 16 << 20
_POLL_S = 0.02


class Place(NamedTuple):
    """Where soaks are: the agent's home, what a runner is started from, how one is started and hooked."""

    home: str
    location: str
    start: Callable[[SoakFolder, str], int] = start_runner
    hooks: Callable[[], BootHooks] = BootHooks


Answer = Union[Dict[str, Any], Tuple[Dict[str, Any], bytes]]
SoakOp = Callable[[Place, Args], Answer]


def soak_start(place: Place, args: Args) -> Answer:
    values = args.mapping("spec")
    args.done()
    spec = parse_spec(values)
    _check_files(place, spec)
    folder = SoakFolder(place.home, spec.id)
    if not folder.exists():
        _make_folder(folder)
        folder.write_object("spec.json", values)
    elif folder.spec() != values:
        raise Fault("bad_request", "soak %s: there is one with another spec; choose another id" % spec.id)
    _claims(folder).prepare()
    hook = _install_hook(place, folder, spec)
    if hook is not None:
        os.sync()  # models, environment and agent as well: after a power cut the hook needs them all
    pid = folder.living_runner()  # a request that is repeated after a lost link finds it running
    if pid is None and folder.end().ended is None:
        pid = place.start(folder, place.location)
    return {"pid": pid, "boot_hook": hook}


def soak_resume(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    args.done()
    pid = folder.living_runner()
    if pid is not None or folder.end().ended is not None:
        return {"pid": pid, "started": False}
    return {"pid": place.start(folder, place.location), "started": True}


def soak_list(place: Place, args: Args) -> Answer:
    args.done()
    return {"soaks": [_status(SoakFolder(place.home, soak_id)) for soak_id in list_ids(place.home)]}


def soak_status(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    args.done()
    return _status(folder)


def soak_spec(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    args.done()
    return {"spec": folder.spec()}


def soak_claim(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    holder, take_over = args.text("holder"), args.boolean("take_over", False)
    lease_s = args.number("lease_s", 120.0)
    args.done()
    return {"token": _claims(folder).claim(holder, take_over, lease_s)}


def soak_read(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    token, number = args.integer("token", 0), args.integer("segment", low=1)
    offset, max_bytes = args.integer("offset"), args.integer("max_bytes", low=1)
    args.done()
    if token:  # without one it is a look, which claims nothing
        _claims(folder).check(token)
    sizes = folder.segments()
    if number not in sizes:
        there = "%d to %d" % (min(sizes), max(sizes)) if sizes else "none"
        raise Fault("not_found", "soak %s: no segment %d; there are %s" % (folder.id, number, there))
    data = _read_durable(os.path.join(folder.spool_path, segment_name(number)), offset)
    lines = whole_lines(data)
    piece = lines
    if len(lines) > max_bytes:  # at least one line, however long
        cut = lines.rfind(b"\n", 0, min(max_bytes, _MAX_READ_BYTES)) + 1
        piece = lines[: cut or lines.find(b"\n") + 1]
    size = offset + len(lines) if data else min(offset, sizes[number])
    return {"size_bytes": size, "last": max(sizes)}, piece


def soak_ack(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    token, segment = args.integer("token"), args.integer("segment", low=1)
    args.done()
    _claims(folder).check(token, segment)
    return {}


def soak_stop(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    token, reason = args.integer("token"), args.text("reason")
    deadline_s = args.number("deadline_s", 30.0, high=600.0)
    args.done()
    _claims(folder).check(token)
    if folder.stop_reason() is None:
        folder.write_stop(reason)
    pid = folder.living_runner()
    if pid:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)  # so that it looks now: a slice may take minutes
    due_s = time.monotonic() + deadline_s
    if not _wait_for_runner(folder, due_s):
        return {"ended": False}
    place.hooks().remove(folder.id)
    if folder.end().ended is None:  # the runner was gone before: a last life writes the end
        try:
            place.start(folder, place.location)
        except Fault as fault:
            sys.stderr.write("agent: soak %s ends without its last record: %s\n" % (folder.id, fault))
    return {"ended": _wait_for_runner(folder, due_s)}


def _wait_for_runner(folder: SoakFolder, due_s: float) -> bool:
    """Return whether no runner lives, waiting for it until `due_s` on the monotonic clock."""
    while folder.living_runner() is not None:
        if time.monotonic() > due_s:
            return False
        time.sleep(_POLL_S)
    return True


def soak_remove(place: Place, args: Args) -> Answer:
    folder = _folder(place, args)
    token = args.integer("token")
    args.done()
    _claims(folder).check(token)
    if folder.living_runner() is not None:
        raise Fault("busy", "soak %s: it still runs; stop it first" % folder.id)
    if folder.end().ended is None and folder.stop_reason() is None:
        raise Fault(
            "busy", "soak %s: it hasn't ended, its runner is gone; resume or stop it first" % folder.id
        )
    place.hooks().remove(folder.id)
    soaks = os.path.dirname(folder.path)
    doomed = os.path.join(soaks, ".%s.removed.%d" % (folder.id, os.getpid()))
    os.rename(folder.path, doomed)  # gone at once, even if the power fails half-way through the files
    shutil.rmtree(doomed)
    sync_folder(soaks)
    return {}


def _folder(place: Place, args: Args) -> SoakFolder:
    """Return the soak that a request names. Raises `not_found`."""
    folder = SoakFolder(place.home, args.name("id"))
    if not folder.exists():
        there = ", ".join(list_ids(place.home)) or "none"
        raise Fault("not_found", "soak %s: there is none on this device; there are: %s" % (folder.id, there))
    return folder


def _boot_id() -> str:
    try:
        return read_text("/proc/sys/kernel/random/boot_id")
    except Unreadable:
        return ""


def _claims(folder: SoakFolder) -> Claims:
    return Claims(folder, _boot_id())


def _make_folder(folder: SoakFolder) -> None:
    """Make the soak's folder, its name durable; what an interrupted start left is used again."""
    if os.path.islink(folder.path):
        raise Fault("bad_request", "soak %s: its folder is a link" % folder.id)
    os.makedirs(folder.path, exist_ok=True)
    sync_folder(os.path.join(folder.home, SOAKS))
    sync_folder(folder.home)


def _check_files(place: Place, spec: Spec) -> None:
    """Raise `not_found` for a model, inputs or an environment that isn't there."""
    for stream in spec.streams:
        for variant in stream.variants:
            paths = [variant.model_path, variant.npz_path]
            if variant.env:
                paths.append(os.path.join(place.home, "envs", variant.env))
            for path in paths:
                if path and not os.path.exists(path):
                    raise Fault(
                        "not_found",
                        "soak %s, %s/%s: %s isn't there" % (spec.id, stream.name, variant.name, path),
                    )


def _install_hook(place: Place, folder: SoakFolder, spec: Spec) -> Optional[str]:
    if not spec.restart.reboot:
        return None
    agent = spec.agent or archive_of(place.location)
    argv = runner_argv(spec.python or sys.executable, agent, folder.home, folder.id)
    return place.hooks().install(folder.id, argv)


def _read_durable(path: str, offset: int) -> bytes:
    """Return a segment from `offset` on, all of it synced: nothing is told that a power cut could take."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        os.fdatasync(file.fileno())
        file.seek(offset)
        return file.read(max(0, size - offset))


def _status(folder: SoakFolder) -> Dict[str, Any]:
    """Return how a soak stands, from its files alone."""
    spec, beat, boot_id = folder.spec(), folder.heartbeat(), _boot_id()
    sizes = folder.segments()
    end = folder.end()
    pid = folder.living_runner()
    beat_ns = int(beat.get("beat_boottime_ns", 0)) if beat.get("boot_id") == boot_id else None
    return {
        "id": folder.id,
        "state": _state(pid, end),
        "pid": pid,
        "boot_id": beat.get("boot_id"),
        "life": end.life,
        "seq": end.seq,
        "t_ns": end.t_ns,
        "duration_ns": spec.get("duration_ns"),
        "beat_age_ns": None if beat_ns is None else max(0, read_boottime_ns() - beat_ns),
        "segments": [{"number": number, "size_bytes": size} for number, size in sizes.items()],
        "collector": _claims(folder).describe(),
        "spool_bytes": sum(sizes.values()),
    }


def _state(pid: Optional[int], end: End) -> str:
    if pid is not None:
        return "running"
    if end.ended is not None:
        return "ended"
    return "dead" if end.last is not None else "unknown"


SOAK_OPS: Dict[str, SoakOp] = {
    op.__name__: op
    for op in (
        soak_start,
        soak_resume,
        soak_list,
        soak_status,
        soak_spec,
        soak_claim,
        soak_read,
        soak_ack,
        soak_stop,
        soak_remove,
    )
}
