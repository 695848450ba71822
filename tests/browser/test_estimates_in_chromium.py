"""The page of estimates in a browser: wide, and on a phone, where no column may be out of sight."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.page_checks import CONTRAST, CROWDED, TIMEOUT_MS, TOO_WIDE

from harness.estimate import estimator
from harness.report.render import render_estimates

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the calibrations that ship, on one thread and on four."""
    path = tmp_path_factory.mktemp("report") / "estimates.html"
    runs = [
        SimpleNamespace(settings={"estimate": _said(calibration, threads)}, threads=threads)
        for calibration in estimator.shipped()
        for threads in (1, 4)
    ]
    data: Any = SimpleNamespace(record=SimpleNamespace(session_id="s"), runs=runs)
    text = render_estimates(data)
    assert text is not None
    path.write_text(text, encoding="utf-8")
    return path


def _said(calibration: Any, threads: int) -> dict[str, Any]:
    fit, points = calibration.fit("fp32", threads), calibration.points("fp32", threads)
    return {
        **{key: getattr(calibration, key) for key in ("board", "source", "statistic", "taken_on")},
        "calibration": calibration.name,
        "precision": "fp32",
        "by": "what the emulation counted",
        "age_days": 12,
        "mean_error_ratio": fit.mean_error_ratio,
        "worst_error_ratio": fit.worst_error_ratio,
        "confidence": 0.9,
        "band_ratio": fit.band_ratio(),
        "points": {p.network: [p.board_ms, p.board_ms * 1.01] for p in points},
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_faint_or_crowded(page: Path, browser: Browser, width: int, scheme: Any) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.set_default_timeout(TIMEOUT_MS)
    tab.goto(page.as_uri(), timeout=TIMEOUT_MS)
    assert tab.evaluate(TOO_WIDE) == []
    assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate(CROWDED) == []
    hidden = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert tab.evaluate(hidden) == [0, 0, 0, 0]
    tab.close()
