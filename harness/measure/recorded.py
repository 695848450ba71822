"""A candidate's numbers against those a baseline was recorded with: from memory, where its file is gone.

The two were measured at different times, so nothing cancels: intervals combine (MOVER), and whatever was not
alike makes the comparison invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness import stats
from harness.metrics import METRICS
from harness.model import Comparison, Effect, Measurement, Method, RecordedBaseline, RecordedNumber

Problems = Callable[[RecordedNumber, Measurement], tuple[str, ...]]


def compare_recorded(
    measurements: Iterable[Measurement],
    recorded: RecordedBaseline,
    name: str,
    scenario: str | None,
    problems: Problems,
) -> tuple[Comparison, ...]:
    """Return a comparison for each measurement that the baseline has a number for.

    `problems` says what keeps a number of the baseline from being compared with one of the candidate's.
    """
    by_scope = {
        (n.measurement.metric, n.measurement.scenario, n.measurement.batch_size): n for n in recorded.numbers
    }
    found = []
    for m in measurements:
        known = by_scope.get((m.metric, m.scenario or scenario, m.batch_size))
        if known is not None and METRICS[m.metric].kind != "agreement":
            found.append(_compared(m, known, recorded, name, problems(known, m)))
    return tuple(found)


def _compared(
    m: Measurement, known: RecordedNumber, recorded: RecordedBaseline, name: str, invalid: tuple[str, ...]
) -> Comparison:
    base = known.measurement
    effect = Effect.DIFFERENCE if METRICS[m.metric].unit == "ratio" else Effect.RATIO
    value, low, high, reasons = _effect(m, base, effect)
    told = f"from memory: recorded {recorded.recorded_at[:10]}, not measured side by side"
    return Comparison(
        metric=m.metric,
        effect=effect,
        value=value,
        low=low,
        high=high,
        n=min(m.n, base.n),
        fidelity=m.fidelity,
        method=Method.EXACT if METRICS[m.metric].kind == "size" else Method.RECORDED,
        candidate=m.value,
        baseline=base.value,
        baseline_name=name,
        scenario=m.scenario,
        batch_size=m.batch_size,
        reasons=(told, *reasons),
        invalid=invalid,
        settings={"baseline_run": known.run_id, "baseline_session": recorded.session_id},
    )


def _effect(
    m: Measurement, base: Measurement, effect: Effect
) -> tuple[float | None, float | None, float | None, tuple[str, ...]]:
    if m.value is None or base.value is None:
        return None, None, None, ("one of the two has no value",)
    if effect is Effect.RATIO and not (base.value > 0 and m.value > 0):
        return None, None, None, ("a ratio needs two positive values",)
    value = m.value / base.value if effect is Effect.RATIO else m.value - base.value
    if m.low is None or m.high is None or base.low is None or base.high is None:
        return value, None, None, ("one of the two has no interval",)
    combine = stats.mover_ratio_interval if effect is Effect.RATIO else stats.mover_difference_interval
    return *combine(m.value, m.low, m.high, base.value, base.low, base.high), ()
