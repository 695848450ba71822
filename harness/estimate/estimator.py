"""From what an emulated board showed to a board's milliseconds: which calibration speaks, how surely, and
if none, why.

A runtime without a calibration of its own borrows another's, a board without the plugin's counts the
virtual clock's one factor; both say so, and both have wider bands.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Sequence

from harness.errors import DataError
from harness.estimate import calibration as calibrations
from harness.estimate.calibration import Calibration, terms_for
from harness.estimate.features import NOTHING, Features
from harness.estimate.model import (
    CONFIDENCE,
    NS_PER_MS,
    ONE_FACTOR,
    PHYSICAL,
    WIDE_RATIO,
    Estimate,
    Fit,
    Point,
    estimate,
)
from harness.stats.nonnegative import FEWEST
from harness.units import counted, format_ns

_NARROWS = "a fit of more networks like this one narrows it"


@dataclasses.dataclass(frozen=True)
class Answer:
    """An estimate with what it rests on; or None, with the reason in `problem`."""

    estimate: Estimate | None
    problem: str = ""  # why there is none, and what to do
    calibration: str = ""
    taken_on: str = ""  # ISO date of its counts
    board: str = ""  # that its times were taken on
    source: str = ""  # of those times
    statistic: str = ""  # what they are: "mean", "minimum", "p50"
    mean_error_ratio: float | None = None  # on the calibration's own networks, each left out
    worst_error_ratio: float | None = None
    band_ratio: float | None = None  # by which a band of its own networks is above and below
    # of the calibration's own networks: name, what the board took and what the fit without it says
    points: tuple[tuple[str, float, float], ...] = ()
    notes: tuple[
        str, ...
    ] = ()  # what a reader must know: borrowed, one factor, few networks, outside its range

    def age_days(self, today: datetime.date) -> int:
        """Return how old the calibration is. Raises ValueError without one."""
        return (today - datetime.date.fromisoformat(self.taken_on)).days


def shipped() -> list[Calibration]:
    """Return all calibrations that come with the package. Raises ConfigError for a broken one."""
    return [calibrations.load(path) for path in sorted(calibrations.SHIPPED.glob("*.toml"))]


def answer(
    known: Sequence[Calibration],
    *,
    device_type: str,
    runtime: str,
    precision: str,
    threads: int,
    virtual_ns: float,
    features: Features | None,
    core: str | None = None,
    confidence: float = CONFIDENCE,
) -> Answer:
    """Return what a board of `device_type` would take for one inference.

    `known`: a user's own calibrations before those that ship. `features`: of one inference, with the cycles
    of `core`, so that calibrations of another core have no say (None: it is theirs); None where the plugin
    could not count: then one factor of `virtual_ns` serves.
    """
    of_type = [c for c in known if c.device_type == device_type]
    if features is not None and core is not None and of_type:
        others = ", ".join(sorted({c.core for c in of_type} - {core}))
        of_type = [c for c in of_type if c.core == core]
        if not of_type:
            what = f"no calibration of {device_type} is for the {core} that was counted, but for {others}"
            return Answer(None, problem=f"{what}. {_remedy(device_type, threads)}")
    ranked = _ranked(of_type, runtime, precision, threads)
    if not ranked:
        return Answer(None, problem=_why_none(device_type, precision, threads, of_type))
    return _first_of_use(
        ranked,
        _Question(
            device_type,
            runtime,
            precision,
            threads,
            virtual_ns,
            features,
            confidence,
            has_own=ranked[0].runtime == runtime,
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Question:
    device_type: str
    runtime: str
    precision: str
    threads: int
    virtual_ns: float
    features: Features | None
    confidence: float
    has_own: bool  # whether the runtime has a calibration of its own


def _first_of_use(ranked: Sequence[Calibration], asked: _Question) -> Answer:
    """Return the first calibration's answer; where it has none, or a band too wide to be of use, the next
    one's that is of use, with what the first says.

    One whose estimate lies outside the first's band is refuted by it, however wide that is.
    """
    first = _answer_by(ranked[0], asked)
    if first.estimate is not None and not first.estimate.is_wide:
        return first
    for chosen in ranked[1:]:
        other = _answer_by(chosen, asked)
        if other.estimate is None:
            continue
        if first.estimate is None:
            return _with_note(other, first.problem)
        if other.estimate.is_wide:
            continue
        if first.estimate.low_ms <= other.estimate.board_ms <= first.estimate.high_ms:
            said = f"{_say(first.estimate)}, a band wider than × or ÷ {WIDE_RATIO:g}; {_NARROWS}"
            return _with_note(other, f"{first.calibration} isn't used: it says {said}")
        said = f"{_say(other.estimate)}, outside this band"
        first = _with_note(first, f"{other.calibration} isn't used: it says {said}")
    return first


def _with_note(answer: Answer, note: str) -> Answer:
    return dataclasses.replace(answer, notes=(*answer.notes, note))


def _say(made: Estimate) -> str:
    texts = [format_ns(ms * NS_PER_MS) for ms in (made.board_ms, made.low_ms, made.high_ms)]
    return "{} ({} – {})".format(*texts)


def _answer_by(chosen: Calibration, asked: _Question) -> Answer:
    """Return what one calibration says; a problem where it can't."""
    features, precision, threads = asked.features, asked.precision, asked.threads
    notes = []
    terms = terms_for(chosen.points(precision, threads)) if features is not None else ONE_FACTOR
    if features is not None and terms == ONE_FACTOR:
        notes.append("by one factor of the instructions: the calibration has too few networks for more")
    if features is None:
        # its clock: a ns an instruction
        features = dataclasses.replace(NOTHING, instructions=round(asked.virtual_ns))
        notes.append("by one factor of the virtual clock: nothing was counted")
    try:
        fit = chosen.fit(precision, threads, terms)
        if chosen.runtime == asked.runtime:
            made = estimate(fit, features, asked.confidence)
        else:
            made = _borrow(chosen, precision, threads, terms, features, asked.confidence)
            notes += _why_borrowed(chosen, asked)
        if made.board_ms <= 0:
            raise DataError("it gives no time at all for what was counted")
    except DataError as error:
        return Answer(None, problem=f"calibration {chosen.name}: {error}")
    if fit.few:
        notes.append(f"only {fit.n} networks")
    notes += [f"{_in_words(trait)} outside the calibration's range" for trait in made.outside]
    return _describe(chosen, fit, chosen.points(precision, threads), made, notes)


