"""Plugs: what their documents say in watts and joules, and plugs that say something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import plug_server
from support.meters import PLUG, open_meter, read_spec

from harness import instruments
from harness.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLost,
    DataError,
    DeadlineExceeded,
    DeviceError,
    HarnessError,
    Unsupported,
)
from harness.instruments.base import Context
from harness.instruments.http import compute_digest
from harness.instruments.plugs import parse_shelly_gen1, parse_shelly_gen2, parse_tasmota
from harness.model import ChannelKind

POWER, ENERGY = ChannelKind.POWER_W, ChannelKind.ENERGY_J


def test_energy_is_in_joules_whatever_the_plug_counts_in() -> None:
    # 120 watt minutes, 2 Wh and 0.002 kWh are 7200 J
    assert parse_shelly_gen1(plug_server.GEN1["/status"], 0, "p")[ENERGY] == 7200
    assert parse_shelly_gen2(plug_server.GEN2["/rpc/Switch.GetStatus?id=0"], 0, "p")[ENERGY] == 7200
    status = plug_server.TASMOTA["/cm?cmnd=Status%208"]
    assert parse_tasmota(status, 0, "p")[ENERGY] == pytest.approx(7200)


def test_a_strip_of_several_channels() -> None:
    status = {"StatusSNS": {"ENERGY": {"Power": [1.5, 7.0], "Voltage": 230, "Current": [0.01, 0.03]}}}
    assert parse_tasmota(status, 1, "p")[POWER] == 7.0
    with pytest.raises(Unsupported, match="channel 2"):
        parse_tasmota(status, 2, "p")


@pytest.mark.parametrize(
    ("parse", "status"),
    [
        (parse_shelly_gen1, {"relays": [], "meters": []}),
        (parse_shelly_gen2, {"id": 0, "output": True}),
        (parse_tasmota, {"StatusSNS": {"Time": "2022-01-11T21:57:38"}}),
    ],
)
def test_a_plug_without_a_meter_has_no_power_rather_than_none(parse: Any, status: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="shows no power"):
        parse(status, 0, "plug")


@pytest.mark.parametrize(
    ("parse", "status"),
    [
        (parse_shelly_gen1, {"meters": [{"power": None, "is_valid": True}]}),
        (parse_shelly_gen1, {"meters": [{"power": 0.0, "is_valid": False}]}),
        (parse_shelly_gen2, {"apower": "4.2"}),
        (parse_shelly_gen2, {"apower": True}),
        (parse_tasmota, {"StatusSNS": {"ENERGY": {"Power": "on"}}}),
        (parse_tasmota, {"Command": "Unknown"}),
    ],
)
def test_nonsense_is_no_number(parse: Any, status: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"expected|not valid"):
        parse(status, 0, "plug")


def plug(folder: Path, server: plug_server.PlugServer, kind: str = "shelly", more: str = "") -> Any:
    spec = read_spec(folder, PLUG.format(kind=kind, url=server.url, more=more))
    environ = {"PLUG_PASSWORD": plug_server.PASSWORD, "WRONG": "guess"}
    return instruments.open_instrument(spec, Context(environ=environ))


@pytest.mark.parametrize("variable", [None, "WRONG"])
def test_a_password_that_is_missing_or_wrong_is_told(tmp_path: Path, variable: str | None) -> None:
    more = f'password_env = "{variable}"' if variable else ""
    with (
        plug_server.running_plug(plug_server.GEN2, plug_server.PASSWORD) as server,
        pytest.raises(AuthenticationError, match="password_env"),
    ):
        plug(tmp_path, server, more=more)


def test_a_variable_that_is_not_set_is_told(tmp_path: Path) -> None:
    with (
        plug_server.running_plug(plug_server.GEN2, plug_server.PASSWORD) as server,
        pytest.raises(ConfigError, match="ABSENT is not set"),
    ):
        plug(tmp_path, server, more='password_env = "ABSENT"')


def test_a_tasmota_with_a_login(tmp_path: Path) -> None:
    with plug_server.running_plug(plug_server.TASMOTA) as server:
        server.tasmota_login = ("admin", plug_server.PASSWORD)
        with pytest.raises(DeviceError, match="404"):
            plug(tmp_path, server, "tasmota")
        meter = plug(tmp_path, server, "tasmota", 'password_env = "PLUG_PASSWORD"')
        assert meter.read("power_w").value == 4.2
        server.nonsense = b"<html>"
        with pytest.raises(DataError) as caught:
            meter.read("power_w")
        server.server_close()
        with pytest.raises(ConnectionLost) as lost:
            meter.read("power_w")
        for error in (caught.value, lost.value):  # no message shows a password
            assert "pa55" not in f"{error!r} {error}"
            assert "Status" in str(error)
        meter.close()


def test_the_digest_of_the_standards_example() -> None:
    # RFC 7616, section 3.9.1 (SHA-256)
    challenge = {
        "realm": "http-auth@example.org",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "algorithm": "SHA-256",
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    header = compute_digest(challenge, "/dir/index.html", "Mufasa", "Circle of Life", cnonce, "plug")
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in header
    with pytest.raises(AuthenticationError, match="SHA-512"):
        compute_digest({**challenge, "algorithm": "SHA-512-256"}, "/", "u", "p", cnonce, "plug")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", DataError),
        (b"[]", DataError),
        (b"", DataError),
        (b"{" + b" " * (1 << 17), DataError),
        (b'{"gen": 2}', DeviceError),
    ],
)
def test_a_host_that_is_no_plug_is_refused(tmp_path: Path, body: bytes, error: type[HarnessError]) -> None:
    with plug_server.running_plug({}) as server:
        server.nonsense = body
        with pytest.raises(error) as caught:
            plug(tmp_path, server)
        assert "devices.board.instruments.meter" in str(caught.value)


def test_a_plug_that_sends_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with plug_server.running_plug(plug_server.GEN1) as other, plug_server.running_plug({}) as server:
        server.elsewhere = other.url
        with pytest.raises(DeviceError, match="HTTP 302, expected 200"):
            plug(tmp_path, server)


def test_a_plug_that_loses_a_quantity_says_which(tmp_path: Path) -> None:
    with open_meter("tasmota", tmp_path) as meter:
        page = meter.extra["server"].pages["/cm?cmnd=Status%208"]
        del page["StatusSNS"]["ENERGY"]["Voltage"]
        with pytest.raises(DataError, match="no longer shows voltage_v"):
            meter.instrument.read("voltage_v")
        assert meter.instrument.read("power_w").value == 4.2


@pytest.mark.parametrize("url", ["plug-3.lan", "ftp://plug", "http://plug/status", "http://admin:pw@plug"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"expected an address|secrets"):
        read_spec(tmp_path, PLUG.format(kind="shelly", url=url, more=""))


def test_a_plug_that_never_answers_ends_at_its_deadline(tmp_path: Path) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        table = PLUG.format(kind="shelly", url=url, more="").replace("timeout_s = 2", "timeout_s = 0.1")
        with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
            instruments.open_instrument(read_spec(tmp_path, table), Context())
