"""Panels → inline SVG. Colours are CSS variables of the page, so that one drawing serves light and dark.

matplotlib draws with stand-in colours that are replaced by variables afterwards; text stays text.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree as ET

from harness.report.arm_drawings import ARM_KINDS
from harness.report.drawings import KINDS
from harness.report.figure import Panel
from harness.report.load_drawings import LOAD_KINDS
from harness.report.palette import COLOURS, GRID, INK, MUTED, xml_text
from harness.report.soak_drawings import SOAK_KINDS, size_inches
from harness.report.soak_svg import finish
from harness.report.timeline import TIMELINE
from harness.report.timeline_drawings import TIMELINE_KINDS, height_inches

_SIZE_INCHES = (4.6, 2.8)
_KINDS = {**KINDS, **ARM_KINDS, **LOAD_KINDS, **TIMELINE_KINDS, **SOAK_KINDS}
_BY_ROWS = ("bars", "forest")  # as high as their rows ask for
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # ids that don't change from one rendering to the next
    "text.parse_math": False,  # a model may be called $x$
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": GRID,
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
        figure = Figure(
            figsize=size_inches(panel) or (_SIZE_INCHES[0], _height_inches(panel)), layout="constrained"
        )
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.grid(visible=True)
        _KINDS[panel.kind](axes, panel)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(text.getvalue(), panel, id_)


def _height_inches(panel: Panel) -> float:
    if panel.kind == TIMELINE:
        return height_inches(panel)
    return 0.75 + 0.32 * len(panel.marks) if panel.kind in _BY_ROWS else _SIZE_INCHES[1]


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
    _slim(root)
    finish(root, panel, id_)
    view_box = root.get("viewBox", "")
    root.attrib = {
        "class": "plot",
        "viewBox": view_box,
        "role": "img",
        "aria-labelledby": f"{id_}-title {id_}-desc",
    }
    for position, (tag, words) in enumerate((("title", panel.title), ("desc", panel.description))):
        element = ET.Element(tag, {"id": f"{id_}-{tag}"})
        element.text = xml_text(words)
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode").replace("\n", "")


_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def _slim(root: ET.Element) -> None:
    """Take out what says nothing: indentation, hundredths of a pixel, one style repeated for each dot."""
    for element in root.iter():
        element.tail = None
        if element.tag != "text":
            element.text = None
        for name in ("d", "x", "y"):
            if name in element.attrib:
                element.set(name, _LONG_NUMBER.sub(_rounded, element.attrib[name]))
        styles = {child.get("style") for child in element}
        if len(element) > 1 and len(styles) == 1 and all(child.tag == "use" for child in element):
            (style,) = styles
            if style is not None and element.get("style") is None:
                element.set("style", style)
                for child in element:
                    del child.attrib["style"]


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _attribute(name: str) -> str:
    return name.removeprefix(f"{{{_XLINK}}}")


def _value(name: str, value: str, id_: str) -> str:
    if name == "id":
        return f"{id_}-{value}"
    if name == "href" and not value.startswith("data:"):
        return f"#{id_}-{value.removeprefix('#')}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{id_}-\1)", value)
    if name == "style":
        value = re.sub(r"font-family: [^;]*;?", "", value)  # the page's own
        for stand_in, variable in COLOURS.items():
            value = value.replace(stand_in, variable)
    return value
