"""A candidate against its baseline, end to end on this host: side by side, from the store, from memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
from support.candidates import (
    AGAINST_LATENCY,
    HEAVY,
    N_SAMPLES,
    N_WRONG,
    PLAN,
    TINY,
    compared,
    harness,
    make,
    on_local,
)
from support.repository import Finished, Repository

from harness.agent.cgroups import Cgroups, Limits
from harness.agent.faults import Fault
from harness.agent.probes import Probes
from harness.store import read_session

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
MEMORY_LIMIT = 2_000_000_000  # many times what it needs
MORE = f"""
[models.hall]
path = "{TINY}"
[budgets.local.hall]
latency_p50_ns = {{ margin = "0.0001 %" }}
"""
OWN_SUITE = """
import pytest

@pytest.mark.budget("latency_p50_ns", margin="60 %")
def test_own(duet_run, gate):
    gate(duet_run)
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    limited = PLAN.replace('task = "accuracy"', 'task = "accuracy"\nmemory_limit = "2 GB"')
    repository = make(tmp_path_factory.mktemp("compare") / "theirs", limited + MORE)
    (repository.root / "suites" / "test_own.py").write_text(OWN_SUITE)
    return repository


@pytest.fixture(scope="module")
def beside(theirs: Repository) -> Finished:
    """A whole session of a model against itself."""
    return on_local(theirs, "beside", "--model", "door", "--baseline", TINY, "-k", "not own")


@pytest.fixture(scope="module")
def turned(theirs: Repository) -> Finished:
    """The light model against the heavy one, the heavy against the light, and one under its own margin."""
    pairs = {"door": (TINY, HEAVY), "gate": (HEAVY, TINY), "hall": (TINY, TINY)}
    args = [f"--model={name}={model}" for name, (model, _) in pairs.items()]
    args += [f"--baseline={name}={baseline}" for name, (_, baseline) in pairs.items()]
    wanted = f"({AGAINST_LATENCY} and not hall) or (own and hall)"
    return on_local(theirs, "turned", *args, "-k", wanted)


@pytest.fixture(scope="module")
def recorded(theirs: Repository, beside: Finished) -> str:
    """The name of a baseline that was recorded from the first session."""
    assert harness(theirs, "baseline", "set", "release", str(beside.folder)) == 0
    return "release"


# --- side by side -----------------------------------------------------------------------------------


def test_a_model_against_itself_passes(beside):
    assert beside.returncode == 0, beside.output
    assert "session  PASS" in beside.output
    assert "9 passed" in beside.output


@pytest.mark.parametrize(
    ("metric", "method", "verdict"),
    [
        ("model_size_bytes", "exact", "NOT_JUDGED"),
        ("accuracy", "paired", "PASS"),
        ("private_dirty_bytes", "abba", "PASS"),
        ("peak_rss_bytes", "abba", "NOT_JUDGED"),
        ("latency_p50_ns", "duet", "PASS"),
        ("latency_p99_ns", "duet", "NOT_JUDGED"),
        ("load_time_ns", "abba", "NOT_JUDGED"),
        ("first_inference_ns", "abba", "NOT_JUDGED"),
    ],
)
def test_each_metric_has_its_row(beside, metric, method, verdict):
    row = compared(beside, metric)
    comparison = row["comparison"]
    assert (comparison["method"], row["verdict"]) == (method, verdict), row["reasons"]
    assert comparison["baseline_name"] == TINY
    assert comparison["low"] <= comparison["value"] <= comparison["high"]
    assert comparison["margin"] == row["margin"]
    assert (row["margin"] is None) == (verdict == "NOT_JUDGED")


def test_accuracy_is_paired_by_sample(beside):
    row = compared(beside, "accuracy")
    assert row["comparison"]["effect"] == "difference"
    assert (row["comparison"]["value"], row["comparison"]["n"]) == (0.0, N_SAMPLES)
    counts = ("both", "only_candidate", "only_baseline", "neither")
    assert [row["settings"][name] for name in counts] == [N_SAMPLES - N_WRONG, 0, 0, N_WRONG]
    assert "McNemar" in row["reasons"][1]


def test_a_models_own_numbers_are_there_too(beside):
    for metric in ("model_size_bytes", "accuracy", "latency_p50_ns", "peak_rss_bytes"):
        assert any(not row.get("comparison") for row in beside.results(metric)), metric


def test_the_summary_keeps_its_contract(beside, turned):
    for done in (beside, turned):
        jsonschema.validate(done.summary(), json.loads(SCHEMA.read_text()))


