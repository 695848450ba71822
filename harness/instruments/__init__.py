"""Instruments: the table of their kinds. Third parties add a kind by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from harness.errors import ConfigError, nearest
from harness.instruments import chamber, csv_file, joulescope, onboard, plugs, scpi
from harness.instruments.base import Context, Instrument, InstrumentKind
from harness.model import InstrumentSpec

ENTRY_POINT_GROUP = "harness.instruments"

KINDS: Mapping[str, InstrumentKind] = {
    onboard.NAME: onboard.KIND,
    "scpi": scpi.KIND,
    "shelly": plugs.SHELLY,
    "tasmota": plugs.TASMOTA,
    "csv": csv_file.KIND,
    "chamber": chamber.KIND,
    "joulescope": joulescope.KIND,
}


def instrument_kinds() -> tuple[str, ...]:
    """Return every kind there is, our own and those of entry points."""
    return tuple(sorted({*KINDS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def find_kind(name: str) -> InstrumentKind:
    """Return a row of the table, or what an entry point of the group `harness.instruments` names.

    Raises ConfigError that names the nearest kind.
    """
    if name in KINDS:
        return KINDS[name]
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        raise ConfigError(f"unknown kind `{name}`{nearest(name, instrument_kinds())}")
    kind = next(iter(found)).load()
    if not isinstance(kind, InstrumentKind):
        what = f"its entry point gives {type(kind).__name__}, expected an InstrumentKind"
        raise ConfigError(f"kind `{name}`: {what}")
    return kind


def open_instrument(spec: InstrumentSpec, context: Context) -> Instrument:
    """Return the open instrument. Raises ConfigError, HostSetupError or TransientError."""
    return find_kind(spec.kind).open(spec, context)
