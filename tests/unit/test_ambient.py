"""Thermal numbers from memory compare at one ambient temperature alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import records

from harness.model import Fidelity, Measurement, Run
from harness.recorded import compare_recorded, facts_of


def thermal(ambient_c: float | None) -> Run:
    """Return a thermal run of a board that keeps 80% of its burst."""

    def number(metric: str, value: float | None) -> Measurement:
        bounds = (None, None) if value is None else (value * 0.99, value * 1.01)
        return Measurement(metric, value, *bounds, 20, Fidelity.MEASURED, "thermal")

    rows = (number("sustained_throughput_per_s", 80.0), number("ambient_temp_c", ambient_c))
    return replace(records.run("001-thermal"), suite="thermal", scenario="thermal", measurements=rows)


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (21.0, 22.9, None),
        (21.0, 23.1, "ambient temperature is 21.0 °C, expected 23.1 °C as recorded, ±2 °C"),
        (25.0, 21.0, "ambient temperature is 25.0 °C, expected 21.0 °C as recorded, ±2 °C"),
        (None, 21.0, "ambient temperature is unknown now"),
        (21.0, None, "ambient temperature is unknown when it was recorded"),
    ],
)
def test_another_ambient_is_refused(now, then, said):
    (only,) = compare_recorded(thermal(now), facts_of([thermal(then)]))
    assert only.metric == "sustained_throughput_per_s"
    assert only.value == 1.0
    if said is None:
        assert only.invalid == ()
    else:
        assert said in only.invalid[0]