def test_page_summary_and_junit_tell_what_was_compared(beside):
    for file in ("report.html", "summary.md", "junit.xml"):
        text = (beside.folder / file).read_text()
        assert "against" in text.lower(), file
        assert TINY in text, file
    cases = ET.parse(beside.folder / "junit.xml").getroot().iter("testcase")
    said = {case.get("name"): "".join(case.itertext()) for case in cases}
    assert "margin 50%" in said[f"latency_p50_ns against {TINY} [single_stream]"]


def test_both_arms_are_stored_and_read_back(beside):
    runs = {run.settings["kind"]: run for run in read_session(beside.folder).runs}
    arms = {s.arm: s for s in runs["duet"].series if s.name == "latency_ns"}
    settings = runs["duet"].settings
    duets = settings["duets"] * settings["looks_taken"]
    for arm in ("candidate", "baseline"):
        assert set(arms[arm].process.tolist()) == set(range(duets))
        assert set(arms[arm].block.tolist()) == set(range(settings["pairs"]))
        assert len(arms[arm].values) == len(arms[arm].block)
    once = {(s.name, s.arm): len(s.values) for s in runs["duet"].series}
    assert once["load_time_ns", "baseline"] == once["first_inference_ns", "candidate"] == duets
    memory = {(s.name, s.arm): len(s.values) for s in runs["memory_against"].series}
    assert memory["private_dirty_bytes", "candidate"] == memory["private_dirty_bytes", "baseline"] == 4
    hits = {s.arm: len(s.values) for s in runs["accuracy_against"].series}
    assert hits == {"candidate": N_SAMPLES, "baseline": N_SAMPLES}


def test_a_duet_says_how_it_was_taken(beside):
    (run,) = (run for run in read_session(beside.folder).runs if run.settings["kind"] == "duet")
    assert run.artifact_sha256 == run.settings["baseline_sha256"] == _sha256(TINY)
    assert isinstance(run.settings["seed"], int)
    assert run.settings["duets"] >= 3
    assert len(run.settings["cpus"]) == 1
    assert run.settings["baseline_packages"] == run.settings["runtime_packages"]
    warm = [c for c in run.conditions if c.name.startswith("warm-up flat")]
    assert len(warm) == 2 * run.settings["duets"] * run.settings["looks_taken"]


def test_a_memory_limit_is_kept_or_the_reason_why_not_is_shown(beside):
    rows = {metric: beside.results(metric)[0] for metric in ("oom_kills", "cgroup_peak_bytes")}
    why_not = why_no_cgroup()
    if why_not is None:
        assert (rows["oom_kills"]["value"], rows["oom_kills"]["verdict"]) == (0, "PASS")
        return
    for row in rows.values():
        assert (row["value"], row["verdict"]) == (None, "NOT_JUDGED")
        assert "not measured under its limit of 2.00 GB" in row["reasons"][0]
        assert why_not in row["reasons"][0]


def why_no_cgroup() -> str | None:
    """Return what this host lacks for a limit of memory, as its agent would say; None: nothing."""
    try:
        Cgroups(Probes()).create(Limits(MEMORY_LIMIT, None, 2000)).remove()
    except Fault as fault:
        return str(fault).partition(" (")[0]
    return None


# --- worse, better, and by which margin -------------------------------------------------------------


def test_a_slower_candidate_fails_and_the_sentence_says_why(turned):
    assert turned.returncode == 1, turned.output
    row = _p50(turned, "gate")
    assert row["verdict"] == "FAIL"
    assert row["comparison"]["low"] > 2
    said = row["reasons"][0]
    assert said.startswith("latency_p50_ns (single_stream): +")
    assert f"against `{TINY}`" in said
    assert said.endswith("beyond its margin of 50%")
    assert f"FAIL: {said}" in turned.output


def test_a_faster_candidate_passes(turned):
    row = _p50(turned, "door")
    assert row["verdict"] == "PASS", row["reasons"]
    assert row["comparison"]["high"] < 0.5


def test_a_margin_on_a_test_overrides_the_plans(turned):
    row = _p50(turned, "hall")
    assert (row["verdict"], row["margin"]) == ("PASS", 0.6), row["reasons"]
    assert harness_margin(turned, "hall") == 0.6


def harness_margin(done: Finished, model: str) -> float:
    """Return the margin that the stored run has of its own."""
    (run,) = (run for run in done.runs() if run["model"] == model)
    (budget,) = run["settings"]["budgets"]
    return float(budget["margin"])


def test_only_comparisons_were_run(turned):
    assert {run["settings"]["kind"] for run in turned.runs()} == {"duet"}
    assert "2 passed" in turned.output
    assert "1 failed" in turned.output


# --- a recorded baseline ----------------------------------------------------------------------------


