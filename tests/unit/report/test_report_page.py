"""The page: leads with the verdict, shows every fidelity, escapes every name, loads nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support import compared, records

from harness.model import Condition, ErrorRecord, Outcome
from harness.report import write_report
from harness.report.page import grouped
from harness.report.wording import when

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{7*7}}\udce9'
_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Parses a page; notes its elements and any end tag that closes nothing it should."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.wrong.append(f"</{tag}> in {self._open[-3:]}")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.elements if tag in tags]


def _page(tmp_path: Path, runs: Any = None, **changes: Any) -> Page:
    folder = records.write_session(tmp_path, records.session(**changes), runs)
    return Page(write_report(folder).html.read_text(encoding="utf-8"))


def _words(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return _page(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module", params=["plain", "compared"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A session's page without comparisons, and one with all that a comparing session and scenarios show."""
    if request.param == "plain":
        found: Page = request.getfixturevalue("sample")
        return found
    scenarios = (compared.server_run(), compared.periodic_run(), compared.multi_stream_run())
    runs = (*compared.comparing_runs(), *scenarios)
    record = compared.session(devices=(records.PI, records.LOCAL))
    folder = records.write_session(tmp_path_factory.mktemp("compared"), record, runs)
    return Page(write_report(folder).html.read_text(encoding="utf-8"))


def test_the_page_is_well_formed(either: Page) -> None:
    assert either.wrong == []
    assert len(either.of("h1")) == 1


