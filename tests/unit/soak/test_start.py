"""A spec from models made ready and settings: what the device is told, and that its agent takes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.agent.soak.spec import parse_spec
from harness.errors import ConfigError, Unsupported
from harness.measure.bench import Bench
from harness.model import Device, DeviceType, SoakLoad, SoakSettings, SshAddress
from harness.soak.ledger import Ledger
from harness.soak.start import StreamPlan, build_spec, describe_device, new_soak_id, start_soak
from harness.soak.unseen import SILENT

SETTINGS = SoakSettings(duration_s=7200.0, window_s=2.0, slice_s=5.0)


def bench(name: str = "door", *, inputs: bool = True, **board: Any) -> Bench:
    """Return as much of a bench as a spec is made of."""
    made = SimpleNamespace(
        case=SimpleNamespace(name=name),
        deployed=SimpleNamespace(path=f"/home/pi/.harness/objects/{name}"),
        env=SimpleNamespace(sha256="a" * 64, adapter="onnxruntime"),
        signature=SimpleNamespace(inputs=("x",) if inputs else ()),
        inputs_path="/home/pi/.harness/objects/inputs",
        threads=2,
        options=lambda: {"providers": ["CPU"]},
        board=SimpleNamespace(**{"governor": {}, **board}),
    )
    return cast(Bench, made)


def test_the_device_takes_what_is_built():
    spec = build_spec(
        "20250101-000000-abcd",
        [StreamPlan("main", (bench(),), "every 10 ms"), StreamPlan("wake", (bench("wake"),), "poisson 2 /s")],
        SETTINGS,
        channels=[{"id": "thermal/0/cpu/temp_c", "kind": "temp_c", "unit": "°C", "site": "cpu"}],
        pinned_cpus=(2, 3),
        about={"model": "door"},
    )
    parsed = parse_spec(spec)
    assert (parsed.duration_ns, parsed.window_ns, parsed.slice_ns) == (7200 * 10**9, 2 * 10**9, 2 * 10**9)
    assert [stream.name for stream in parsed.streams] == ["main", "wake"]
    variant = parsed.streams[0].variants[0]
    assert (variant.name, variant.env, variant.adapter, variant.threads) == (
        "door",
        "a" * 64,
        "onnxruntime",
        2,
    )
    assert (variant.options, variant.npz_path) == (
        {"providers": ["CPU"]},
        "/home/pi/.harness/objects/inputs",
    )
    assert parsed.channels == [{"id": "thermal/0/cpu/temp_c", "kind": "temp_c", "unit": "°C"}]
    assert parsed.pinned_cpus == [2, 3]
    assert parsed.streams[0].switch is None
    assert spec["about"] == {"model": "door"}


def test_lighter_variants_come_with_their_switch():
    load = SoakLoad(switch_above=0.9, switch_below=0.4, hold_windows=5)
    plan = StreamPlan("main", (bench("fp32"), bench("int8", inputs=False)), "closed", load)
    parsed = parse_spec(build_spec("s", [plan], SETTINGS))
    assert [variant.name for variant in parsed.streams[0].variants] == ["fp32", "int8"]
    assert parsed.streams[0].variants[1].npz_path == ""
    assert tuple(parsed.streams[0].switch or ()) == (0.9, 0.4, 5)


def test_a_compressed_soak_looks_no_more_often_than_its_windows():
    settings = SoakSettings(duration_s=7200.0, window_s=300.0, slice_s=5.0, compressed=True)
    spec = build_spec("s", [StreamPlan("main", (bench(),), "every 300 s")], settings)
    assert (spec["slice_ns"], spec["compressed"]) == (300 * 10**9, True)


def test_restarts_are_as_the_settings_say():
    settings = SoakSettings(duration_s=60.0, restart_after_crash=False, restart_after_reboot=False)
    spec = build_spec("s", [StreamPlan("main", (bench(),), "closed")], settings)
    assert (spec["restart"]["crash"], spec["restart"]["reboot"]) == (False, False)


@pytest.mark.parametrize(
    ("settings", "plan", "what"),
    [
        (SoakSettings(), StreamPlan("m", (bench(),), "closed"), "no duration is set"),
        (SoakSettings(duration_s=1, window_s=2), StreamPlan("m", (bench(),), "closed"), "doesn't fit"),
        (SETTINGS, StreamPlan("m", (), "closed"), "expected one or more"),
        (SETTINGS, StreamPlan("m", (bench(), bench()), "closed"), "each of them once"),
        (SETTINGS, StreamPlan("m", (bench(),), "sometimes"), "stream m"),
    ],
)
def test_what_cannot_be_a_soak_is_told(settings: SoakSettings, plan: StreamPlan, what: str):
    with pytest.raises(ConfigError) as caught:
        build_spec("s", [plan], settings)
    assert what in str(caught.value)


def test_a_spec_that_no_message_holds_is_told(tmp_path: Path):
    (tmp_path / "t.csv").write_text("".join(f"{i}.123456\n" for i in range(40_000)))
    plans = [StreamPlan(f"m{i}", (bench(),), "trace t.csv", folder=tmp_path) for i in range(3)]
    with pytest.raises(ConfigError, match="fit into one message"):
        build_spec("s", plans, SETTINGS)


def test_a_device_without_a_switch_has_no_power_cycles(tmp_path: Path):
    made = bench(device=Device("pi", DeviceType("rpi4"), "ssh"), client=Client())
    settings = SoakSettings(duration_s=7200.0, power_cycle_every_s=3600.0)
    with pytest.raises(Unsupported, match="pi: its power can't be switched"):
        start_soak(cast(Any, made.board), [StreamPlan("m", (made,), "closed")], settings, root=tmp_path)
    assert made.board.client.asked == []  # type: ignore[attr-defined]


def test_an_id_begins_with_its_time():
    made = new_soak_id(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert re.fullmatch(r"20260102-030405-[0-9a-f]{4}", made)


def test_a_device_is_described_without_secrets(tmp_path: Path):
    address = SshAddress("10.0.0.7", user="pi", identity_path=tmp_path / "key", host_key="SHA256:x")
    device = Device("rpi4-03", DeviceType("rpi4"), "ssh", serial="s1", ssh=address, home="/h")
    assert describe_device(device) == {
        "device": "rpi4-03",
        "type": "rpi4",
        "kind": "ssh",
        "serial": "s1",
        "reached": "pi@10.0.0.7:22",
        "home": "/h",
    }
    assert describe_device(Device("local", DeviceType("host"), "local"))["reached"] == "local"


class Client:
    """An agent that takes a soak, and tells its sensors."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def request(self, op: str, args: Any = None, *, timeout_s: float | None = None) -> Any:
        self.asked.append((op, args))
        sensors = [{"id": "a/b/c/temp_c", "kind": "temp_c", "unit": "°C", "site": "c"}]
        answers = {
            "channels": {"channels": sensors, "silent": {"d/e/f/power_w": "no such device"}},
            "set_governor": {},
            "soak_start": {"pid": 7, "boot_hook": "crontab"},
        }
        return SimpleNamespace(args=answers[op])


