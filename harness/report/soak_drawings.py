"""Drawings of a soak: coverage with events, drift of one channel, call times over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.report import soak_drift, soak_heat, soak_timeline
from harness.report.figure import Mark, Panel
from harness.report.palette import GRID, INK, MUTED, SURFACE, TONES, colour, short_label
from harness.report.soak import Floats
from harness.report.soak_axis import TimeAxis
from harness.report.soak_drift import DriftPanel
from harness.report.soak_heat import HeatPanel
from harness.report.soak_timeline import LaneMark, TimelinePanel

WIDE_INCHES = 10.5
_BAR_INCHES, _LANE_INCHES, _FRAME_INCHES = 0.5, 0.235, 0.6
_HEAT_INCHES = 3.4
_SHORTEST = 0.003  # of the axis: what is shorter is drawn this long, to be seen at all
_BAR_ROOM = 1.75  # of the bar's height: the bar, and the names of lives over it
_LIFE_ROOM = 0.07  # of the axis, that the name of a life needs
_SHAPES = {"fail": ("s", 6.5), "invalid": ("X", 7.5), "": ("o", 5.0)}
_HEAT_COLUMNS, _HEAT_ROWS = 800, 240  # of the picture: what a screen shows
_APART_ON_KEY = 2  # of the largest count from the power of ten below, for a tick of its own
_FAINTEST = 0.16  # alpha of a single call


def size_inches(panel: Panel) -> tuple[float, float] | None:
    """Return (width, height) of a soak's wide drawings; None for any other."""
    if isinstance(panel, TimelinePanel):
        return WIDE_INCHES, _FRAME_INCHES + _BAR_INCHES + _LANE_INCHES * max(1, len(panel.lanes))
    return (WIDE_INCHES, _HEAT_INCHES) if isinstance(panel, HeatPanel) else None


# --- coverage and events --------------------------------------------------------------------------


def _timeline(axes: Any, panel: Panel) -> None:
    assert isinstance(panel, TimelinePanel)
    drawing = axes.figure
    axes.remove()
    lanes = max(1, len(panel.lanes))
    bar, events = drawing.subplots(
        2, 1, sharex=True, height_ratios=[_BAR_INCHES, _LANE_INCHES * lanes], gridspec_kw={"hspace": 0}
    )
    _coverage(bar, panel)
    for side in ("left", "top", "right"):
        bar.spines[side].set_visible(False)
        events.spines[side].set_visible(False)
    bar.spines["bottom"].set_visible(False)
    bar.tick_params(axis="both", length=0, labelcolor=INK)
    bar.tick_params(axis="x", labelbottom=False)
    numbers = iter(range(10_000))
    for row, lane in enumerate(panel.lanes):
        events.axhline(row, color=GRID, linewidth=0.6, zorder=0)
        for mark in lane.marks:
            _lane_mark(events, mark, row, f"mark-{next(numbers)}")
    names = [short_label(lane.name) for lane in panel.lanes] or ["no events"]
    events.set_yticks(range(len(names)), names)
    events.set_ylim(len(names) - 0.4, -0.6)
    events.tick_params(axis="y", length=0, labelcolor=INK)
    events.grid(visible=True, axis="x")
    _time_axis(events, panel.axis, panel.x_label)


def _coverage(axes: Any, panel: TimelinePanel) -> None:
    """Draw what was observed as a bar, gaps over it in red, what never was reached as a frame."""
    span = panel.axis.span
    axes.broken_barh([(0, panel.end)], (0, 1), color=TONES["pass"], alpha=0.75, linewidth=0)
    if panel.end < span:
        axes.broken_barh(
            [(panel.end, span - panel.end)], (0, 1), facecolor="none", edgecolor=MUTED, linewidth=0.8
        )
    for number, (start, end) in enumerate(panel.gaps):
        seen = _seen(start, end, span)
        axes.axvspan(*seen, 0, 1 / _BAR_ROOM, color=TONES["fail"], linewidth=0, gid=f"gap-{number}")
    axes.set_ylim(0, _BAR_ROOM)
    axes.set_yticks([0.5], ["observed"])
    axes.grid(visible=False)
    if len(panel.lives) < 2:
        return
    ends = [*(begin for _, begin in panel.lives[1:]), span]
    for (number, begin), after in zip(panel.lives, ends, strict=True):
        axes.plot([begin, begin], [0, 1.7], color=MUTED, linewidth=0.8)
        if (after - begin) / span >= _LIFE_ROOM:
            axes.annotate(
                f"life {number}", (begin, 1.1), (4, 0), textcoords="offset points", fontsize=8, color=MUTED
            )


def _seen(start: float, end: float, span: float) -> tuple[float, float]:
    """Return a stretch, widened about its middle to what can be seen."""
    if end - start >= _SHORTEST * span:
        return start, end
    middle = (start + end) / 2
    return middle - _SHORTEST / 2 * span, middle + _SHORTEST / 2 * span


