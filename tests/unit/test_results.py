"""One run and budgets: its rows, which budget judges which, and what a test's own budgets override."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import records
from support.comparing import comparing_run, comparison, margin

from harness import gate
from harness.budgets import marker_budgets
from harness.errors import StoredRunError
from harness.model import Budget, Condition, Fidelity, Measurement, Method, Run, Scope, Verdict
from harness.results import BUDGETS, budget_for, margin_for, own_budgets, plain_budgets, results_of
from harness.store.codec import dump_json, from_plain, to_plain

MODEL, BOARD = "digits_fp32_onnx", "rpi4"


class Mark:
    """A marker as pytest has them."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


def marked(*marks: Mark, **changes) -> Run:
    """Return a run of a test that has these markers."""
    own = marker_budgets([marks], MODEL, BOARD, "test_x.py::test_it")
    return records.run(settings={BUDGETS: plain_budgets(own)}, **changes)


def p99(value=5.0, fidelity=Fidelity.MEASURED, **more) -> Measurement:
    return Measurement("latency_p99_ns", value, value, value, 640, fidelity, **more)


def planned(limit: float | None, **more) -> Budget:
    return Budget(MODEL, BOARD, "latency_p99_ns", limit, **more)


# --- rows that compare


def test_a_row_that_compares_carries_both_sides():
    c = comparison(1.02, 1.015, 1.025, candidate=5.1e6, baseline=5e6)
    (row,) = results_of(comparing_run([c]), [margin(0.01)])
    assert (row.metric, row.unit, row.scenario, row.n) == ("latency_p50_ns", "ns", "single_stream", 32)
    assert (row.value, row.low, row.high, row.budget) == (5.1e6, None, None, None)
    assert (row.baseline, row.ratio, row.margin, row.verdict) == (5e6, 1.02, 0.01, Verdict.FAIL)
    assert row.comparison is c


def test_numbers_and_comparisons_of_one_run_each_have_a_row():
    run = comparing_run([comparison()], measurements=(p99(scenario="single_stream"),))
    rows = results_of(run, [planned(4.0)])
    assert [(r.metric, r.verdict, r.comparison is None) for r in rows] == [
        ("latency_p99_ns", Verdict.FAIL, True),
        ("latency_p50_ns", Verdict.PASS, False),
    ]


def test_the_default_margin_is_the_metrics_of_its_clock():
    c = comparison(1.005, 1.004, 1.006)
    assert margin_for(c, comparing_run([c]), []) == 0.01
    virtual = replace(c, fidelity=Fidelity.VIRTUAL)
    assert margin_for(virtual, comparing_run([c]), []) == 0.001
    assert [r.verdict for r in results_of(comparing_run([c]), [])] == [Verdict.PASS]
    assert [r.verdict for r in results_of(comparing_run([virtual]), [])] == [Verdict.FAIL]


def test_the_batch_sweep_has_no_default_margin():
    for c in (comparison(scenario="offline"), comparison(scenario="single_stream", batch_size=4)):
        assert margin_for(c, comparing_run([c]), []) is None


def test_the_plans_margin_goes_before_the_default_and_the_nearest_first():
    c = comparison(scenario="single_stream")
    run = comparing_run([c])
    anywhere, here = margin(0.05), margin(0.02, scenario="single_stream")
    virtual = margin(0.001, fidelity=Fidelity.VIRTUAL)
    assert margin_for(c, run, [anywhere]) == 0.05
    assert margin_for(c, run, [anywhere, here]) == 0.02
    assert margin_for(c, run, [virtual]) == 0.001  # relative: it serves where there is no other
    assert margin_for(c, run, [virtual, anywhere]) == 0.05
    for other in ({"model": "x"}, {"device_type": "x"}, {"metric": "rmse"}, {"scenario": "offline"}):
        assert margin_for(c, run, [margin(0.05, **other)]) == 0.01
    assert margin_for(replace(c, batch_size=8), run, [anywhere]) is None
    assert margin_for(replace(c, batch_size=8), run, [replace(anywhere, batch_size=8)]) == 0.05


def test_a_limit_alone_is_no_margin_and_a_margin_alone_no_limit():
    c, run = comparison(), comparing_run([comparison()])
    assert margin_for(c, run, [Budget(MODEL, BOARD, "latency_p50_ns", 9e6)]) == 0.01
    m = Measurement("latency_p50_ns", 5e6, 5e6, 5e6, 10, Fidelity.MEASURED)
    assert budget_for(m, run, [margin(0.02)]) is None


BUSY = Condition("other load", "61% of a core", "at most 50%", False, "Stop it.", Scope.ABSOLUTE)
REBOOTED = Condition("same boot", "no", "yes", False)


