"""The report as a browser shows it: quiet, within the window, in light and dark, by keyboard, on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import compared, page_checks, records
from support.bench import eventually

from harness.model import Condition
from harness.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>document.title='owned'</script>\"><img src=x onerror=\"document.title='owned'\">" + "x" * 120
)


@dataclass
class Opened:
    """A page that is open, with everything it said and asked for."""

    tab: Tab
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(records.write_session(tmp_path_factory.mktemp("report"))).html


@pytest.fixture(scope="module")
def against(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session that compared, on two devices, and played every scenario."""
    scenarios = (compared.server_run(), compared.periodic_run(), compared.multi_stream_run())
    duet = compared.duet_run(number=51, device=records.LOCAL, duets=5, pairs=60)
    record = compared.session(devices=(records.PI, records.LOCAL))
    runs = (*compared.comparing_runs(), *scenarios, duet)
    return write_report(records.write_session(tmp_path_factory.mktemp("against"), record, runs)).html


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every name is long and means harm."""
    device = replace(records.PI, name=HOSTILE, serial=HOSTILE, details={HOSTILE: HOSTILE})
    runs = [
        replace(
            run,
            model=HOSTILE,
            test=HOSTILE,
            device=device,
            settings={HOSTILE: HOSTILE},
            log=HOSTILE * 5,
            conditions=(Condition(HOSTILE, HOSTILE, HOSTILE, False, HOSTILE),),
        )
        for run in records.model_runs("digits_fp32_onnx")
    ]
    record = records.session(devices=(device,), command=(HOSTILE,))
    return write_report(records.write_session(tmp_path_factory.mktemp("hostile"), record, runs)).html


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """A function (path, width, scheme) that opens a page in a window of its own."""
    contexts = []

    def opened(path: Path, *, width: int = 1280, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        context.set_default_timeout(page_checks.TIMEOUT_MS)
        contexts.append(context)
        page = Opened(context.new_page())
        page.tab.on("console", lambda message: page.said.append(message.text))
        page.tab.on("pageerror", lambda error: page.said.append(str(error)))
        page.tab.on("request", lambda request: page.requests.append(request.url))
        page.tab.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def _open_all(tab: Tab) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_said_and_nothing_is_fetched(report: Path, show: Open, scheme: str) -> None:
    page = show(report, scheme=scheme)
    assert page.said == []
    assert page.requests == [report.as_uri()]


def test_hostile_names_run_nothing(hostile: Path, show: Open) -> None:
    page = show(hostile)
    assert page.said == []
    assert page.requests == [hostile.as_uri()]
    assert page.tab.title() != "owned"
    assert page.tab.evaluate("document.images.length + document.scripts.length") == 0


@pytest.mark.parametrize("width", [360, 400, 768, 1280, 1920])
@pytest.mark.parametrize("which", ["report", "hostile", "against"])
def test_the_page_never_scrolls_sideways(
    request: pytest.FixtureRequest, show: Open, which: str, width: int
) -> None:
    page = show(request.getfixturevalue(which), width=width)
    _open_all(page.tab)
    assert page.tab.evaluate(page_checks.TOO_WIDE) == []
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark_and_light_is_light(report: Path, show: Open) -> None:
    script = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    light = show(report, scheme="light").tab.evaluate(script)
    dark = show(report, scheme="dark").tab.evaluate(script)
    assert min(light) > 230
    assert max(dark) < 40


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["report", "against"])
def test_every_text_stands_out_from_what_is_behind_it(
    request: pytest.FixtureRequest, show: Open, which: str, scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 for text of this size, drawings included."""
    tab = show(request.getfixturevalue(which), scheme=scheme).tab
    _open_all(tab)
    poor = tab.evaluate(page_checks.CONTRAST)
    assert poor == []


def test_no_text_of_a_drawing_leaves_it_or_covers_another(against: Path, show: Open) -> None:
    tab = show(against).tab
    wrong = tab.evaluate(page_checks.CROWDED)
    assert wrong == []


def test_details_open_by_keyboard(report: Path, show: Open) -> None:
    tab = show(report).tab
    run = tab.locator("details.run").first
    run.locator("summary").focus()
    assert run.evaluate("e => e.open") is False
    tab.keyboard.press("Enter")
    assert run.evaluate("e => e.open") is True
    assert run.locator("table").is_visible()
    tab.keyboard.press("Enter")
    assert run.evaluate("e => e.open") is False


def test_the_first_stop_skips_to_the_results(report: Path, show: Open) -> None:
    tab = show(report).tab
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.keyboard.press("Enter")
    assert tab.url.endswith("#main")


def test_wide_tables_scroll_by_keyboard(report: Path, show: Open) -> None:
    tab = show(report, width=360).tab
    table = tab.locator(".scroll").first
    table.focus()
    tab.keyboard.press("ArrowRight")
    # not wait_for_function: the page's policy forbids the eval that it polls by
    assert eventually(lambda: tab.evaluate("document.activeElement.scrollLeft > 0"))


def test_data_of_a_figure_can_be_saved(report: Path, show: Open, tmp_path: Path) -> None:
    tab = show(report).tab
    with tab.expect_download() as download:
        tab.locator("a[download='batch-sweep.csv']").click()
    target = tmp_path / "saved.csv"
    download.value.save_as(target)
    assert target.read_text().startswith("model,device,run_id,fidelity,metric,batch_size,value,low,high\n")


def test_paper_keeps_the_tables_whole(report: Path, show: Open) -> None:
    tab = show(report, width=760, scheme="dark").tab
    tab.emulate_media(media="print")
    style: Any = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert style == "rgb(255, 255, 255)"
    assert tab.locator(".downloads").first.is_hidden()
    assert tab.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert len(tab.pdf(format="A4")) > 10_000


def test_on_a_phone_the_sentences_of_a_table_that_scrolls_are_whole(report: Path, show: Open) -> None:
    tab = show(report, width=390).tab
    ends = tab.evaluate("[...document.querySelectorAll('.kept')].map(e => e.getBoundingClientRect().right)")
    assert ends
    assert max(ends) <= 390
