"""A soak's section as a browser shows it: quiet, within the window, readable in light and dark, by key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import page_checks, soaks
from support.bench import eventually

from harness.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser

LONG = "a-name-that-goes-on-and-on-" * 5


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(soaks.write_soak(tmp_path_factory.mktemp("soak"), window_s=300.0)).html


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soak whose streams, kinds, rules and texts are long and mean harm."""
    bad = f"<script>document.title='owned'</script>{LONG}"
    made = soaks.soak_run(6, window_s=300)
    plain = made.settings["soak"]
    changes = {
        "streams": [{"name": bad, "model": bad, "cycle": bad, "variants": [bad, bad]}],
        "events": [{**e, "kind": bad, "stream": bad, "text": bad} for e in plain["events"]],
        "alerts": [{**a, "rule": bad} for a in plain["alerts"]],
        "gaps": [{**g, "why": bad} for g in plain["gaps"]],
        "lives": [{**v, "boot_id": bad} for v in plain["lives"]],
        "drift": [{**d, "stream": bad, "why_limit": bad, "method": bad} for d in plain["drift"][:2]],
        "channels": [{**c, "title": bad} for c in plain["channels"]],
        "latency": [{**v, "stream": bad} for v in plain["latency"]],
    }
    run = soaks.soak_run(6, window_s=300, changes=changes)
    return write_report(soaks.write_soak(tmp_path_factory.mktemp("hostile"), run)).html


def opened(browser: Browser, path: Path, *, width: int = 1280, scheme: str = "light") -> Tab:
    """Return the page, with everything folded open."""
    tab = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        bypass_csp=True,  # waiting for a condition evaluates it, which the page's policy forbids
    )
    tab.set_default_timeout(page_checks.TIMEOUT_MS)
    tab.goto(path.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    return tab


@pytest.mark.parametrize("which", ["soak", "hostile"])
def test_nothing_is_said_fetched_or_run(request: pytest.FixtureRequest, browser: Browser, which: str) -> None:
    path, said, asked = request.getfixturevalue(which), [], []
    tab = browser.new_page()
    tab.set_default_timeout(page_checks.TIMEOUT_MS)
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda sent: asked.append(sent.url))
    tab.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:image/png")] == [path.as_uri()]
    assert tab.title() != "owned"
    tab.close()


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
@pytest.mark.parametrize("which", ["soak", "hostile"])
def test_the_page_never_scrolls_sideways(
    request: pytest.FixtureRequest, browser: Browser, which: str, width: int
) -> None:
    tab = opened(browser, request.getfixturevalue(which), width=width)
    assert tab.evaluate(page_checks.TOO_WIDE) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser: Browser, soak: Path, scheme: str) -> None:
    tab = opened(browser, soak, scheme=scheme)
    assert tab.evaluate(page_checks.CONTRAST) == []
    tab.close()


@pytest.mark.parametrize("which", ["soak", "hostile"])
def test_no_text_of_a_drawing_leaves_it_or_covers_another(
    request: pytest.FixtureRequest, browser: Browser, which: str
) -> None:
    tab = opened(browser, request.getfixturevalue(which))
    assert tab.evaluate(page_checks.CROWDED) == []
    tab.close()


def test_an_event_leads_to_its_row(browser: Browser, soak: Path) -> None:
    tab = opened(browser, soak)
    tab.locator("svg a[href='#soak-1-event-8']").first.dispatch_event("click")
    assert tab.url.endswith("#soak-1-event-8")
    row = tab.locator("#soak-1-event-8")
    assert "crash" in row.inner_text()
    plain = tab.locator("#soak-1-event-7 td").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert row.locator("td").first.evaluate("e => getComputedStyle(e).backgroundColor") != plain
    tab.close()


def test_the_timeline_and_the_table_scroll_by_keyboard(browser: Browser, soak: Path) -> None:
    tab = opened(browser, soak, width=360)
    for place in (".soak figure.wide .scroll", ".soak .scroll:has(> .events)"):
        tab.locator(place).first.focus()
        tab.keyboard.press("ArrowRight")
        # not wait_for_function: the page's policy forbids the eval that it polls by
        assert eventually(lambda: tab.evaluate("document.activeElement.scrollLeft > 0"))
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_counts_show_in_the_colour_of_the_page(browser: Browser, soak: Path, scheme: str) -> None:
    """The picture's mask and its fill: what has most calls is of the hue s1, what has none shows the card."""
    tab = opened(browser, soak, scheme=scheme)
    found = tab.evaluate("""() => [...document.querySelectorAll('.soak svg rect[mask]')].map(e => {
      const hue = getComputedStyle(document.documentElement).getPropertyValue('--s1').trim();
      const probe = document.createElement('i'); probe.style.color = hue; document.body.append(probe);
      const same = getComputedStyle(e).fill === getComputedStyle(probe).color; probe.remove();
      const mask = document.getElementById(e.getAttribute('mask').slice(5, -1));
      return same && mask !== null && mask.querySelector('image') !== null;
    })""")
    assert found == [True] * 4
    tab.close()


def test_paper_shows_the_wide_drawings_whole(browser: Browser, soak: Path) -> None:
    tab = opened(browser, soak, width=720)
    tab.emulate_media(media="print")
    reach = "Math.max(...[...document.querySelectorAll('.soak *')].map(e => e.getBoundingClientRect().right))"
    assert tab.evaluate(reach) <= 721
    assert len(tab.pdf(format="A4")) > 10_000
    tab.close()


def test_data_of_the_drift_can_be_saved(browser: Browser, soak: Path, tmp_path: Path) -> None:
    tab = opened(browser, soak)
    with tab.expect_download() as download:
        tab.locator("a[download='soak-1-drift.csv']").click()
    target = tmp_path / "saved.csv"
    download.value.save_as(target)
    assert target.read_text().startswith("stream,channel,unit,what,t_s,value,low,high\n")
    tab.close()
