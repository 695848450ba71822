"""One instrument of each kind, described in a devices.toml and opened as a session would."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import instruments
from harness.connect.base import Process
from harness.connect.local import LocalConnection
from harness.instruments.base import Context, Instrument
from harness.model import ChannelKind, InstrumentSpec
from harness.registry import load_registry
from harness.remote import AgentClient
from harness.remote.sampler import DeviceSampler
from support import plug_server
from support.bench import LONG_S
from support.device import local_device
from support.scpi_peer import running_peer

CAPTURES = Path(__file__).parents[1] / "captures"
# a pyvisa-sim definition: PyVISA's own stand-in for a device
SIM = """
spec: "1.1"
devices:
  supply:
    eom:
      TCPIP SOCKET:
        q: "\\n"
        r: "\\n"
    dialogues:
      - q: "*IDN?"
        r: "EXAMPLE INSTRUMENTS,PSU-3,SN0042,1.07"
      - q: "MEAS:POW?"
        r: "4.2"
      - q: "MEAS:VOLT?"
        r: "5.00"
resources:
  TCPIP0::psu.example::5025::SOCKET:
    device: supply
"""
SCPI = """
kind = "scpi"
address = "{address}"
visa_library = "{library}"
idn = "*PSU-3*"
rate = "200 Hz"
timeout_s = 1
[devices.board.instruments.meter.channels.supply]
kind = "power_w"
uncertainty = "0.5 %"
[devices.board.instruments.meter.channels.volts]
kind = "voltage_v"
site = "supply"
"""
CHAMBER = """
kind = "chamber"
address = "TCPIP::127.0.0.1::{port}::SOCKET"
rate = "200 Hz"
timeout_s = 1
min_temp = "-20 °C"
max_temp = "60 °C"
rest_temp = "23 °C"
stable_for_s = {stable_for_s}
settle_timeout_s = {settle_timeout_s}
"""
PLUG = """
kind = "{kind}"
url = "{url}"
rate = "100 Hz"
timeout_s = 2
{more}
"""
CSV = """
kind = "csv"
path = "{path}"
time_column = "Time (s)"
stale_after_s = 0
[devices.board.instruments.meter.channels.supply]
kind = "power_w"
column = "Power (mW)"
scale = 0.001
"""


ONBOARD = """
kind = "onboard"
sensors = ["jetson/ina3221/VDD_IN/power_w", "thermal/zone/tj-thermal/temp_c"]
boundary = "module"
"""


def read_spec(folder: Path, table: str) -> InstrumentSpec:
    """Return the instrument `meter` of a devices.toml with this table."""
    path = folder / "devices.toml"
    head = (
        '[types.board]\n[devices.board]\ntype = "board"\nkind = "local"\n[devices.board.instruments.meter]\n'
    )
    path.write_text(head + table, encoding="utf-8")
    (spec,) = load_registry(path).devices["board"].instruments
    return spec


def write_csv(path: Path, rows: int = 1000, rate_hz: float = 1000.0) -> None:
    """Write a capture of a steady 4.2 W."""
    lines = ["# Example meter, 1 kHz", "Time (s),Power (mW),Note"]
    lines += [f"{i / rate_hz:.6f},{4200 + i % 3 - 1},x" for i in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Meter:
    """An open instrument, and how to break what is behind it."""

    instrument: Instrument
    expected: Mapping[str, tuple[ChannelKind, float]]  # by channel
    rate_hz: float
    spec: InstrumentSpec
    stop_answering: Callable[[], object] | None = None  # None: it can't stop half-way
    talk_nonsense: Callable[[], object] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


SUPPLY = {"supply": (ChannelKind.POWER_W, 4.2), "volts": (ChannelKind.VOLTAGE_V, 5.0)}
PLUG_GEN1 = {"power_w": (ChannelKind.POWER_W, 4.2), "energy_j": (ChannelKind.ENERGY_J, 7200.0)}
PLUG_ALL = {
    **PLUG_GEN1,
    "voltage_v": (ChannelKind.VOLTAGE_V, 230.1),
    "current_a": (ChannelKind.CURRENT_A, 0.018),
}


def tell(port: int, line: str) -> None:
    """Send the peer a line of its own."""
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=120) as peer:
        peer.sendall(line.encode() + b"\nTEST:COUNT?\n")
        peer.makefile("rb").readline()  # it has been obeyed


@contextmanager
def open_meter(kind: str, folder: Path, context: Context | None = None) -> Iterator[Meter]:
    """Open one of KINDS."""
    with ExitStack() as stack:
        spec, meter_context, rest = _MAKERS[kind](folder, stack)
        instrument = instruments.open_instrument(spec, context or meter_context)
        stack.callback(instrument.close)
        yield Meter(instrument, spec=spec, **rest)


Made = tuple[InstrumentSpec, Context, dict[str, Any]]


def _scpi(folder: Path, stack: ExitStack) -> Made:
    port = stack.enter_context(running_peer())
    spec = read_spec(folder, SCPI.format(address=f"TCPIP::127.0.0.1::{port}::SOCKET", library="@py"))
    return (
        spec,
        Context(),
        {
            "expected": SUPPLY,
            "rate_hz": 100.0,
            "stop_answering": lambda: tell(port, "TEST:MODE mute"),
            "talk_nonsense": lambda: tell(port, "TEST:MODE garbage"),
            "extra": {"port": port},
        },
    )


def _sim(folder: Path, stack: ExitStack) -> Made:
    (folder / "bench.yaml").write_text(SIM, encoding="utf-8")
    address, library = "TCPIP0::psu.example::5025::SOCKET", f"{folder / 'bench.yaml'}@sim"
    spec = read_spec(folder, SCPI.format(address=address, library=library))
    return spec, Context(), {"expected": SUPPLY, "rate_hz": 50.0}


def _chamber(folder: Path, stack: ExitStack, stable_for_s: float = 10, settle_timeout_s: float = 600) -> Made:
    port = stack.enter_context(running_peer())
    table = CHAMBER.format(port=port, stable_for_s=stable_for_s, settle_timeout_s=settle_timeout_s)
    return (
        read_spec(folder, table),
        Context(),
        {
            "expected": {"temp_c": (ChannelKind.TEMP_C, 23.0)},
            "rate_hz": 100.0,
            "stop_answering": lambda: tell(port, "TEST:MODE mute"),
            "talk_nonsense": lambda: tell(port, "TEST:MODE garbage"),
            "extra": {"port": port},
        },
    )


def _plug(kind: str, pages: dict[str, Any], expected: Any, password: str | None = None) -> Any:
    def make(folder: Path, stack: ExitStack) -> Made:
        server = stack.enter_context(plug_server.running_plug(pages, password))
        more = 'password_env = "PLUG_PASSWORD"' if password else ""
        spec = read_spec(folder, PLUG.format(kind=kind, url=server.url, more=more))

        def nonsense() -> None:
            server.nonsense = b"<html>It works!</html>"

        context = Context(environ={"PLUG_PASSWORD": password or ""})
        return (
            spec,
            context,
            {
                "expected": expected,
                "rate_hz": 50.0,
                "stop_answering": server.server_close,
                "talk_nonsense": nonsense,
                "extra": {"server": server},
            },
        )

    return make


def _csv(folder: Path, stack: ExitStack) -> Made:
    path = folder / "capture.csv"
    write_csv(path)
    rest = {"expected": {"supply": (ChannelKind.POWER_W, 4.2)}, "rate_hz": 1000.0, "extra": {"path": path}}
    return read_spec(folder, CSV.format(path=path)), Context(), rest


class _SamplingBoard:
    """A connection whose agent reads a capture of a board in place of this host's own files."""

    def __init__(self, connection: LocalConnection, root: Path) -> None:
        self._connection = connection
        self._root = root

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Process:
        return self._connection.start(argv, env={**(env or {}), "HIL_AGENT_SENSORS_ROOT": str(self._root)})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _onboard(folder: Path, stack: ExitStack) -> Made:
    root = folder / "board"
    shutil.copytree(CAPTURES / "jetson-orin-nano", root)
    connection = LocalConnection(local_device(folder / "home"))
    stack.callback(connection.close)
    client = AgentClient.start(_SamplingBoard(connection, root), timeout_s=LONG_S)
    stack.callback(client.close)
    spec = read_spec(folder, ONBOARD)
    rail, temperature = spec.options["sensors"]

    def nonsense() -> None:
        (root / "sys/class/hwmon/hwmon0/in1_input").write_text("Ohm's law\n")

    rest = {
        "expected": {rail: (ChannelKind.POWER_W, 4.96 * 0.968), temperature: (ChannelKind.TEMP_C, 47.125)},
        "rate_hz": 100.0,
        "stop_answering": (root / "sys/class/hwmon/hwmon0/in1_input").unlink,
        "talk_nonsense": nonsense,
    }
    return spec, Context(board=DeviceSampler(client, where=spec.where)), rest


