"""The tables `energy` and `thermal` of a device type: how its power and thermal suites measure."""

from __future__ import annotations

from dataclasses import replace

from harness.model import EnergySettings, ThermalSettings
from harness.toml_schema import Section

_SCALES = (1e-3, 1.0)  # of an emulated board's durations
_MAX_RATE_HZ = 10_000.0  # the sampler's own limit (harness/agent/sampler.py)


def parse_energy(section: Section | None) -> EnergySettings:
    """Return the table `energy`; what it leaves out keeps its default."""
    default = EnergySettings()
    if section is None:
        return default
    window_s = section.quantity("window_s", "s", at_least=0.1)
    trials = section.integer("trials", at_least=2)
    batches = section.integers("batch_sizes", at_least=1)
    rate_hz = section.quantity("rate_hz", "1", at_least=0.1)
    channels = section.texts("channels")
    clock_s = section.quantity("max_clock_uncertainty_s", "s", at_least=1e-6)
    scale = section.quantity("emulated_scale", "ratio", at_least=0)
    if rate_hz is not None and rate_hz > _MAX_RATE_HZ:
        section.problem("rate_hz", f"no sampler keeps {rate_hz:g} Hz; at most {_MAX_RATE_HZ:g}")
    _check_scale(section, scale)
    section.finish()
    return replace(
        default,
        window_s=window_s or default.window_s,
        trials=trials or default.trials,
        batch_sizes=batches or default.batch_sizes,
        rate_hz=rate_hz or default.rate_hz,
        channels=channels,
        max_clock_uncertainty_s=clock_s or default.max_clock_uncertainty_s,
        emulated_scale=scale or default.emulated_scale,
    )


def parse_thermal(section: Section | None) -> ThermalSettings:
    """Return the table `thermal`; what it leaves out keeps its default."""
    default = ThermalSettings()
    if section is None:
        return default
    low, high = (section.quantity(key, "°C") for key in ("start_low", "start_high"))
    band = (
        default.start_temp_c[0] if low is None else low,
        default.start_temp_c[1] if high is None else high,
    )
    trip, ambient = (section.quantity(key, "°C") for key in ("trip_temp", "ambient_temp"))
    if band[0] >= band[1]:
        section.problem("start_high", f"the start band ends at {band[1]:g} °C, not above its {band[0]:g} °C")
    elif trip is not None and trip <= band[1]:
        what = f"{trip:g} °C is not above the start band, {band[0]:g} to {band[1]:g} °C"
        section.problem("trip_temp", f"{what}: a run would begin throttled. Lower start_high")
    seconds = {
        key: section.quantity(key, "s", at_least=0.1)
        for key in ("cool_cap_s", "load_cap_s", "steady_s", "block_s", "burst_s")
    }
    slope = section.quantity("steady_slope_c_per_min", "1", at_least=1e-6)
    channel = section.text("channel")
    scale = section.quantity("emulated_scale", "ratio", at_least=0)
    _check_scale(section, scale)
    section.finish()
    found = replace(
        default,
        start_temp_c=band,
        trip_temp_c=trip,
        ambient_temp_c=ambient,
        channel=channel,
        steady_slope_c_per_min=slope or default.steady_slope_c_per_min,
        emulated_scale=scale or default.emulated_scale,
        **{key: value for key, value in seconds.items() if value is not None},
    )
    if found.load_cap_s < found.steady_s:
        what = (
            f"{found.load_cap_s:g} s is shorter than steady_s, {found.steady_s:g} s: nothing would get steady"
        )
        section.problem("load_cap_s", what)
    return found


def _check_scale(section: Section, scale: float | None) -> None:
    low, high = _SCALES
    if scale is not None and not low <= scale <= high:
        section.problem("emulated_scale", f"expected {low:g} to {high:g}, got {scale:g}")
