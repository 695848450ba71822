"""The report's data → one HTML page. Jinja2 with autoescape; the template does no arithmetic."""

from __future__ import annotations

from importlib import resources
from typing import Any

from harness.report.data import ReportData
from harness.report.estimates_page import build_estimates_page
from harness.report.page import build_page
from harness.report.wording import VIRTUAL_NOTE


def render_html(data: ReportData) -> str:
    """Return report.html's text: no scripts, nothing loaded from anywhere."""
    return _render("report.html.j2", page=build_page(data), virtual_note=VIRTUAL_NOTE)


def render_estimates(data: ReportData) -> str | None:
    """Return estimates.html's text, as the report's; None where no estimate rests on a calibration."""
    page = build_estimates_page(data)
    return None if page is None else _render("estimates.html.j2", page=page)


def _render(template: str, **shown: Any) -> str:
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # the drawings come from ElementTree, which has escaped their texts
    environment.filters["drawing"] = markupsafe.Markup
    css = resources.files("harness.report").joinpath("static/report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=markupsafe.Markup(css), **shown)
