"""Calibrations: what a board took for a set of networks, what the emulated board counted for them, and the
fits.

One TOML file each. Those of `calibrations/` come with the package and rest on published figures, whose
source they name; `harness devices fit` adds a user's own. A file holds the features that were measured, so
that any fit can be made again from it; the residuals that it records are checked against that.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, DataError, nearest
from harness.estimate import cores
from harness.estimate.features import FIELDS, LISTS, NOTHING, Features
from harness.estimate.model import ONE_FACTOR, PHYSICAL, TERMS, Fit, Point, fit_points
from harness.stats.nonnegative import FEWEST
from harness.store.atomic import write_text
from harness.toml_schema import Problems, Section, read_toml
from harness.units import counted

FORMAT = 1
# Four would leave the three terms one degree of freedom, and bands of × or ÷ 6 to 40 in one case of ten; one
# factor's are then × or ÷ 2 to 4 (measured, of the networks that ship)
FEWEST_OF_TERMS = len(PHYSICAL) + 2
SHIPPED = Path(__file__).parent / "calibrations"
_TEXTS = (
    "name",
    "device_type",
    "runtime",
    "runtime_version",
    "core",
    "taken_on",
    "board",
    "source",
    "statistic",
)
_TOLERANCE = 2e-5  # of a ratio that is written with five digits
_SAME_SHARE = 1e-3  # of a coefficient that is written with six digits: another build of the solver may differ
PRECISIONS = ("fp32", "int8")  # that runs are told apart by
_REMEDY = "Make it again with `harness devices fit`."


@dataclass(frozen=True)
class Network:
    """One network: what the emulated board counted in one inference, and what the board took for it."""

    name: str
    precision: str
    input_shape: tuple[int, ...]  # width, height, channels
    features: Features
    virtual_ms: float  # on the emulated board's clock, one thread
    board_ms: Mapping[int, float]  # by number of threads


@dataclass(frozen=True)
class Calibration:
    """A board's times beside the counts of an emulated one, for one family of runtime."""

    name: str
    device_type: str
    runtime: str
    runtime_version: str
    core: str
    schedule_format: int  # of the cycles in the features: `cores.FORMAT` when they were counted
    taken_on: str  # ISO date
    board: str  # what the times were taken on
    source: str  # where the times come from
    statistic: str  # what they are: "mean", "minimum", "p50"
    networks: tuple[Network, ...]

    def points(self, precision: str, threads: int) -> list[Point]:
        """Return the networks of a precision that the board ran on so many threads."""
        return [
            Point(n.name, n.features, n.board_ms[threads])
            for n in self.networks
            if n.precision == precision and threads in n.board_ms
        ]

    def settings(self) -> list[tuple[str, int]]:
        """Return each (precision, threads) that has networks, in a stable order."""
        return sorted({(n.precision, t) for n in self.networks for t in n.board_ms})

    def fit(self, precision: str, threads: int, terms: tuple[str, ...] = PHYSICAL) -> Fit:
        """Return the fit for a precision and threads. Raises ConfigError where there are no such networks."""
        points = self.points(precision, threads)
        if not points:
            known = ", ".join(f"{p} on {t}" for p, t in self.settings())
            raise ConfigError(
                f"no network of precision {precision} on {counted(threads, 'thread')}; it has {known}",
                where=f"calibration {self.name}",
            )
        return fit_points(points, terms)

    def best_fit(self, precision: str, threads: int) -> Fit:
        """Return the fit by what its networks allow. Raises as `fit` does."""
        return self.fit(precision, threads, terms_for(self.points(precision, threads)))


def terms_for(points: Sequence[Point]) -> tuple[str, ...]:
    """Return what so many networks allow to be fitted: the physical terms, or one factor."""
    return PHYSICAL if len(points) >= FEWEST_OF_TERMS else ONE_FACTOR


def shipped(device_type: str, runtime: str) -> Calibration | None:
    """Return the calibration that comes with the package for a device type and a runtime; None without
    one.
    """
    for path in sorted(SHIPPED.glob("*.toml")):
        calibration = load(path)
        if (calibration.device_type, calibration.runtime) == (device_type, runtime):
            return calibration
    return None


