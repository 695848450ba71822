"""The plan's scenarios beyond single_stream and offline, end to end on this host, and what they refuse."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
from support.candidates import HEAVY, TINY, make, on_local
from support.repository import Finished, Repository
from support.tiny import MODELS

from harness.store import read_session

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
# Figures so wide that a busy host can't turn a verdict: a call of tiny.onnx takes some us, one of heavy.onnx
# some 100 us.
PLAN = f"""
[release]
device_types = ["local"]
[models.steady]
path = "{TINY}"
[models.steady.scenarios.multi_stream]
samples_per_query = 4
[models.steady.scenarios.server]
rate = "700 /s"
[models.steady.scenarios.periodic]
period = "2 ms"
deadline = "10 s"
[models.search]
path = "{HEAVY}"
[models.search.scenarios.server]
p99 = "10 s"
[models.search.scenarios.periodic]
period = "10 us"
[models.few]
path = "{MODELS}/fixed_batch.onnx"
[models.few.scenarios.multi_stream]
samples_per_query = 3
[models.few.scenarios.server]
rate = "100 /s"
duration_s = 1
[budgets.local.steady]
deadline_miss_ratio = "1 %"
latency_p99_ns = {{ limit = "1 min", scenario = "multi_stream" }}
[budgets.local.search]
deadline_miss_ratio = "1 %"
server_rate_per_s = "1 /s"
[budgets.local.few]
latency_p99_ns = {{ limit = "1 min", scenario = "server" }}
"""
NAMES = ("multi_stream", "server", "periodic")
PERCENTILES = ("latency_p50_ns", "latency_p90_ns", "latency_p95_ns", "latency_p99_ns")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make(tmp_path_factory.mktemp("scenarios") / "theirs", PLAN)


@pytest.fixture(scope="module")
def done(theirs: Repository) -> Finished:
    return on_local(theirs, "all", "-k", " or ".join(NAMES))


def rows(done: Finished, model: str, scenario: str) -> dict[str, dict]:
    return {
        r["metric"]: r for r in done.summary()["results"] if (r["model"], r["scenario"]) == (model, scenario)
    }


def settings(done: Finished, model: str, scenario: str) -> dict:
    (run,) = (r for r in done.runs() if (r["model"], r["scenario"]) == (model, scenario))
    return dict(run["settings"])


def test_each_model_has_the_scenarios_that_the_plan_asks_for(done):
    asked = {(model, name) for model in ("steady", "search", "few") for name in NAMES}
    asked -= {("search", "multi_stream"), ("few", "periodic")}
    assert {(run["model"], run["scenario"]) for run in done.runs()} == asked
    jsonschema.validate(done.summary(), json.loads(SCHEMA.read_text()))
    page = (done.folder / "report.html").read_text()
    assert all(name in page for name in NAMES)


def test_the_worst_of_them_ends_the_session(done):
    assert done.returncode == 1, done.output
    assert done.summary()["verdict"] == "FAIL"
    failed = {line.split()[1] for line in done.output.splitlines() if line.startswith("FAILED ")}
    expected = {
        f"suites/test_latency.py::test_{end}]" for end in ("periodic[local-search", "server[local-few")
    }
    assert expected <= failed
    assert "Traceback" not in done.output


def test_multi_stream_counts_samples_and_times_queries(done):
    found = rows(done, "steady", "multi_stream")
    assert found["latency_p99_ns"]["verdict"] == "PASS", found["latency_p99_ns"]["reasons"]
    assert settings(done, "steady", "multi_stream")["query_is"] == "one batch"
    assert settings(done, "few", "multi_stream")["query_is"] == "3 calls one after the other"
    for model, samples in (("steady", 4), ("few", 3)):
        found = rows(done, model, "multi_stream")
        per_query_s = found["latency_p50_ns"]["value"] / 1e9
        assert found["throughput_per_s"]["value"] == pytest.approx(samples / per_query_s)


def test_server_at_a_rate_plays_what_a_p99_needs(done):
    found = rows(done, "steady", "server")
    assert found["latency_p99_ns"]["n"] >= 662
    for low, high in itertools.pairwise(PERCENTILES):
        assert found[low]["value"] <= found[high]["value"]
    (run,) = (r for r in read_session(done.folder).runs if (r.model, r.scenario) == ("steady", "server"))
    (samples,) = (s for s in run.series if s.name == "latency_ns")
    assert len(samples.values) == found["latency_p99_ns"]["n"]
    assert settings(done, "steady", "server")["rate_per_s"] == 700
    assert isinstance(settings(done, "steady", "server")["seed"], int)


def test_the_highest_rate_has_its_evidence(done):
    row = rows(done, "search", "server")["server_rate_per_s"]
    tried = settings(done, "search", "server")["rates"]
    held = [entry["rate_per_s"] for entry in tried if entry["met"]]
    if not held:  # a host so busy that its queries queue up: too few of them are independent
        assert (row["value"], row["verdict"]) == (None, "INVALID")
        assert "was not shown to keep it" in row["reasons"][0]
        return
    assert (row["value"], row["verdict"]) == (pytest.approx(max(held)), "PASS"), row["reasons"]
    assert row["low"] == row["value"] < row["high"]
    assert "keeps 10.0 s" in row["reasons"][0]


def test_a_deadline_that_is_kept_and_one_that_cannot_be(done):
    kept = rows(done, "steady", "periodic")["deadline_miss_ratio"]
    assert (kept["verdict"], kept["value"], kept["budget"]) == ("PASS", 0.0, 0.01), kept["reasons"]
    assert kept["low"] == 0.0 < kept["high"] < 0.01
    assert f"0 of {kept['n']} frames ended later than 10.0 s" in kept["reasons"][0]
    missed = rows(done, "search", "periodic")["deadline_miss_ratio"]
    assert (missed["verdict"], missed["value"]) == ("FAIL", 1.0), missed["reasons"]
    assert missed["low"] > 0.99
    assert "above its budget of 1%" in missed["reasons"][0]
    assert f"{missed['n']} of {missed['n']} frames" in missed["reasons"][1]
    assert f"FAIL: {missed['reasons'][0]}" in done.output


def test_a_device_that_cannot_keep_up_has_percentiles_without_an_upper_bound(done):
    row = rows(done, "search", "periodic")["latency_p99_ns"]
    assert (row["high"], row["verdict"]) == (None, "NOT_JUDGED")
    assert "keep up" in row["reasons"][0] or "its queue only grows" in row["reasons"][0]


def test_too_few_samples_for_the_percentile_asked_say_how_many_it_takes(done):
    found = rows(done, "few", "server")
    row = found["latency_p99_ns"]
    assert (row["value"], row["verdict"]) == (None, "INVALID")
    said = "too few samples for the percentile asked: 100, LoadGen's minimum for a p99 is 662"
    assert row["reasons"] == [said]
    assert f"INVALID: {said}" in done.output
    assert found["latency_p50_ns"]["value"] is not None


# --- refused ----------------------------------------------------------------------------------------


def plan_of(theirs: Repository, scenarios: str) -> str:
    path = theirs.root / "suites" / "other.toml"
    path.write_text(f'schema_version = 1\n[models.m]\npath = "{HEAVY}"\n{scenarios}')
    return str(path)


def refused(done: Finished, *said: str) -> None:
    assert done.returncode == 4, done.output
    assert "Traceback" not in done.output
    for text in said:
        assert text in done.output, done.output


def test_a_rate_beyond_what_the_device_can_reach(theirs):
    plan = plan_of(theirs, '[models.m.scenarios.server]\nrate = "900000 /s"\n')
    found = on_local(theirs, "unreachable", "--plan", plan, "-k", "server")
    refused(found, "a rate of 900000/s is beyond what it can reach: ", "give `p99` instead")
    assert [run["outcome"] for run in found.runs()] == ["usage_error"]


def test_tables_that_make_no_sense_are_told_together(theirs):
    plan = plan_of(
        theirs,
        """
[models.m.scenarios.server]
rate = "50 /s"
p99 = "48 ms"
[models.m.scenarios.periodic]
deadline = "5 ms"
[models.m.scenarios.multi_stream]
samples_per_query = 0
[models.m.scenarios.burst]
""",
    )
    found = on_local(theirs, "refused", "--plan", plan)
    refused(
        found,
        "models.m.scenarios.server.rate: expected `rate`",
        "both are set",
        "models.m.scenarios.periodic.period",
        "models.m.scenarios.multi_stream.samples_per_query",
        "models.m.scenarios.burst",
    )
    assert found.output.count("ERROR: ") == 1
    assert not found.folder.exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('server]\nrate = "2000000 /s"', "no device answers that"),
        ("server]\nrate = 50", "expected a quantity with its unit"),
        ('server]\np99 = "0 ms"', "nothing is answered in no time"),
        ('periodic]\nperiod = "2 min"', 'expected "10 us" to "60 s"'),
    ],
)
def test_figures_that_make_no_sense(theirs, table, said):
    plan = plan_of(theirs, f"[models.m.scenarios.{table}\n")
    found = on_local(theirs, "refused", "--plan", plan)
    refused(found, "other.toml", said)
    assert not found.folder.exists()
