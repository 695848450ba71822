"""The trade-off of a model's variants: size, latency and accuracy, and which of them nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics import HIGHER, METRICS
from harness.model import Fidelity, Result
from harness.report.data import ReportData
from harness.report.figure import PLAIN, Figure, Mark, Panel, figure, last, scale, styles, subjects
from harness.units import format_quantity


def trade_off(data: ReportData) -> Figure | None:
    panels, rows, seen = [], [], []
    for fidelity in Fidelity:
        for device in data.devices:
            points = _points(data, device.name, fidelity)
            if len(points) < 2:
                continue
            best = _undominated(points)
            task = next((p.task for p in points if p.task), None)
            title = f" on {device.name}" if len(data.devices) > 1 else ""
            panels.append(_panel(fidelity, data, points, best, f"Size against latency{title}", "size"))
            if task is not None and all(p.task == task for p in points):
                name = METRICS[task].title
                panels.append(_panel(fidelity, data, points, best, f"{name} against latency{title}", "task"))
            seen.append(fidelity)
            rows += [
                (p.model, p.device, fidelity.value, p.latency, p.size, p.task, p.quality, int(p in best))
                for p in points
            ]
    return figure(
        "trade-off",
        "Size, latency and accuracy",
        "Filled: no other variant is at least as good in size, latency and accuracy and better in one. "
        "Hollow: another variant is. Better is down and to the left for size, up and to the left for "
        "accuracy.",
        seen,
        panels,
        (
            "model",
            "device",
            "fidelity",
            "latency_p50_ns",
            "model_size_bytes",
            "task_metric",
            "task_value",
            "undominated",
        ),
        rows,
        keyed=True,
    )


@dataclass(frozen=True)
class _Point:
    model: str
    device: str
    latency: float
    size: float
    task: str | None
    quality: float | None

    def costs(self) -> tuple[float, ...]:
        """Return what is to be small, in comparable order."""
        if self.task is None or self.quality is None:
            return (self.latency, self.size)
        sign = -1.0 if METRICS[self.task].direction == HIGHER else 1.0
        return (self.latency, self.size, sign * self.quality)


def _points(data: ReportData, device: str, fidelity: Fidelity) -> list[_Point]:
    points = []
    for model, name in subjects(data):
        if name != device:
            continue
        mine = [r for r in data.absolute if r.model == model and r.device_name == device]
        size = last(mine, lambda r: r.metric == "model_size_bytes")
        latency = last(
            mine,
            lambda r: r.metric == "latency_p50_ns" and r.scenario in PLAIN and r.fidelity is fidelity,
        )
        task = last(mine, is_task)
        if size is not None and latency is not None and size.value is not None and latency.value is not None:
            named = (task.metric, task.value) if task is not None else (None, None)
            points.append(_Point(model, device, latency.value, size.value, *named))
    return points


def is_task(result: Result) -> bool:
    """Return whether a result is a figure of merit on labelled data."""
    row = METRICS.get(result.metric)
    return row is not None and row.kind == "task" and result.metric != "output_max_abs_error"


def _undominated(points: Sequence[_Point]) -> list[_Point]:
    """Return the Pareto set: points that no other beats or equals everywhere and beats somewhere."""

    def beats(a: _Point, b: _Point) -> bool:
        pairs = list(zip(a.costs(), b.costs(), strict=False))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [p for p in points if not any(beats(other, p) for other in points)]


def _panel(
    fidelity: Fidelity,
    data: ReportData,
    points: Sequence[_Point],
    best: Sequence[_Point],
    title: str,
    against: str,
) -> Panel:
    labels, style_of = subjects(data), styles(data)
    x_factor, x_unit = scale("ns", max(p.latency for p in points))
    unit = "bytes" if against == "size" else METRICS[points[0].task or ""].unit
    heights = [p.size if against == "size" else p.quality or 0.0 for p in points]
    y_factor, y_unit = scale(unit, max(map(abs, heights)))
    marks = tuple(
        Mark(
            labels[p.model, p.device],
            style_of[p.model, p.device],
            (p.latency / x_factor,),
            (height / y_factor,),
            hollow=p not in best,
        )
        for p, height in zip(points, heights, strict=True)
    )
    words = [
        f"{labels[p.model, p.device]}: {format_quantity(p.latency, 'ns')}, {format_quantity(height, unit)}"
        for p, height in zip(points, heights, strict=True)
    ]
    name = "model size" if against == "size" else METRICS[points[0].task or ""].title.lower()
    y_label = f"{name}, {y_unit}" if y_unit else name
    return Panel(
        "scatter", title, "; ".join(words) + ".", f"latency p50, {x_unit} ({fidelity})", y_label, marks
    )
