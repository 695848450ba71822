"""Item `estimate`: how far a real board's milliseconds are foretold from what the emulated one counted.

Every network is left out of the fit that estimates it, over each calibration that ships, from the features
that are committed in it: seconds, no board needed. Board times are published figures;
benchmarks/estimate_collect.py counts the features anew. `python -m benchmarks.estimate docs` writes the
tables of what each term gives.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator, Sequence

from benchmarks.results import DOCS, replace_between_marks
from benchmarks.table import Goal, Row
from harness.estimate import calibration, model, validate
from harness.estimate.calibration import Calibration
from harness.estimate.model import Point
from harness.store.atomic import write_text

BEGIN = "<!-- estimate: python -m benchmarks.estimate docs -->"
END = "<!-- end of estimate -->"
# what each term adds to what the virtual clock alone gives; None: chosen anew for each network, without it
STEPS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("one factor", model.ONE_FACTOR),
    ("cycles", ("cycles",)),
    ("cycles, memory", ("cycles", "memory_lines")),
    ("cycles, stores", ("cycles", "stored_bytes")),
    ("**all three**", model.PHYSICAL),
    ("best of all choices", None),
)
# of the three terms: (mean, worst) error
GOALS: dict[tuple[str, str, int], tuple[float, float | None]] = {
    ("rpi4", "fp32", 1): (0.05, 0.15),
    ("rpi4", "fp32", 4): (0.10, None),
    ("rpi4", "int8", 1): (0.10, None),
}
_ABOUT_STEPS = (
    "Mean error (worst error) of networks that the fit has not seen. One factor is the virtual clock times a "
    "constant; the last column chooses up to three of eight terms by error alone, without the network in "
    "turn."
)
_ABOUT_FITS = (
    "What the terms cost, fitted on all networks, and how often a band that rests on the other networks held "
    "the board's time:"
)
_ABOUT_NETWORKS = "Each network on one thread, estimated by the fit of the others:"
_ABOUT_SIZES = (
    "What a calibration of one's own comes to by its number of networks: so many of the fp32 ones on one "
    "thread are drawn at random, 40 times, and the others estimated from them. Mean error, median 90% band, "
    "and how often it held the board's time. Three and four are fitted by one factor."
)
SIZES = (3, 4, 5, 6, 8, 10, 15)
DRAWS = 40
COVERAGE = Goal("ours", low=0.85, high=0.95)


def run(quick: bool) -> list[Row]:
    """Return the rows of every calibration; there is no quick form."""
    return [row for setting in settings() for row in rows_of(*setting)]


def settings() -> Iterator[tuple[Calibration, str, int, list[Point]]]:
    """Yield each calibration that ships with each of its precisions and numbers of threads."""
    for path in sorted(calibration.SHIPPED.glob("*.toml")):
        found = calibration.load(path)
        for precision, threads in found.settings():
            yield found, precision, threads, found.points(precision, threads)


def rows_of(found: Calibration, precision: str, threads: int, points: list[Point]) -> list[Row]:
    """Return one setting's rows: the error that three terms leave of one factor's, and whether the band
    holds.
    """
    done, one = validate.validate(points), validate.validate(points, model.ONE_FACTOR)
    mean_goal, worst_goal = GOALS.get((found.device_type, precision, threads), (None, None))
    what = describe(found, precision, threads)
    band_goal = COVERAGE if mean_goal is not None and precision == "fp32" else None
    return [
        Row(
            f"{which} error of estimated milliseconds, {what}",
            "share",
            value,
            peer,
            "one factor",
            Goal("ours", high=limit) if limit is not None else None,
            n=done.n,
        )
        for which, value, peer, limit in (
            ("mean", done.mean_error_ratio, one.mean_error_ratio, mean_goal),
            ("worst", done.worst_error_ratio, one.worst_error_ratio, worst_goal),
        )
    ] + [
        Row(
            f"90% bands that hold the board's time, {what}",
            "share",
            done.covered_ratio,
            goal=band_goal,
            n=done.n,
        )
    ]


def describe(found: Calibration, precision: str, threads: int) -> str:
    return f"{found.device_type}, {precision}, {threads} thread{'s' if threads > 1 else ''}"


def render_steps() -> str:
    """Return the table of what each term gives: mean error (worst error), by setting."""
    lines = [["setting", "n", *(name for name, _ in STEPS)], ["---"] * (2 + len(STEPS))]
    for found, precision, threads, points in settings():
        cells = [describe(found, precision, threads), str(len(points))]
        for _, terms in STEPS:
            done = validate.validate(points, terms)
            cells.append(f"{done.mean_error_ratio:.1%} ({done.worst_error_ratio:.0%})")
        lines.append(cells)
    return _markdown(lines)


def render_fits() -> str:
    """Return the table of coefficients, by setting."""
    lines = [["setting", "a cycle", "a line from memory", "a byte stored", "90% band", "holds"], ["---"] * 6]
    for found, precision, threads, points in settings():
        fit = found.fit(precision, threads)
        band = model.estimate(fit, points[0].features)
        costs = [f"{c:.3g} ns" for c in fit.coefficients_ns]
        held = validate.validate(points).covered_ratio
        name = describe(found, precision, threads)
        lines.append([name, *costs, f"× or ÷ {band.high_ms / band.board_ms:.2f}", f"{held:.0%} of {fit.n}"])
    return _markdown(lines)


def render_networks() -> str:
    """Return the table of networks: estimated without it, and published, on one thread."""
    lines = [["calibration", "network", "precision", "virtual", "estimated (90% band)", "published", "error"]]
    lines.append(["---"] * len(lines[0]))
    for found, precision, threads, points in settings():
        if threads != 1:
            continue
        virtual = {n.name: n.virtual_ms for n in found.networks}
        for i, point in enumerate(points):
            fit = model.fit_points([*points[:i], *points[i + 1 :]])
            made = model.estimate(fit, point.features)
            band = f"{made.board_ms:.1f} ms ({made.low_ms:.1f}–{made.high_ms:.1f})"
            error = f"{made.board_ms / point.board_ms - 1:+.1%}"
            shown = [f"{virtual[point.network]:.1f} ms", band, f"{point.board_ms:.1f} ms", error]
            lines.append([found.name, point.network, precision, *shown])
    return _markdown(lines)


def render_sizes() -> str:
    """Return the table of what so many networks give: mean error, band, and how often it held."""
    lines = [["calibration", *(str(size) for size in SIZES)], ["---"] * (1 + len(SIZES))]
    for found, precision, threads, points in settings():
        if (precision, threads) == ("fp32", 1):
            lines.append([found.name, *(_of_size(points, size) for size in SIZES)])
    return _markdown(lines)


def _of_size(points: Sequence[Point], size: int) -> str:
    rng = random.Random(size)
    errors, bands, held = [], [], []
    for _ in range(DRAWS):
        drawn = rng.sample(points, size)
        fit = model.fit_points(drawn, calibration.terms_for(drawn))
        for point in points:
            if point not in drawn:
                made = model.estimate(fit, point.features)
                errors.append(abs(made.board_ms / point.board_ms - 1))
                bands.append(made.high_ms / made.board_ms)
                held.append(made.low_ms <= point.board_ms <= made.high_ms)
    mean, holds = statistics.fmean(errors), statistics.fmean(held)
    return f"{mean:.1%}, × or ÷ {statistics.median(bands):.2f}, {holds:.0%}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render() -> str:
    """Return what stands between the marks in the docs."""
    parts = (
        *(_ABOUT_STEPS, render_steps()),
        *(_ABOUT_FITS, render_fits()),
        *(_ABOUT_SIZES, render_sizes()),
        *(_ABOUT_NETWORKS, render_networks()),
    )
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate")
    parser.add_argument(
        "what", choices=("show", "docs"), help="print the tables, or write them into the docs"
    )
    given = parser.parse_args(argv)
    text = render()
    if given.what == "show":
        print(text)
        return 0
    write_text(DOCS, replace_between_marks(DOCS.read_text(encoding="utf-8"), text, BEGIN, END))
    print(f"wrote {DOCS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
