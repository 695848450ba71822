"""devices.toml → device types and units, and which of them a name means.

Checks the whole file at once and opens nothing: whether a unit answers is `harness devices check`'s to
find out. docs/configuration.md is the reference.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness import instruments
from harness.errors import ConfigError, UnknownDevice, nearest
from harness.model import Device, DeviceType, InstrumentSpec, Limits, PowerModel, QemuBoard, SshAddress
from harness.soak_settings import parse_soak
from harness.suite_settings import parse_energy, parse_thermal
from harness.toml_schema import NAME, Problems, Section, read_toml

SCHEMA_VERSION = 1
FILE_NAME = "devices.toml"
KINDS = ("local", "ssh", "qemu")
EVIDENCE = ("throttle_bits", "freq", "temp")
TAG_PREFIX = "tag:"

_HOST_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)))
_PACKAGED = Path(__file__).resolve().parent / "starter" / FILE_NAME
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_GOVERNOR = re.compile(r"[a-z][a-z0-9_]*")  # as scaling_available_governors has them
_START_TEMP_C = (-40.0, 125.0)  # the range that industrial parts are rated for
_JUMP_DEPTH = 4  # chosen: more hops than any lab has, and a file can't nest for ever


@dataclass(frozen=True)
class Registry:
    """What one devices.toml holds. `types` and `devices` are by name, in the file's order."""

    path: Path
    types: Mapping[str, DeviceType]
    devices: Mapping[str, Device]


