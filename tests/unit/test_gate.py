"""Runs, sessions and releases: what they add up to."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.comparing import comparison

from harness import gate
from harness.judging import SEVERITY
from harness.model import (
    Budget,
    Condition,
    DeviceFacts,
    ErrorRecord,
    Fidelity,
    Measurement,
    Outcome,
    Plan,
    PlanModel,
    Release,
    Run,
    RuntimeSpec,
    Verdict,
)

RPI4 = DeviceFacts("rpi4-emulated", "rpi4", "qemu", None, "linux-aarch64")
COUNTER = itertools.count()


def a_run(model="m", suite="latency", measurements=(), outcome=Outcome.COMPLETED, device=RPI4, **more):
    return Run(
        run_id=f"r{next(COUNTER)}",
        session_id="s",
        attempt=1,
        suite=suite,
        test=more.pop("test", f"suites/test_{suite}.py::test_it[{model}]"),
        model=model,
        artifact_sha256=more.pop("sha256", "a" * 64),
        runtime=more.pop("runtime", "onnxruntime"),
        runtime_version=more.pop("runtime_version", "1.31.1"),
        device=device,
        threads=1,
        settings={},
        started_at="2026-01-01T00:00:00Z",
        duration_s=1.0,
        outcome=outcome,
        measurements=tuple(measurements),
        **more,
    )


def p99(value, fidelity=Fidelity.VIRTUAL, **more):
    return Measurement("latency_p99_ns", value, value, value, 640, fidelity, **more)


def accuracy(value=0.99):
    return Measurement("accuracy", value, value - 0.01, value + 0.01, 300, Fidelity.MEASURED)


def a_budget(limit=10.0, metric="latency_p99_ns", fidelity=Fidelity.VIRTUAL, **more):
    return Budget(more.pop("model", "m"), more.pop("device_type", "rpi4"), metric, limit, fidelity, **more)


# --- rows


def test_a_row_carries_the_run_the_number_and_the_budget():
    run = a_run(measurements=[p99(9.0, scenario="single_stream")], scenario=None)
    (row,) = gate.results_of(run, [a_budget()])
    assert (row.run_id, row.suite, row.test, row.model) == (run.run_id, run.suite, run.test, "m")
    assert (row.device_name, row.device_type, row.scenario) == ("rpi4-emulated", "rpi4", "single_stream")
    assert (row.metric, row.unit, row.direction) == ("latency_p99_ns", "ns", "lower")
    assert (row.value, row.low, row.high, row.n) == (9.0, 9.0, 9.0, 640)
    assert (row.fidelity, row.budget, row.verdict, row.reasons) == (Fidelity.VIRTUAL, 10.0, Verdict.PASS, ())


def test_a_tolerance_shows_as_the_budget():
    m = Measurement("output_max_abs_error", 1e-7, None, None, 1, Fidelity.MEASURED, limit=1e-5)
    (row,) = gate.results_of(a_run(suite="accuracy", measurements=[m]), [])
    assert (row.budget, row.verdict) == (1e-5, Verdict.PASS)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome.COMPLETED, Verdict.NOT_JUDGED),
        (Outcome.MODEL_REJECTED, Verdict.FAIL),
        (Outcome.INFRA_ERROR, Verdict.INFRA_ERROR),
        (Outcome.INVALID, Verdict.INVALID),
        (Outcome.SKIPPED, Verdict.NOT_JUDGED),
        (Outcome.INTERRUPTED, Verdict.INVALID),
        (Outcome.USAGE_ERROR, Verdict.INVALID),
    ],
)
def test_a_run_without_numbers_still_has_a_row(outcome, verdict):
    (row,) = gate.results_of(a_run(outcome=outcome, reason="because"), [])
    assert (row.metric, row.value, row.fidelity, row.verdict) == (gate.OUTCOME, None, None, verdict)
    assert row.reasons == ("because",)


def test_every_outcome_has_a_verdict_and_a_reason():
    for outcome in Outcome:
        (row,) = gate.results_of(a_run(outcome=outcome), [])
        assert row.reasons


def test_an_error_is_the_reason():
    error = ErrorRecord("model-rejected", "unsupported op Foo")
    (row,) = gate.results_of(a_run(outcome=Outcome.MODEL_REJECTED, error=error), [])
    assert row.reasons == ("unsupported op Foo",)


def test_a_failing_condition_makes_times_invalid_and_nothing_else():
    hot = Condition("throttled", "yes", "no", ok=False, remedy="Cool it.")
    unseen = Condition("freq", "not observable", "1.5 GHz", ok=None)
    run = a_run(measurements=[p99(9.0), accuracy()], conditions=(hot, unseen))
    time, task = gate.results_of(run, [a_budget(), a_budget(0.95, "accuracy", Fidelity.MEASURED)])
    assert time.verdict is Verdict.INVALID
    assert time.reasons == ("throttled: yes, expected no. Cool it.",)
    assert task.verdict is Verdict.PASS


def test_a_failing_condition_is_told_of_a_time_that_nothing_judges():
    busy = Condition("load", "3", "< 1", ok=False)
    (row,) = gate.results_of(a_run(measurements=[p99(9.0)], conditions=(busy,)), [])
    assert (row.verdict, row.reasons) == (Verdict.NOT_JUDGED, ("load: 3, expected < 1",))


def test_a_metric_that_is_not_in_the_table_is_our_own_mistake():
    with pytest.raises(ValueError, match="not in the metric table"):
        gate.results_of(a_run(measurements=[replace(accuracy(), metric="acuracy")]), [])


# --- which budget


def test_a_budget_is_for_its_model_device_type_and_metric_alone():
    m = p99(9.0)
    for other in ({"model": "n"}, {"device_type": "rpi5"}, {"metric": "latency_p50_ns"}):
        assert gate.budget_for(m, a_run(), [a_budget(**other)]) is None


def test_without_a_batch_size_it_is_for_one():
    assert gate.budget_for(p99(9.0, batch_size=8), a_run(), [a_budget()]) is None
    eight = a_budget(batch_size=8)
    assert gate.budget_for(p99(9.0, batch_size=8), a_run(), [a_budget(), eight]) is eight


def test_the_most_specific_one_judges():
    anywhere, offline = a_budget(), a_budget(20.0, scenario="offline")
    m = p99(15.0, scenario="offline")
    assert gate.budget_for(m, a_run(), [anywhere, offline]) is offline
    assert gate.budget_for(p99(15.0, scenario="single_stream"), a_run(), [anywhere, offline]) is anywhere
    assert gate.budget_for(p99(15.0), a_run(scenario="offline"), [anywhere, offline]) is offline


def test_a_batch_size_of_its_own_is_more_specific_than_none():
    one = a_budget(20.0, batch_size=1)
    for order in ([a_budget(), one], [one, a_budget()]):
        assert gate.budget_for(p99(15.0), a_run(), order) is one


def test_of_two_fidelities_the_numbers_own():
    board, emulated = a_budget(5.0, fidelity=Fidelity.MEASURED), a_budget(10.0)
    assert gate.budget_for(p99(9.0), a_run(), [board, emulated]) is emulated
    # specific, but for another clock: stands back for one of the same
    board = replace(board, scenario="single_stream")
    assert gate.budget_for(p99(9.0, scenario="single_stream"), a_run(), [board, emulated]) is emulated
    assert gate.budget_for(p99(9.0), a_run(), [replace(board, scenario=None)]).fidelity is Fidelity.MEASURED


def test_another_runtime_of_a_model_is_judged_by_its_budgets():
    assert gate.budget_for(p99(9.0), a_run(model="m@onnxruntime==1.20.1"), [a_budget()]) is not None


# --- a session


def test_the_session_takes_the_worst_and_ignores_what_nothing_judges():
    rows = gate.results_of(a_run(measurements=[p99(9.0), accuracy()]), [a_budget()])
    assert gate.session_verdict(rows) is Verdict.PASS
    assert gate.session_verdict(()) is Verdict.NOT_JUDGED
    rows += gate.results_of(a_run(outcome=Outcome.INFRA_ERROR), [])
    assert gate.session_verdict(rows) is Verdict.INFRA_ERROR
    rows += gate.results_of(a_run(measurements=[p99(11.0)]), [a_budget()])
    assert gate.session_verdict(rows) is Verdict.FAIL


def test_a_lab_failure_that_was_tried_again_does_not_stand():
    lost = a_run(outcome=Outcome.INFRA_ERROR)
    assert gate.standing_runs([lost]) == (lost,)
    again = replace(a_run(measurements=[p99(9.0)]), attempt=2)
    assert gate.standing_runs([lost, again]) == gate.standing_runs([again, lost]) == (again,)
    lost_again = replace(lost, attempt=2)
    assert gate.standing_runs([lost, lost_again]) == (lost_again,)
    # another test's, or another session's, makes nothing good
    for other in ({"suite": "memory"}, {"model": "n"}, {"session_id": "t"}, {"scenario": "offline"}):
        assert lost in gate.standing_runs([lost, replace(again, **other)])
    # a failure of the model's own stands, whatever follows
    failed = a_run(outcome=Outcome.MODEL_REJECTED)
    assert failed in gate.standing_runs([failed, again])


def test_an_interrupted_session_is_never_a_pass():
    rows = gate.results_of(a_run(measurements=[p99(9.0)]), [a_budget()])
    assert gate.session_verdict(rows, interrupted=True) is Verdict.INVALID
    assert gate.session_verdict((), interrupted=True) is Verdict.INVALID


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.PASS, 0),
        (Verdict.NOT_JUDGED, 0),
        (Verdict.FAIL, 1),
        (Verdict.INCONCLUSIVE, 10),
        (Verdict.INVALID, 11),
        (Verdict.INFRA_ERROR, 75),
    ],
)
def test_exit_codes(verdict, code):
    assert gate.exit_code(verdict) == code


def test_pytests_exit_code_and_ours():
    for verdict in Verdict:
        for kept in (2, 3, 4):
            assert gate.combine_exit(kept, verdict) == kept
        # pytest's 1 stands for any failing test; the verdict says which kind
        expected = gate.exit_code(verdict) or 1
        assert gate.combine_exit(1, verdict) == expected
        for quiet in (0, 5, 6):
            assert gate.combine_exit(quiet, verdict) == (gate.exit_code(verdict) or quiet)
        # a test that failed for a reason of its own is a FAIL
        assert gate.combine_exit(1, verdict, other_failures=True) == 1
    assert gate.combine_exit(3, Verdict.FAIL, other_failures=True) == 3


# --- a release

SUITES = ("accuracy", "latency")


def a_plan(**more):
    models = (PlanModel("m", Path("m.onnx")), PlanModel("n", Path("n.onnx")))
    budgets = tuple(
        b
        for name in ("m", "n")
        for b in (a_budget(model=name), a_budget(0.95, "accuracy", Fidelity.MEASURED, model=name))
    )
    defaults = {"models": models, "device_types": ("rpi4",), "required_suites": SUITES, "budgets": budgets}
    return Plan(Path("release.toml"), **{**defaults, **more})


def full_runs():
    return [
        a_run(model, suite, measurements)
        for model in ("m", "n")
        for suite, measurements in (("latency", [p99(9.0)]), ("accuracy", [accuracy()]))
    ]


def release(runs, plan=None) -> Release:
    plan = plan or a_plan()
    return gate.release_verdict([r for run in runs for r in gate.results_of(run, plan.budgets)], runs, plan)


def test_all_of_the_plan_within_its_budgets_is_a_pass():
    assert release(full_runs()) == Release(Verdict.PASS, (), ())


@pytest.mark.parametrize("left_out", range(4))
def test_a_run_that_is_not_there_is_missing(left_out):
    runs = full_runs()
    gone = runs.pop(left_out)
    found = release(runs)
    assert found.verdict is Verdict.INVALID
    assert f"{gone.model} on rpi4: {gone.suite} was not run" in found.missing


def test_a_model_or_device_type_that_is_not_there_is_missing():
    assert release(full_runs()[:2]).missing == ("n on rpi4: nothing was run",)
    found = release(full_runs(), a_plan(device_types=("rpi4", "rpi5")))
    assert found.verdict is Verdict.INVALID
    assert "no budgets are set for model `m` on rpi5" in found.missing
    assert "m on rpi5: nothing was run" in found.missing


@pytest.mark.parametrize("skipped", range(4))
def test_a_skip_of_something_required_is_never_a_pass(skipped):
    runs = full_runs()
    runs[skipped] = replace(runs[skipped], outcome=Outcome.SKIPPED, reason="no such sensor", measurements=())
    found = release(runs)
    assert found.verdict is Verdict.INVALID
    assert any("was skipped in" in line and "no such sensor" in line for line in found.missing)


def test_a_skip_beside_a_completed_run_of_the_suite_is_no_pass_either():
    test = "suites/test_latency.py::test_offline[m]"
    extra = a_run(outcome=Outcome.SKIPPED, reason="fixed batch", test=test)
    assert release([*full_runs(), extra]).verdict is Verdict.INVALID
    # measured in another session, the same test is complete
    done = a_run(measurements=[p99(9.0)], test=extra.test)
    assert release([*full_runs(), extra, done]).verdict is Verdict.PASS


def test_the_worst_attempt_counts():
    assert release([*full_runs(), a_run(measurements=[p99(11.0)])]).verdict is Verdict.FAIL
    assert release([*full_runs(), a_run(outcome=Outcome.INFRA_ERROR)]).verdict is Verdict.INFRA_ERROR
    assert release([*full_runs(), a_run(outcome=Outcome.INTERRUPTED)]).verdict is Verdict.INVALID


def test_a_lab_failure_that_was_tried_again_is_named_and_decides_nothing():
    runs = full_runs()
    lost = replace(runs[0], outcome=Outcome.INFRA_ERROR, measurements=(), reason="link lost")
    runs[0] = replace(runs[0], attempt=2)
    for order in ([lost, *runs], [*runs, lost]):
        found = release(order)
        assert found.verdict is Verdict.PASS
        assert any(
            line.startswith("tried again after INFRA_ERROR") and "link lost" in line for line in found.reasons
        )


def test_a_second_attempt_does_not_hide_a_fail():
    runs = full_runs()
    failed = replace(runs[0], measurements=(p99(11.0),))
    runs[0] = replace(runs[0], attempt=2)
    assert release([failed, *runs]).verdict is Verdict.FAIL


def test_a_rejected_model_is_a_fail():
    runs = [a_run("m", suite, outcome=Outcome.MODEL_REJECTED, reason="bad opset") for suite in SUITES]
    found = release([*runs, *full_runs()[2:]])
    assert found.verdict is Verdict.FAIL
    assert any("bad opset" in reason for reason in found.reasons)


def test_a_rejected_model_is_one_line_with_its_cause_and_place_once():
    error = ErrorRecord("model-rejected", "m on rpi4-emulated: onnxruntime refuses it: bad opset", 0)
    refused = a_run("m", "deploy", outcome=Outcome.MODEL_REJECTED, error=error)
    skipped = [a_run("m", s, outcome=Outcome.SKIPPED, reason="not measured: did not deploy") for s in SUITES]
    found = release([refused, *skipped, *full_runs()[2:]])
    assert found.missing == ("m on rpi4: nothing was measured of it: onnxruntime refuses it: bad opset",)
    assert found.reasons == ("FAIL: m on rpi4-emulated, deploy: onnxruntime refuses it: bad opset",)


def test_a_completed_deployment_needs_no_budget():
    plan = a_plan(required_suites=("deploy", *SUITES))
    size = Measurement("model_size_bytes", 9.0, None, None, 1, Fidelity.MEASURED)
    runs = [*full_runs(), *(a_run(name, "deploy", [size]) for name in ("m", "n"))]
    assert release(runs, plan) == Release(Verdict.PASS, (), ())


def test_runtimes_that_were_compared_count_where_the_plan_wants_them():
    models = (PlanModel("m", Path("m.onnx"), RuntimeSpec("onnxruntime", "1.31.1")), *a_plan().models[1:])
    plan = a_plan(models=models)
    runs = full_runs()
    runs[:2] = [replace(run, model="m@onnxruntime==1.31.1") for run in runs[:2]]
    assert release(runs, plan).verdict is Verdict.PASS
    other = [replace(run, model="m@onnxruntime==1.20.1", runtime_version="1.20.1") for run in runs[:2]]
    found = release([*runs, *other], plan)
    assert (found.verdict, found.missing) == (Verdict.PASS, ())
    what = "runs of m@onnxruntime==1.20.1 don't count: the plan wants another runtime"
    assert found.reasons == (what,)
    assert "m on rpi4: nothing was run" in release([*other, *runs[2:]], plan).missing


def test_two_failures_of_one_metric_say_which_is_which():
    run = a_run(
        measurements=[p99(11.0), p99(12.0, scenario="offline", batch_size=8)], scenario="single_stream"
    )
    rows = gate.results_of(run, [a_budget(), a_budget(batch_size=8)])
    assert "latency_p99_ns (single_stream): " in rows[0].reasons[0]
    assert "latency_p99_ns (offline, batch 8): " in rows[1].reasons[0]


def test_a_suite_that_never_completed_says_so():
    runs = full_runs()
    runs[0] = replace(runs[0], outcome=Outcome.INFRA_ERROR, measurements=())
    found = release(runs)
    assert found.verdict is Verdict.INFRA_ERROR
    assert "m on rpi4: latency never completed (infra_error)" in found.missing


def test_no_plan_or_no_budgets_is_invalid():
    assert gate.release_verdict((), (), None) == Release(Verdict.INVALID, ("there is no plan",))
    adhoc = a_run("theirs.onnx", measurements=[p99(9.0)])
    assert release([adhoc], Plan(None)).missing == ("no budgets are set for model `theirs.onnx`",)
    found = release(full_runs(), a_plan(budgets=()))
    assert found.verdict is Verdict.INVALID
    assert "no budgets are set for model `m` on rpi4" in found.missing


def test_a_model_beside_the_plan_has_no_budgets():
    found = release([*full_runs(), a_run("theirs.onnx", measurements=[p99(9.0)])])
    assert found.verdict is Verdict.INVALID
    assert found.missing == ("no budgets are set for model `theirs.onnx`: it is not in the plan",)


def test_a_required_suite_in_which_nothing_is_judged_is_missing():
    plan = a_plan(budgets=tuple(b for b in a_plan().budgets if b.metric == "accuracy" or b.model == "n"))
    found = release(full_runs(), plan)
    assert found.verdict is Verdict.INVALID
    assert found.missing == ("m on rpi4: latency is required, but no budget judges anything in it",)


def test_a_budget_that_judged_nothing_is_missing():
    unmet = a_budget(metric="latency_p50_ns", scenario="offline", batch_size=8)
    found = release(full_runs(), a_plan(budgets=(*a_plan().budgets, unmet)))
    assert found.missing == (
        "m on rpi4: latency_p50_ns, offline, batch 8 has a budget, and nothing was measured",
    )


P50_MARGIN = a_budget(None, "latency_p50_ns", Fidelity.MEASURED, margin=0.01)


def beside(value=1.0, low=0.999, high=1.001, **changes):
    """Return a run that compares the p50 of `m` with its baseline's."""
    effect = comparison(value, low, high, fidelity=changes.pop("fidelity", Fidelity.VIRTUAL), **changes)
    return a_run(comparisons=(effect,), test="suites/test_latency.py::test_against_baseline[m]")


