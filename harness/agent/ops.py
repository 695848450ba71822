"""What the parent answers by itself: facts, store, environments. One function per op, in the table OPS."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, Callable, Dict

from . import env, governor
from .args import Args
from .bundles import unpacked
from .busyloop import BusyLoop
from .cgroups import Cgroups
from .channels import Channels, read
from .faults import Fault
from .guard import Settings
from .probes import Probes, libc_version
from .soak.keeping import needed_hashes
from .soak.ops import SOAK_OPS, Answer, Place, SoakOp
from .store import Store, hash_file
from .wire import PROTOCOL


class Device:
    """What the ops work on."""

    def __init__(self, home: str, location: str) -> None:
        self.store = Store(home)
        env.remove_leftovers(self.store)
        self.probes = Probes()
        # another root than "" is for tests: a folder with captures of a board
        self.channels = Channels(os.environ.get("HIL_AGENT_SENSORS_ROOT", ""))
        self.cgroups = Cgroups(self.probes)
        self.cgroups.remove_leftovers()
        self.busy_loop = BusyLoop(self.probes)
        self.busy_loop.reset()
        self.settings = Settings(self.store.home, location, self.probes)
        self.settings.restore_leftovers()
        self.location = location

    def close(self) -> None:
        """Undo what was set on the device. Safe to call twice."""
        self.settings.close()

    def agent_sha256(self) -> str:
        """Return the hash of the archive this agent came from, "" where it runs from plain sources."""
        archive = self.location[: -len(".d")] if self.location.endswith(".pyz.d") else self.location
        return hash_file(archive) if os.path.isfile(archive) else ""


def hello(device: Device, args: Args) -> Dict[str, Any]:
    args.done()
    return {
        "protocol": PROTOCOL,
        "agent_sha256": device.agent_sha256(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": sys.platform,
        "machine": platform.machine(),
        "libc": libc_version(),
        "pid": os.getpid(),
        "facts": device.probes.facts(device.store.home),
    }


def facts(device: Device, args: Args) -> Dict[str, Any]:
    args.done()
    return device.probes.facts(device.store.home)


def conditions(device: Device, args: Args) -> Dict[str, Any]:
    args.done()
    return device.probes.conditions()


def clock(device: Device, args: Args) -> Dict[str, Any]:
    args.done()
    return {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns()}


def channels(device: Device, args: Args) -> Dict[str, Any]:
    device.channels.i2c = args.items("i2c", device.channels.i2c)
    args.done()
    return device.channels.look()


def sampler_read(device: Device, args: Args) -> Dict[str, Any]:
    sensors = device.channels.get([str(item) for item in args.items("channels")])
    args.done()
    readings = []
    for sensor in sensors:
        t_ns, value, why = read(sensor)
        readings.append({"t_ns": t_ns, "value": None if why else value, "error": why or None})
    return {"readings": readings}


def set_governor(device: Device, args: Args) -> Dict[str, Any]:
    wanted = args.name("governor")
    args.done()
    return governor.set_governor(device.settings, device.probes, wanted)


def store_status(device: Device, args: Args) -> Dict[str, Any]:
    args.done()
    return device.store.status()


def store_commit(device: Device, args: Args) -> Dict[str, Any]:
    incoming, sha256, size = args.name("incoming"), args.sha256("sha256"), args.integer("size_bytes")
    args.done()
    return {"already": device.store.commit(incoming, sha256, size)}


def store_verify(device: Device, args: Args) -> Dict[str, Any]:
    sha256 = args.sha256("sha256")
    args.done()
    return {"size_bytes": device.store.verify(sha256)}


def store_activate(device: Device, args: Args) -> Dict[str, Any]:
    name, sha256, suffix = args.name("name"), args.sha256("sha256"), args.text("suffix", "")
    args.done()
    previous = device.store.activate(name, sha256, suffix)
    return {"previous": previous, "path": device.store.active_path(name)}


def store_versions(device: Device, args: Args) -> Dict[str, Any]:
    name = args.name("name")
    args.done()
    return {"versions": device.store.versions(name)}


def store_rollback(device: Device, args: Args) -> Dict[str, Any]:
    name = args.name("name")
    args.done()
    return {"sha256": device.store.rollback(name)}


def store_gc(device: Device, args: Args) -> Dict[str, Any]:
    keep_versions = args.integer("keep_versions", 3, 0, 1000000)
    keep = {str(item) for item in args.items("keep", [])} | needed_hashes(device.store.home)
    args.done()
    return device.store.collect_garbage(keep_versions, keep)


def store_path(device: Device, args: Args) -> Dict[str, Any]:
    sha256, unpack = args.sha256("sha256"), args.boolean("unpack", False)
    args.done()
    if unpack:
        return {"path": unpacked(device.store, sha256)}
    return {"path": device.store.object_path(sha256)}


def env_install(device: Device, args: Args) -> Dict[str, Any]:
    incoming, sha256 = args.name("incoming"), args.sha256("sha256")
    args.done()
    path, already = env.install(device.store, incoming, sha256)
    return {"path": path, "already": already}


def env_status(device: Device, args: Args) -> Dict[str, Any]:
    asked = args.sha256("sha256", "")
    args.done()
    envs = env.installed(device.store)
    return {"envs": [sha256 for sha256 in envs if sha256 != asked or env.is_whole(device.store, sha256)]}


def env_remove(device: Device, args: Args) -> Dict[str, Any]:
    sha256 = args.sha256("sha256")
    args.done()
    if sha256 in needed_hashes(device.store.home):
        raise Fault("busy", "envs/%s: a soak on this device uses it; stop that first" % sha256)
    env.remove(device.store, sha256)
    return {}


def _soak_op(op: SoakOp) -> Callable[[Device, Args], Answer]:
    return lambda device, args: op(Place(device.store.home, device.location), args)


Op = Callable[[Device, Args], Answer]  # args of the answer, perhaps with a payload
OPS: Dict[str, Op] = {
    op.__name__: op
    for op in (
        hello,
        facts,
        conditions,
        clock,
        channels,
        sampler_read,
        set_governor,
        store_status,
        store_commit,
        store_verify,
        store_activate,
        store_versions,
        store_rollback,
        store_gc,
        store_path,
        env_install,
        env_status,
        env_remove,
    )
}
OPS.update({name: _soak_op(op) for name, op in SOAK_OPS.items()})