def _lane_mark(axes: Any, mark: LaneMark, row: int, gid: str) -> None:
    shade = TONES.get(mark.tone, MUTED)
    if mark.end is not None:
        axes.plot(
            [mark.start, mark.end], [row, row], color=shade, linewidth=5, solid_capstyle="butt", gid=gid
        )
        return
    shape, size = _SHAPES.get(mark.tone, _SHAPES[""])
    axes.plot(
        [mark.start], [row], marker=shape, markersize=size, color=shade, linestyle="none", clip_on=False,
        gid=gid, markeredgecolor=SURFACE, markeredgewidth=0.8,
    )  # fmt: skip


def _time_axis(axes: Any, axis: TimeAxis, label: str, most: int = 13) -> None:
    from matplotlib.ticker import MultipleLocator

    axes.set_xlim(0, axis.span)
    axes.set_xlabel(label)
    for step in _TICKS.get(axis.unit, ()):
        if axis.span / step <= most:
            axes.xaxis.set_major_locator(MultipleLocator(step))
            return
    axes.locator_params(axis="x", nbins=most)


# steps that divide a day, an hour or a minute
_TICKS = {
    "h": (0.5, 1, 2, 3, 6, 12, 24, 48, 96),
    "min": (0.5, 1, 2, 5, 10, 15, 30),
    "s": (1, 2, 5, 10, 15, 30),
}


# --- drift ----------------------------------------------------------------------------------------


def _drift(axes: Any, panel: Panel) -> None:
    assert isinstance(panel, DriftPanel)
    shade = colour(Mark("", panel.style, (), ()))
    axes.grid(visible=False, axis="x")
    if panel.warmup > 0:
        axes.axvspan(0, panel.warmup, color=GRID, alpha=0.8, linewidth=0)
    for start, end in panel.gaps:
        axes.axvspan(*_seen(start, end, panel.axis.span), color=MUTED, alpha=0.3, linewidth=0)
    for at, tone in panel.events:
        axes.axvline(at, color=TONES[tone], linewidth=0.9, linestyle=":")
    if panel.line is not None:
        t, low, mean, high = _broken(panel)
        axes.fill_between(t, low, high, color=shade, alpha=0.22, linewidth=0)
        axes.plot(t, mean, color=shade, linewidth=0.8, alpha=0.9)
    tone = TONES.get(panel.verdict.value.lower() if panel.verdict else "", MUTED)
    if panel.band:
        ends = np.array(panel.band)
        axes.fill_between(ends[:, 0], ends[:, 1], ends[:, 2], color=tone, alpha=0.3, linewidth=0)
    _blocks(axes, panel, shade)
    if panel.fit:
        axes.plot(*zip(*panel.fit, strict=True), color=tone, linewidth=1.7)
    if panel.wedge:
        axes.plot(*zip(*panel.wedge, strict=True), color=INK, linewidth=1.1, linestyle="--")
    axes.set_ylim(*_reach(panel))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.locator_params(axis="y", nbins=5)
    _time_axis(axes, panel.axis, panel.x_label, 7)


