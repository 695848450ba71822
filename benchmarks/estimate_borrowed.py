"""What a borrowed estimate is worth: LiteRT's MobileNets, estimated by ncnn's calibration, beside what
XNNPACK publishes for a Pi 4.

    python -m benchmarks.estimate_borrowed show      # the table, from the counts that are kept: seconds
    python -m benchmarks.estimate_borrowed docs      # writes it into docs/estimates.md
    python -m benchmarks.estimate_borrowed count --models build/mobilenets    # counts anew, then shows

`count` counts one inference of each network on the emulated board, as the latency suite does after it has
measured, and leaves the timed calls out: with counts no estimate rests on them. benchmarks/
estimate_borrowed_models.py makes the files, `make bench-borrowed` does both. Counts and published times are
kept as a calibration in estimate_borrowed.toml; no estimate is made from it. `show --terms TERM…` says what
another fit of the lender's networks would make of these (harness/estimate/model.py, TERMS).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import devices
from benchmarks.processes import ROOT
from benchmarks.results import replace_between_marks
from harness import board as boards
from harness import counting, estimating, model_files
from harness.board import Board
from harness.errors import DataError, HostSetupError
from harness.estimate import calibration, cores, estimator, model
from harness.estimate.calibration import Calibration, Network
from harness.estimate.estimator import Answer
from harness.estimate.model import Estimate
from harness.measure.bench import Bench
from harness.model import Device, ModelCase, PlanModel
from harness.signals import Termination
from harness.store.atomic import write_text

KEPT = Path(__file__).with_name("estimate_borrowed.toml")
PAGE = ROOT / "docs" / "estimates.md"
BEGIN = "<!-- borrowed: python -m benchmarks.estimate_borrowed docs -->"
END = "<!-- end of borrowed -->"
RUNTIME = "litert"
INPUT_SHAPE = (224, 224, 3)
NS_PER_MS = 1e6
# The README of github.com/google/XNNPACK, heading "Raspberry Pi", column "RPi 4 (BCM2711, ARM64), ms":
# multi-threaded, the number of threads not said. Its benchmark (bench/utils.cc, MultiThreadingParameters)
# goes up to as many as there are cores.
THREADS = 4
LENDER_GHZ = 1.8  # of the board that rpi4-ncnn's times were taken on
SLOWER_GHZ = 1.5  # of the first firmware (Raspberry Pi 4 Model B datasheet, release 1.1, section 2.1)
BOARD = "Raspberry Pi 4, BCM2711, 64 bit; its clock is not stated"
SOURCE = "github.com/google/XNNPACK, README.md, Raspberry Pi (BSD-3-Clause): end2end-bench of 8 February 2022"


@dataclass(frozen=True)
class Published:
    """One row of XNNPACK's table; `name` is the file's without its suffix."""

    name: str
    title: str
    precision: str
    board_ms: float

    @property
    def file(self) -> str:
        return f"{self.name}.tflite"


PUBLISHED = (
    Published("mobilenet_v1", "MobileNet V1 fp32", "fp32", 77),
    Published("mobilenet_v2", "MobileNet V2 fp32", "fp32", 46),
    Published("mobilenet_v3_large", "MobileNet V3 Large fp32", "fp32", 40),
    Published("mobilenet_v3_small", "MobileNet V3 Small fp32", "fp32", 15),
    Published("mobilenet_v1_int8", "MobileNet V1 int8", "int8", 24),
    Published("mobilenet_v2_int8", "MobileNet V2 int8", "int8", 17),
)
TITLES = {one.name: one.title for one in PUBLISHED}


@dataclass(frozen=True)
class Line:
    """One network: its estimates by number of threads, and what is published for several."""

    name: str
    alone: Estimate
    several: Estimate
    lender: Estimate  # for several too, its band without the reach to one thread's time
    slower_ms: float  # the estimate for several if the core ran at SLOWER_GHZ
    published_ms: float

    @property
    def held_by(self) -> str:
        """Return which band for several threads holds the published time: "no" if none does."""
        if self.lender.low_ms <= self.published_ms <= self.lender.high_ms:
            return "yes"
        return "by the reach" if self.several.low_ms <= self.published_ms <= self.several.high_ms else "no"


# -- the table


def lines_of(kept: Calibration, known: Sequence[Calibration]) -> list[Line]:
    """Return the kept networks in their order. Raises DataError where `known` has no estimate of one."""
    return [_line(kept, network, known) for network in kept.networks]


def _line(kept: Calibration, network: Network, known: Sequence[Calibration]) -> Line:
    alone, several = (_answer(kept, network, known, threads) for threads in (1, THREADS))
    lender = _lender(several, network, known)
    if alone.estimate is None or several.estimate is None:
        raise DataError(f"there is no estimate: {alone.problem}", where=network.name)
    fit = lender.best_fit(network.precision, THREADS)
    spread = estimator.family_spread(lender, THREADS, fit.terms)
    shares = model.shares_ms(fit, network.features)
    return Line(
        TITLES[network.name],
        alone.estimate,
        several.estimate,
        model.estimate(fit, network.features, spread=spread),
        # memory's shares have a clock of their own
        sum(shares.values()) + shares.get("cycles", 0.0) * (LENDER_GHZ / SLOWER_GHZ - 1),
        network.board_ms[THREADS],
    )


def _lender(answer: Answer, network: Network, known: Sequence[Calibration]) -> Calibration:
    """Return the calibration that an answer rests on. Raises DataError where there is none."""
    if answer.estimate is None:
        raise DataError(f"there is no estimate: {answer.problem}", where=network.name)
    return next(c for c in known if c.name == answer.calibration)


def _answer(kept: Calibration, network: Network, known: Sequence[Calibration], threads: int) -> Answer:
    return estimator.answer(
        known,
        device_type=kept.device_type,
        runtime=kept.runtime,
        precision=network.precision,
        threads=threads,
        virtual_ns=network.virtual_ms * NS_PER_MS,
        features=network.features,
        core=kept.core,
    )


def render(kept: Calibration, known: Sequence[Calibration]) -> str:
    """Return the table, and how many of the bands hold."""
    lines = lines_of(kept, known)
    ratio = f"published ÷ estimated on {THREADS}"
    rows = [
        ["", "one thread", f"{THREADS} threads", "published", ratio, f"at {SLOWER_GHZ:g} GHz", "band holds"],
        ["---"] * 7,
    ]
    for line in lines:
        ratios = (line.published_ms / ms for ms in (line.several.board_ms, line.slower_ms))
        said = [_say(line.alone), _say(line.several), f"{line.published_ms:g} ms"]
        rows.append([line.name, *said, *(f"{value:.2f}" for value in ratios), line.held_by])
    held = sum(line.held_by != "no" for line in lines)
    own = sum(line.held_by == "yes" for line in lines)
    return (
        f"{_table(rows)}\n\n"
        f"LiteRT {kept.runtime_version}, counted on {kept.taken_on}. Bands for {THREADS} threads hold {held} "
        f"of {len(lines)}, and {own} without their reach to one thread's time."
    )


def render_terms(kept: Calibration, known: Sequence[Calibration], terms: Sequence[str]) -> str:
    """Return what the lender's fit of other terms would say: each published time as a multiple of it.

    Raises ConfigError for a term that doesn't exist, DataError where there is no lender.
    """
    rows = [["", f"published ÷ estimated on {THREADS}", "the lender's own networks, mean error"], ["---"] * 3]
    for network in kept.networks:
        lender = _lender(_answer(kept, network, known, THREADS), network, known)
        fit = lender.fit(network.precision, THREADS, tuple(terms))
        ratio = network.board_ms[THREADS] / model.estimate(fit, network.features).board_ms
        rows.append([TITLES[network.name], f"{ratio:.2f}", f"{fit.mean_error_ratio:.1%}"])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _say(made: Estimate) -> str:
    return f"{made.board_ms:.3g} ms ({made.low_ms:.3g}–{made.high_ms:.3g})"


def load_kept() -> Calibration:
    """Return the counts that are kept. Raises ConfigError as `calibration.load` does."""
    return calibration.load(KEPT)


# -- counting


def count(models: Path, only: Sequence[str], kept: Calibration | None) -> Calibration:
    """Return the networks with new counts, or `only` those, the others as in `kept`.

    Raises HarnessError where the board doesn't start or nothing can count there.
    """
    device = devices.emulated_device()
    had = {n.name: n for n in kept.networks} if kept is not None else {}
    chosen = [one for one in PUBLISHED if not only or one.name in only]
    cases = {one.file: _case(models / one.file) for one in chosen}
    with _counting_board(device, cases[chosen[0].file]) as board:
        for one in chosen:
            bench = devices.ready(board, cases[one.file])
            had[one.name] = _count(bench, one)
            version = bench.look.runtime_version
    if device.qemu is None:
        raise HostSetupError("it is not emulated", where=device.name)
    return Calibration(
        name=f"{device.type.name}-{RUNTIME}-published",
        device_type=device.type.name,
        runtime=RUNTIME,
        runtime_version=version,
        core=device.qemu.cpu,
        schedule_format=cores.FORMAT,
        taken_on=time.strftime("%Y-%m-%d", time.gmtime()),
        board=BOARD,
        source=SOURCE,
        statistic="mean",
        networks=tuple(had[one.name] for one in PUBLISHED if one.name in had),
    )


def _case(path: Path) -> ModelCase:
    return model_files.resolve_case(PlanModel(path.stem, path))


@contextlib.contextmanager
def _counting_board(device: Device, case: ModelCase) -> Iterator[Board]:
    """Yield the emulated board with the counting plugin and the case's runtime; closed with the block."""
    arguments, why_not = counting.plugin_for(device, boards.TIMING)
    if not arguments:
        why = why_not or "its type asks for no counts"
        raise HostSetupError(f"nothing can count there: {why}", where=device.name)
    request = devices.request_of(case)
    board = boards.open_board(device, boards.TIMING, [request], devices.quiet(), qemu_arguments=arguments)
    with devices.closing(board):
        yield board