def test_a_margin_needs_a_comparison():
    plan = a_plan(budgets=(*a_plan().budgets, P50_MARGIN))
    found = release(full_runs(), plan)
    assert found.verdict is Verdict.INVALID
    assert found.missing == (
        "m on rpi4: latency_p50_ns has a margin, and no comparison of it completed: "
        "give --baseline, or see how its run ended",
    )
    assert release([*full_runs(), beside()], plan) == Release(Verdict.PASS, (), ())


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        ({"value": 1.03, "low": 1.02, "high": 1.04}, Verdict.FAIL),
        ({"value": 1.01, "low": 0.99, "high": 1.03}, Verdict.INCONCLUSIVE),
        ({"invalid": ("device unit is rpi4-02, expected rpi4-01 as recorded",)}, Verdict.INVALID),
        ({"value": None, "low": None, "high": None}, Verdict.INVALID),
    ],
)
def test_what_a_comparison_comes_to_the_release_comes_to(effect, expected):
    plan = a_plan(budgets=(*a_plan().budgets, P50_MARGIN))
    found = release([*full_runs(), beside(**effect)], plan)
    assert found.verdict is expected
    assert any(line.startswith(f"{expected}: m on rpi4-emulated, latency: ") for line in found.reasons)


def test_a_comparison_of_numbers_that_the_plan_does_not_accept_meets_no_margin():
    budgets = tuple(replace(b, fidelity=Fidelity.MEASURED) for b in a_plan().budgets)
    plan = a_plan(budgets=(*budgets, P50_MARGIN), accepted_fidelity=(Fidelity.MEASURED,))
    found = release([*full_runs(), beside()], plan)
    assert (
        "m on rpi4: latency_p50_ns was compared in virtual numbers; the plan accepts measured"
        in found.missing
    )
    measured = release([*full_runs(), beside(fidelity=Fidelity.MEASURED)], plan)
    assert not any("latency_p50_ns" in line for line in measured.missing)


