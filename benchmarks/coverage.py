"""How often intervals hold the truth, simulated: drift, autocorrelation, bimodal noise, unlike processes.

No device and no clock: noise is drawn (`worlds`), both arms have the same true level, and every interval of
`harness.stats` is asked whether it holds it. A row gives the lowest share over its settings; the goal is the
nominal 90% less three standard errors of the simulation itself. Seeded: a row is the same at every call.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.table import Goal, Row
from benchmarks.worlds import WORLDS, Floats, World, draw_duet, draw_levels, draw_samples
from harness import stats
from harness.stats.students import t_quantile

CONFIDENCE = 0.9
DUETS = (2, 3, 5)
PAIRS = 30
PER_BLOCK = 20  # samples of a block, for tails
SERIES = 2000  # samples of one series
LOOKS = 3

Trial = Callable[[np.random.Generator], bool]


def run(quick: bool) -> list[Row]:
    """Return a row for each interval and kind of noise."""
    scale = 1 if quick else 8
    rows = [*_duets(250 * scale), *_one_duet(250 * scale), _looks(250 * scale), *_tails(75 * scale)]
    return [*rows, *_abba(250 * scale), *_series(60 * scale), *_recorded(250 * scale), _paired(250 * scale)]


def _duets(trials: int) -> Iterable[Row]:
    for name, world in WORLDS.items():
        yield _row(f"duets ({_listed(DUETS)}), {name}", [_duet_trial(world, k) for k in DUETS], trials)


def _one_duet(trials: int) -> Iterable[Row]:
    # what differs between processes can't be seen in one: those two worlds are not asked of it
    for name in ("independent noise", "drift of 4%", "AR(1) noise, 0.9", "5% of blocks +20%"):
        yield _row(f"one duet, {name}", [_duet_trial(WORLDS[name], 1)], trials)


def _duet_trial(world: World, duets: int) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        return _holds(stats.duet_interval(_draw_pairs(rng, world, duets), CONFIDENCE))

    return trial


def _draw_pairs(rng: np.random.Generator, world: World, duets: int) -> list[Floats]:
    drawn = [draw_duet(rng, world, PAIRS) for _ in range(duets)]
    return [stats.pair_log_ratios(np.exp(ours), np.exp(theirs)) for ours, theirs in drawn]


def _looks(trials: int) -> Row:
    """Return how often any of several looks finds a regression where there is none, under the correction."""
    confidences = stats.pocock_confidences(LOOKS, CONFIDENCE, per_look=3)
    world = WORLDS["processes that differ by 1%"]
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(trials):
        pairs = _draw_pairs(rng, world, 3 * LOOKS)
        lows = [stats.duet_interval(pairs[: 3 * (i + 1)], c).low for i, c in enumerate(confidences)]
        wrong += any(low is not None and low > 0 for low in lows)
    error = (1 - CONFIDENCE) / 2
    goal = Goal("ours", high=error + 3 * math.sqrt(error * (1 - error) / trials))
    return Row(
        f"false FAIL at any of {LOOKS} looks (3, 6, 9 duets)", "share", wrong / trials, goal=goal, n=trials
    )


def _tails(trials: int) -> Iterable[Row]:
    for name, world in WORLDS.items():
        settings = [_tail_trial(world, duets, p) for duets in (3, 5) for p in (90, 95, 99)]
        yield _row(f"p90, p95, p99 over 3 and 5 duets, {name}", settings, trials)


def _tail_trial(world: World, duets: int, p: float) -> Trial:
    blocks = [np.repeat(np.arange(PAIRS), PER_BLOCK)] * duets

    def trial(rng: np.random.Generator) -> bool:
        drawn = [draw_duet(rng, world, PAIRS) for _ in range(duets)]
        ours, theirs = ([draw_samples(rng, duet[arm], PER_BLOCK) for duet in drawn] for arm in (0, 1))
        found = stats.percentile_ratio_interval(
            ours, theirs, p, CONFIDENCE, 200, candidate_block=blocks, baseline_block=blocks
        )
        return _holds(found)

    return trial


def _abba(trials: int) -> Iterable[Row]:
    for name, world in WORLDS.items():
        if world.own is None:  # a process gives one figure
            settings = [_abba_trial(world, quadruples) for quadruples in (2, 3, 5)]
            yield _row(f"ABBA of fresh processes (8, 12, 20), {name}", settings, trials)


def _abba_trial(world: World, quadruples: int) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        order = np.array(stats.abba_order(quadruples, int(rng.integers(1 << 30))))
        values = np.exp(draw_levels(rng, world, order.size))
        return _holds(stats.abba_interval(values[order == 0], values[order == 1], order.tolist(), CONFIDENCE))

    return trial


def _series(trials: int) -> Iterable[Row]:
    """Yield rows for percentiles of one series, whose samples follow each other without blocks."""
    for name, world in WORLDS.items():
        if world.own is not None or world.process_sd:
            continue
        stretch = PER_BLOCK if name.startswith("5%") else 1  # slow stretches, not single slow samples

        def draw(rng: np.random.Generator, world: World = world, stretch: int = stretch) -> Floats:
            levels = world.shared(rng, SERIES // stretch)
            return draw_samples(rng, levels, stretch)

        rng = np.random.default_rng(2)
        long = np.concatenate([draw(rng) for _ in range(500)])
        settings = [_series_trial(draw, p, stats.percentile(long, p)) for p in (50, 90, 99)]
        yield _row(f"p50, p90, p99 of {SERIES} samples, {name}", settings, trials)


def _series_trial(draw: Callable[[np.random.Generator], Floats], p: float, truth: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        found = stats.percentile_interval_autocorrelated(draw(rng), p, CONFIDENCE)
        # a bound that isn't given claims nothing
        above = found.low is None or found.low <= truth
        return above and (found.high is None or truth <= found.high)

    return trial


def _recorded(trials: int) -> Iterable[Row]:
    """Yield rows for the ratio of two independent estimates, each with an interval of its own."""
    for name, processes in (("5 and 5 processes", (5, 5)), ("5 processes and 10", (5, 10))):

        def trial(rng: np.random.Generator, processes: tuple[int, int] = processes) -> bool:
            ours, theirs = (_estimate(rng, count) for count in processes)
            _, low, high = stats.mover_ratio_interval(*ours, *theirs)
            return low <= 1 <= high

        yield _row(f"against a recorded baseline, {name}", [trial], trials)


def _estimate(rng: np.random.Generator, processes: int) -> tuple[float, float, float]:
    logs = draw_levels(rng, WORLDS["processes that differ by 1%"], processes)
    half = t_quantile((1 + CONFIDENCE) / 2, processes - 1) * float(logs.std(ddof=1)) / math.sqrt(processes)
    return math.exp(logs.mean()), math.exp(logs.mean() - half), math.exp(logs.mean() + half)


def _paired(trials: int) -> Row:
    # shares of samples that both get right, one alone, neither
    tables = {50: (0.90, 0.04, 0.04, 0.02), 200: (0.93, 0.01, 0.03, 0.03), 1000: (0.95, 0.01, 0.02, 0.02)}

    def trial_of(n: int, shares: tuple[float, ...]) -> Trial:
        def trial(rng: np.random.Generator) -> bool:
            both, ours, theirs, neither = (int(count) for count in rng.multinomial(n, shares))
            found = stats.newcombe_paired_difference(both, ours, theirs, neither, CONFIDENCE)
            return found[1] <= shares[1] - shares[2] <= found[2]

        return trial

    what = f"paired difference of accuracy ({_listed(tables)} samples)"
    return _row(what, [trial_of(n, shares) for n, shares in tables.items()], trials)


def _holds(found: stats.LogInterval) -> bool:
    """Return whether the interval contains the true log ratio, 0; ValueError for one without bounds."""
    if found.low is None or found.high is None:
        raise ValueError("an interval without bounds holds nothing")
    return found.low <= 0 <= found.high


def _row(what: str, settings: list[Trial], trials: int) -> Row:
    """Return the lowest coverage over `settings`, each simulated `trials` times."""
    seed = zlib.crc32(what.encode())
    shares = []
    for index, trial in enumerate(settings):
        rng = np.random.default_rng([seed, index])
        shares.append(sum(trial(rng) for _ in range(trials)) / trials)
    goal = Goal("ours", low=CONFIDENCE - 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials))
    return Row(f"90% intervals hold: {what}", "share", min(shares), goal=goal, n=trials)


def _listed(numbers: Iterable[int]) -> str:
    *some, last = [str(number) for number in numbers]
    return f"{', '.join(some)} and {last}"