def load(path: Path) -> Calibration:
    """Return the calibration in `path`.

    Raises ConfigError with every problem: an unknown key, a value of another kind, a core without a table,
    counts made with another table of pipelines, or fits that don't follow from the networks in the file.
    """
    problems = Problems(path)
    section = Section(read_toml(path), "", problems)
    section.version(FORMAT)
    texts = {key: section.text(key, required=True) or "" for key in _TEXTS}
    if texts["core"] and texts["core"] not in cores.CORES:
        section.problem("core", f"no pipelines of {texts['core']!r}{nearest(texts['core'], cores.CORES)}")
    schedule_format = section.integer("schedule_format", required=True)
    if schedule_format not in (None, cores.FORMAT):
        section.problem("schedule_format", f"expected {cores.FORMAT}, got {schedule_format}. {_REMEDY}")
    networks = tuple(_network(name, entry) for name, entry in section.tables("networks"))
    fits = [(entry, _read_fit(entry)) for _, entry in section.tables("fits")]
    _check_date(section, texts["taken_on"])
    section.finish()
    problems.check()
    found = Calibration(**texts, schedule_format=schedule_format or 0, networks=networks)
    for entry, recorded in fits:
        _check_fit(entry, recorded, found)
    _check_settings(section, [(entry, recorded.setting) for entry, recorded in fits], found)
    problems.check()
    return found


def _check_date(section: Section, text: str) -> None:
    """Add a problem where a date, from which the age follows, is none."""
    try:
        datetime.date.fromisoformat(text or "2026-01-31")  # a missing one is a problem already
    except ValueError:
        section.problem("taken_on", f"expected a date as 2026-01-31, got {text!r}")


def _network(name: str, section: Section) -> Network:
    plain: dict[str, int | tuple[int, ...]] = {}
    features = section.table("features", required=True)
    if features is not None:
        for key in FIELDS:
            if key in LISTS:
                plain[key] = features.integers(key)
            else:
                plain[key] = features.integer(key, required=True) or 0
        if len({len(features.integers(key)) for key in LISTS}) != 1 or not plain[LISTS[0]]:
            features.problem(LISTS[0], f"expected one number a level of cache, as in {', '.join(LISTS[1:])}")
        features.finish()
    times: dict[int, float] = {}
    board = section.table("board_ms", required=True)
    if board is not None:
        for key in board.data:
            value = board.quantity(key, "1", at_least=0.0)
            if not key.isdecimal() or int(key) < 1:
                board.problem(key, "expected a number of threads")
            elif not value:
                board.problem(key, "expected a time above 0")
            else:
                times[int(key)] = value
    found = Network(
        name=name,
        precision=section.text("precision", required=True, choices=PRECISIONS) or "",
        input_shape=section.integers("input_shape", at_least=1),
        features=Features(**plain) if plain else NOTHING,  # type: ignore[arg-type]
        virtual_ms=section.quantity("virtual_ms", "1", required=True, at_least=0.0) or 0.0,
        board_ms=times,
    )
    section.finish()
    return found


@dataclass(frozen=True)
class _Recorded:
    precision: str
    threads: int
    coefficients_ns: Mapping[str, float]  # by term
    networks: int
    mean_error_ratio: float
    worst_error_ratio: float

    @property
    def setting(self) -> tuple[str, int]:
        return self.precision, self.threads


def _read_fit(section: Section) -> _Recorded:
    """Return what the file says of a fit."""
    table = section.table("coefficients_ns", required=True)
    coefficients = {}
    if table is not None:
        for term in table.data:
            coefficients[term] = table.quantity(term, "1", at_least=0.0) or 0.0
            if term not in TERMS:
                table.problem(term, f"no such term{nearest(term, TERMS)}")
    found = _Recorded(
        precision=section.text("precision", required=True) or "",
        threads=section.integer("threads", required=True, at_least=1) or 1,
        coefficients_ns=coefficients,
        networks=section.integer("networks", required=True, at_least=1) or 0,
        mean_error_ratio=section.quantity("mean_error_ratio", "ratio", required=True, at_least=0.0) or 0.0,
        worst_error_ratio=section.quantity("worst_error_ratio", "ratio", required=True, at_least=0.0) or 0.0,
    )
    section.finish()
    return found