@pytest.mark.parametrize(
    ("condition", "method", "expected"),
    [
        (BUSY, Method.DUET, Verdict.PASS),  # both arms met the same load
        (BUSY, Method.ABBA, Verdict.PASS),
        (BUSY, Method.RECORDED, Verdict.INVALID),  # the remembered arm didn't
        (REBOOTED, Method.DUET, Verdict.INVALID),
        (REBOOTED, Method.RECORDED, Verdict.INVALID),
    ],
)
def test_what_a_breached_condition_invalidates(condition, method, expected):
    run = comparing_run([comparison(method=method)], conditions=(condition,))
    (row,) = results_of(run, [])
    assert row.verdict is expected
    if expected is Verdict.INVALID:
        assert row.reasons[0].startswith(f"{condition.name}: {condition.observed}, expected")


def test_a_breached_condition_says_nothing_of_a_files_size_or_of_accuracy():
    size = comparison(1.0, 1.0, 1.0, "model_size_bytes", method=Method.EXACT)
    right = comparison(0.0, -0.001, 0.001, "accuracy", method=Method.PAIRED)
    rows = results_of(comparing_run([size, right], conditions=(REBOOTED,)), [])
    assert [r.verdict for r in rows] == [Verdict.NOT_JUDGED, Verdict.PASS]


def test_an_absolute_number_is_invalid_under_any_breach():
    for condition in (BUSY, REBOOTED):
        run = records.run(measurements=(p99(),), conditions=(condition,))
        assert [r.verdict for r in results_of(run, [planned(9.0)])] == [Verdict.INVALID]


def test_a_metric_that_is_in_no_table_is_our_fault():
    with pytest.raises(ValueError, match="not in the metric table"):
        results_of(comparing_run([replace(comparison(), metric="latency")]), [])


# --- a test's own budgets


def test_an_own_limit_goes_before_the_plans():
    run = marked(Mark("latency_p99_ns", limit="4 ns"), measurements=(p99(5.0),))
    (row,) = results_of(run, [planned(9.0)])
    assert (row.budget, row.verdict) == (4.0, Verdict.FAIL)
    assert "@budget on test_x.py::test_it" in row.reasons[0]


def test_it_goes_before_a_more_specific_one_of_the_plan():
    run = marked(Mark("latency_p99_ns", limit=4), measurements=(p99(5.0, scenario="offline"),))
    assert results_of(run, [planned(9.0, scenario="offline")])[0].budget == 4.0


def test_what_it_names_it_is_for_alone():
    mark = Mark("latency_p99_ns", limit=4, scenario="offline", batch_size=8)
    run = marked(mark)
    plan = [planned(9.0), planned(8.0, batch_size=8)]
    limits = [
        budget_for(p99(scenario=scenario, batch_size=n), run, plan).limit
        for scenario, n in (("offline", 8), ("offline", 1), ("server", 8))
    ]
    assert limits == [4.0, 9.0, 8.0]


def test_without_a_fidelity_it_is_for_measured_numbers_and_says_so_to_others():
    # a limit that nobody meets is worse than one that is told to name its clock
    run = marked(Mark("latency_p99_ns", limit=4), measurements=(p99(5.0, Fidelity.VIRTUAL),))
    (row,) = results_of(run, [planned(9.0, fidelity=Fidelity.VIRTUAL)])
    assert row.verdict is Verdict.INVALID
    assert 'Set one with fidelity = "virtual"' in row.reasons[0]


def test_with_a_fidelity_it_leaves_the_plans_others_alone():
    run = marked(Mark("latency_p99_ns", limit=4, fidelity="virtual"))
    plan = [planned(9.0), planned(8.0, fidelity=Fidelity.VIRTUAL)]
    assert budget_for(p99(fidelity=Fidelity.VIRTUAL), run, plan).limit == 4.0
    assert budget_for(p99(), run, plan).limit == 9.0


def test_an_own_margin_leaves_the_plans_limit_and_the_other_way_round():
    plan = [Budget(MODEL, BOARD, "latency_p50_ns", 9e6, margin=0.02)]
    c = comparison()
    m = Measurement("latency_p50_ns", 5e6, 5e6, 5e6, 10, Fidelity.MEASURED)
    by_margin = marked(Mark("latency_p50_ns", margin="0.5 %"))
    assert (margin_for(c, by_margin, plan), budget_for(m, by_margin, plan).limit) == (0.005, 9e6)
    by_limit = marked(Mark("latency_p50_ns", limit="4 ms"))
    assert (margin_for(c, by_limit, plan), budget_for(m, by_limit, plan).limit) == (0.02, 4e6)