def test_a_default_margin_gates_too():
    # 0.1% on a virtual clock, where the plan sets none
    assert release([*full_runs(), beside(1.005, 1.004, 1.006)]).verdict is Verdict.FAIL
    assert release([*full_runs(), beside(1.0, 0.9995, 1.0005)]).verdict is Verdict.PASS


def test_a_metric_without_a_value_meets_no_budget():
    runs = full_runs()
    runs[0] = replace(runs[0], measurements=(p99(None, reasons=("not printed",)),))
    found = release(runs)
    assert found.verdict is Verdict.INVALID
    assert any("not printed" in reason for reason in found.reasons)


def test_a_fidelity_that_the_plan_does_not_accept_is_missing():
    found = release(full_runs(), a_plan(accepted_fidelity=(Fidelity.MEASURED,)))
    assert found.verdict is Verdict.INVALID
    assert "m on rpi4: latency_p99_ns is virtual; the plan accepts measured" in found.missing


def test_budgets_for_two_fidelities_are_met_by_one():
    both = (*a_plan().budgets, a_budget(5.0, fidelity=Fidelity.MEASURED))
    assert release(full_runs(), a_plan(budgets=both)).verdict is Verdict.PASS


def test_an_estimate_passes_no_budget_that_does_not_name_it():
    runs = full_runs()
    runs[0] = replace(runs[0], measurements=(p99(1.0, Fidelity.ESTIMATED),))
    assert release(runs).verdict is Verdict.INVALID


