"""A soak's record as it is read, and the numbers behind its drawings."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import soaks

from harness.errors import StoredRunError
from harness.model import Fidelity, Run, Verdict
from harness.report.soak import Histograms, Soak, channel_points, is_soak, read_soak
from harness.report.soak_axis import envelope, judged_events, moment_of, time_axis
from harness.report.soak_drift import DriftPanel, drift_figure, slope_said
from harness.report.soak_heat import HeatPanel, heat_figures, joined, quantiles_ns
from harness.report.soak_timeline import TimelinePanel, timeline_figure
from harness.stats.histograms import bucket_bounds

H = 3600.0


@pytest.fixture(scope="module")
def run() -> Run:
    return soaks.soak_run(30, window_s=300)


@pytest.fixture(scope="module")
def soak(run: Run) -> Soak:
    return read_soak(run)


def changed(run: Run, **keys: Any) -> Run:
    return replace(run, settings={**run.settings, "soak": {**run.settings["soak"], **keys}})


# --- the record -----------------------------------------------------------------------------------


def test_every_key_of_the_format_is_read(run: Run, soak: Soak) -> None:
    assert is_soak(run)
    assert (soak.duration_s, soak.window_s, soak.compressed, soak.ended) == (30 * H, 300, True, "duration")
    assert [stream.name for stream in soak.streams] == list(soaks.STREAMS)
    assert soak.streams[0].variants == ("fp32", "int8")
    assert {row.verdict for row in soak.drift} >= {Verdict.PASS, Verdict.FAIL}
    assert soak.runner.cpu_ratio == pytest.approx(0.0021)
    assert soak.alerts[1].cleared_s is None
    assert soak.span_s == 30 * H


def test_a_key_that_is_not_known_is_left_to_a_newer_report(run: Run, soak: Soak) -> None:
    events = [{**event, "colour": "blue"} for event in run.settings["soak"]["events"]]
    assert read_soak(changed(run, events=events, later={"a": 1})) == soak


def test_a_missing_key_is_named(run: Run) -> None:
    plain = {key: value for key, value in run.settings["soak"].items() if key != "coverage_ratio"}
    with pytest.raises(StoredRunError, match=r"settings\.soak: key `coverage_ratio` is missing"):
        read_soak(replace(run, settings={"soak": plain}))


def test_a_key_of_another_type_is_named(run: Run) -> None:
    with pytest.raises(StoredRunError, match=r"gaps\[0\]: start_s: expected float, found str"):
        read_soak(changed(run, gaps=[{"start_s": "soon", "end_s": 1.0, "why": ""}]))


def test_blocks_of_unlike_length_are_told(run: Run) -> None:
    row = {**run.settings["soak"]["drift"][0], "kept": [True]}
    with pytest.raises(StoredRunError, match=r"drift of door/rss_bytes: 30 times, 30 values and 1 marks"):
        read_soak(changed(run, drift=[row]))


def test_a_baseline_of_a_drift_row_is_read_and_said(run: Run) -> None:
    row = {
        **run.settings["soak"]["drift"][0],
        "baseline": {"slope_per_h": 2e3, "low_per_h": 1e3, "high_per_h": 3e3, "verdict": "FAIL"},
    }
    said = slope_said(read_soak(changed(run, drift=[row])).drift[0])
    assert said.endswith("beyond the known good soak +2.00 kB per h (90%: +1.00 kB to +3.00 kB): FAIL")


def test_a_channel_is_read_in_order_of_time_without_what_is_missing(run: Run, soak: Soak) -> None:
    backwards = replace(
        run,
        series=tuple(
            replace(s, values=s.values[::-1]) if "/latency." not in s.name else s for s in run.series
        ),
    )
    points = channel_points(backwards, soak, "door/rss_bytes")
    assert points is not None
    t, values = points
    assert np.all(np.diff(t) > 0)
    assert np.isfinite(values).all()
    assert t.size < next(s for s in run.series if s.name == "soak.t_s").values.size
    assert channel_points(run, soak, "door/nothing") is None


# --- the axis -------------------------------------------------------------------------------------


def test_the_axis_is_in_the_unit_that_suits_it() -> None:
    assert [time_axis(s).unit for s in (120, 1800, 6 * H, 72 * H)] == ["s", "min", "h", "h"]
    assert time_axis(72 * H).span == 72


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 s"), (5.25, "5.25 s"), (65.4, "1 min 05 s"), (H, "1 h 00 min"), (62_599, "17 h 23 min")],
)
def test_a_moment_reads_as_people_say_it(seconds: float, said: str) -> None:
    assert moment_of(seconds) == said


def test_thinning_loses_no_spike_and_keeps_order() -> None:
    t = np.arange(0, 1000.0)
    values = np.zeros(1000)
    values[333], values[777] = 9.0, -4.0
    found = envelope(t, values, 1000.0, 50)
    assert found.t.size == 50
    assert found.high.max() == 9.0
    assert found.low.min() == -4.0
    assert found.mean[333 // 20] == pytest.approx(9 / 20)
    assert np.all(np.diff(found.t) > 0)


def test_judged_events_bear_on_the_device_and_their_own_stream(soak: Soak) -> None:
    axis = time_axis(soak.span_s)
    door, wake = (judged_events(soak, stream, axis) for stream in soaks.STREAMS)
    assert [tone for _, tone in door] == ["fail", "invalid"]
    assert [tone for _, tone in wake] == ["fail", "invalid", "fail"]
    assert len(judged_events(soak, "", axis)) == 3


# --- coverage and events --------------------------------------------------------------------------


def timeline_of(soak: Soak) -> TimelinePanel:
    (panel,) = timeline_figure(soak, "t", "soak-1").panels
    assert isinstance(panel, TimelinePanel)
    return panel


def test_what_was_judged_has_the_first_lanes(soak: Soak) -> None:
    panel = timeline_of(soak)
    assert [lane.name for lane in panel.lanes][:3] == ["reboot", "crash", "throttled"]
    tones = [mark.tone for mark in panel.lanes[0].marks]
    assert tones == ["fail", ""]  # the planned one is a note
    assert panel.lanes[1].marks[0].href == "soak-1-event-8"
    assert (
        panel.lanes[1].marks[0].said
        == "15 h 36 min: crash of wake-word. child ended by SIGSEGV; started again"
    )
    assert [lane.name for lane in panel.lanes][-2:] == ["temp_c > 80 for 5 min", "burn_rate > 6 over 6 h"]
    assert panel.lanes[-1].marks[0].end == panel.axis.span  # never cleared


def test_an_alert_that_the_end_cut_off_is_drawn_to_there_and_says_so(run: Run) -> None:
    alert = {**run.settings["soak"]["alerts"][1], "held_to_s": 20 * H}
    (lane,) = timeline_of(read_soak(changed(run, alerts=[alert]))).lanes[-1:]
    assert lane.marks[0].end == 20.0
    assert lane.marks[0].said.endswith("from 15 h 54 min to the end, 20 h 00 min")
    (lane,) = timeline_of(read_soak(changed(run, alerts=[{**alert, "aborted": True}]))).lanes[-1:]
    assert lane.marks[0].said.endswith("to the end, 20 h 00 min, which it brought about")


def test_events_that_fall_together_share_a_mark_that_tells_the_gravest_first(run: Run) -> None:
    events = [
        {
            "t_s": 100.0 + n,
            "source": "host",
            "kind": "link_lost",
            "stream": "",
            "text": f"no {n}",
            "judged": "note",
        }
        for n in range(9)
    ]
    events[4]["judged"] = "FAIL"
    (lane,) = timeline_of(read_soak(changed(run, events=events, alerts=[]))).lanes
    (mark,) = lane.marks
    assert mark.tone == "fail"
    assert mark.href == "soak-1-event-5"
    assert mark.said.endswith("and 6 more")


def test_many_kinds_share_the_last_lane(run: Run) -> None:
    events = [
        {
            "t_s": 1000.0 * n,
            "source": "device",
            "kind": f"kind_{n}",
            "stream": "",
            "text": "",
            "judged": "note",
        }
        for n in range(40)
    ]
    panel = timeline_of(read_soak(changed(run, events=events, alerts=[])))
    assert len(panel.lanes) == 14
    assert panel.lanes[-1].name == "other"
    assert sum(len(lane.marks) for lane in panel.lanes) >= 30


def test_a_soak_that_ended_early_leaves_the_rest_open(run: Run) -> None:
    soak = read_soak(changed(run, observed_s=10 * H, gaps=[], lives=[], ended="stopped"))
    assert timeline_of(soak).end == pytest.approx(10)


def test_the_table_behind_has_lives_gaps_events_and_alerts(soak: Soak) -> None:
    rows = list(csv.DictReader(io.StringIO(timeline_figure(soak, "t", "soak-1").to_csv())))
    counts = {what: sum(row["what"] == what for row in rows) for what in ("life", "gap", "event", "alert")}
    assert counts == {"life": 3, "gap": 2, "event": 13, "alert": 2}


# --- drift ----------------------------------------------------------------------------------------


def drift_of(run: Run) -> dict[str, DriftPanel]:
    figure = drift_figure(run, read_soak(run), "d")
    assert figure is not None
    return {panel.title: panel for panel in figure.panels if isinstance(panel, DriftPanel)}


def test_the_worst_verdict_comes_first_and_every_row_has_a_panel(run: Run, soak: Soak) -> None:
    panels = drift_of(run)
    assert next(iter(panels)) == "RSS of wake-word"
    assert len(panels) == len(soak.drift)
    assert panels["RSS of wake-word"].verdict is Verdict.FAIL
    assert panels["Temperature of cpu-thermal"].title == "Temperature of cpu-thermal"


def test_a_stream_alone_needs_no_name(run: Run) -> None:
    alone = changed(run, streams=run.settings["soak"]["streams"][:1])
    assert "RSS" in drift_of(alone)
    assert heat_figures(alone, read_soak(alone), "x")[0].title == "Latency over time"


def test_a_panel_says_slope_interval_and_limit(run: Run) -> None:
    row = {
        **run.settings["soak"]["drift"][0],
        "slope_per_h": 12.34e3,
        "low_per_h": -1.5e3,
        "high_per_h": 14.2e3,
        "limit_per_h": 50e3,
        "why_limit": "given",
    }
    (panel,) = drift_of(changed(run, drift=[row])).values()
    assert panel.note == "+12.3 kB per h (90%: −1.50 kB to +14.2 kB); limit +50.0 kB per h: given"
    assert panel.y_label == "MB (measured)"


def test_the_line_runs_through_the_middle_of_what_was_kept_and_the_band_about_it(run: Run) -> None:
    row = {
        **run.settings["soak"]["drift"][0],
        "series": "door/none",
        "block_s": [0.0, 1 * H, 2 * H, 3 * H, 4 * H],
        "block_value": [0.0, 10e6, 12e6, 14e6, 16e6],
        "kept": [False, True, True, True, True],
        "slope_per_h": 2e6,
        "low_per_h": 1e6,
        "high_per_h": 3e6,
        "limit_per_h": 5e6,
    }
    panel = drift_of(
        changed(run, drift=[row], channels=[], duration_s=5 * H, latency_bins_s=[], events=[], gaps=[])
    )["RSS of door"]
    assert panel.line is None
    assert np.array(panel.fit) == pytest.approx(np.array([(1, 10), (4, 16)]))
    assert panel.band[1] == pytest.approx((2.5, 13, 13))
    assert panel.band[0] == pytest.approx((1, 13 - 4.5, 13 - 1.5))
    assert np.array(panel.wedge) == pytest.approx(np.array([(1, 10), (5, 30)]))


def test_the_limit_of_what_should_be_high_is_a_fall(run: Run) -> None:
    panel = drift_of(run)["Throughput of door"]
    (_, first), (_, last) = panel.wedge
    assert last < first
    assert "limit −0.000400/s per h" in panel.note


def test_what_was_not_judged_says_what_it_needs() -> None:
    panels = drift_of(soaks.soak_run(2 / 60, window_s=1, eventful=False))
    assert {panel.verdict for panel in panels.values()} == {Verdict.NOT_JUDGED}
    panel = panels["RSS of door"]
    assert panel.note.startswith("needs 13 h, 12 blocks of 1 h")
    assert panel.fit == panel.band == panel.wedge == ()
    assert panel.line is not None


def test_blocks_without_a_value_and_a_channel_without_series_still_draw(run: Run) -> None:
    row = {
        **run.settings["soak"]["drift"][0],
        "series": "door/gone",
        "block_value": [None] * 30,
        "slope_per_h": None,
        "limit_per_h": None,
        "verdict": "NOT_JUDGED",
    }
    (panel,) = drift_of(changed(run, drift=[row])).values()
    assert "No block has a value" in panel.description


def test_times_of_an_emulated_device_are_virtual(run: Run) -> None:
    panels = drift_of(run)
    assert panels["p99 latency of door"].y_label == "ms (virtual)"
    figure = drift_figure(run, read_soak(run), "d")
    assert figure is not None
    assert set(figure.fidelity) == {Fidelity.MEASURED, Fidelity.VIRTUAL}


def test_the_table_behind_has_stretches_blocks_slope_and_limit(run: Run, soak: Soak) -> None:
    figure = drift_figure(run, soak, "d")
    assert figure is not None
    rows = [r for r in csv.DictReader(io.StringIO(figure.to_csv())) if r["channel"] == "door/rss_bytes"]
    what = [row["what"] for row in rows]
    assert what.count("block") + what.count("block, not used") == 30
    assert what.count("slope per h") == what.count("limit per h") == 1
    assert 100 < what.count("stretch") <= 180


# --- call times -----------------------------------------------------------------------------------


def test_quantiles_of_a_histogram_worked_by_hand() -> None:
    # below 128 ns a bucket is one value: 99 calls of 10 ns and one of 100 ns, then a stretch with one call
    held = Histograms(
        np.array([0.0, 1.0, 2.0, 3.0]), np.array([0, 0, 2]), np.array([10, 100, 50]), np.array([99, 1, 1])
    )
    p50, _, p99, p999 = quantiles_ns(held)
    assert p50[0] == 10.0
    assert p99[0] == 10.0
    assert p999[0] == 100.0
    assert np.isnan(p50[1])
    assert p50[2] == p999[2] == 50.0


def test_every_call_is_in_the_picture_and_in_its_table(run: Run, soak: Soak) -> None:
    figures = heat_figures(run, soak, "soak-1-latency")
    assert [figure.id for figure in figures] == ["soak-1-latency-1", "soak-1-latency-2"]
    for figure, stream in zip(figures, soaks.STREAMS, strict=True):
        (panel,) = figure.panels
        assert isinstance(panel, HeatPanel)
        counted = next(s for s in run.series if s.name == f"{stream}/latency.count").values.sum()
        assert panel.counts.sum() == counted
        rows = list(csv.DictReader(io.StringIO(figure.to_csv())))
        assert sum(int(row["calls"]) for row in rows) == counted
        levels = [key for key in rows[0] if key.startswith("calls_from_")]
        assert sum(int(row[key]) for row in rows for key in levels) == counted
        assert len(rows) <= 400
        assert len(levels) <= 72


def test_stretches_of_few_calls_are_joined_and_no_call_is_lost() -> None:
    held = Histograms(np.arange(0.0, 8.0), np.arange(7), np.full(7, 50), np.full(7, 2))
    wide = joined(held)  # 2 calls in a stretch: five are one
    assert wide.edges_s.tolist() == [0.0, 5.0, 7.0]
    assert np.bincount(wide.bin, weights=wide.count).tolist() == [10.0, 4.0]
    dense = replace(held, count=np.full(7, 10))
    assert joined(dense) is dense


def test_levels_are_whole_buckets(run: Run, soak: Soak) -> None:
    (panel,) = heat_figures(run, soak, "x")[0].panels
    assert isinstance(panel, HeatPanel)
    low, _ = bucket_bounds(np.arange(3000))
    assert np.all(np.isin(np.round(panel.level_edges * 1e6), low))
    assert np.all(np.diff(panel.level_edges) > 0)


def test_no_stretch_has_a_p50_above_its_p99(run: Run, soak: Soak) -> None:
    (panel,) = heat_figures(run, soak, "x")[0].panels
    assert isinstance(panel, HeatPanel)
    seen = np.isfinite(panel.p50)
    assert seen.any()
    assert np.all(panel.p50[seen] <= panel.p99[seen])


def test_a_stream_without_histograms_has_no_figure(run: Run) -> None:
    bare = replace(run, series=tuple(s for s in run.series if not s.name.endswith("latency.count")))
    assert heat_figures(bare, read_soak(bare), "x") == ()