def test_it_is_listed_and_shown(theirs, recorded, beside, capsys):
    assert harness(theirs, "baseline", "list") == 0
    (line,) = (row for row in capsys.readouterr().out.splitlines() if row.startswith(recorded))
    assert line.split()[1:3] == ["door", "local"]
    assert line.endswith("there")
    assert harness(theirs, "baseline", "show", recorded) == 0
    shown = capsys.readouterr().out
    assert beside.summary()["session_id"] in shown
    for metric in ("latency_p50_ns", "accuracy", "peak_rss_bytes", "model_size_bytes"):
        assert metric in shown
    assert harness(theirs, "baseline", "show", recorded, "--format", "json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert (entry["model"], entry["artifact_sha256"]) == ("door", _sha256(TINY))


def test_its_copy_is_measured_side_by_side(theirs, recorded):
    done = on_local(
        theirs, "from-copy", "--model", f"door={HEAVY}", "--baseline", recorded,
        "-k", f"({AGAINST_LATENCY}) or size",
    )  # fmt: skip
    assert done.returncode == 1, done.output
    row = _p50(done, "door")
    assert (row["verdict"], row["comparison"]["method"]) == ("FAIL", "duet")
    assert "against `release`" in row["reasons"][0]
    size = compared(done, "model_size_bytes")["comparison"]
    assert size["value"] == Path(HEAVY).stat().st_size / Path(TINY).stat().st_size
    (run,) = (run for run in done.runs() if run["settings"]["kind"] == "duet")
    assert (run["artifact_sha256"], run["settings"]["baseline_sha256"]) == (_sha256(HEAVY), _sha256(TINY))


@pytest.fixture
def forgotten(theirs: Repository, recorded: str) -> str:
    """The name of a second baseline, the same as the first but for its file, which is gone."""
    folder = theirs.root / "reports" / "baselines"
    shutil.copytree(folder / recorded, folder / "forgotten", dirs_exist_ok=True)
    shutil.rmtree(folder / "forgotten" / "artifacts")
    return "forgotten"


def test_without_its_copy_the_numbers_serve(theirs, forgotten, capsys):
    assert harness(theirs, "baseline", "list") == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "forgotten" in line] == [
        "gone"
    ]
    done = on_local(
        theirs, "remembered", "--model", f"door={HEAVY}", "--baseline", forgotten, "-k", AGAINST_LATENCY
    )
    assert done.returncode == 1, done.output
    row = _p50(done, "door")
    assert (row["verdict"], row["comparison"]["method"]) == ("FAIL", "recorded")
    assert "from memory" in " ".join(row["reasons"])
    assert row["comparison"]["low"] > 2
    (run,) = done.runs()
    assert run["settings"]["baseline_sha256"] == _sha256(TINY)


def test_numbers_of_another_build_and_thread_count_are_invalid(theirs, forgotten):
    file = theirs.root / "reports" / "baselines" / forgotten / "baseline.json"
    document = json.loads(file.read_text())
    build = document["entries"][0]["runtime_version"]
    document["entries"][0]["runtime_version"] = "1.2.3"
    file.write_text(json.dumps(document))
    done = on_local(
        theirs, "other-build", "--model", "door", "--baseline", forgotten, "--threads", "2",
        "-k", "(test_memory and against) or size",
    )  # fmt: skip
    assert done.returncode == 11, done.output
    row = compared(done, "private_dirty_bytes")
    assert row["verdict"] == "INVALID"
    said = " ".join(row["reasons"])
    assert "threads is 2, expected 1 as recorded" in said
    assert f"runtime is onnxruntime=={build}, expected onnxruntime==1.2.3 as recorded" in said
    # the size of a file is the same under any build
    assert compared(done, "model_size_bytes")["verdict"] == "NOT_JUDGED"


# --- refused before anything is measured ------------------------------------------------------------


def refused(done: Finished, *said: str) -> None:
    assert done.returncode == 4, done.output
    assert "Traceback" not in done.output
    assert done.output.count("ERROR: ") == 1, done.output
    for text in said:
        assert text in done.output, done.output
    assert not done.folder.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["relase"], ["`relase`; did you mean `release`?", "harness baseline set relase"]),
        (["release", TINY], [f"two baselines for `door`: release and {TINY}; it has one."]),
        (["none", "release"], ["`none` compares nothing: give it alone."]),
        (["gate=release"], ["`gate` is no chosen model; valid: door"]),
        (["elsewhere"], ["baseline `elsewhere` is another unit's: door was recorded on rpi4-01", "on local"]),
    ],
)
def test_a_baseline_that_cannot_serve(theirs, elsewhere, options, said):
    given = [f"--baseline={option}" for option in options]
    refused(on_local(theirs, "refused", "--model", "door", *given), "--baseline: ", *said)