def _check_fit(section: Section, recorded: _Recorded, calibration: Calibration) -> None:
    """Add a problem for all that the networks of the file give otherwise than it records."""
    said_terms = tuple(recorded.coefficients_ns)
    try:
        fit = calibration.best_fit(*recorded.setting)
    except (ConfigError, DataError) as error:
        section.problem("networks", str(error))
        return
    if said_terms != fit.terms:
        expected, got = ", ".join(fit.terms), ", ".join(said_terms)
        section.problem("coefficients_ns", f"expected the terms {expected}, got {got}. {_REMEDY}")
        return
    if recorded.networks != fit.n:
        section.problem("networks", f"its networks give {fit.n}, it says {recorded.networks}. {_REMEDY}")
    for term, is_now in zip(fit.terms, fit.coefficients_ns, strict=True):
        said = recorded.coefficients_ns[term]
        if not math.isclose(said, is_now, rel_tol=_SAME_SHARE, abs_tol=1e-9):
            place = f"{section.place}.coefficients_ns.{term}"
            section.problems.add(place, f"its networks give {is_now:.6g}, it says {said:.6g}. {_REMEDY}")
    for key in ("mean_error_ratio", "worst_error_ratio"):
        said, is_now = getattr(recorded, key), getattr(fit, key)
        if not math.isclose(said, is_now, abs_tol=_TOLERANCE):
            section.problem(key, f"its networks give {is_now:.4f}, it says {said:.4f}. {_REMEDY}")


def _check_settings(
    section: Section, fits: Sequence[tuple[Section, tuple[str, int]]], calibration: Calibration
) -> None:
    """Add a problem for a fit that is there twice, and for one that its networks allow and that isn't."""
    seen: set[tuple[str, int]] = set()
    for entry, setting in fits:
        if setting in seen:
            precision, threads = setting
            section.problems.add(entry.place, f"the second of {precision} on {counted(threads, 'thread')}")
        seen.add(setting)
    for precision, threads in calibration.settings():
        if (precision, threads) not in seen and len(calibration.points(precision, threads)) >= FEWEST:
            section.problems.add(f"fits.{precision}-{threads}", f"is missing. {_REMEDY}")


def render(calibration: Calibration) -> str:
    """Return a calibration as TOML, its fits made from its networks; `load` reads it back."""
    lines = [f"schema_version = {FORMAT}"]
    lines += [f"{key} = {_text(getattr(calibration, key))}" for key in _TEXTS]
    lines += [f"schedule_format = {calibration.schedule_format}", ""]
    for precision, threads in calibration.settings():
        if len(calibration.points(precision, threads)) < FEWEST:
            continue  # kept as data; too few to fit
        fit = calibration.best_fit(precision, threads)
        shares = zip(fit.terms, fit.coefficients_ns, strict=True)
        lines += [
            f"[fits.{precision}-{threads}]",
            f"precision = {_text(precision)}",
            f"threads = {threads}",
            f"networks = {fit.n}",
            "coefficients_ns = { " + ", ".join(f"{term} = {value:.6g}" for term, value in shares) + " }",
            f"mean_error_ratio = {fit.mean_error_ratio:.5f}  # of networks left out of the fit",
            f"worst_error_ratio = {fit.worst_error_ratio:.5f}",
            "",
        ]
    for network in calibration.networks:
        times = ", ".join(f"{threads} = {ms:g}" for threads, ms in sorted(network.board_ms.items()))
        lines += [
            f"[networks.{_text(network.name)}]",
            f"precision = {_text(network.precision)}",
            f"input_shape = {list(network.input_shape)}",
            f"virtual_ms = {network.virtual_ms:.6g}",
            f"board_ms = {{ {times} }}",
            f"[networks.{_text(network.name)}.features]",
        ]
        for key in FIELDS:
            value = getattr(network.features, key)
            lines.append(f"{key} = {list(value) if key in LISTS else value}")
        lines.append("")
    return "\n".join(lines)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML basic string


def save(path: Path, calibration: Calibration, *, then: str = "") -> None:
    """Write a calibration, with a fit of each setting that has the networks for one.

    Raises HostSetupError where the disk refuses; `then` adds to what that says to do.
    """
    write_text(path, render(calibration), then=then)
