"""Kinds of connections: ours, unknown ones, and those of entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from harness import connect
from harness.connect.local import LocalConnection
from harness.errors import ConfigError
from harness.model import Device, DeviceType

TYPE = DeviceType("t")


def test_local() -> None:
    connection = connect.open_connection(Device("here", TYPE, "local"))
    assert isinstance(connection, LocalConnection)
    assert connection.device_name == "here"


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"rpi4: unknown kind `qemuu`; did you mean `qemu`\?"):
        connect.open_connection(Device("rpi4", TYPE, "qemuu"))


@pytest.mark.parametrize("kind", ["ssh", "qemu"])
def test_a_kind_without_its_table(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"no `{kind}` table"):
        connect.open_connection(Device("rpi4", TYPE, kind))


def open_serial(device: Device, **options: Any) -> Any:
    return (device.name, options)


def test_a_kind_from_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("serial", f"{__name__}:open_serial", connect.ENTRY_POINT_GROUP)

    def find(**wanted: str) -> list[EntryPoint]:
        assert wanted.pop("group") == connect.ENTRY_POINT_GROUP
        return [point] if wanted.get("name", "serial") == "serial" else []

    monkeypatch.setattr(connect, "entry_points", find)
    assert connect.connection_kinds() == ("local", "qemu", "serial", "ssh")
    opened: Any = connect.open_connection(Device("uart", TYPE, "serial"))
    assert opened == ("uart", {"profile": "functional", "progress": None})