@pytest.fixture
def elsewhere(theirs: Repository, recorded: str) -> None:
    """A baseline of this name that was recorded on another unit."""
    folder = theirs.root / "reports" / "baselines"
    shutil.copytree(folder / recorded, folder / "elsewhere", dirs_exist_ok=True)
    file = folder / "elsewhere" / "baseline.json"
    file.write_text(file.read_text().replace('"device_name": "local"', '"device_name": "rpi4-01"'))


def test_a_plans_baseline_that_is_not_recorded_yet(theirs):
    plan = theirs.root / "suites" / "planned.toml"
    plan.write_text(f'schema_version = 1\n[models.door]\npath = "{TINY}"\nbaseline = "golden"\n')
    done = on_local(theirs, "refused", "--plan", str(plan))
    refused(
        done, "models.door.baseline: no recorded baseline", "set golden", "--baseline none", "planned.toml"
    )


def test_margins_that_make_no_sense_are_told_together(theirs):
    plan = theirs.root / "suites" / "margins.toml"
    plan.write_text(
        f"""schema_version = 1
[release]
device_types = ["local"]
[models.door]
path = "{TINY}"
[budgets.local.door]
latency_p50_ns = {{ margin = "200 %" }}
latency_p90_ns = {{ margin = 0 }}
accuracy = {{ margin = "-1 %" }}
output_max_abs_error = {{ margin = "1 %" }}
"""
    )
    done = on_local(theirs, "refused", "--plan", str(plan))
    refused(
        done, "4 problems", "200% is beyond 100%", "0 can't be shown", "accuracy.margin", "isn't compared"
    )


# --- two stored sessions ----------------------------------------------------------------------------


def test_two_sessions_are_compared_by_their_numbers(theirs, beside, capsys):
    folder = str(beside.folder)
    code = harness(theirs, "compare", folder, folder, "--format", "json")
    found = json.loads(capsys.readouterr().out)
    # the accuracies of two sessions aren't paired: 400 samples leave more than a point open
    assert (code, found["exit_code"], found["verdict"]) == (10, 10, "INCONCLUSIVE")
    rows = {(r["metric"], r["scenario"], r["batch_size"]): r for r in found["results"]}
    assert rows["accuracy", None, 1]["verdict"] == "INCONCLUSIVE"
    assert rows["private_dirty_bytes", None, 1]["verdict"] == "PASS"
    p50 = rows["latency_p50_ns", "single_stream", 1]
    assert p50["margin"] == 0.5
    assert (p50["comparison"]["value"], p50["comparison"]["method"]) == (1.0, "recorded")
    said = [f"A and B are the same: {beside.summary()['session_id']}"]
    assert (found["only"], found["notes"], found["doubts"]) == ([], said, [])
    assert harness(theirs, "compare", folder, folder) == 10
    text = capsys.readouterr().out
    assert text.startswith("INCONCLUSIVE: ")
    assert "latency_p50_ns (single_stream)" in text


def test_what_has_no_numbers_of_its_own_is_nothing_to_compare(theirs, beside, turned, capsys):
    assert harness(theirs, "compare", str(beside.folder), str(turned.folder)) == 11
    text = capsys.readouterr().out
    assert text.startswith("INVALID: ")
    assert "only in" in text


# --- nothing to compare with ------------------------------------------------------------------------


def test_without_a_baseline_comparisons_are_left_out_not_skipped(theirs):
    theirs_plan = theirs.root / "plain.toml"
    theirs_plan.write_text(
        f"""schema_version = 1
[release]
device_types = ["local"]
required_suites = ["deploy"]
[models.door]
path = "{TINY}"
[models.gate]
path = "{TINY}"
[budgets.local.door]
model_size_bytes = "1 MB"
[budgets.local.gate]
model_size_bytes = "1 MB"
latency_p50_ns = {{ margin = "1 %" }}
"""
    )
    done = on_local(theirs, "alone", "--plan", str(theirs_plan), "-m", "deploy")
    assert done.returncode == 0, done.output
    assert "skipped" not in done.output
    assert {run["settings"]["kind"] for run in done.runs()} == {"deploy"}
    assert done.summary()["release"]["missing"] == [
        "gate on local: latency_p50_ns has a margin, and no comparison of it completed: "
        "give --baseline, or see how its run ended"
    ]


def _p50(done: Finished, model: str) -> dict:
    (row,) = (r for r in done.results("latency_p50_ns") if r["model"] == model and r.get("comparison"))
    return row


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
