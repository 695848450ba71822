"""What a soak's drawings need beyond a plain one: words on hover, links to rows, a picture's colour."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.report.figure import Panel
from harness.report.palette import COLOURS, xml_text
from harness.report.soak_timeline import TimelinePanel

_HEAT = "#0101a0"  # the stand-in of the hue that counts are shown in


def finish(root: ET.Element, panel: Panel, id_: str) -> None:
    """Complete the drawing in `root`, whose ids start with `id_`, in place."""
    if isinstance(panel, TimelinePanel):
        _hover(root, panel, id_)
    for number, parent in enumerate([e for e in root.iter() if e.find("image") is not None]):
        _masked(parent, f"{id_}-mask-{number}")


def _hover(root: ET.Element, panel: TimelinePanel, id_: str) -> None:
    """Give each mark its words, and a link to its row for those who point; the table is for the keyboard."""
    marks = [mark for lane in panel.lanes for mark in lane.marks]
    for number, mark in enumerate(marks):
        found = root.find(f".//*[@id='{id_}-mark-{number}']")
        if found is not None:
            _told(found, mark.said)
            inner = list(found)
            link = ET.Element("a", {"href": f"#{mark.href}", "tabindex": "-1"})
            for child in inner:
                found.remove(child)
                link.append(child)
            found.append(link)
    for number, said in enumerate(panel.gaps_said):
        found = root.find(f".//*[@id='{id_}-gap-{number}']")
        if found is not None:
            _told(found, said)


def _told(element: ET.Element, words: str) -> None:
    title = ET.Element("title")
    title.text = "\n".join(xml_text(line) for line in words.split("\n"))
    element.insert(0, title)


def _masked(parent: ET.Element, id_: str) -> None:
    """Let a white picture show through as the page's colour: its alpha stays, light and dark share it."""
    for position, image in enumerate(list(parent)):
        if image.tag != "image":
            continue
        image.set("style", "image-rendering:pixelated")
        parent.remove(image)
        mask = ET.Element("mask", {"id": id_})
        mask.append(image)
        shade = ET.Element(
            "rect",
            {
                "width": "100%",
                "height": "100%",
                "style": f"fill: {COLOURS[_HEAT]}",
                "mask": f"url(#{id_})",
            },
        )
        parent.insert(position, mask)
        parent.insert(position + 1, shade)
