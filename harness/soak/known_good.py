"""The soak that is known to be good, as a recorded baseline keeps it: slopes to hold another soak against."""

from __future__ import annotations

from dataclasses import replace

from harness.metrics import METRICS, SOAK_METRICS, TIMED_KINDS
from harness.model import Condition, Measurement, RecordedBaseline
from harness.recorded import recorded_problems
from harness.soak.about import About


def soak_numbers(recorded: RecordedBaseline | None) -> RecordedBaseline | None:
    """Return what a recorded baseline holds of a soak; None where it holds none."""
    if recorded is None:
        return None
    numbers = tuple(
        n
        for n in recorded.numbers
        if n.measurement.metric in SOAK_METRICS and "_drift_" in n.measurement.metric and not n.doubts
    )
    return replace(recorded, numbers=numbers) if numbers else None


def known_good(
    about: About, governor: str | None = None
) -> tuple[tuple[Measurement, ...], tuple[Condition, ...]]:
    """Return the known good soak's measurements, and a condition that says why there are none.

    None of them count where device, build or threads differ (docs/soak.md, Against a known good soak), and
    none of a time where the `governor` of both is known and another.
    """
    recorded = about.baseline
    if recorded is None:
        return (), ()
    current = RecordedBaseline(
        name="",
        model=about.model,
        device_name=about.device.name,
        device_type=about.device.type,
        serial=about.device.serial,
        artifact_sha256=about.artifact_sha256,
        artifact_format="",
        runtime=about.runtime,
        runtime_version=about.runtime_version,
        packages=tuple(str(p) for p in about.run_settings.get("runtime_packages") or ()),
        threads=about.threads,
        platform=about.device.platform,
        kernel=None,
        session_id="",
        recorded_at="",
        numbers=(),
    )
    problems = recorded_problems(recorded, current)
    if not problems:
        return _under(recorded, governor)
    condition = Condition(
        f"soak: against `{recorded.name}`",
        f"not compared: {'; '.join(problems)}",
        "the same device and build",
        None,
        "Record a baseline of this one: harness baseline set.",
    )
    return (), (condition,)


def _under(
    recorded: RecordedBaseline, governor: str | None
) -> tuple[tuple[Measurement, ...], tuple[Condition, ...]]:
    """Return the measurements that compare under `governor`, and a condition that says why not all do."""
    other = [
        n
        for n in recorded.numbers
        if None not in (governor, n.governor)
        and n.governor != governor
        and METRICS[n.measurement.metric].kind in TIMED_KINDS
    ]
    kept = tuple(n.measurement for n in recorded.numbers if n not in other)
    if not other:
        return kept, ()
    condition = Condition(
        f"soak: against `{recorded.name}`",
        f"times not compared: governor {governor}, {other[0].governor} recorded",
        "the same governor",
        None,
        "Have the board set the same one, or record a baseline under this one: harness baseline set.",
    )
    return kept, (condition,)
