"""Instruments in devices.toml: what is refused, with what it should have been; and the page about them."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support.meters import read_spec

from harness import instruments
from harness.errors import ConfigError
from harness.instruments.base import Context
from harness.instruments.onboard import declared_chips
from harness.registry import load_registry

PAGE = Path(__file__).parents[3] / "docs" / "instruments.md"
CHIP = """
kind = "onboard"
[devices.board.instruments.meter.i2c.supply]
chip = "ina219"
bus = "{bus}"
address = {address}
shunt = "{shunt}"
"""


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("", "meter.kind: is missing"),
        ('kind = "scip"', "'scip' is not one of chamber, csv.*did you mean `scpi`"),
        ('kind = "shelly"\nurl = "http://p"\npassword = "x"', "secrets don't belong"),
        (
            'kind = "shelly"\nurl = "http://p"\npassword_env = "MY PASSWORD"',
            "name of an environment variable",
        ),
        ('kind = "shelly"\nurl = "http://p"\nrate = "1 kg"', "unknown unit `kg`"),
        ('kind = "shelly"\nurl = "http://p"\nuncertianty = "1 %"', "did you mean `uncertainty`"),
        ('kind = "scpi"\naddress = "x"', "channels: is missing"),
        (
            'kind = "scpi"\n[devices.board.instruments.meter.channels.fan]\nkind = "fan_rpm"',
            "fan.query: is missing",
        ),
        (CHIP.format(bus="1", address="0x80", shunt="0.1 ohm"), "7-bit address"),
        (CHIP.format(bus="1", address="0x40", shunt="0 ohm"), "above 0"),
        (CHIP.format(bus="1", address="0x40", shunt="100 mW"), "unknown unit `mW`"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, table: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        read_spec(tmp_path, table + "\n")


def test_every_problem_of_a_file_comes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(
        '[types.t]\n[devices.d]\ntype = "t"\nkind = "local"\n'
        '[devices.d.instruments.a]\nkind = "shelly"\n[devices.d.instruments.b]\nkind = "csv"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_registry(path)
    text = str(caught.value)
    assert all(place in text for place in ("a.url", "b.path", "b.time_column", "b.channels"))


def test_chips_without_a_driver_are_declared_to_the_board(tmp_path: Path) -> None:
    spec = read_spec(tmp_path, CHIP.format(bus="i2c-tiny-usb", address="0x40", shunt="100 mΩ"))
    (chip,) = declared_chips([spec])
    assert {key: chip[key] for key in ("chip", "bus", "address", "shunt_ohm", "site")} == {
        "chip": "ina219",
        "bus": "i2c-tiny-usb",
        "address": 0x40,
        "shunt_ohm": 0.1,
        "site": "supply",
    }
    numbered = read_spec(tmp_path, CHIP.format(bus="5", address="65", shunt="0.1"))
    assert declared_chips([numbered])[0]["bus"] == 5


def test_onboard_needs_an_open_device(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no device is open here"):
        instruments.open_instrument(read_spec(tmp_path, 'kind = "onboard"\n'), Context())


def test_an_entry_point_that_is_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("odd", "json:dumps", instruments.ENTRY_POINT_GROUP)

    def entry_points(*, group: str, name: str = "") -> list[EntryPoint]:
        return [point] if name in ("", "odd") else []

    monkeypatch.setattr(instruments, "entry_points", entry_points)
    with pytest.raises(ConfigError, match="expected an InstrumentKind"):
        instruments.find_kind("odd")
    with pytest.raises(ConfigError, match="unknown kind `scpy`; did you mean `scpi`"):
        instruments.find_kind("scpy")


def test_the_pages_examples_load(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        path = tmp_path / "devices.toml"
        head = (
            '[types.rpi4]\n[devices.rpi4-01]\ntype = "rpi4"\nkind = "ssh"\nssh = { host = "rpi4-01.lan" }\n'
        )
        path.write_text(head + block, encoding="utf-8")
        assert load_registry(path).devices["rpi4-01"].instruments


def test_the_page_names_every_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in instruments.KINDS if f"`{kind}`" not in text] == []
