"""Budgets that a test's markers set: what they mean, and every way to get them wrong."""

from __future__ import annotations

import pytest

from harness.budgets import marker_budgets
from harness.errors import ConfigError
from harness.model import Budget, Fidelity


class Mark:
    """A marker as pytest has them."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


def read(*levels, model="door"):
    return marker_budgets(levels, model, "rpi4", "suites/test_x.py::test_it")


def test_a_marker_is_a_budget_for_the_tests_model_and_device_type():
    mark = Mark("latency_p99_ns", limit="9 ms", margin="2 %", rule="point", scenario="server", batch_size=4)
    (found,) = read([mark], model="door@onnxruntime==1.20.1")
    assert found == Budget(
        model="door",
        device_type="rpi4",
        metric="latency_p99_ns",
        limit=9e6,
        rule="point",
        scenario="server",
        batch_size=4,
        where="@budget on suites/test_x.py::test_it",
        margin=0.02,
        fidelity_open=True,
    )


def test_a_fidelity_that_is_named_closes_it():
    (found,) = read([Mark("latency_p99_ns", limit=1, fidelity="virtual")])
    assert (found.fidelity, found.fidelity_open) == (Fidelity.VIRTUAL, False)


def test_the_nearer_marker_counts_and_other_scopes_stay():
    near = [Mark("latency_p99_ns", limit=1)]
    module = [Mark("latency_p99_ns", limit=2), Mark("latency_p99_ns", limit=3, scenario="offline")]
    assert {(b.scenario, b.limit) for b in read(near, module)} == {(None, 1.0), ("offline", 3.0)}


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (Mark(), "@budget: expected a metric's name first and keywords after it, got nothing"),
        (Mark("latency_p99_ns", "9 ms"), "keywords after it, got 'latency_p99_ns', '9 ms'"),
        (Mark(9), "expected a metric's name first"),
        (Mark("latency_p99", limit=1), "unknown metric `latency_p99`; did you mean `latency_p99_ns`?"),
        (Mark("latency_p99_ns"), "@budget('latency_p99_ns').limit: is missing: a budget has a limit"),
        (Mark("latency_p99_ns", limt=1), "limt: unknown key; did you mean `limit`?"),
        (Mark("latency_p99_ns", limit="9 MB"), "limit: unknown unit `MB`"),
        (Mark("latency_p99_ns", limit=None), "limit: expected"),
        (Mark("latency_p99_ns", margin="5"), "500% is beyond 100%"),
        (Mark("accuracy", limit=97), "expected a ratio from 0 to 1"),
        (Mark("latency_p99_ns", limit=1, scenario="serve"), "did you mean `server`?"),
        (Mark("latency_p99_ns", limit=1, batch_size="8"), "batch_size: expected an integer, got '8'"),
    ],
)
def test_each_mistake_names_the_test_and_its_remedy(mark, problem):
    with pytest.raises(ConfigError) as caught:
        read([mark])
    assert caught.value.where == "suites/test_x.py::test_it"
    assert any(problem in found for found in caught.value.problems), caught.value.problems


def test_two_for_one_scope_on_one_level_are_a_mistake():
    with pytest.raises(ConfigError, match="the second one for this fidelity and scope"):
        read([Mark("latency_p99_ns", limit=1), Mark("latency_p99_ns", limit=2)])


def test_a_budget_of_the_median_that_names_estimates_judges_the_estimate():
    both = [
        Mark("latency_p50_ns", limit="5 ms", fidelity="virtual"),
        Mark("latency_p50_ns", limit="80 ms", fidelity="estimated"),
    ]
    found = {b.metric: (b.fidelity, b.limit, b.rule) for b in read(both)}
    assert found == {
        "latency_p50_ns": (Fidelity.VIRTUAL, 5e6, "confidence"),
        "estimated_latency_p50_ns": (Fidelity.ESTIMATED, 80e6, "confidence"),
    }


def test_the_estimates_own_name_needs_no_fidelity():
    (found,) = read([Mark("estimated_latency_p50_ns", limit="80 ms")])
    assert found.fidelity is Fidelity.ESTIMATED


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"rule": "point"}, "an estimate is judged by its band"),
        ({"margin": "1 %"}, "isn't compared with a baseline"),
    ],
)
def test_an_estimate_is_judged_by_its_band_alone(more, problem):
    with pytest.raises(ConfigError, match=problem):
        read([Mark("latency_p50_ns", limit="80 ms", fidelity="estimated", **more)])


def test_an_estimate_is_of_no_other_fidelity():
    with pytest.raises(ConfigError, match="this metric is never virtual, always estimated"):
        read([Mark("estimated_latency_p50_ns", limit="80 ms", fidelity="virtual")])


@pytest.mark.parametrize("metric", ["latency_p99_ns", "load_time_ns", "throughput_per_s"])
def test_what_has_no_estimate_is_refused_before_anything_is_measured(metric):
    with pytest.raises(ConfigError, match="of times only latency_p50_ns has an estimate"):
        read([Mark(metric, limit="80", fidelity="estimated")])


@pytest.mark.parametrize("metric", ["energy_per_inference_j", "peak_temp_c", "latency_p99_drift_ns_per_h"])
def test_other_models_of_a_board_give_estimates_too(metric):
    (found,) = read([Mark(metric, limit="80", fidelity="estimated")])
    assert found.metric == metric