def test_the_page_leads_with_the_verdict(sample: Page) -> None:
    words = _words(sample)
    assert words.index("INFRA ERROR") < words.index("At a glance") < words.index("Provenance")


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(either: Page) -> None:
    ids = [attrs["id"] for _, attrs in either.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    targets = {
        (a.get("href") or "")[1:] for a in either.of("a", "use") if (a.get("href") or "").startswith("#")
    }
    assert targets <= set(ids)
    for _, attrs in either.elements:
        for id_ in (attrs.get("aria-labelledby") or "").split():
            assert id_ in ids


def test_nothing_is_loaded_and_nothing_runs(either: Page) -> None:
    assert either.of("script", "iframe", "object", "embed", "img") == []
    for tag, attrs in either.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("src", "href", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)


def test_the_page_can_be_used_without_seeing_it(either: Page) -> None:
    assert either.of("html")[0]["lang"] == "en"
    tables = len(either.of("table"))
    assert tables == len(either.of("caption"))
    assert all("scope" in attrs for attrs in either.of("th"))
    # what scrolls sideways can be reached by keyboard and has a name
    scrolls = [a for _, a in either.elements if a.get("class") == "scroll"]
    assert all(
        a.get("tabindex") == "0" and (a.get("aria-label") or a.get("aria-labelledby")) for a in scrolls
    )
    assert all(a.get("role") == "img" and a.get("aria-labelledby") for a in either.of("svg"))
    assert any(a.get("class") == "skip" for a in either.of("a"))


def test_every_figure_has_its_data_beside_it(sample: Page) -> None:
    downloads = [a["download"] for a in sample.of("a") if "download" in a]
    assert len(downloads) == 2 * 5
    assert {"trade-off.csv", "latency-ecdf.json"} <= set(downloads)


def test_virtual_numbers_say_so(sample: Page) -> None:
    words = _words(sample)
    assert "they compare builds, they are not a Pi's milliseconds" in words
    rows = re.findall(r"Latency p50 single stream 5\.\d+ ms .*?(virtual|measured)", words)
    assert rows[0] == "virtual"


def test_a_session_without_virtual_numbers_has_no_such_note(tmp_path: Path) -> None:
    runs = records.model_runs("digits_fp32_onnx", device=records.LOCAL)
    page = _page(tmp_path, runs, devices=(records.LOCAL,))
    assert "milliseconds" not in _words(page)
    assert not [a for _, a in page.elements if "f-virtual" in (a.get("class") or "")]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    device = replace(records.PI, name=HOSTILE, type=HOSTILE, serial=HOSTILE, details={HOSTILE: HOSTILE})
    runs = [
        replace(
            run,
            model=HOSTILE,
            test=HOSTILE,
            suite=HOSTILE,
            runtime=HOSTILE,
            device=device,
            settings={HOSTILE: HOSTILE},
            log=HOSTILE,
            conditions=(Condition(HOSTILE, HOSTILE, HOSTILE, False, HOSTILE),),
            scenario=HOSTILE if run.scenario else None,
            error=ErrorRecord(HOSTILE, HOSTILE),
        )
        for run in records.model_runs("digits_fp32_onnx")
    ]
    runs.append(records.run("099-x", outcome=Outcome.INVALID, reason=HOSTILE, measurements=(), model=HOSTILE))
    page = _page(tmp_path, runs, devices=(device,), command=(HOSTILE,), plan_path=HOSTILE)
    assert page.wrong == []
    assert page.of("script", "img") == []
    assert HOSTILE.replace("\udce9", "?") in "".join(page.text)
    assert "{{7*7}}" in "".join(page.text)


def test_what_is_missing_for_a_release_is_listed(tmp_path: Path) -> None:
    words = _words(_page(tmp_path, records.model_runs("digits_fp32_onnx")))
    assert "What the plan requires is not complete" in words
    assert "digits_int8_onnx on rpi4: nothing was run" in words


def test_reasons_stand_beneath_their_result(tmp_path: Path) -> None:
    big = records.run(measurements=(records.measurement("model_size_bytes", 9e6, n=1),))
    words = _words(_page(tmp_path, [big]))
    assert "model_size_bytes of 9.00 MB is above its budget of 507 kB" in words


def test_every_attempt_and_its_conditions_are_kept(tmp_path: Path) -> None:
    hot = Condition("throttling", "0x0 before, 0x4 after", "no bit set", False, "Cool the board.")
    runs = [
        records.run("001-a", outcome=Outcome.INFRA_ERROR, error=ErrorRecord("transient", "link lost", 1)),
        records.run("002-a", attempt=2, conditions=(hot,), log="said this"),
    ]
    words = _words(_page(tmp_path, runs))
    for text in ("001-a", "002-a", "attempt 2", "transient: link lost after 1 retry", "Cool the board.",
                 "violated", "said this"):  # fmt: skip
        assert text in words


def test_corrupt_evidence_is_shown_up_front(tmp_path: Path) -> None:
    folder = records.write_session(tmp_path, runs=[records.run(), records.run("002-b")])
    (folder / "runs" / "002-b" / "series.parquet").write_bytes(b"")
    words = _words(Page(write_report(folder).html.read_text()))
    assert words.index("Evidence that can't be trusted") < words.index("Results")
    assert "002-b/series.parquet" in words


def test_budgets_are_suggested_where_there_are_none(tmp_path: Path) -> None:
    words = _words(_page(tmp_path, records.model_runs("digits_int8_onnx"), plan={}, plan_path=None))
    assert "No budgets are set for digits_int8_onnx" in words
    assert "[budgets.rpi4.digits_int8_onnx]" in words


def test_metrics_without_a_budget_get_lines_for_the_table_that_is_there(sample: Page) -> None:
    words = _words(sample)
    assert "Add to [budgets.rpi4.digits_fp32_onnx]" in words
    after = words.partition("Add to [budgets.rpi4.digits_fp32_onnx]")[2].partition("Add to")[0]
    assert "latency_p50_ns" in after
    assert "accuracy" not in after


def test_ratios_compare_only_what_may_be_compared(tmp_path: Path) -> None:
    runs = [*records.model_runs("digits_fp32_onnx"), *records.model_runs("digits_int8_onnx", first=6)]
    assert "0.62× better" in _words(_page(tmp_path / "same", runs))
    other = [replace(run, runtime_version="1.20.1") if "int8" in run.model else run for run in runs]
    assert "× better" not in _words(_page(tmp_path / "other", other))


def test_an_empty_session_is_still_a_page(tmp_path: Path) -> None:
    page = _page(tmp_path, [])
    assert page.wrong == []
    assert "No run is stored" in _words(page)


def test_the_page_stays_small(tmp_path: Path) -> None:
    # the bound is 5 MB for a 72-hour soak
    assert write_report(records.write_session(tmp_path)).html.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-01-02T03:04:05.678+00:00", "2026-01-02 03:04:05 UTC"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02 03:04:05 +0200"),
        ("2026-01-02T03:04:05", "2026-01-02 03:04:05"),
        ("never", "never"),
    ],
)
def test_times_read_with_their_zone(stamp: str, shown: str) -> None:
    assert when(stamp) == shown


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sessions_of_every_version_render(tmp_path: Path, version: str) -> None:
    kept = Path(__file__).parents[1] / "store" / "fixtures" / version
    folder = shutil.copytree(kept, tmp_path / version)
    page = Page(write_report(folder).html.read_text(encoding="utf-8"))
    assert page.wrong == []
    assert ("Against the baseline" in _words(page)) == (version != "v1")


def test_a_pass_without_any_budget_does_not_say_that_all_is_within_limits(tmp_path: Path) -> None:
    run = records.run(measurements=(records.measurement("model_size_bytes", 461e3),))
    text = " ".join(_page(tmp_path, [run], plan={}, plan_path=None).text)
    assert "PASS" in text
    assert "No budget judges the numbers." in text
    assert "within its limits" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2485545", "2,485,545"),
        ("16412/s – 16434/s", "16,412/s – 16,434/s"),
        ("1798", "1798"),
        ("≤ 0.00651", "≤ 0.00651"),
        ("0.123456", "0.123456"),
        ("60.85 µs – 60.93 µs", "60.85 µs – 60.93 µs"),
        ("exact", "exact"),
    ],
)
def test_a_long_count_is_read_by_its_thousands(text: str, shown: str) -> None:
    assert grouped(text) == shown