def _why_borrowed(chosen: Calibration, asked: _Question) -> list[str]:
    why = "" if asked.has_own else f": no calibration of {asked.runtime} on {asked.device_type}"
    notes = [f"borrowed from {chosen.runtime}{why}"]
    if asked.threads > 1:
        notes.append(
            f"how well {asked.runtime} shares work among threads is not known: up to one thread's time"
        )
    return notes


def _in_words(trait: str) -> str:
    """Return one of `model.traits` as a reader knows it: "cycles" is a network's length."""
    term, _, per = trait.partition(" per ")
    return f"{term.replace('_', ' ')} per {per.removesuffix('s')}" if per else "length"


def _ranked(of_type: Iterable[Calibration], runtime: str, precision: str, threads: int) -> list[Calibration]:
    """Return those that have such networks: of the runtime itself before what can be borrowed."""
    fitting = [c for c in of_type if len(c.points(precision, threads)) >= FEWEST]
    own = [c for c in fitting if c.runtime == runtime]
    lenders = [c for c in fitting if c not in own and _shows_spread(c, threads)]
    return [*own, *lenders, *(c for c in fitting if c not in own and c not in lenders)]


def _shows_spread(calibration: Calibration, threads: int) -> bool:
    """Return whether two precisions show how far a fit of one family of code is off with another's."""
    counts = [len(calibration.points(p, t)) for p, t in calibration.settings() if t == threads]
    return sum(count > len(PHYSICAL) for count in counts) > 1


def _why_none(device_type: str, precision: str, threads: int, of_type: Sequence[Calibration]) -> str:
    if not of_type:
        return f"no calibration of device type {device_type}. {_remedy(device_type, threads)}"
    had = ", ".join(sorted({f"{p} on {t}" for c in of_type for p, t in c.settings()}))
    setting = f"{precision} on {counted(threads, 'thread')}"
    what = f"no calibration of {device_type} for {setting}; there are: {had}."
    return f"{what} {_remedy(device_type, threads)}"


def _remedy(device_type: str, threads: int) -> str:
    """Return the command that makes the calibration which is missing."""
    several = f" --threads {threads}" if threads > 1 else ""
    return f"Calibrate one against a real board: `harness devices fit {device_type} --against UNIT{several}`."


def _borrow(
    chosen: Calibration,
    precision: str,
    threads: int,
    terms: tuple[str, ...],
    features: Features,
    confidence: float,
) -> Estimate:
    """Return an estimate for a runtime that `chosen` is not for. Raises DataError where nothing shows its
    spread.

    One core is emulated, so that nothing shows how a runtime's threads share its work: the band reaches
    from what the calibration's own runtime makes of several threads to the time on one.
    """
    fit = chosen.fit(precision, threads, terms)
    made = estimate(fit, features, confidence, family_spread(chosen, threads, terms))
    if threads == 1:
        return made
    if not chosen.points(precision, 1):
        raise DataError("it has no times on one thread, which bound a runtime whose threads it doesn't know")
    alone = estimate(chosen.fit(precision, 1, terms), features, confidence, family_spread(chosen, 1, terms))
    return dataclasses.replace(made, high_ms=max(made.high_ms, alone.high_ms))


def family_spread(calibration: Calibration, threads: int, terms: tuple[str, ...] = PHYSICAL) -> float:
    """Return the largest log error where code of one family is estimated by the fit of another.

    The families are the kernels of each precision: what a runtime whose kernels the fit has not seen may be
    off by. Raises DataError where the calibration has one family only, so that nothing shows it.
    """
    fits = {
        p: calibration.fit(p, threads, terms)
        for p, t in calibration.settings()
        if t == threads and len(calibration.points(p, t)) > len(terms)
    }
    errors = [
        abs(math.log(estimate(fit, point.features).board_ms / point.board_ms))
        for precision, fit in fits.items()
        for other in fits
        if other != precision
        for point in calibration.points(other, threads)
    ]
    if not errors:
        raise DataError(
            f"no two families of code on {counted(threads, 'thread')} show how far a borrowed fit is off.",
            where=f"calibration {calibration.name}",
            next_step=_remedy(calibration.device_type, threads),
        )
    return max(errors)


def _describe(
    chosen: Calibration, fit: Fit, points: Sequence[Point], made: Estimate, notes: Sequence[str]
) -> Answer:
    return Answer(
        estimate=made,
        calibration=chosen.name,
        taken_on=chosen.taken_on,
        board=chosen.board,
        source=chosen.source,
        statistic=chosen.statistic,
        band_ratio=fit.band_ratio(made.confidence),
        mean_error_ratio=fit.mean_error_ratio,
        worst_error_ratio=fit.worst_error_ratio,
        points=tuple(
            (p.network, p.board_ms, p.board_ms * math.exp(residual))
            for p, residual in zip(points, fit.residuals, strict=True)
        ),
        notes=tuple(notes),
    )
