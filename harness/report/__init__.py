"""One HTML page, a JSON summary, Markdown and JUnit from a stored session. Reads the store alone."""

from harness.report.junit import release_junit
from harness.report.markdown import release_markdown
from harness.report.write import ReportPaths, write_report

__all__ = ["ReportPaths", "release_junit", "release_markdown", "write_report"]