@pytest.mark.parametrize("compressed", [False, True])
def test_the_device_is_told_before_the_ledger_is_made(tmp_path: Path, compressed: bool):
    client = Client()
    device = Device("local", DeviceType("host"), "local")
    made = bench(device=device, client=client)
    settings = SoakSettings(duration_s=7200.0, window_s=300.0, compressed=compressed)
    started = start_soak(
        cast(Any, made.board), [StreamPlan("main", (made,), "every 300 s")], settings, root=tmp_path
    )
    # a compressed soak reads no sensors: idle time would fly past the deadlines of their bus
    assert [op for op, _ in client.asked] == (["soak_start"] if compressed else ["channels", "soak_start"])
    spec = client.asked[-1][1]["spec"]
    assert [c["id"] for c in spec["channels"]] == ([] if compressed else ["a/b/c/temp_c"])
    assert started.boot_hook == "crontab"
    ledger = Ledger.open(tmp_path / started.soak_id)
    assert ledger.read_spec() == spec
    assert ledger.read_device()["device"] == "local"


def begin(tmp_path: Path, client: Client, **board: Any) -> dict[str, Any]:
    """Start a soak and return the spec that the device got."""
    made = bench(device=Device("local", DeviceType("host"), "local"), client=client, **board)
    plan = [StreamPlan("main", (made,), "closed")]
    start_soak(cast(Any, made.board), plan, SETTINGS, root=tmp_path, about={"run_settings": {"a": 1}})
    return dict(client.asked[-1][1]["spec"])


def test_sensors_that_give_no_reading_travel_with_the_reason(tmp_path: Path):
    about = begin(tmp_path, Client())["about"]
    assert about["run_settings"] == {"a": 1, SILENT: {"d/e/f/power_w": "no such device"}}


@pytest.mark.parametrize(
    ("was", "asked"),
    [
        ({"cpu0": "ondemand", "cpu1": "ondemand"}, [("set_governor", {"governor": "ondemand"})]),
        ({"cpu0": "ondemand", "cpu4": "schedutil"}, []),  # the agent's end puts them back
        ({}, []),
    ],
)
def test_a_soak_begins_under_the_boards_own_governor(tmp_path: Path, was, asked):
    client = Client()
    begin(tmp_path, client, governor={"asked": "performance", "was": was})
    assert [request for request in client.asked if request[0] == "set_governor"] == asked
    assert client.asked[-1][0] == "soak_start"  # after that