def test_own_budgets_are_for_their_test_alone():
    assert results_of(records.run(measurements=(p99(5.0),)), [planned(9.0)])[0].budget == 9.0


def test_own_budgets_come_back_from_the_store_the_same():
    run = marked(Mark("latency_p99_ns", limit="9 ms", margin="2 %", scenario="server", rule="point"))
    back = from_plain(Run, json.loads(dump_json(to_plain(run))), where="here")
    assert own_budgets(back) == own_budgets(run)
    (own,) = own_budgets(back)
    assert (own.limit, own.margin, own.rule, own.scenario) == (9e6, 0.02, "point", "server")


@pytest.mark.parametrize(
    "plain", [[{}], [1], "x", [{"limit": "9 ms"}], [{**plain_budgets([planned(9.0)])[0], "fidelity": "?"}]]
)
def test_damaged_own_budgets_are_an_error_that_names_the_run(plain):
    with pytest.raises(StoredRunError, match=r"run 001-deploy: settings\.budgets holds no budgets"):
        own_budgets(records.run(settings={BUDGETS: plain}))


# --- for any

METRICS = ("latency_p50_ns", "accuracy", "private_dirty_bytes")


@st.composite
def any_run(draw: st.DrawFn) -> Run:
    """A run of several comparisons and numbers, under conditions that may be breached."""
    comparisons = []
    for metric in draw(st.lists(st.sampled_from(METRICS), max_size=4)):
        middle = draw(st.sampled_from((0.98, 1.0, 1.005, 1.02, 1.2)))
        half = draw(st.sampled_from((0.0005, 0.004, 0.03)))
        shift = 1.0 if metric == "accuracy" else 0.0
        batch = draw(st.sampled_from((1, 8)))
        comparisons.append(
            comparison(middle - shift, middle - half - shift, middle + half - shift, metric, batch_size=batch)
        )
    value = draw(st.sampled_from((3.0, 5.0, 7.0)))
    conditions = draw(st.sampled_from(((), (BUSY,), (REBOOTED,))))
    number = draw(st.integers(1, 99))
    return comparing_run(comparisons, f"{number:03d}", measurements=(p99(value),), conditions=conditions)


some_budgets = st.lists(
    st.one_of(
        st.builds(
            lambda limit, fidelity, scenario: planned(limit, fidelity=fidelity, scenario=scenario),
            st.sampled_from((4.0, 6.0)),
            st.sampled_from(Fidelity),
            st.sampled_from((None, "single_stream")),
        ),
        st.builds(
            lambda m, metric, fidelity: margin(m, metric, fidelity=fidelity),
            st.sampled_from((0.001, 0.01, 0.1)),
            st.sampled_from(METRICS),
            st.sampled_from(Fidelity),
        ),
    ),
    max_size=5,
)
GRADE = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)


@given(st.lists(any_run(), max_size=4), some_budgets, st.randoms(use_true_random=False))
def test_no_verdict_depends_on_the_order_of_anything(runs, budgets, order: random.Random):
    def verdicts(given_runs, given_budgets):
        rows = [r for run in given_runs for r in results_of(run, given_budgets)]
        each = sorted((r.metric, r.batch_size, str(r.value), str(r.ratio), r.verdict) for r in rows)
        return each, gate.session_verdict(rows)

    before = verdicts(runs, budgets)
    mixed = [
        replace(run, comparisons=tuple(order.sample(run.comparisons, len(run.comparisons)))) for run in runs
    ]
    order.shuffle(mixed)
    order.shuffle(budgets)
    assert verdicts(mixed, budgets) == before


@given(any_run(), some_budgets, st.data(), st.floats(1e-4, 0.2))
def test_a_slower_candidate_never_betters_its_session(run, budgets, data, by):
    if not run.comparisons:
        return
    i = data.draw(st.integers(0, len(run.comparisons) - 1))
    c = run.comparisons[i]
    worse = -by if c.metric == "accuracy" else by
    slower = replace(c, value=c.value + worse, low=c.low + worse, high=c.high + worse)
    after = replace(run, comparisons=(*run.comparisons[:i], slower, *run.comparisons[i + 1 :]))
    rows, rows_after = results_of(run, budgets), results_of(after, budgets)
    for a, b in zip(rows, rows_after, strict=True):
        if a.verdict in GRADE:
            assert GRADE.index(b.verdict) >= GRADE.index(a.verdict)
        else:
            assert b.verdict is a.verdict
    severity = gate.worst([gate.session_verdict(rows), gate.session_verdict(rows_after)])
    assert severity is gate.session_verdict(rows_after)
