"""Joulescope: streams by the meter's own count, over a scripted driver with the real one's interface."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from support import joulescope as scripted
from support.meters import read_spec

from harness import instruments
from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, HostSetupError
from harness.instruments.base import Context
from harness.instruments.joulescope import choose_rate_hz, time64_ns


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[scripted.Driver]:
    class Driver(scripted.Driver):
        pass

    module = types.ModuleType("pyjoulescope_driver")
    module.Driver = Driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", module)
    return Driver


def opened(tmp_path: Path, more: str = "") -> instruments.Instrument:
    spec = read_spec(tmp_path, f'kind = "joulescope"\ntimeout_s = 0.2\n{more}\n')
    return instruments.open_instrument(spec, Context())


def test_times_and_rates() -> None:
    assert time64_ns(0) == scripted.EPOCH_S * 10**9
    assert time64_ns(3 << 29) == scripted.EPOCH_S * 10**9 + 1_500_000_000
    assert [choose_rate_hz(rate) for rate in (1, 1000, 1001, 3e5, 1e6)] == [
        1000,
        1000,
        2000,
        500_000,
        1_000_000,
    ]


@pytest.mark.usefixtures("driver")
def test_a_stream_is_whole_and_on_the_meters_clock(tmp_path: Path) -> None:
    meter = opened(tmp_path)
    assert [c.id for c in meter.channels()] == ["power_w", "voltage_v", "current_a"]
    assert {c.clock for c in meter.channels()} == {"meter"}
    assert meter.read("voltage_v").value == 5.0
    meter.start(["power_w", "current_a"], 5000)
    while len(meter._pieces.get("u/js220/000415/s/i/!data", ())) < 5:  # type: ignore[attr-defined]
        pass
    power, current = meter.stop()
    for capture, level in ((power, 4.2), (current, 0.84)):
        assert capture.health.ok
        assert capture.health.got >= 100
        assert capture.values == pytest.approx(level)
        assert set(np.diff(capture.t_ns)) == {200_000}
        assert capture.t_ns[0] == (scripted.EPOCH_S + 7) * 10**9
    meter.close()
    meter.close()


def test_a_message_that_got_lost_is_a_gap(tmp_path: Path, driver: type[scripted.Driver]) -> None:
    driver.lose = frozenset({2})
    meter = opened(tmp_path)
    meter.start(["power_w"], 10_000)
    while len(meter._pieces.get("u/js220/000415/s/p/!data", ())) < 5:  # type: ignore[attr-defined]
        pass
    (capture,) = meter.stop()
    assert capture.health.gaps == 1
    assert capture.health.expected == capture.health.got + scripted.CHUNK
    assert not capture.health.ok
    meter.close()


def test_one_that_sends_nothing_ends_at_its_deadline(tmp_path: Path, driver: type[scripted.Driver]) -> None:
    driver.mute = True
    meter = opened(tmp_path)
    with pytest.raises(DeadlineExceeded, match=r"no sample of `power_w` within 0\.2 s"):
        meter.read("power_w")
    meter.start(["power_w"], 1000)
    (capture,) = meter.stop()
    assert (capture.health.got, capture.health.ok) == (0, False)
    meter.close()


def test_which_one_is_meant(tmp_path: Path, driver: type[scripted.Driver]) -> None:
    driver.paths = ("u/js220/000415", "u/js110/001234")
    with pytest.raises(ConfigError, match="2 are connected; name one"):
        opened(tmp_path)
    with pytest.raises(ConnectionLost, match="no Joulescope 000999 is connected; there are: u/js220/000415"):
        opened(tmp_path, 'serial = "000999"')
    opened(tmp_path, 'serial = "001234"').close()
    driver.paths = ()
    with pytest.raises(ConnectionLost, match="there are: none"):
        opened(tmp_path)


def test_without_its_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    with pytest.raises(HostSetupError, match=r"hil-harness\[joulescope\]"):
        opened(tmp_path)


def test_the_scripted_driver_has_the_real_ones_methods() -> None:
    """Where the real package is installed, the two are held against each other."""
    methods = [name for name, _ in inspect.getmembers(scripted.Driver, inspect.isfunction) if name[0] != "_"]
    assert {"device_paths", "open", "publish", "subscribe", "unsubscribe", "finalize"} == set(methods)
    if importlib.util.find_spec("pyjoulescope_driver") is not None:
        from pyjoulescope_driver import Driver, time64

        assert [name for name in methods if not hasattr(Driver, name)] == []
        assert time64_ns(int(time64.SECOND)) == (int(time64.EPOCH) + 1) * 10**9
