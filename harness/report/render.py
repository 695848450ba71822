"""The report's data → one HTML page. Jinja2 with autoescape; the template does no arithmetic."""

from __future__ import annotations

from importlib import resources

from harness.report.data import ReportData
from harness.report.markdown import VIRTUAL_NOTE
from harness.units import format_quantity


def render_html(data: ReportData) -> str:
    """Return report.html's text: no scripts, nothing loaded from anywhere."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("harness.report").joinpath("static/report.css").read_text(encoding="utf-8")
    template = environment.get_template("report.html.j2")
    return template.render(data=data, css=css, note=VIRTUAL_NOTE, quantity=format_quantity)