def test_runs_of_different_files_under_one_name_are_not_one_release():
    found = release([*full_runs(), a_run(measurements=[p99(9.0)], sha256="b" * 64)])
    assert found.verdict is Verdict.INVALID
    assert "different files (aaaaaaaaaaaa, bbbbbbbbbbbb)" in found.missing[0]


def test_a_runtime_that_the_plan_does_not_name_is_not_its_release():
    def with_runtime(spec):
        return a_plan(models=(PlanModel("m", Path("m.onnx"), spec), PlanModel("n", Path("n.onnx"))))

    assert release(full_runs(), with_runtime(RuntimeSpec("onnxruntime"))).verdict is Verdict.PASS
    assert release(full_runs(), with_runtime(RuntimeSpec("onnxruntime", "1.31.1"))).verdict is Verdict.PASS
    found = release(full_runs(), with_runtime(RuntimeSpec("onnxruntime", "1.20.1")))
    assert found.missing == (
        "m on rpi4: was run with onnxruntime==1.31.1, the plan says onnxruntime==1.20.1",
    )


def test_other_device_types_are_left_out_and_named():
    here = DeviceFacts("local", "local", "local", None, "linux-x86_64")
    found = release([*full_runs(), a_run(outcome=Outcome.INFRA_ERROR, device=here)])
    assert found.verdict is Verdict.PASS
    assert found.reasons == ("runs on local don't count: the plan is for rpi4",)


