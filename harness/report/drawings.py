"""The kinds of drawing, each a function (axes, panel). Colours are stand-ins of the palette."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.report.figure import MARKED, Mark, Panel
from harness.report.palette import INK, MUTED, SURFACE, colour, dash, marker, short_label, tone

# how far an axis reaches, in multiples of what holds most samples (chosen by eye, on a busy host)
_ECDF_BODIES = 3.0
_STRIP_BODIES = 2.5
LOG_SPAN = 8  # a range wider than this is shown on a log axis


def _ecdf(axes: Any, panel: Panel) -> None:
    (mark,) = panel.marks
    axes.step([mark.x[0], *mark.x], [0.0, *mark.y], where="post", color=colour(mark))
    for share in MARKED:
        x = at_share(mark, share)
        axes.plot([x, x], [0, share], color=MUTED, linewidth=0.7, linestyle=":")
        axes.plot([x], [share], marker="o", markersize=3.5, color=colour(mark))
        axes.annotate(
            f"p{share * 100:.0f}",
            (x, share),
            (5, -9),
            textcoords="offset points",
            color=MUTED,
            fontsize=8,
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.03)
    low, high = mark.x[0], max(body_end([mark], _ECDF_BODIES), at_share(mark, 0.99))
    margin = (high - low) * 0.12 or max(abs(high), 1e-9) * 0.001
    wide = low > 0 and high / low > LOG_SPAN
    if wide:
        log_axis(axes, "x", mark.x[-1] / low)
        low, high, margin = low / 1.1, mark.x[-1] * 1.1, 0.0
    if mark.x[-1] > high + margin and mark.note:
        axes.annotate(
            f"{mark.note} →", (1, 0.03), xycoords="axes fraction", ha="right", fontsize=8, color=MUTED
        )
    axes.set_xlim(low - margin / 2, high + margin)
    if not wide:
        plain_ticks(axes, "x")


def at_share(mark: Mark, share: float) -> float:
    """Return where an ECDF reaches `share`."""
    return next((x for x, y in zip(mark.x, mark.y, strict=True) if y >= share), mark.x[-1])


def body_end(marks: Sequence[Mark], bodies: float) -> float:
    """Return how far an axis of ECDFs reaches: `bodies` times what holds 90%, or all if that is less.

    One inference in thousands that was twenty times as slow would leave the others a line.
    """
    low, most = min(mark.x[0] for mark in marks), max(mark.x[-1] for mark in marks)
    body = max(at_share(mark, 0.9) for mark in marks) - low
    return min(most, low + bodies * body) if body > 0 else most


def _strip(axes: Any, panel: Panel) -> None:
    spread_dots(axes, panel.marks, 0.56, 0.36)
    count = len(panel.marks)
    axes.set_xlim(0.4, count + 0.6)
    axes.set_xticks(range(1, count + 1, 1 + count // 12))
    axes.grid(visible=False, axis="x")
    plain_ticks(axes, "y")


def spread_dots(axes: Any, marks: Sequence[Mark], width: float, half_bar: float) -> None:
    """Draw each mark's ascending values as dots over `width` around its place, and its median as a bar.

    The dots are spread evenly, without a pattern, the same each time. What is far beyond the bodies of all
    marks is a triangle at the edge.
    """
    top = _strips_end(marks)
    for mark in marks:
        centre, shade = mark.y[0], MUTED if mark.hollow else colour(mark)
        # by golden ratio
        spread = [centre + width * ((index * 0.6180339887) % 1 - 0.5) for index in range(len(mark.x))]
        within = sum(x <= top for x in mark.x)
        style = {"linestyle": "none", "markeredgewidth": 0, "alpha": 0.55, "color": shade}
        axes.plot(spread[:within], mark.x[:within], marker="o", markersize=2.2, **style)
        axes.plot(
            spread[within:],
            [top] * (len(mark.x) - within),
            marker="^",
            markersize=3.4,
            clip_on=False,
            **style,
        )
        if mark.limit is not None:
            axes.plot([centre - half_bar, centre + half_bar], [mark.limit] * 2, color=INK, linewidth=1.5)


def _strips_end(marks: Sequence[Mark]) -> float:
    low, most = min(mark.x[0] for mark in marks), max(mark.x[-1] for mark in marks)
    # the values kept of a process are a thinned body and its whole tail: three quarters are of the body
    body = max(mark.x[int(0.75 * (len(mark.x) - 1))] for mark in marks) - low
    return min(most, low + _STRIP_BODIES * body) if body > 0 else most


def _sweep(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        axes.plot(mark.x, mark.y, color=colour(mark), marker=marker(mark), linestyle=dash(mark))
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
        axes.barh(row, value, height=0.62, color=colour(mark))
        inside = value > 0.2 * furthest
        text = f"{value:#.3g}".rstrip(".")
        axes.annotate(
            text, (value, row), (-5 if inside else 5, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", fontsize=8, color=SURFACE if inside else INK,
        )  # fmt: skip
        if mark.limit is not None:
            axes.plot([mark.limit] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=1.6)
    axes.set_xlim(0, furthest * 1.05 or 1)
    axes.set_yticks(range(len(panel.marks)), [short_label(mark.label) for mark in panel.marks])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")


def _scatter(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        axes.plot(
            mark.x, mark.y, linestyle="none", marker=marker(mark), markersize=9, markeredgewidth=1.6,
            markeredgecolor=colour(mark), markerfacecolor=SURFACE if mark.hollow else colour(mark),
        )  # fmt: skip
    axes.margins(0.16, 0.2)
    plain_ticks(axes, "both")


def _agreement(axes: Any, panel: Panel) -> None:
    """Draw estimates against what was taken, both logarithmic, with the line on which they agree."""
    _scatter(axes, panel)
    low, high = _around([value for mark in panel.marks for value in (*mark.x, *mark.y)])
    if panel.band_ratio is not None:
        edges = [[end * by for end in (low, high)] for by in (1 / panel.band_ratio, panel.band_ratio)]
        axes.fill_between([low, high], *edges, color=INK, alpha=0.1, linewidth=0)
    axes.plot([low, high], [low, high], color=INK, linewidth=0.9)
    for which in ("x", "y"):
        log_axis(axes, which, high / low)
    axes.set(xlim=(low, high), ylim=(low, high))


def _errors(axes: Any, panel: Panel) -> None:
    """Draw errors in percent over what was taken, which is logarithmic, with the strip of the band."""
    _scatter(axes, panel)
    low, high = _around([value for mark in panel.marks for value in mark.x])
    if panel.band_ratio is not None:
        edges = [(by - 1) * 100 for by in (1 / panel.band_ratio, panel.band_ratio)]
        axes.axhspan(*edges, color=INK, alpha=0.1, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.9)
    log_axis(axes, "x", high / low)
    axes.set(xlim=(low, high))


def _around(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.3, max(values) * 1.3


def _forest(axes: Any, panel: Panel) -> None:
    low, high = panel.x_span or (-1.0, 1.0)
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, mark in enumerate(panel.marks):
        shade = tone(mark)
        if mark.limit is not None and mark.limit <= high:
            axes.plot([mark.limit] * 2, [row - 0.36, row + 0.36], color=INK, linewidth=1.6)
        if not mark.x:
            continue
        middle, *ends = mark.x
        reach = [min(max(end, low), high) for end in ends]
        axes.plot(reach, [row] * len(reach), color=shade, linewidth=2.2, solid_capstyle="butt")
        for end in ends:
            if not low <= end <= high and low <= middle <= high:
                axes.plot(
                    [low if end < low else high], [row], marker="<" if end < low else ">", markersize=4.5,
                    color=shade, clip_on=False,
                )  # fmt: skip
        shape = "<" if middle < low else ">" if middle > high else _SHAPES.get(mark.tone, "o")
        axes.plot(
            [min(max(middle, low), high)], [row], marker=shape, markersize=6.5, color=shade, clip_on=False,
            markerfacecolor=SURFACE if mark.tone == "inconclusive" else shade,
        )  # fmt: skip
    count = len(panel.marks)
    axes.set_xlim(low, high)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks(range(count), [short_label(mark.label) for mark in panel.marks])
    axes.tick_params(axis="y", length=0, labelcolor=INK, pad=8)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    notes = axes.twinx()
    notes.set_ylim(axes.get_ylim())
    notes.set_yticks(range(count), [mark.note for mark in panel.marks])
    notes.tick_params(axis="y", length=0, pad=8)
    for text, mark in zip(notes.get_yticklabels(), panel.marks, strict=True):
        text.set_color(tone(mark))
    for side in ("left", "right"):
        axes.spines[side].set_visible(False)
        notes.spines[side].set_visible(False)


# what a colour says is said by the shape too
_SHAPES = {"pass": "o", "fail": "s", "inconclusive": "D", "invalid": "X"}

KINDS: dict[str, Callable[[Any, Panel], None]] = {
    "ecdf": _ecdf,
    "strip": _strip,
    "sweep": _sweep,
    "bars": _bars,
    "scatter": _scatter,
    "agreement": _agreement,
    "errors": _errors,
    "forest": _forest,
}


def log_axis(axes: Any, which: str, span: float) -> None:
    """Make the "x" or "y" axis logarithmic over `span` (highest ÷ lowest), with plain numbers as ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    subs = (1.0, 2.0, 5.0) if span < 60 else (1.0, 5.0) if span < 2000 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def plain_ticks(axes: Any, which: str) -> None:
    axes.ticklabel_format(axis=which, useOffset=False, style="plain")
    axes.locator_params(axis=which, nbins=5)