def find_devices_file(given: str | Path | None, start: Path) -> Path:
    """Return the devices.toml to read: `given`, else the nearest from `start` upwards, else the packaged one.

    The packaged one is what `harness init` writes: this host and an emulated board. Raises ConfigError
    where `given` is not a file.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise ConfigError("no such file.", where=str(path), next_step="Check --devices.")
        return path.resolve()
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return _PACKAGED


def is_packaged(path: Path) -> bool:
    """Return whether `path` is the inventory that comes with the harness."""
    return path == _PACKAGED


def load_registry(path: Path) -> Registry:
    """Return what `path` holds. Raises ConfigError with every problem found."""
    problems = Problems(path)
    root = Section(read_toml(path), "", problems)
    root.version(SCHEMA_VERSION)
    types = {name: _parse_type(name, section) for name, section in root.tables("types")}
    devices = {}
    for name, section in root.tables("devices"):
        device = _parse_device(name, section, types)
        if device is not None:
            devices[name] = device
    root.finish()
    problems.check()
    if not devices:
        raise ConfigError("holds no device; expected a table [devices.NAME].", where=str(path))
    return Registry(path, MappingProxyType(types), MappingProxyType(devices))


def _parse_type(name: str, section: Section) -> DeviceType:
    ram_bytes = section.quantity("ram_bytes", "bytes", at_least=1)
    soak, soak_emulated = parse_soak(section.table("soak"), of_type=True)
    found = DeviceType(
        name=name,
        description=section.text("description") or "",
        cores=section.integer("cores", at_least=1),
        ram_bytes=None if ram_bytes is None else int(ram_bytes),
        requires_evidence=section.texts("requires_evidence", choices=EVIDENCE),
        python=section.text("python") or DeviceType.python,
        governor=_parse_governor(section),
        limits=_parse_limits(section),
        energy=parse_energy(section.table("energy")),
        thermal=parse_thermal(section.table("thermal")),
        power_model=_parse_power_model(section.table("power_model")),
        estimate=section.text("estimate", choices=("counts", "clock")) or DeviceType.estimate,
        soak=soak,
        soak_emulated=soak_emulated,
    )
    section.finish()
    return found


def _parse_governor(section: Section) -> str | None:
    name = section.text("governor")
    if name is not None and _GOVERNOR.fullmatch(name) is None:
        section.problem("governor", f"{name!r} is no cpufreq governor's name, as `performance`")
        return None
    return name


def _parse_limits(section: Section) -> Limits:
    """Return the table `limits`; what it leaves out keeps its default."""
    table = section.table("limits")
    if table is None:
        return Limits()
    pressure = table.quantity("max_cpu_pressure", "ratio", at_least=0)
    busy = table.quantity("max_other_busy", "ratio", at_least=0)
    temp_c = table.quantity("max_start_temp", "°C")
    if pressure is not None and pressure > 1:
        what = f'expected a ratio from 0 to 1, or a percentage as "30 %", got {pressure:g}'
        table.problem("max_cpu_pressure", what)
    low, high = _START_TEMP_C
    if temp_c is not None and not low <= temp_c <= high:
        table.problem("max_start_temp", f'expected "{low:g} °C" to "{high:g} °C", got {temp_c:g}')
    table.finish()
    return Limits(
        max_cpu_pressure_ratio=Limits.max_cpu_pressure_ratio if pressure is None else pressure,
        max_other_busy_ratio=Limits.max_other_busy_ratio if busy is None else busy,
        max_start_temp_c=temp_c,
    )


def _parse_power_model(section: Section | None) -> PowerModel | None:
    """Return the table `power_model`, whose keys are all required; None where it is absent or a problem."""
    if section is None:
        return None
    units = {
        "idle_power": "W",
        "load_power": "W",
        "supply_voltage_v": "1",
        "thermal_resistance_k_per_w": "1",
        "heat_capacity_j_per_k": "1",
        "ambient_temp": "°C",
        "trip_temp": "°C",
        "hysteresis_k": "1",
        "throttled_speed": "ratio",
    }
    signed = ("ambient_temp", "trip_temp")
    values = {
        key: section.quantity(key, unit, required=True, at_least=None if key in signed else 1e-3)
        for key, unit in units.items()
    }
    section.finish()
    known = {key: value for key, value in values.items() if value is not None}
    if len(known) < len(units):
        return None
    if known["load_power"] < known["idle_power"]:
        section.problem("load_power", f"{known['load_power']:g} W is below idle_power")
    idle_c = known["ambient_temp"] + known["thermal_resistance_k_per_w"] * known["idle_power"]
    if known["trip_temp"] - known["hysteresis_k"] <= idle_c:
        what = f"with hysteresis_k it is not above {idle_c:.1f} °C, where the idle board settles"
        section.problem("trip_temp", f"{what}: it would never stop throttling")
    if not 0.01 <= known["throttled_speed"] < 1:
        section.problem("throttled_speed", f'expected "1 %" to "99 %", got {known["throttled_speed"]:g}')
    return PowerModel(*known.values())


def _parse_device(name: str, section: Section, types: Mapping[str, DeviceType]) -> Device | None:
    """Return the unit; None where it has no valid type (that's a problem already)."""
    type_name = section.text("type", required=True)
    if type_name is not None and type_name not in types:
        hint = nearest(type_name, types) or "; the file has no [types] table"
        section.problem("type", f"no device type `{type_name}`{hint}")
    kind, ssh, qemu = _parse_reach(section)
    timeout_s = section.quantity("timeout_s", "s", at_least=1)
    tags = section.texts("tags")
    for tag in tags:
        if NAME.fullmatch(tag) is None:
            section.problem("tags", f"{tag!r} is not a name: letters, digits, `.`, `_` and `-`")
    serial, home = section.text("serial"), section.text("home")
    if home is not None and not home.startswith("/"):
        section.problem("home", f"expected an absolute path on the device, got {home!r}")
    pinned_cpus = section.integers("pinned_cpus")
    governor = _parse_governor(section)
    specs = tuple(_parse_instrument(name, table) for name, table in section.tables("instruments"))
    section.finish()
    if type_name is None or type_name not in types:
        return None
    return Device(
        name=name,
        type=types[type_name],
        kind=kind,
        serial=serial,
        tags=tags,
        ssh=ssh,
        qemu=qemu,
        home=home,
        pinned_cpus=pinned_cpus,
        timeout_s=timeout_s or Device.timeout_s,
        where=f"{section.place} in {section.problems.path.name}",
        governor=governor or types[type_name].governor,
        instruments=specs,
    )


def _parse_instrument(name: str, section: Section) -> InstrumentSpec:
    """Return one instrument; its kind asks for the keys that it has."""
    kinds = instruments.instrument_kinds()
    kind = section.text("kind", required=True, choices=kinds)
    options: Mapping[str, object] = {}
    if kind is not None:
        options = instruments.find_kind(kind).parse(section)
        section.finish()  # without a valid kind, nobody knows which keys it has
    return InstrumentSpec(name, kind or "", options, where=f"{section.place} in {section.problems.path.name}")


def _parse_reach(section: Section) -> tuple[str, SshAddress | None, QemuBoard | None]:
    """Return how a unit is reached: its kind, and the one table that goes with it."""
    ssh, qemu = section.table("ssh"), section.table("qemu")
    kind = section.text("kind", choices=KINDS)
    by_table = "ssh" if ssh else "qemu" if qemu else None
    if ssh and qemu:
        section.problem("qemu", "a unit is reached by `ssh` or `qemu`, not both")
    elif kind is not None and by_table not in (None, kind):
        section.problem("kind", f"is {kind!r}, but the unit has a table `{by_table}`")
    elif kind == "ssh" and not ssh and "ssh" not in section.data:
        section.problem("ssh", "is missing; expected a table with `host`")
    elif by_table is None and "kind" not in section.data:
        section.problem("kind", f"is missing; expected one of {', '.join(KINDS)}")
    kind = kind or by_table or "local"
    board = _parse_qemu(qemu) if qemu else QemuBoard() if kind == "qemu" else None
    return kind, _parse_ssh(ssh) if ssh else None, board


def _parse_ssh(section: Section, depth: int = 0) -> SshAddress:
    port = section.integer("port", at_least=1)
    if port is not None and port > 65535:
        section.problem("port", f"expected 1 to 65535, got {port}")
    host_key = section.text("host_key")
    if host_key is not None and not is_host_key(host_key):
        section.problem(
            "host_key",
            f'expected "ssh-ed25519 AAAA…" or "SHA256:…" as `ssh-keygen -lf` prints it, got {host_key!r}',
        )
    jump_section = section.table("jump")
    if jump_section is not None and depth + 1 >= _JUMP_DEPTH:
        section.problem("jump", f"more than {_JUMP_DEPTH - 1} jump hosts in a row")
        jump_section = None
    connect_timeout_s = section.quantity("connect_timeout_s", "s", at_least=0.1)
    address = SshAddress(
        host=section.text("host", required=True) or "",
        port=port or SshAddress.port,
        user=section.text("user"),
        identity_path=section.path("identity_path"),
        host_key=host_key,
        known_hosts_path=section.path("known_hosts_path"),
        jump=_parse_ssh(jump_section, depth + 1) if jump_section else None,
        connect_timeout_s=connect_timeout_s or SshAddress.connect_timeout_s,
    )
    if address.host.startswith("-") or any(c.isspace() or c == "@" for c in address.host):
        section.problem("host", f"expected a bare host name or address, got {address.host!r}")
    section.finish()
    return address


def is_host_key(text: str) -> bool:
    """Return whether `text` is a public host key, as known_hosts has it, or its SHA-256 fingerprint."""
    if _FINGERPRINT.fullmatch(text):
        return True
    parts = text.split()
    if len(parts) < 2 or parts[0] not in _HOST_KEY_TYPES:
        return False
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except binascii.Error:
        return False
    # RFC 4253, section 6.6: the blob starts with the length and name of its own type
    return blob[4 : 4 + len(parts[0])] == parts[0].encode()


def _parse_qemu(section: Section) -> QemuBoard:
    memory_bytes = section.quantity("memory_bytes", "bytes", at_least=256 << 20)
    disk_bytes = section.quantity("disk_bytes", "bytes", at_least=512 << 20)
    board = QemuBoard(
        cpu=section.text("cpu") or QemuBoard.cpu,
        memory_bytes=int(memory_bytes) if memory_bytes else QemuBoard.memory_bytes,
        smp=section.integer("smp", at_least=1) or QemuBoard.smp,
        disk_bytes=int(disk_bytes) if disk_bytes else QemuBoard.disk_bytes,
        board_model=section.text("board_model") or QemuBoard.board_model,
    )
    section.finish()
    return board


# --- names ----------------------------------------------------------------------------------------


def names(registry: Registry) -> tuple[str, ...]:
    """Return everything that `select` understands: units, then types with units, then tags."""
    units = dict.fromkeys(registry.devices)
    types = dict.fromkeys(device.type.name for device in registry.devices.values())
    tags = dict.fromkeys(f"{TAG_PREFIX}{tag}" for device in registry.devices.values() for tag in device.tags)
    return tuple({**units, **types, **tags})


def select(registry: Registry, name: str) -> tuple[Device, ...]:
    """Return the units that `name` means: a unit, a device type or `tag:NAME`.

    A unit's own name wins over a type of the same name. Where a type or tag has physical units, its
    emulated ones stand back: `rpi4` is emulated until devices.toml points it at a real board. Any one of
    the units answers to the name; a caller takes the first that is free. Raises UnknownDevice with the
    names that exist.
    """
    if name in registry.devices:
        return (registry.devices[name],)
    if name.startswith(TAG_PREFIX):
        tag = name.removeprefix(TAG_PREFIX)
        found = [device for device in registry.devices.values() if tag in device.tags]
    else:
        found = [device for device in registry.devices.values() if device.type.name == name]
    if not found:
        what = f"no device, type or tag `{name}`; there are: {', '.join(names(registry))}."
        if name in registry.types:
            what = f"no unit has the type `{name}`; add one, a table [devices.NAME]."
        close = difflib.get_close_matches(name, names(registry), n=1)
        hint = f"Did you mean `{close[0]}`?" if close else ""
        raise UnknownDevice(what, where=str(registry.path), next_step=hint)
    physical = tuple(device for device in found if device.kind != "qemu")
    return physical or tuple(found)