@pytest.mark.parametrize("emptied", ["device_types", "required_suites"])
def test_a_plan_that_requires_nothing_releases_nothing(emptied):
    found = release(full_runs(), a_plan(**{emptied: ()}))
    assert found.verdict is Verdict.INVALID
    assert f"release.{emptied}" in found.missing[0]


def test_evidence_that_can_not_be_read_is_no_pass():
    found = gate.with_problems(release(full_runs()), ["run r7: damaged"])
    assert (found.verdict, found.missing) == (Verdict.INVALID, ("run r7: damaged",))
    failed = gate.with_problems(Release(Verdict.FAIL, ()), ["x"])
    assert failed.verdict is Verdict.FAIL


# --- what holds for any session

some_runs = st.lists(
    st.builds(
        lambda model, value, outcome, suite: a_run(
            model, suite, [p99(value)] if outcome is Outcome.COMPLETED else (), outcome
        ),
        st.sampled_from(["m", "n", "other"]),
        st.sampled_from([1.0, 9.0, 10.0, 11.0]),
        st.sampled_from(list(Outcome)),
        st.sampled_from(SUITES),
    ),
    max_size=6,
)


@given(some_runs, st.integers())
def test_no_verdict_depends_on_the_order_of_runs(extra, seed):
    runs = [*full_runs(), *extra]
    shuffled = runs[:]
    random.Random(seed).shuffle(shuffled)
    assert release(runs) == release(shuffled)
    rows = [[r for run in each for r in gate.results_of(run, a_plan().budgets)] for each in (runs, shuffled)]
    assert gate.session_verdict(rows[0]) is gate.session_verdict(rows[1])