def _count(bench: Bench, one: Published) -> Network:
    """Return what was counted of one network. Raises HostSetupError where nothing was, DataError where the
    file isn't of the precision that the figure is of."""
    began = time.monotonic()
    precision = estimating.precision_of(bench)
    if precision != one.precision:
        raise DataError(f"it is {precision}, expected {one.precision}.", where=one.file)
    features, why = counting.read_features(bench)
    if features is None:
        raise HostSetupError(why, where=f"{bench.board.device.name}: {one.file}")
    # the emulated clock goes on by a nanosecond an instruction
    virtual_ms = (features.instructions + features.kernel_instructions) / NS_PER_MS
    print(f"{one.title}: {virtual_ms:.3f} virtual ms, {time.monotonic() - began:.1f} s", flush=True)
    return Network(one.name, precision, INPUT_SHAPE, features, virtual_ms, {THREADS: one.board_ms})


# -- the command


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate_borrowed")
    commands = parser.add_subparsers(dest="what", required=True)
    shows = commands.add_parser("show", help="print the table")
    shows.add_argument("--terms", nargs="+", metavar="TERM", help="of a fit of these instead")
    commands.add_parser("docs", help=f"write it into {PAGE.relative_to(ROOT)}")
    counts = commands.add_parser("count", help="count anew on an emulated board, keep that, print the table")
    counts.add_argument("--models", type=Path, required=True, help="folder of the .tflite files")
    counts.add_argument(
        "--only", nargs="*", default=(), choices=list(TITLES), metavar="NAME", help="these alone"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    given = _parse(argv)
    if given.what == "count":
        termination = Termination()
        termination.install()  # the board ends with us
        try:
            counted = count(given.models, given.only, load_kept() if given.only else None)
        finally:
            termination.restore()
        calibration.save(KEPT, counted)
    if given.what == "show" and given.terms:
        print(render_terms(load_kept(), estimator.shipped(), given.terms))
        return 0
    table = render(load_kept(), estimator.shipped())
    if given.what == "docs":
        write_text(PAGE, replace_between_marks(PAGE.read_text(encoding="utf-8"), table, BEGIN, END))
        print(f"wrote {PAGE}")
        return 0
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
