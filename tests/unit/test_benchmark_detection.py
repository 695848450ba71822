"""The detection table: its bank, its labels, its peers' rules and its rendering. What it measures varies."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from support import duets

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import bank, detection, detection_bank, detection_peers, detection_table, results, slowed
from benchmarks.detection_bank import SETTINGS, counts
from benchmarks.detection_models import STEPS, Slowed, compute_slope, count_ratio
from benchmarks.detection_table import Share, goal_rows, judge_cell, judge_peers, render
from harness.measure.duet import MEASURED
from harness.model import Fidelity, Verdict

AROUND = bank.Around(0.01, 0.5, "2026-01-02T03:04:05+00:00")
QUIET, BUSY, EMULATED = (SETTINGS[name] for name in ("quiet", "busy", "emulated"))


@pytest.fixture(autouse=True)
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_table, "TRIALS", 20)
    monkeypatch.setattr(detection_table, "TRIALS_OF_ZERO", 40)


def model(step: float) -> Slowed:
    return Slowed(step, 1030, step, 0.0001, Path("slowed.onnx"))


def cell(step: float, kept, peers=None, margin=0.005):
    return judge_cell(model(step), kept, MEASURED, Fidelity.MEASURED, margin, peers or {})


def timed(*medians_s: float) -> list[detection_peers.PeerRun]:
    return [detection_peers.PeerRun(9.0, {"stats": {"median": m}}) for m in medians_s]


# --- the bank


@pytest.mark.parametrize("counted", [True, False])
def test_a_duet_comes_back_from_the_bank_as_it_went_in(counted: bool):
    (kept,) = duets.keep(1, counted=counted)
    again, around = bank.decode_duet(bank.encode_duet(kept, AROUND))
    assert around == AROUND
    assert again.wall_s == kept.wall_s
    before, after = kept.duet, again.duet
    assert (after.loaded_first, after.load_ns, after.first_ns) == (0, before.load_ns, before.first_ns)
    assert (after.blocks.seed, after.blocks.pairs_got) == (1, 12)
    for a, b in zip(after.blocks.arms, before.blocks.arms, strict=True):
        assert np.array_equal(a.latency_ns, b.latency_ns)
        assert np.array_equal(a.block, b.block)
        assert (a.child, a.calls, a.not_counted) == (b.child, b.calls, b.not_counted)
        assert (a.instructions is None) is not counted
        assert not counted or np.array_equal(a.instructions, b.instructions)


def test_what_is_banked_is_added_and_never_replaced(tmp_path: Path):
    folder = tmp_path / "new" / "cell"
    assert bank.load(folder, ".json", bytes.decode) == []
    for text in ("a", "b", "c"):
        bank.add(folder, ".json", text.encode())
    (folder / "00002.json").unlink()
    bank.add(folder, ".json", b"d")
    assert bank.load(folder, ".json", bytes.decode) == ["a", "c", "d"]
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("setting", "pressure", "load1", "counted"),
    [
        (QUIET, 0.02, 5.0, True),
        (QUIET, 0.5, 0.1, False),
        (QUIET, None, 0.1, True),  # a kernel without PSI
        (BUSY, 1.0, 3.4, True),
        (BUSY, 1.0, 8.0, False),  # more neighbours than two
        (EMULATED, 1.0, 8.0, True),  # its clock doesn't see the host
    ],
)
def test_a_duet_counts_where_the_host_was_as_the_setting_says(setting, pressure, load1, counted: bool):
    assert counts(setting, bank.Around(pressure, load1, "")) is counted


@pytest.fixture
def banked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bank with quiet duets of two models, one of which met a busy host, and a page with marks."""
    monkeypatch.setattr(detection_bank, "FOLDER", tmp_path)
    place = detection_bank.models_folder(QUIET)
    place.mkdir(parents=True)
    rows = ", ".join(
        f'{{"step": {s}, "elements": 1030, "true": {s}, "half_width": 0.0, "path": "x.onnx"}}'
        for s in (0.0, 0.01)
    )
    (place / "models.json").write_text(f"[{rows}]")
    for step in (0.0, 0.01):
        for kept in duets.keep(12, ratio=1 + step, between=0.001):
            bank.add(detection_bank.duets_folder(QUIET, step), ".npz", bank.encode_duet(kept, AROUND))
    noisy = bank.Around(0.9, 4.0, "")
    bank.add(detection_bank.duets_folder(QUIET, 0.0), ".npz", bank.encode_duet(duets.keep(1)[0], noisy))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{detection.BEGIN}\nold\n{detection.END}\nafter\n")
    monkeypatch.setattr(results, "DOCS", page)
    return page


def test_what_is_missing_are_duets_that_count(banked: Path):
    missing = detection_bank._missing(QUIET, 12, 0.0, STEPS)
    assert missing[0.0, ""] == 0
    assert missing[0.05, ""] == 12
    assert detection_bank._missing(QUIET, 13, 0.0, STEPS)[0.0, ""] == 1  # the noisy one doesn't serve
    assert missing[0.0, "pyperf"] == 0  # none were asked for
    assert "12/72 of 13 duets" in detection_bank.describe(QUIET)


def test_the_tables_are_written_between_their_marks(banked: Path):
    detection.write_docs()
    text = banked.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert QUIET.title in text
    assert BUSY.title not in text  # nothing was banked of it


# --- labels


def test_the_cost_of_work_is_the_slope_of_the_line():
    amounts = [1130, 1330, 1530]
    # 0.01% an element, and single amounts that lie 0.3% too high alike
    ratios = [1.003 * (1 + 1e-4 * (n - slowed.BASE_ELEMENTS)) for n in amounts]
    assert compute_slope(amounts, ratios) == pytest.approx(1e-4)


