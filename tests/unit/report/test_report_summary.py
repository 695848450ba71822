"""summary.json keeps its contract, whatever the session was like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import records

from harness.model import ErrorRecord, Fidelity, Measurement, Outcome, Run, SessionRecord
from harness.report import write_report

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text())
# the contract's own words; what else the file holds may grow
CONTRACT = {
    "schema_version", "session_id", "verdict", "exit_code", "release", "started_at", "device", "plan",
    "results",
}  # fmt: skip
RESULT_CONTRACT = {
    "suite", "test", "model", "artifact_sha256", "runtime", "runtime_version", "scenario", "batch_size",
    "threads", "settings", "metric", "unit", "direction", "value", "low", "high", "n", "fidelity", "budget",
    "baseline", "ratio", "margin", "verdict", "reasons",
}  # fmt: skip


def _summary(tmp_path: Path, record: SessionRecord | None = None, runs: Any = None) -> dict[str, Any]:
    folder = records.write_session(tmp_path, record, runs)
    text = write_report(folder).summary_json.read_text()
    document: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return document


def test_the_schema_is_one_and_asks_for_the_contract() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["required"]) >= CONTRACT
    assert set(SCHEMA["$defs"]["result"]["required"]) == RESULT_CONTRACT


def test_the_schema_refuses_what_it_should(tmp_path: Path) -> None:
    good = _summary(tmp_path, runs=[records.run()])
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for change in (
        {"verdict": "GREAT"},
        {"exit_code": 12},
        {"surprise": 1},
        {"results": [{**good["results"][0], "value": "fast"}]},
        {"results": [{**good["results"][0], "fidelity": "guessed"}]},
    ):
        assert not validator.is_valid({**good, **change}), change


def test_a_session_with_everything(tmp_path: Path) -> None:
    document = _summary(tmp_path)
    assert document["session_id"] == records.SESSION_ID
    assert (document["verdict"], document["exit_code"]) == ("INFRA_ERROR", 75)
    assert document["device"]["name"] == "rpi4-emulated"
    assert document["budgets_toml"] is None
    row = next(
        r for r in document["results"] if r["metric"] == "latency_p99_ns" and "int8_onnx" in r["model"]
    )
    assert (row["unit"], row["direction"], row["fidelity"], row["verdict"]) == (
        "ns",
        "lower",
        "virtual",
        "PASS",
    )
    assert row["budget"] == 3.42e6
    assert row["low"] <= row["value"] <= row["high"]


def test_a_passing_session(tmp_path: Path) -> None:
    runs = [run for name in records.MODELS for run in records.model_runs(name)]
    document = _summary(tmp_path, runs=runs)
    assert (document["verdict"], document["exit_code"]) == ("PASS", 0)
    assert document["release"] == {"verdict": "PASS", "missing": [], "reasons": []}


@pytest.mark.parametrize(
    ("changes", "verdict", "exit_code"),
    [
        ({"measurements": (records.measurement("model_size_bytes", 9e9),)}, "FAIL", 1),
        (
            {"outcome": Outcome.MODEL_REJECTED, "error": ErrorRecord("model-rejected", "unsupported op")},
            "FAIL",
            1,
        ),
        ({"outcome": Outcome.INFRA_ERROR, "error": ErrorRecord("transient", "gone")}, "INFRA_ERROR", 75),
        ({"outcome": Outcome.INVALID, "reason": "throttled"}, "INVALID", 11),
        ({"outcome": Outcome.USAGE_ERROR, "error": ErrorRecord("config", "no such input")}, "INVALID", 4),
        ({"outcome": Outcome.SKIPPED, "reason": "no such sensor"}, "NOT_JUDGED", 0),
        (
            {"measurements": (records.measurement("accuracy", 0.951, low=0.93, high=0.97),)},
            "INCONCLUSIVE",
            10,
        ),
    ],
)
def test_each_ending_has_its_verdict_and_code(
    tmp_path: Path, changes: dict[str, Any], verdict: str, exit_code: int
) -> None:
    document = _summary(tmp_path, runs=[records.run(**changes)])
    assert (document["verdict"], document["exit_code"]) == (verdict, exit_code)
    assert document["release"]["verdict"] != "PASS"


def test_a_lab_failure_that_was_tried_again_decides_nothing(tmp_path: Path) -> None:
    runs = [run for name in records.MODELS for run in records.model_runs(name)]
    gone = ErrorRecord("connection-lost", "the peer went away", 0)
    lost = replace(
        runs[0], run_id="000-lost", outcome=Outcome.INFRA_ERROR, error=gone, measurements=(), series=()
    )
    again = replace(runs[0], attempt=2)
    document = _summary(tmp_path, runs=[lost, again, *runs[1:]])
    assert (document["verdict"], document["exit_code"]) == ("PASS", 0)
    assert document["release"]["verdict"] == "PASS"
    assert any(line.startswith("tried again after INFRA_ERROR") for line in document["release"]["reasons"])
    assert "INFRA_ERROR" in [row["verdict"] for row in document["results"]]


def test_an_interrupted_session_is_no_pass(tmp_path: Path) -> None:
    document = _summary(tmp_path, records.session(interrupted=True), [records.run()])
    assert (document["verdict"], document["exit_code"]) == ("INVALID", 2)
    assert any("was interrupted" in problem for problem in document["problems"])


def test_a_killed_session_is_no_pass(tmp_path: Path) -> None:
    document = _summary(tmp_path, records.session(finished_at=None), [records.run()])
    assert (document["verdict"], document["exit_code"]) == ("INVALID", 11)
    assert any("never finished" in line for line in document["release"]["missing"])


def test_a_corrupt_run_is_no_pass(tmp_path: Path) -> None:
    folder = records.write_session(tmp_path, runs=[records.run(), records.run("002-other")])
    (folder / "runs" / "001-deploy" / "run.json").write_text("{")
    document = json.loads(write_report(folder).summary_json.read_text())
    jsonschema.validate(document, SCHEMA)
    assert (document["verdict"], document["exit_code"]) == ("INVALID", 11)
    assert document["release"]["verdict"] == "INVALID"
    assert "001-deploy/run.json" in document["problems"][0]


def test_an_unusable_plan_is_no_pass(tmp_path: Path) -> None:
    record = records.session(plan={**records.plan(), "nonsense": 1})
    document = _summary(tmp_path, record, [records.run()])
    assert document["verdict"] == "INVALID"
    assert "nonsense" in document["problems"][0]


def test_a_session_without_plan_suggests_budgets(tmp_path: Path) -> None:
    import tomllib

    record = records.session(plan={}, plan_path=None)
    document = _summary(tmp_path, record, records.model_runs("digits_int8_onnx"))
    assert (document["verdict"], document["exit_code"]) == ("PASS", 0)
    assert document["release"]["verdict"] == "INVALID"
    budgets = tomllib.loads(document["budgets_toml"])["budgets"]["rpi4"]["digits_int8_onnx"]
    assert "accuracy" in budgets
    assert budgets["latency_p99_ns"]["fidelity"] == "virtual"


def test_an_empty_session(tmp_path: Path) -> None:
    document = _summary(tmp_path, runs=[])
    assert (document["verdict"], document["results"]) == ("NOT_JUDGED", [])
    assert document["release"]["verdict"] == "INVALID"


def test_several_devices_are_all_listed(tmp_path: Path) -> None:
    record = records.session(devices=(records.PI, records.LOCAL))
    runs = [records.run(), records.run("002-local", device=records.LOCAL)]
    document = _summary(tmp_path, record, runs)
    assert [d["name"] for d in document["devices"]] == ["rpi4-emulated", "local"]
    assert document["device"] == document["devices"][0]
    assert {r["device"] for r in document["results"]} == {"rpi4-emulated", "local"}


def test_numbers_that_json_cannot_hold_are_null_with_a_reason(tmp_path: Path) -> None:
    lost = Measurement("output_max_abs_error", float("inf"), None, None, 3, Fidelity.MEASURED, limit=0.1)
    document = _summary(tmp_path, runs=[records.run(suite="accuracy", measurements=(lost,))])
    (row,) = document["results"]
    assert (row["value"], row["verdict"]) == (None, "FAIL")
    assert "value is inf, which JSON can't hold" in row["reasons"]


def test_the_files_are_the_same_each_time(tmp_path: Path) -> None:
    folder = records.write_session(tmp_path)
    first = [path.read_bytes() for path in vars(write_report(folder)).values()]
    second = [path.read_bytes() for path in vars(write_report(folder)).values()]
    assert first == second


def test_results_say_which_run_they_come_from(tmp_path: Path) -> None:
    runs: list[Run] = [records.run(), replace(records.run("002-again"), attempt=2)]
    document = _summary(tmp_path, runs=runs)
    assert [r["run_id"] for r in document["results"]] == ["001-deploy", "002-again"]