def _contributed(folder: Path, stack: ExitStack) -> Made:
    """Install the package that CONTRIBUTING.md shows, and use it by its entry point."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (source,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Meterd" in b)
    (project,) = (b for b in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "hil-meterd" in b)
    group = tomllib.loads(project)["project"]["entry-points"]
    points = "".join(f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for g, t in group.items())
    site = folder / "site"
    about = site / "hil_meterd-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: hil-meterd\nVersion: 1.0\n", encoding="utf-8"
    )
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    (site / "hil_meterd.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(site))
    stack.callback(sys.path.remove, str(site))
    stack.callback(sys.modules.pop, "hil_meterd", None)
    reading = folder / "power"
    reading.write_text("4.2 W\n", encoding="utf-8")
    rest = {
        "expected": {"power": (ChannelKind.POWER_W, 4.2)},
        "rate_hz": 100.0,
        "stop_answering": reading.unlink,
        "talk_nonsense": lambda: reading.write_text("Ohm's law", encoding="utf-8"),
    }
    return read_spec(folder, f'kind = "meterd"\npath = "{reading}"\n'), Context(), rest


_MAKERS: dict[str, Callable[..., Made]] = {
    "scpi": _scpi,
    "scpi-sim": _sim,
    "chamber": _chamber,
    "shelly-gen1": _plug("shelly", plug_server.GEN1, PLUG_GEN1),
    "shelly-gen2": _plug("shelly", plug_server.GEN2, PLUG_ALL, plug_server.PASSWORD),
    "tasmota": _plug("tasmota", plug_server.TASMOTA, PLUG_ALL),
    "csv": _csv,
    "onboard": _onboard,
    "contributed": _contributed,
}
KINDS = tuple(_MAKERS)
