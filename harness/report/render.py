"""The report's data → one HTML page. Jinja2 with autoescape; the template does no arithmetic."""

from __future__ import annotations

from importlib import resources

from harness.report.data import ReportData
from harness.report.page import build_page
from harness.report.wording import VIRTUAL_NOTE


def render_html(data: ReportData) -> str:
    """Return report.html's text: no scripts, nothing loaded from anywhere."""
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
    template = environment.get_template("report.html.j2")
    return template.render(page=build_page(data), css=markupsafe.Markup(css), virtual_note=VIRTUAL_NOTE)