@given(some_runs, some_runs)
def test_more_runs_never_hide_a_failure(runs, more):
    before, after = release([*full_runs(), *runs]).verdict, release([*full_runs(), *runs, *more]).verdict
    bad = (Verdict.FAIL, Verdict.INFRA_ERROR, Verdict.INCONCLUSIVE)
    if before in bad:
        assert SEVERITY.index(after) <= SEVERITY.index(before)


@given(some_runs)
def test_a_release_passes_only_with_nothing_missing(runs):
    found = release(runs)
    assert found.verdict is not Verdict.NOT_JUDGED
    assert (found.verdict is Verdict.PASS) <= (not found.missing)


@given(st.floats(0, 20), st.floats(0, 20))
def test_a_slower_run_never_improves_the_release(value, slowdown):
    def verdict(number):
        runs = full_runs()
        runs[0] = replace(runs[0], measurements=(p99(number),))
        return SEVERITY.index(release(runs).verdict)

    assert verdict(value + slowdown) <= verdict(value)


# --- estimates


def an_estimate(value=77.0, low=66.0, high=90.0):
    return Measurement("estimated_latency_p50_ns", value, low, high, 25, Fidelity.ESTIMATED)


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(100.0, Verdict.PASS), (80.0, Verdict.INCONCLUSIVE), (70.0, Verdict.INCONCLUSIVE), (60.0, Verdict.FAIL)],
)
def test_an_estimate_decides_outside_its_band_alone(limit, verdict):
    own = a_budget(limit, "estimated_latency_p50_ns", Fidelity.ESTIMATED)
    plan = a_plan(budgets=(*a_plan().budgets, own))
    judged = a_run("m", measurements=[p99(9.0), an_estimate()])
    runs = [judged if (r.model, r.suite) == ("m", "latency") else r for r in full_runs()]
    rows = [row for run in runs for row in gate.results_of(run, plan.budgets)]
    (row,) = (r for r in rows if r.metric == "estimated_latency_p50_ns")
    assert row.verdict is verdict
    assert gate.release_verdict(rows, runs, plan).verdict is verdict


