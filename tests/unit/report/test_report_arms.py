"""Both arms of a duet: drawn as measured; drift cancels in the ratio; long runs stay small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from support import compared, records

from harness.model import Run, Series
from harness.report import write_report
from harness.report.data import ReportData, build_report
from harness.report.figure import Figure
from harness.report.figures import build_figures
from harness.report.plots import draw
from harness.store import read_session


def _figures(tmp_path: Path, *runs: Run, **changes: object) -> dict[str, Figure]:
    return {f.id: f for f in build_figures(_data(tmp_path, *runs, **changes))}


def _data(tmp_path: Path, *runs: Run, **changes: object) -> ReportData:
    folder = records.write_session(tmp_path, compared.session(**changes), runs)
    return build_report(read_session(folder))


def _blocks(candidate: list[list[int]], baseline: list[list[int]]) -> tuple[Series, ...]:
    """Return one duet's series from the samples of each block."""
    return tuple(
        Series(
            "latency_ns", "ns", np.concatenate([np.array(b, dtype=np.int64) for b in side]),
            np.zeros(sum(map(len, side)), dtype=np.int32), "CLOCK_MONOTONIC", arm=arm,
            block=np.repeat(np.arange(len(side), dtype=np.int32), [len(b) for b in side]),
        )
        for arm, side in (("candidate", candidate), ("baseline", baseline))
    )  # fmt: skip


def test_both_arms_share_one_axis(tmp_path: Path) -> None:
    run = compared.duet_run()
    (panel,) = _figures(tmp_path, run)["duet-ecdf"].panels
    assert [(mark.label, mark.hollow) for mark in panel.marks] == [("candidate", False), ("baseline", True)]
    for mark, series in zip(panel.marks, run.series, strict=True):
        assert mark.y[-1] == 1.0
        for x, y in list(zip(mark.x, mark.y, strict=True))[::20]:
            assert np.mean(series.values <= round(x * 1e6)) == pytest.approx(y)


def test_block_ratios_are_worked_by_hand(tmp_path: Path) -> None:
    # medians 110 and 100, then 105 and 100: +10% and +5%
    run = replace(
        compared.duet_run(), series=_blocks([[109, 110, 400], [105, 105, 105]], [[100, 90, 110], [100]])
    )
    figure = _figures(tmp_path, run)["duet-blocks"]
    assert [row[-3:-1] for row in figure.rows] == [(110, 100), (105, 100)]
    assert [row[-1] for row in figure.rows] == pytest.approx([1.10, 1.05])
    drift, ratio = figure.panels
    assert [mark.label for mark in drift.marks] == ["candidate", "baseline"]
    assert ratio.marks[0].y == pytest.approx((10, 5))
    assert ratio.limit == pytest.approx(0.1)


def test_drift_shows_in_the_arms_and_cancels_in_the_ratio(tmp_path: Path) -> None:
    run = compared.duet_run(device=records.LOCAL, pairs=60, drift_ratio=0.5)
    figure = _figures(tmp_path, run, devices=(records.LOCAL,))["duet-blocks"]
    drift, ratio = figure.panels
    candidate = np.concatenate([mark.y for mark in drift.marks if mark.label == "candidate"])
    changes = np.concatenate([mark.y for mark in ratio.marks])
    assert candidate[-1] / candidate[0] > 1.4
    assert np.ptp(changes) < 5


def test_a_pair_that_only_one_arm_has_is_left_out(tmp_path: Path) -> None:
    run = replace(compared.duet_run(), series=_blocks([[110], [110], [110]], [[100], [100]]))
    figure = _figures(tmp_path, run)["duet-blocks"]
    assert len(figure.rows) == 2


def test_strips_stand_side_by_side_in_each_duet(tmp_path: Path) -> None:
    (panel,) = _figures(tmp_path, compared.duet_run(duets=3))["duet-processes"].panels
    places = [(mark.label, mark.y[0]) for mark in panel.marks]
    assert places == [
        (arm, n + aside) for n in (1, 2, 3) for arm, aside in (("candidate", -0.21), ("baseline", 0.21))
    ]


def test_many_duets_are_shown_by_their_medians(tmp_path: Path) -> None:
    run = compared.duet_run(duets=13)
    figure = _figures(tmp_path, run)["duet-processes"]
    (panel,) = figure.panels
    candidate, baseline = panel.marks
    assert candidate.x == baseline.x == tuple(range(1, 14))
    values = run.series[1].values[run.series[1].process == 4]
    assert baseline.y[4] == pytest.approx(np.median(values) / 1e6)
    assert {row[-2] for row in figure.rows} == {"median"}


def test_arms_stay_out_of_the_figures_of_plain_latency(tmp_path: Path) -> None:
    figures = _figures(tmp_path, *records.model_runs("digits_fp32_onnx"), compared.duet_run())
    assert len(figures["latency-ecdf"].panels) == 1
    assert {row[2] for row in figures["latency-ecdf"].rows} == {
        "004-single_stream-digits_fp32_onnx-rpi4-emulated"
    }


def test_the_trade_off_is_the_models_own_with_a_baseline_beside(tmp_path: Path) -> None:
    runs = [*records.model_runs("digits_fp32_onnx"), *records.model_runs("digits_int8_onnx", first=6)]
    plain = _figures(tmp_path / "a", *runs)["trade-off"]
    beside = _figures(tmp_path / "b", *runs, *compared.against_runs("digits_fp32_onnx", 1.5))["trade-off"]
    assert beside.rows == plain.rows


def test_a_long_session_stays_small(tmp_path: Path) -> None:
    """Four models with everything at its longest stay below the 5 MB of a 72-hour soak."""
    runs: list[Run] = []
    for n, name in enumerate(records.MODELS):
        runs.append(compared.duet_run(name, number=60 + n, duets=36, calls=80, device=records.LOCAL))
        runs.append(compared.server_run(name, number=70 + n))
        runs.append(compared.periodic_run(name, number=80 + n))
        runs.append(compared.multi_stream_run(name, number=90 + n))
        for run in records.model_runs(name, device=records.LOCAL, first=100 + 5 * n):
            ten = records.latency_series(5.0, seed=n, processes=10, n=4000)
            runs.append(replace(run, series=(ten,)) if run.scenario == "single_stream" else run)
    folder = records.write_session(tmp_path, compared.session(devices=(records.LOCAL,)), runs)
    assert write_report(folder).html.stat().st_size < 5_000_000
    for figure in build_figures(build_report(read_session(folder))):
        assert all(sum(len(m.x) for m in panel.marks) <= 600 for panel in figure.panels), figure.id


@pytest.mark.parametrize(
    "series",
    [
        _blocks([[5], [5]], [[5], [5]]),
        _blocks([[5]], [[7]]),
        _blocks([[1, 10**12]] * 2, [[3, 3]] * 2),
        (*_blocks([[1]], [[1]])[:1],),
        (),
    ],
    ids=["flat", "one", "wild", "one-arm", "none"],
)
def test_odd_duets_are_still_drawn(tmp_path: Path, series: tuple[Series, ...]) -> None:
    for figure in _figures(tmp_path, replace(compared.duet_run(), series=series)).values():
        for panel in figure.panels:
            ET.fromstring(draw(panel, "x"))
