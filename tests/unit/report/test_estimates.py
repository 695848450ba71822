"""The figure of a calibration's own networks: out of the store alone, one panel for each fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support import records

from harness.model import Fidelity, Measurement
from harness.report import write_report
from harness.report.estimates import PAGE, estimates
from harness.report.estimates_page import build_estimates_page
from harness.report.plots import draw
from harness.report.render import render_estimates

SAID = {
    "calibration": "rpi4-ncnn",
    "precision": "fp32",
    "by": "one factor of the virtual clock",
    "mean_error_ratio": 0.1,
    "worst_error_ratio": 0.2,
    "networks": 2,
    "confidence": 0.9,
    "band_ratio": 1.15,
    "board": "a board",
    "source": "a README",
    "statistic": "mean",
    "taken_on": "2026-11-01",
    "age_days": 3,
    "points": {"small": [10.0, 11.0], "large": [100.0, 80.0]},
}


def data(*said: Any) -> Any:
    return SimpleNamespace(
        record=SimpleNamespace(session_id="s"),
        runs=[SimpleNamespace(settings={"estimate": s} if s else {}, threads=1) for s in said],
    )


def test_a_panel_for_each_fit_and_a_row_for_each_network():
    found = estimates(data(SAID, SAID, {**SAID, "precision": "int8"}, None, {"problem": "none"}))
    assert found is not None
    assert found.fidelity == (Fidelity.ESTIMATED,)
    assert [p.title for p in found.panels] == ["rpi4-ncnn, fp32 on 1 thread", "rpi4-ncnn, int8 on 1 thread"]
    assert "off by 10.0% on average, at worst -20.0% (large)" in found.panels[0].description
    assert found.rows[0][:6] == ("rpi4-ncnn", "fp32", "1", "one factor of the virtual clock", "small", 10.0)
    assert found.rows[0][6:] == pytest.approx((11.0, 11 / 1.15, 11 * 1.15, 0.1))
    assert len(found.rows) == 4


def test_a_session_without_estimates_has_no_such_figure():
    assert estimates(data(None, {"problem": "no calibration"})) is None


def test_it_is_drawn():
    found = estimates(data(SAID))
    assert found is not None
    assert draw(found.panels[0], "estimates-1").startswith("<svg")


def test_the_page_names_board_source_errors_and_the_band_of_each_network():
    page = build_estimates_page(data(SAID))
    assert page is not None
    (fit,) = page.fits
    facts = dict(fit.facts)
    assert (facts["board"], facts["its times"], facts["networks"]) == ("a board", "mean, a README", "2")
    assert facts["calibration"] == "rpi4-ncnn, of 2026-11-01, 3 days before the session"
    assert facts["off by"].startswith("10.0% on average, 20.0% at worst")
    assert facts["band of 90%"].startswith(
        "× or ÷ 1.15, made from these errors; it holds the board's time of 1 of 2 networks"
    )
    small, large = fit.rows
    assert (small.network, small.estimated, small.band) == ("small", "11.0", "9.57 – 12.6")
    assert (large.error, large.held) == ("-20.0%", False)
    (_, agreement, _), (_, errors, words) = fit.panels
    assert agreement.startswith("<svg")
    assert errors.startswith("<svg")
    assert words == "Errors from -20.0% to +10.0%; the strip is the band. Outside it: large."


def test_the_page_is_whole_in_itself_and_leads_back():
    text = render_estimates(data(SAID))
    assert text is not None
    assert 'href="report.html"' in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "<script" not in text
    assert PAGE == "estimates.html"
    assert render_estimates(data(None)) is None


@pytest.mark.parametrize(
    ("days", "words"),
    [(0, "the session's day"), (1, "1 day before the session"), (-2, "2 days after the session")],
)
def test_an_age_holds_whenever_the_page_is_read(days, words):
    page = build_estimates_page(data({**SAID, "age_days": days}))
    assert page is not None
    assert dict(page.fits[0].facts)["calibration"].endswith(words)


def test_a_source_is_text_on_the_page():
    text = render_estimates(data({**SAID, "source": "<b>bold</b>"}))
    assert text is not None
    assert "&lt;b&gt;bold" in text


def test_the_report_has_it_beside_the_virtual_latency_and_links_to_the_page(tmp_path):
    made = Measurement(
        "estimated_latency_p50_ns", 77e6, 66e6, 90e6, 25, Fidelity.ESTIMATED, "single_stream", 1
    )
    runs = [
        replace(r, measurements=(*r.measurements, made), settings={**r.settings, "estimate": SAID})
        if r.scenario == "single_stream"
        else r
        for r in records.model_runs("digits_fp32_onnx")
    ]
    paths = write_report(records.write_session(tmp_path, records.session(), runs))
    text = paths.html.read_text(encoding="utf-8")
    glance = text.split('id="glance"')[1].split("</section>")[0]
    assert re.search(r"virtual</span></span><span[^>]*>estimated 77.0 ms \(66.0 ms – 90.0 ms\)", glance)
    assert f'<a href="{PAGE}">' in text
    assert (paths.html.parent / PAGE).read_text(encoding="utf-8").count('<tr><th scope="row">') == 2


def test_markdown_and_summary_have_it_with_its_band_and_what_it_rests_on(tmp_path):
    made = Measurement(
        "estimated_latency_p50_ns", 77e6, 66e6, 90e6, 25, Fidelity.ESTIMATED, "single_stream", 1
    )
    said = {
        **SAID,
        "features": {"cycles": 1},
        "notes": ["borrowed from ncnn: no calibration of litert on rpi4"],
    }
    runs = [
        replace(r, measurements=(*r.measurements, made), settings={**r.settings, "estimate": said})
        if r.scenario == "single_stream"
        else r
        for r in records.model_runs("digits_fp32_onnx")
    ]
    paths = write_report(records.write_session(tmp_path, records.session(), runs))
    _, _, told = paths.summary_md.read_text(encoding="utf-8").partition("> What a board would take:\n>\n")
    assert told.startswith("> - digits_fp32_onnx on rpi4-emulated: estimated 77.0 ms (66.0 ms – 90.0 ms)\n")
    assert "> - from calibration rpi4-ncnn, fp32 (3 days old): off by 10.0% on average" in told
    assert "; borrowed from ncnn\n" in told
    rows = json.loads(paths.summary_json.read_text(encoding="utf-8"))["results"]
    kept = [row["settings"]["estimate"] for row in rows if "estimate" in row["settings"]]
    assert kept
    assert all(not {"points", "features"} & one.keys() and one["calibration"] == "rpi4-ncnn" for one in kept)
