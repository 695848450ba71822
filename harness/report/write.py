"""Write a session's report beside it: report.html, summary.json, summary.md and junit.xml, and
estimates.html where estimates rest on a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.report.data import build_report
from harness.report.estimates import PAGE
from harness.report.junit import session_junit
from harness.report.markdown import session_markdown
from harness.report.render import render_estimates, render_html
from harness.report.summary import summary_json
from harness.store import read_session, write_text


@dataclass(frozen=True)
class ReportPaths:
    """Where the report's files are."""

    html: Path
    summary_json: Path
    summary_md: Path
    junit_xml: Path


def write_report(folder: Path) -> ReportPaths:
    """Render the session in `folder` and return the paths written, each whole or not at all.

    Raises StoredRunError where the session can't be read, HostSetupError where the disk refuses.
    """
    data = build_report(read_session(folder))
    paths = ReportPaths(
        html=folder / "report.html",
        summary_json=folder / "summary.json",
        summary_md=folder / "summary.md",
        junit_xml=folder / "junit.xml",
    )
    then = f"Its runs are stored: `harness report {folder}` goes on from there."
    write_text(paths.summary_json, summary_json(data), then=then)
    write_text(paths.summary_md, session_markdown(data), then=then)
    write_text(paths.junit_xml, session_junit(data), then=then)
    estimates = render_estimates(data)
    if estimates is not None:  # first: the report links to it
        write_text(folder / PAGE, estimates, then=then)
    write_text(paths.html, render_html(data), then=then)
    return paths