@pytest.mark.parametrize(
    "more", [{"accepted_estimates": ()}, {"accepted_fidelity": (Fidelity.MEASURED,)}], ids=str
)
def test_a_plan_may_let_no_estimate_decide(more):
    own = a_budget(100.0, "estimated_latency_p50_ns", Fidelity.ESTIMATED)
    plan = a_plan(budgets=(*a_plan().budgets, own), **more)
    runs = [*full_runs(), a_run("m", measurements=[p99(9.0), an_estimate()])]
    found = release(runs, plan)
    assert found.verdict is Verdict.INVALID
    accepted = "measured" if "accepted_fidelity" in more else "measured, virtual"
    said = f"estimated_latency_p50_ns is estimated; the plan accepts {accepted}, and no estimates"
    assert any(said in line for line in found.missing)


def test_estimated_energy_passes_no_budget_as_shipped():
    joules = Measurement("energy_per_inference_j", 1.0, 0.9, 1.1, 5, Fidelity.ESTIMATED)
    own = a_budget(2.0, "energy_per_inference_j", Fidelity.ESTIMATED)
    plan = a_plan(budgets=(*a_plan().budgets, own))
    found = release([*full_runs(), a_run("m", suite="power", measurements=[joules])], plan)
    assert found.verdict is Verdict.INVALID
    assert any("energy_per_inference_j is estimated" in line for line in found.missing)


def test_a_budget_of_an_estimate_that_nobody_made_is_missing():
    own = a_budget(100.0, "estimated_latency_p50_ns", Fidelity.ESTIMATED)
    found = release(full_runs(), a_plan(budgets=(*a_plan().budgets, own)))
    assert any("has a budget, and no emulated board made one" in line for line in found.missing)


def test_an_estimate_that_could_not_be_made_is_invalid_where_a_budget_waits_for_it():
    none = Measurement(
        "estimated_latency_p50_ns", None, None, None, 0, Fidelity.ESTIMATED, reasons=("no calibration",)
    )
    own = a_budget(100.0, "estimated_latency_p50_ns", Fidelity.ESTIMATED)
    (_, row) = gate.results_of(a_run(measurements=[p99(9.0), none]), [own])
    assert (row.verdict, row.reasons) == (Verdict.INVALID, ("no calibration",))
    (_, row) = gate.results_of(a_run(measurements=[p99(9.0), none]), [])
    assert row.verdict is Verdict.NOT_JUDGED
