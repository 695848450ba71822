"""A ledger becomes a session: judged, stored once, read back, rendered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import spools
from support.soak_ledgers import make_ledger

from harness.model import Outcome, Verdict
from harness.report.soak import histograms, read_soak
from harness.soak.conclude import conclude, note_stored, stored_in
from harness.store import read_session


@pytest.fixture
def unrendered(monkeypatch):
    """Return the folders that would be rendered: drawing takes a second each."""
    folders = []
    monkeypatch.setattr("harness.report.write_report", folders.append)
    return folders


def events(*more, windows=10):
    middle = [spools.window(i) for i in range(windows)]
    return spools.numbered([spools.life(), *middle, *more, spools.end(windows * 10**9)])


def test_a_quiet_soak_passes_and_the_report_reads_all_of_it(tmp_path):
    done = conclude(make_ledger(tmp_path / "reports" / "soaks"), tmp_path / "reports")
    assert done.folder == tmp_path / "reports" / "soak-20250101-000000-abcd"
    assert (done.verdict, done.exit_code) == (Verdict.PASS, 0)
    (run,) = read_session(done.folder).runs
    assert (run.suite, run.model, run.outcome, run.device.name) == (
        "soak", "door", Outcome.COMPLETED, "rpi4-01"
    )  # fmt: skip
    soak = read_soak(run)
    assert (soak.id, soak.duration_s, soak.observed_s, soak.ended) == (
        "20250101-000000-abcd", 10, 10, "duration"
    )  # fmt: skip
    assert soak.coverage_ratio == 1
    (names,) = soak.latency
    found = histograms(run, soak, names)
    assert found is not None
    assert found.count.sum() == 500  # 10 windows of 50 calls
    assert len(soak.latency_bins_s) == 11
    series = {s.name: s.values for s in run.series}
    assert {c.series for c in soak.channels} <= set(series)
    assert series["soak.t_s"].tolist() == [i + 0.5 for i in range(10)]
    assert series["main/throughput_per_s"].tolist() == [50.0] * 10
    assert soak.runner.rss_bytes_max == 12_000_000
    assert soak.runner.cpu_ratio == pytest.approx(4.5e-6)  # i µs in window i of 1 s
    assert soak.runner.spool_bytes_per_day > 86400 * 100
    html = (done.folder / "report.html").read_text()
    assert "20250101-000000-abcd" in html or "soak" in html
    summary = json.loads((done.folder / "summary.json").read_text())
    assert summary["verdict"] == "PASS"
    row = summary["results"][0]["settings"]["soak"]
    assert (row["id"], row["ended"]) == ("20250101-000000-abcd", "duration")
    assert "drift" not in row  # once, in run.json
    assert (tmp_path / "reports" / "latest").resolve() == done.folder.resolve()


def test_it_is_stored_once(tmp_path, unrendered):
    ledger = make_ledger(tmp_path / "reports" / "soaks")
    assert stored_in(ledger.folder) is None
    first = conclude(ledger, tmp_path / "reports")
    assert stored_in(ledger.folder) == first.folder.resolve()
    assert conclude(ledger, tmp_path / "reports").folder == first.folder.resolve()
    assert len(unrendered) == 2
    assert [p.name for p in (tmp_path / "reports").glob("soak-*")] == [first.folder.name]


def test_it_is_stored_where_it_is_asked_for_and_a_session_that_is_gone_is_none(tmp_path, unrendered):
    ledger = make_ledger(tmp_path / "reports" / "soaks")
    done = conclude(ledger, tmp_path / "reports", tmp_path / "mine")
    assert done.folder == tmp_path / "mine"
    assert not (tmp_path / "reports" / "latest").exists()
    note_stored(ledger.folder, tmp_path / "gone")
    assert stored_in(ledger.folder) is None


@pytest.mark.parametrize(
    ("event", "policy", "verdict"),
    [
        ("crash", {}, Verdict.FAIL),
        ("oom", {}, Verdict.FAIL),
        ("crash", {"crash": "note"}, Verdict.PASS),
        ("clock_step", {}, Verdict.PASS),
    ],
)
def test_what_happened_is_judged_by_its_policy(tmp_path, unrendered, event, policy, verdict):
    records = events(spools.event(event, 5 * 10**9))
    ledger = make_ledger(tmp_path / "soaks", records, settings={"policy": policy})
    assert conclude(ledger, tmp_path).verdict is verdict


def test_what_wasnt_observed_is_never_a_pass(tmp_path, unrendered):
    half = make_ledger(tmp_path / "a", events(windows=5))
    assert conclude(half, tmp_path / "a").verdict is Verdict.INCONCLUSIVE
    none = make_ledger(tmp_path / "b", events(windows=0))
    done = conclude(none, tmp_path / "b")
    assert done.verdict not in (Verdict.PASS, Verdict.NOT_JUDGED)
    (run,) = read_session(done.folder).runs
    assert not np.isfinite(next(s for s in run.series if s.name == "soak.t_s").values).size


def test_budgets_of_the_plan_it_was_started_with_judge_it(tmp_path, unrendered):
    plan = {
        "schema_version": 1,
        "release": {"device_types": ["rpi4"]},
        "models": {"door": {"path": "door.onnx"}},
        "budgets": {"rpi4": {"door": {"soak_calls": {"limit": 1000.0, "rule": "point"}}}},
    }
    done = conclude(make_ledger(tmp_path / "soaks", plan=plan, plan_path="release.toml"), tmp_path)
    assert done.verdict is Verdict.FAIL
    assert any("soak_calls" in reason for r in done.results for reason in r.reasons)