def _broken(panel: DriftPanel) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the thinned channel with a NaN wherever nothing was read, so that no line bridges a gap."""
    line = panel.line
    assert line is not None
    breaks = np.flatnonzero(np.diff(line.t) > panel.apart) + 1
    t, low, mean, high = (
        np.insert(part, breaks, np.nan) for part in (line.t, line.low, line.mean, line.high)
    )
    return t, low, mean, high


def _blocks(axes: Any, panel: DriftPanel, shade: str) -> None:
    if panel.block_t is None or panel.block_y is None or panel.kept is None:
        return
    style = {"linestyle": "none", "marker": "o", "markersize": 2.6, "color": shade, "markeredgewidth": 0.7}
    axes.plot(panel.block_t[panel.kept], panel.block_y[panel.kept], **style)
    axes.plot(panel.block_t[~panel.kept], panel.block_y[~panel.kept], markerfacecolor=SURFACE, **style)


def _reach(panel: DriftPanel) -> tuple[float, float]:
    """Return the ends of the value axis: what followed warm-up, the slope, and the limit where it is near.

    One spike doesn't flatten the rest: of the channel's stretches the outer 2% may leave the frame.
    """
    found: list[float] = [y for _, y in panel.fit]
    if panel.line is not None:
        after = panel.line.t >= panel.warmup
        if after.any():
            found += [np.quantile(panel.line.low[after], 0.02), np.quantile(panel.line.high[after], 0.98)]
        else:
            found += [panel.line.low.min(), panel.line.high.max()]
    if panel.block_y is not None and panel.kept is not None:
        kept = panel.block_y[panel.kept] if panel.kept.any() else panel.block_y
        found += [float(v) for v in kept[np.isfinite(kept)]]
    if not found:
        return 0.0, 1.0
    low, high = float(min(found)), float(max(found))
    room = (high - low) or max(abs(high) * 0.05, 1e-9)
    for _, y in panel.wedge:
        low, high = max(min(low, y), low - room), min(max(high, y), high + room)
    margin = 0.08 * (high - low) or room
    return low - margin, high + margin


# --- call times over time -------------------------------------------------------------------------


def _heat(axes: Any, panel: Panel) -> None:
    assert isinstance(panel, HeatPanel)
    drawing, label = axes.figure, axes.get_ylabel()
    axes.remove()
    body, key = drawing.subplots(1, 2, width_ratios=[60, 1])
    body.set_ylabel(label)
    body.grid(visible=False)
    low, high = max(float(panel.level_edges[0]), 1e-9), float(panel.level_edges[-1])
    low, high = min(low, high / 1.02) / 1.03, high * 1.03
    most = int(panel.counts.max())
    for start, end in panel.gaps:
        body.axvspan(*_seen(start, end, panel.axis.span), color=MUTED, alpha=0.3, linewidth=0)
    for at, tone in panel.events:
        body.axvline(at, color=TONES[tone], linewidth=0.9, linestyle=":")
    reach = (0.0, panel.axis.span, np.log10(low), np.log10(high))
    body.imshow(
        _picture(panel, reach, most), extent=reach, aspect="auto", origin="lower", interpolation="none"
    )
    middles = (panel.bin_edges[1:] + panel.bin_edges[:-1]) / 2
    for values, dashes, name in ((panel.p50, "-", "p50"), (panel.p99, (0, (4, 1.5)), "p99")):
        y = np.log10(values)
        body.plot(middles, y, color=SURFACE, linewidth=2.2, alpha=0.6)
        body.plot(middles, y, color=INK, linewidth=0.9, linestyle=dashes, label=name)
    body.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.1, handlelength=2.4,
        labelcolor=MUTED, fontsize=8.5,
    )  # fmt: skip
    _log_ticks(body, low, high)
    body.set_ylim(np.log10(low), np.log10(high))
    _time_axis(body, panel.axis, panel.x_label)
    _key(key, most)


def _alpha(counts: Any, most: int) -> Any:
    """Return how dark counts are: by their logarithm, as tails are single calls beside thousands."""
    share = np.log1p(counts) / np.log1p(max(most, 1))
    return np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * share, 0.0)


def _picture(panel: HeatPanel, reach: tuple[float, float, float, float], most: int) -> Any:
    """Return white pixels, RGBA, whose alpha says how many calls: the page gives them their colour."""
    columns = min(_HEAT_COLUMNS, 2 * panel.counts.shape[1])
    t = (np.arange(columns) + 0.5) / columns * reach[1]
    level = np.linspace(reach[2], reach[3], _HEAT_ROWS + 1)
    at_bin = np.searchsorted(panel.bin_edges, t, side="right") - 1
    at_level = np.searchsorted(panel.level_edges, 10 ** ((level[1:] + level[:-1]) / 2), side="right") - 1
    padded = np.pad(panel.counts, 1)  # outside of all edges there is nothing
    inside_bin = np.clip(at_bin + 1, 0, panel.counts.shape[1] + 1)
    inside_level = np.clip(at_level + 1, 0, panel.counts.shape[0] + 1)
    alpha = _alpha(padded[np.ix_(inside_level, inside_bin)], most)
    picture = np.full((*alpha.shape, 4), 255, dtype=np.uint8)
    picture[..., 3] = np.round(alpha * 255).astype(np.uint8)
    return picture


def _log_ticks(axes: Any, low: float, high: float) -> None:
    """Put plain numbers on an axis that holds logarithms."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    locators = (MaxNLocator(5),) if high / low < 4 else ()
    subs = (1.0, 2.0, 3.0, 5.0, 7.0) if high / low < 15 else (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    ticks = next(
        (loc.tick_values(low, high) for loc in locators), LogLocator(subs=subs).tick_values(low, high)
    )
    kept = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(np.log10(kept), [f"{tick:g}" for tick in kept])


def _key(axes: Any, most: int) -> None:
    """Draw what a colour says: from one call to the most of any cell."""
    ramp = np.expm1(np.linspace(np.log1p(1), np.log1p(most), 128))
    alpha = _alpha(ramp, most)
    picture = np.full((128, 1, 4), 255, dtype=np.uint8)
    picture[:, 0, 3] = np.round(alpha * 255).astype(np.uint8)
    reach = (0, 1, np.log1p(1), max(np.log1p(most), np.log1p(1) + 1e-6))
    axes.imshow(picture, extent=reach, aspect="auto", origin="lower", interpolation="none")
    every = [10**n for n in range(len(str(most))) if 10**n <= most]
    if every and most >= _APART_ON_KEY * every[-1]:
        every.append(most)
    axes.set_yticks([float(np.log1p(n)) for n in every], [f"{n:,}" for n in every])
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_title("calls", fontsize=8.5, color=MUTED, loc="left", pad=9)
    axes.grid(visible=False)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)


SOAK_KINDS: dict[str, Callable[[Any, Panel], None]] = {
    soak_timeline.KIND: _timeline,
    soak_drift.KIND: _drift,
    soak_heat.KIND: _heat,
}
