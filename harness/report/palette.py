"""Colours and shapes of the drawings: stand-ins that become CSS variables of the page, one style a model."""

from __future__ import annotations

import re

from harness.report.figure import Mark

# stand-in → variable with the colour to use outside the page
COLOURS = {
    "#010101": "var(--ink, #1c2126)",
    "#010102": "var(--muted, #5c6670)",
    "#010103": "var(--grid, #e2e6ea)",
    "#010104": "var(--surface, #ffffff)",
    "#0101a0": "var(--s1, #2559a8)",
    "#0101a1": "var(--s2, #b04a0e)",
    "#0101a2": "var(--s3, #14786a)",
    "#0101a3": "var(--s4, #9b3a86)",
    "#0101a4": "var(--s5, #7b6708)",
    "#0101a5": "var(--s6, #5b50c9)",
    "#0101b0": "var(--pass, #14713f)",
    "#0101b1": "var(--fail, #b3261e)",
    "#0101b2": "var(--inconclusive, #8a5a00)",
    "#0101b3": "var(--invalid, #7a3aa8)",
}
INK, MUTED, GRID, SURFACE, *_REST = COLOURS
TONES = {
    "pass": "#0101b0",
    "fail": "#0101b1",
    "inconclusive": "#0101b2",
    "invalid": "#0101b3",
    "not_judged": MUTED,
}
_SERIES = [name for name in _REST if name not in TONES.values()]
STYLES = len(_SERIES)
# marker → the same shape as text, for legends
_MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
_DASHES = ("-", "--", "-.", ":")
_LONGEST_LABEL = 26


def style_class(style: int) -> str:
    """Return the class that gives a legend's mark the colour of `style`."""
    return f"s{style % STYLES + 1}"


def style_mark(style: int) -> str:
    """Return the character with the shape of `style`: colour and shape together tell 36 apart."""
    return list(_MARKERS.values())[_shape(style)]


def _shape(style: int) -> int:
    return (style + style // STYLES) % len(_MARKERS)


def colour(mark: Mark) -> str:
    return _SERIES[mark.style % STYLES]


def marker(mark: Mark) -> str:
    return list(_MARKERS)[_shape(mark.style)]


def dash(mark: Mark) -> str:
    return _DASHES[mark.style % len(_DASHES)]


def tone(mark: Mark) -> str:
    """Return the colour of a mark that a verdict colours."""
    return TONES.get(mark.tone, MUTED)


def short_label(text: str) -> str:
    """Return `text` as XML can hold it, at a length that leaves room for the bars."""
    clean = xml_text(text)
    return clean if len(clean) <= _LONGEST_LABEL else clean[: _LONGEST_LABEL - 1] + "…"


def xml_text(text: str) -> str:
    """Return `text` with what XML can't hold, and line breaks, replaced."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