def test_the_ratio_of_instructions_is_per_call():
    (kept,) = duets.keep(1, ratio=1.02, counted=True)
    assert count_ratio(kept.duet.blocks.arms) == pytest.approx(1.02)
    (uncounted,) = duets.keep(1)
    with pytest.raises(RuntimeError, match="no counter"):
        count_ratio(uncounted.duet.blocks.arms)


@pytest.mark.parametrize("elements", [slowed.BASE_ELEMENTS, 3000])
def test_a_slowed_model_gives_the_same_outputs(elements: int, tmp_path: Path):
    import onnxruntime

    from benchmarks import devices

    path = slowed.write_slowed(devices.MODEL, tmp_path / "slowed.onnx", elements)
    assert path.read_bytes() == slowed.write_slowed(devices.MODEL, tmp_path / "b", elements).read_bytes()
    with np.load(devices.INPUTS) as stored:
        feed = {"image": stored["image"][:20]}
    plain, slow = (
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for p in (devices.MODEL, path)
    )
    assert np.array_equal(plain, slow)


def test_work_over_nothing_is_refused(tmp_path: Path):
    from benchmarks import devices

    with pytest.raises(ValueError, match="at least one"):
        slowed.write_slowed(devices.MODEL, tmp_path / "x.onnx", 0)


# --- peers


def test_pytest_benchmark_fails_beyond_its_threshold():
    old, new = timed(1.0), timed(1.06)
    assert detection_peers.pytest_benchmark_trial(old, new, 5.0, 1) is True
    assert detection_peers.pytest_benchmark_trial(old, timed(1.04), 5.0, 1) is False
    assert detection_peers.pytest_benchmark_trial(old, timed(1.04), 1.0, 1) is True


def test_a_run_is_never_compared_with_itself():
    runs = timed(1.0, 2.0)  # two runs of one model: whichever is older, they differ
    found = {detection_peers.pytest_benchmark_trial(runs, runs, 5.0, seed) for seed in range(30)}
    assert found == {True, False}
    with pytest.raises(ValueError, match="two runs"):
        detection_peers.pytest_benchmark_trial(runs[:1], runs[:1], 5.0, 1)


def test_pyperf_says_slower_where_it_is_significant():
    import pyperf

    def processes(level: float) -> list[pyperf.Run]:
        rng = np.random.default_rng(1)
        return [
            pyperf.Run(
                [float(v) for v in rng.normal(level, 0.01 * level, 3)],
                metadata={"name": "x"},
                collect_metadata=False,
            )
            for _ in range(40)
        ]

    assert detection_peers.pyperf_trial(processes(1.0), processes(1.1), None, 1) is True
    assert detection_peers.pyperf_trial(processes(1.1), processes(1.0), None, 1) is False  # faster
    assert detection_peers.pyperf_trial(processes(1.0), processes(1.1), 20.0, 1) is False


def test_peers_without_runs_have_no_column():
    assert judge_peers(0.01, {}, {}) == {}
    name = detection_peers.PYTEST_BENCHMARK
    found = judge_peers(0.01, {name: timed(1.0, 1.0)}, {name: timed(1.02, 1.02)})
    shares = {k.rpartition(":")[2]: v.value for k, v in found.items()}
    assert shares == {"5%": 0.0, "1%": 1.0, "0.5%": 1.0}


# --- cells


def test_a_cell_counts_its_verdicts():
    found = cell(0.01, duets.keep(60, ratio=1.01, between=0.002))
    assert found.shares[Verdict.FAIL] == Share(20, 20)
    assert sum(share.count for share in found.shares.values()) == 20
    assert found.mean == pytest.approx(0.01, abs=0.001)
    assert found.comparison_s == pytest.approx(MEASURED.duets * 0.5)


def test_means_are_ratios_not_logarithms():
    assert cell(0.1, duets.keep(60, ratio=1.1, between=0.001)).mean == pytest.approx(0.1, abs=0.001)


def test_a_verdict_that_comes_too_late_does_not_count():
    slow = duets.keep(60, ratio=1.01, between=0.002, wall_s=6.0)  # 72 s a look
    assert cell(0.01, slow).shares[Verdict.INCONCLUSIVE].value == 1.0


def test_too_few_duets_make_no_cell():
    assert cell(0.0, duets.keep(3)) is None


def test_goals_are_held_against_zero_and_the_step_that_must_be_found():
    cells = [cell(s, duets.keep(60, ratio=1 + s, between=0.002)) for s in (0.0, 0.005, 0.01)]
    rows = goal_rows("`local`, quiet", Fidelity.MEASURED, 0.005, cells)
    assert [(row.ours, row.passed, row.n) for row in rows] == [(0.0, True, 40), (1.0, True, 20)]
    wolf = cell(0.0, duets.keep(60, ratio=1.02))
    assert [r.passed for r in goal_rows("x", Fidelity.MEASURED, 0.005, [wolf])] == [False]


def test_a_table_has_a_cell_for_each_heading():
    peers = {"peer": Share(1, 4)}
    cells = [cell(s, duets.keep(20, ratio=1 + s, counted=True), peers) for s in (0.0, 0.01)]
    text = render("`local`", 0.005, cells, {"peer": 17.0})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 2
    assert "25%" in lines[-1]
    assert "+1.000%" in lines[-1]  # of instructions
    assert "20 duets" in text
    assert "17.0 s" in text
