"""A soak's section of the page: its order, its words, its drawings, and what becomes of a broken record."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support import records, soaks

from harness.model import Run
from harness.report import write_report
from harness.report.data import build_report
from harness.report.markdown import session_markdown
from harness.report.plots import draw
from harness.report.soak_page import SoakView, build_soaks
from harness.store import StoredSession


@pytest.fixture(scope="module")
def run() -> Run:
    """A soak with few drift rows: each is a drawing, and those take most of a report's time."""
    made = soaks.soak_run(30, window_s=300)
    rows = [row for row in made.settings["soak"]["drift"] if row["kind"] == "rss_bytes"]
    return changed(made, drift=rows)


@pytest.fixture(scope="module")
def html(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(soaks.write_soak(tmp_path_factory.mktemp("soak"), run)).html.read_text()


def changed(run: Run, **keys: Any) -> Run:
    return replace(run, settings={**run.settings, "soak": {**run.settings["soak"], **keys}})


def views(*runs: Run) -> tuple[SoakView, ...]:
    session = StoredSession(Path(), records.session(plan={}), runs)
    return build_soaks(build_report(session))[0]


def test_what_a_reader_sees_comes_in_its_order(html: str) -> None:
    order = [
        '<section class="soak"',
        'class="said"',
        'id="soak-1-timeline"',
        'id="soak-1-event-1"',
        'id="soak-1-drift"',
        'id="soak-1-latency-1"',
        'id="soak-1-latency-2"',
        'id="soak-1-alerts"',
        'id="soak-1-cost"',
        'id="results"',
    ]
    places = [html.index(piece) for piece in order]
    assert places == sorted(places)


def test_no_id_is_given_twice(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_every_link_within_the_page_has_its_target(html: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= ids


def test_one_line_says_what_it_was(run: Run) -> None:
    (view,) = views(run)
    assert view.line == (
        "30 h asked",
        "29.8 h observed (99.44%)",
        "compressed time",
        "128,520 calls",
        "6 errors",
    )
    assert view.verdict.word == "FAIL"
    assert view.streams[0] == "door: digits_fp32_onnx, every 5 s; variants fp32 → int8"


def test_an_early_end_and_real_time_are_said(run: Run) -> None:
    (view,) = views(changed(run, ended="stopped: by hand", compressed=False))
    assert view.line[-1] == "ended early: stopped: by hand"
    assert "real time" in view.line
    assert view.compressed == ""
    (view,) = views(changed(run, ended=None))
    assert view.line[-1] == "not ended yet"


def test_calls_without_a_channel_are_counted_from_the_histograms(run: Run) -> None:
    channels = [c for c in run.settings["soak"]["channels"] if c["kind"] not in ("calls", "errors")]
    (view,) = views(changed(run, channels=channels))
    counted = sum(int(s.values.sum()) for s in run.series if s.name.endswith("/latency.count"))
    assert view.line[-2:] == (f"{counted:,} calls", "errors not counted")


def test_an_alert_says_how_long_it_held_and_whether_the_end_cut_it_off(run: Run) -> None:
    held = run.settings["soak"]["alerts"][1]
    ended = [{**held, "rule": "other", "held_to_s": held["fired_s"] + 7200.0}]
    (view,) = views(changed(run, alerts=[*run.settings["soak"]["alerts"], *ended]))
    assert {row.rule: row.lasted for row in view.alerts} == {
        "temp_c > 80 for 5 min": "54 min",
        "burn_rate > 6 over 6 h": "never cleared",  # a file of an older release
        "other": "2 h, to the end",
    }


def test_judged_events_stay_in_the_table_however_many_notes_there_are(run: Run) -> None:
    note = {"source": "host", "kind": "link_lost", "stream": "", "text": "", "judged": "note"}
    events = [{**note, "t_s": float(n)} for n in range(1000)]
    events.append({**note, "t_s": 2000.0, "kind": "reboot", "judged": "FAIL"})
    (view,) = views(changed(run, events=events))
    assert len(view.events) == 40
    assert len(view.events) + len(view.more_events) == 400
    assert view.more_events[-1].kind == "reboot"
    assert view.events_left_out == "601 more notes are in the figure's data only."


@pytest.mark.parametrize(
    ("notes", "more", "left_out"),
    [
        (40, "", ""),
        (41, "1 more event", ""),
        (401, "360 more events", "1 more note is in the figure's data only."),
    ],
)
def test_one_event_more_is_singular(run: Run, notes: int, more: str, left_out: str) -> None:
    note = {"source": "host", "kind": "link_lost", "stream": "", "text": "", "judged": "note"}
    (view,) = views(changed(run, events=[{**note, "t_s": float(n)} for n in range(notes)]))
    assert (view.more_said, view.events_left_out) == (more, left_out)


def test_two_soaks_of_one_model_are_told_apart(run: Run) -> None:
    first, second = views(run, replace(run, run_id="002-soak-door"))
    assert first.title == "Soak of digits_fp32_onnx on rpi4-emulated, run 001"
    assert second.id == "soak-2"


def test_a_broken_record_is_told_and_the_report_is_written(run: Run, tmp_path: Path) -> None:
    broken = changed(run, gaps="none")
    html = write_report(soaks.write_soak(tmp_path, broken)).html.read_text()
    assert "This soak can't be drawn." in html
    assert "settings.soak: gaps: expected a list, found str" in html
    assert 'id="results"' in html


def test_a_run_that_has_not_soaked_has_no_section(tmp_path: Path) -> None:
    assert views(records.run()) == ()
    assert views(records.run(suite="soak", settings={})) == ()


def test_the_settings_dont_repeat_what_the_section_shows(html: str) -> None:
    assert "setting soak" not in html
    assert "block_value" not in html


def test_the_summary_for_a_comment_has_the_line(run: Run, tmp_path: Path) -> None:
    record = records.session(plan={})
    said = session_markdown(build_report(StoredSession(tmp_path, record, (run,))))
    assert (
        "❌ **Soak of digits_fp32_onnx on rpi4-emulated**: 30 h asked · 29.8 h observed (99.44%) · "
        "compressed time · 128,520 calls · 6 errors"
    ) in said
    said = session_markdown(build_report(StoredSession(tmp_path, record, (changed(run, gaps="none"),))))
    assert "gaps: expected a list, found str" in said


# --- drawings -------------------------------------------------------------------------------------


def drawn(run: Run, id_: str) -> ET.Element:
    session = StoredSession(Path(), records.session(plan={}), (run,))
    figure = next(f for f in build_soaks(build_report(session))[1] if f.id == id_)
    return ET.fromstring(draw(figure.panels[0], f"{id_}-1"))


def test_events_have_words_on_hover_and_lead_to_their_rows(run: Run) -> None:
    root = drawn(run, "soak-1-timeline")
    told = {e.text for e in root.iter("title")}
    assert "7 h 15 min: reboot. the boot id changed; 6 min unobserved" in told
    assert "7 h 12 min: 2.52 min unobserved, reboot" in told
    links = [link.get("href") for link in root.iter("a")]
    assert "#soak-1-event-4" in links
    assert {link.get("tabindex") for link in root.iter("a")} == {"-1"}  # the table is the keyboard's way


def test_the_picture_takes_the_colour_of_the_page(run: Run) -> None:
    root = drawn(run, "soak-1-latency-1")
    masks = {mask.get("id") for mask in root.iter("mask")}
    assert len(masks) == 2  # the counts, and what a colour says
    shades = [e for e in root.iter("rect") if e.get("mask")]
    assert {str(e.get("mask"))[5:-1] for e in shades} == masks
    assert all("var(--s1" in str(e.get("style")) for e in shades)
    images = list(root.iter("image"))
    assert all(str(image.get("href")).startswith("data:image/png;base64,") for image in images)
    assert len(ET.tostring(root)) < 120_000


def test_a_drift_panel_shows_slope_band_and_limit(run: Run) -> None:
    figure = ET.tostring(drawn(run, "soak-1-drift"), encoding="unicode")
    assert "var(--fail" in figure  # the leak's slope
    assert "stroke-dasharray" in figure
    assert "soak time, h" in figure


def test_a_soak_without_events_gaps_or_alerts_draws(tmp_path: Path) -> None:
    quiet = changed(soaks.soak_run(1 / 30, window_s=1, eventful=False), drift=[])
    html = write_report(soaks.write_soak(tmp_path, quiet)).html.read_text()
    assert "No event was recorded." in html
    assert "No alert fired." in html
    assert "soak-1-drift" not in html


def test_what_was_not_measured_stands_there_with_the_reason(tmp_path: Path, run: Run) -> None:
    html = write_report(soaks.write_soak(tmp_path / "now", run)).html.read_text()
    assert "<dt>throttling</dt><dd>this device shows no throttle bits</dd>" in html
    settings = dict(run.settings["soak"])
    del settings["not_measured"]
    older = replace(run, settings={**run.settings, "soak": settings})  # files that don't say
    assert "Not measured" not in write_report(soaks.write_soak(tmp_path / "older", older)).html.read_text()


def test_a_soak_of_nothing_draws(tmp_path: Path, run: Run) -> None:
    nothing = replace(
        changed(
            run, observed_s=0.0, coverage_ratio=0.0, streams=[], channels=[], latency=[], latency_bins_s=[],
            events=[], lives=[], alerts=[], drift=[], ended=None,
            gaps=[{"start_s": 0.0, "end_s": 108000.0, "why": "nothing was collected"}],
            runner={"cpu_ratio": None, "rss_bytes_max": None, "spool_bytes_per_day": None},
        ),
        series=(), measurements=(),
    )  # fmt: skip
    html = write_report(soaks.write_soak(tmp_path, nothing)).html.read_text()
    assert "<span>nothing observed</span>" in html
    assert "not observable" in html
