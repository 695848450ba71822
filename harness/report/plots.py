"""Panels → inline SVG. Colours are CSS variables of the page, so that one drawing serves light and dark.

matplotlib draws with stand-in colours that are replaced by variables afterwards; text stays text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

from harness.report.figure import Mark, Panel

# stand-in → variable with the colour to use outside the page
_COLOURS = {
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
}
_INK, _MUTED, _GRID, _SURFACE, *_SERIES = _COLOURS
STYLES = len(_SERIES)
# marker → the same shape as text, for legends
_MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}
_DASHES = ("-", "--", "-.", ":")
_SIZE_INCHES = (4.6, 2.8)
_LONGEST_LABEL = 26
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # ids that don't change from one rendering to the next
    "text.parse_math": False,  # a model may be called $x$
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
}


def draw(panel: Panel, id_: str) -> str:
    """Return the panel as an `<svg>` element whose ids all start with `id_`."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # text stays text: a glyph that is missing here is the browser's to find
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        height = _SIZE_INCHES[1] if panel.kind != "bars" else 0.75 + 0.32 * len(panel.marks)
        figure = Figure(figsize=(_SIZE_INCHES[0], height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.grid(visible=True)
        _KINDS[panel.kind](axes, panel)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(text.getvalue(), panel, id_)


def style_class(style: int) -> str:
    """Return the class that gives a legend's mark the colour of `style`."""
    return f"s{style % STYLES + 1}"


def style_mark(style: int) -> str:
    """Return the character with the shape of `style`: colour and shape together tell 36 apart."""
    return list(_MARKERS.values())[_shape(style)]


def _shape(style: int) -> int:
    return (style + style // STYLES) % len(_MARKERS)


def _colour(mark: Mark) -> str:
    return _SERIES[mark.style % STYLES]


def _marker(mark: Mark) -> str:
    return list(_MARKERS)[_shape(mark.style)]


def _dash(mark: Mark) -> str:
    return _DASHES[mark.style % len(_DASHES)]


def _ecdf(axes: Any, panel: Panel) -> None:
    (mark,) = panel.marks
    axes.step([mark.x[0], *mark.x], [0.0, *mark.y], where="post", color=_colour(mark))
    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        x = next((x for x, y in zip(mark.x, mark.y, strict=True) if y >= share), mark.x[-1])
        axes.plot([x, x], [0, share], color=_MUTED, linewidth=0.7, linestyle=":")
        axes.plot([x], [share], marker="o", markersize=3.5, color=_colour(mark))
        axes.annotate(
            name,
            (x, share),
            (5, -9),
            textcoords="offset points",
            color=_MUTED,
            fontsize=8,
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.03)
    low, high = mark.x[0], mark.x[-1]
    margin = (high - low) * 0.12 or max(abs(high), 1e-9) * 0.001
    axes.set_xlim(low - margin / 2, high + margin)
    _plain_ticks(axes, "x")


def _strip(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        centre = mark.y[0]
        count = len(mark.x)
        # spread by golden ratio: even, without a pattern, the same each time
        spread = [centre + 0.56 * ((index * 0.6180339887) % 1 - 0.5) for index in range(count)]
        axes.plot(
            spread, mark.x, linestyle="none", marker="o", markersize=2.2, markeredgewidth=0, alpha=0.55,
            color=_colour(mark),
        )  # fmt: skip
        middle = sorted(mark.x)[count // 2]
        axes.plot([centre - 0.36, centre + 0.36], [middle, middle], color=_INK, linewidth=1.5)
    count = len(panel.marks)
    axes.set_xlim(0.4, count + 0.6)
    axes.set_xticks(range(1, count + 1, 1 + count // 12))
    axes.grid(visible=False, axis="x")
    _plain_ticks(axes, "y")


def _sweep(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        axes.plot(mark.x, mark.y, color=_colour(mark), marker=_marker(mark), linestyle=_dash(mark))
    sizes = sorted({x for mark in panel.marks for x in mark.x})
    if len(sizes) > 2:
        axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.08 * max(max(mark.y) for mark in panel.marks) or 1)


def _bars(axes: Any, panel: Panel) -> None:
    furthest = max(max(mark.x[0], mark.limit or 0.0) for mark in panel.marks)
    for row, mark in enumerate(panel.marks):
        (value,) = mark.x
        axes.barh(row, value, height=0.62, color=_colour(mark))
        inside = value > 0.2 * furthest
        text = f"{value:#.3g}".rstrip(".")
        axes.annotate(
            text, (value, row), (-5 if inside else 5, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", fontsize=8, color=_SURFACE if inside else _INK,
        )  # fmt: skip
        if mark.limit is not None:
            axes.plot([mark.limit] * 2, [row - 0.4, row + 0.4], color=_INK, linewidth=1.6)
    axes.set_xlim(0, furthest * 1.05 or 1)
    axes.set_yticks(range(len(panel.marks)), [_label(mark.label) for mark in panel.marks])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.grid(visible=False, axis="y")


def _scatter(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        axes.plot(
            mark.x, mark.y, linestyle="none", marker=_marker(mark), markersize=9, markeredgewidth=1.6,
            markeredgecolor=_colour(mark), markerfacecolor=_SURFACE if mark.hollow else _colour(mark),
        )  # fmt: skip
    axes.margins(0.16, 0.2)
    _plain_ticks(axes, "both")


_KINDS: dict[str, Callable[[Any, Panel], None]] = {
    "ecdf": _ecdf,
    "strip": _strip,
    "sweep": _sweep,
    "bars": _bars,
    "scatter": _scatter,
}


def _plain_ticks(axes: Any, which: str) -> None:
    axes.ticklabel_format(axis=which, useOffset=False, style="plain")
    axes.locator_params(axis=which, nbins=5)


def _label(text: str) -> str:
    """Return `text` as XML can hold it, at a length that leaves room for the bars."""
    clean = _xml_text(text)
    return clean if len(clean) <= _LONGEST_LABEL else clean[: _LONGEST_LABEL - 1] + "…"


def _xml_text(text: str) -> str:
    """Return `text` with what XML can't hold, and line breaks, replaced."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


# --- SVG for a page -------------------------------------------------------------------------------

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


def _inlined(text: str, panel: Panel, id_: str) -> str:
    """Return the drawing without what belongs to a file: fixed size, metadata, global style, plain ids."""
    root = ET.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.attrib = {_attribute(name): value for name, value in element.attrib.items()}
        for name, value in element.attrib.items():
            element.set(name, _value(name, value, id_))
    view_box = root.get("viewBox", "")
    root.attrib = {
        "class": "plot",
        "viewBox": view_box,
        "role": "img",
        "aria-labelledby": f"{id_}-title {id_}-desc",
    }
    for position, (tag, words) in enumerate((("title", panel.title), ("desc", panel.description))):
        element = ET.Element(tag, {"id": f"{id_}-{tag}"})
        element.text = _xml_text(words)
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode").replace("\n", "")


def _attribute(name: str) -> str:
    return name.removeprefix(f"{{{_XLINK}}}")


def _value(name: str, value: str, id_: str) -> str:
    if name == "id":
        return f"{id_}-{value}"
    if name == "href":
        return f"#{id_}-{value.removeprefix('#')}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{id_}-\1)", value)
    if name == "style":
        value = re.sub(r"font-family: [^;]*;?", "", value)  # the page's own
        for stand_in, variable in _COLOURS.items():
            value = value.replace(stand_in, variable)
    return value
