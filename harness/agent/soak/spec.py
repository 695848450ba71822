"""A soak's spec (docs/soak-format.md), checked whole before anything is written or started."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from ..args import Args
from ..cgroups import parse_limits
from ..faults import Fault
from .cycles import parse_cycle
from .folder import check_id

VERSION = 1
MAX_DURATION_NS = 366 * 86400 * 10**9
MIN_SPOOL_BYTES = 4 << 20  # chosen: four segments, so that acknowledged ones can go while one grows
_MAX_STREAMS = 16


class Variant(NamedTuple):
    """One model as a stream may run it. `env` is "" where the adapter needs none."""

    name: str
    model_path: str
    env: str
    adapter: str
    options: Dict[str, Any]
    npz_path: str
    threads: int
    env_vars: Dict[str, Any]
    cgroup: Dict[str, Any]


class Switch(NamedTuple):
    """When the next or the previous variant takes over, by a window's share of time in calls."""

    above: float
    below: float
    hold_windows: int


class Stream(NamedTuple):
    """One model's use. `cycle` is as cycles.py parses it."""

    name: str
    cycle: Dict[str, Any]
    variants: List[Variant]
    switch: Optional[Switch]


class Restart(NamedTuple):
    crash: bool
    reboot: bool
    max_per_h: int


class Spec(NamedTuple):
    """What a soak does. `python` and `agent` start its runner after a reboot; "": those that start it now."""

    id: str
    duration_ns: int
    window_ns: int
    slice_ns: int
    compressed: bool
    max_spool_bytes: int
    reserve_bytes: int
    restart: Restart
    python: str
    agent: str
    streams: List[Stream]
    channels: List[Dict[str, str]]
    i2c: List[Any]
    pinned_cpus: List[int]
    about: Dict[str, Any]  # the host's own: it stays in spec.json for whoever attaches, and isn't read here


def parse_spec(values: Dict[str, Any]) -> Spec:
    """Return a spec whose every key is right. Raises `bad_request` that names the one which isn't."""
    args = Args("soak spec", values)
    version = args.integer("version")
    if version != VERSION:
        raise Fault("bad_request", "soak spec: `version` is %d, this agent knows %d" % (version, VERSION))
    spec = Spec(
        id=check_id(args.name("id")),
        duration_ns=args.integer("duration_ns", low=1, high=MAX_DURATION_NS),
        window_ns=args.integer("window_ns", low=10**6, high=86400 * 10**9),
        slice_ns=args.integer("slice_ns", low=10**6, high=86400 * 10**9),
        compressed=args.boolean("compressed"),
        max_spool_bytes=args.integer("max_spool_bytes", low=MIN_SPOOL_BYTES),
        reserve_bytes=args.integer("reserve_bytes", high=1 << 30),
        restart=_parse_restart(args.mapping("restart")),
        python=args.text("python", ""),
        agent=args.text("agent", ""),
        streams=[_parse_stream(item, i) for i, item in enumerate(_objects(args, "streams"))],
        channels=[_parse_channel(item, i) for i, item in enumerate(_objects(args, "channels"))],
        i2c=args.items("i2c"),
        pinned_cpus=args.integers("pinned_cpus"),
        about=args.mapping("about", {}),
    )
    args.done()
    _check_names("streams", [stream.name for stream in spec.streams])
    if not 1 <= len(spec.streams) <= _MAX_STREAMS:
        raise Fault(
            "bad_request", "soak spec: %d `streams`, expected 1 to %d" % (len(spec.streams), _MAX_STREAMS)
        )
    return spec


def _parse_restart(values: Dict[str, Any]) -> Restart:
    args = Args("soak spec.restart", values)
    restart = Restart(
        args.boolean("crash"),
        args.boolean("reboot"),
        args.integer("max_per_h", high=100000),
    )
    args.done()
    return restart


def _parse_stream(values: Dict[str, Any], number: int) -> Stream:
    where = "soak spec.streams[%d]" % number
    args = Args(where, values)
    name, cycle = args.name("name"), args.mapping("cycle")
    parse_cycle(cycle, where + ".cycle")
    variants = [
        _parse_variant(item, "%s.variants[%d]" % (where, i))
        for i, item in enumerate(_objects(args, "variants"))
    ]
    if not variants:
        raise Fault("bad_request", "%s: `variants` is empty, expected at least one" % where)
    _check_names(where + ".variants", [variant.name for variant in variants])
    switch = args.mapping("switch", {})
    args.done()
    return Stream(name, cycle, variants, _parse_switch(switch, where + ".switch") if switch else None)


def _parse_variant(values: Dict[str, Any], where: str) -> Variant:
    args = Args(where, values)
    variant = Variant(
        name=args.name("name"),
        model_path=args.text("model_path"),
        env=args.sha256("env", ""),
        adapter=args.name("adapter"),
        options=args.mapping("options"),
        npz_path=args.text("npz_path", ""),
        threads=args.integer("threads", low=1, high=1024),
        env_vars=args.mapping("env_vars"),
        cgroup=args.mapping("cgroup"),
    )
    args.done()
    parse_limits(variant.cgroup)
    return variant


def _parse_switch(values: Dict[str, Any], where: str) -> Switch:
    args = Args(where, values)
    switch = Switch(
        args.number("above", high=1.0),
        args.number("below", high=1.0),
        args.integer("hold_windows", low=1, high=10**6),
    )
    args.done()
    if switch.below >= switch.above:
        raise Fault(
            "bad_request",
            "%s: `below` is %g, expected less than `above`, %g" % (where, switch.below, switch.above),
        )
    return switch


def _parse_channel(values: Dict[str, Any], number: int) -> Dict[str, str]:
    args = Args("soak spec.channels[%d]" % number, values)
    channel = {name: args.text(name) for name in ("id", "kind", "unit")}
    args.done()
    return channel


def _objects(args: Args, name: str) -> List[Dict[str, Any]]:
    items = args.items(name)
    if not all(isinstance(item, dict) for item in items):
        raise Fault("bad_request", "soak spec: `%s` holds %r, expected objects" % (name, items[:3]))
    return items


def _check_names(where: str, names: List[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise Fault("bad_request", "%s: the name %r comes twice" % (where, name))
