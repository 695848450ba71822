"""Trials of what is banked, and their table: who calls which slowdown a regression, and how often."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import detection_peers
from benchmarks.detection_models import Slowed, count_ratio
from benchmarks.table import Goal, Row, format_value
from harness import stats
from harness.measure.duet import DuetSettings
from harness.measure.duet_effects import block_log_ratios
from harness.measure.trials import KeptDuet, take_trial
from harness.model import Fidelity, Verdict

TRIALS = 100
TRIALS_OF_ZERO = 300
LIMIT_S = 60.0  # on a physical clock; a verdict that comes later doesn't count
FALSE_FAIL_GOAL = 0.01
DETECTION_GOAL = 0.95
# goals are held against this step: +1% at a margin of 0.5%, +0.2% at one of 0.1%
GOAL_STEPS = {Fidelity.MEASURED: 0.01, Fidelity.VIRTUAL: 0.002}
MIN_DUETS = 4  # of a cell: fewer are no bank to draw from

Peers = Mapping[str, Sequence[detection_peers.PeerRun]]


@dataclass(frozen=True)
class Share:
    """How many of `n` trials."""

    count: int
    n: int

    @property
    def value(self) -> float:
        return self.count / self.n

    def __str__(self) -> str:
        return f"{100 * self.value:.3g}%"


@dataclass(frozen=True)
class Cell:
    """One slowdown in one setting. `mean` is that of all its duets; `peers` by column: share of FAIL."""

    model: Slowed
    duets: int
    mean: float
    mean_half_width: float
    shares: Mapping[Verdict, Share]
    comparison_s: float  # median
    latest_s: float  # 95th percentile
    peers: Mapping[str, Share]
    instructions: float | None  # their ratio less 1, where they are counted


def judge_cell(
    model: Slowed,
    kept: Sequence[KeptDuet],
    settings: DuetSettings,
    fidelity: Fidelity,
    margin: float,
    peers: Mapping[str, Share],
) -> Cell | None:
    """Return a cell from its banked duets; None where there are too few."""
    if len(kept) < MIN_DUETS:
        return None
    n = TRIALS if model.step else TRIALS_OF_ZERO
    trials = [take_trial(kept, settings, fidelity, margin, seed) for seed in range(n)]
    limit_s = LIMIT_S if fidelity is Fidelity.MEASURED else float("inf")
    verdicts = [t.verdict if t.wall_s <= limit_s else Verdict.INCONCLUSIVE for t in trials]
    found = stats.duet_interval([block_log_ratios(k.duet.blocks) for k in kept])
    assert found.low is not None
    assert found.high is not None
    counted = all(arm.instructions is not None for k in kept for arm in k.duet.blocks.arms)
    instructions = statistics.median(count_ratio(k.duet.blocks.arms) for k in kept) - 1 if counted else None
    walls_s = [t.wall_s for t in trials]
    return Cell(
        model,
        len(kept),
        math.expm1(found.estimate),
        math.expm1((found.high - found.low) / 2),
        {v: Share(verdicts.count(v), n) for v in (Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE)},
        statistics.median(walls_s),
        stats.percentile(walls_s, 95),
        peers,
        instructions,
    )


def judge_peers(step: float, none: Peers, slowed: Peers) -> dict[str, Share]:
    """Return what the peers' columns say of one slowdown; `none` are their runs of the model as it is."""
    n = TRIALS if step else TRIALS_OF_ZERO
    found: dict[str, Share] = {}
    old, new = (side.get(detection_peers.PYTEST_BENCHMARK, ()) for side in (none, slowed))
    if len(old) > 1 and len(new) > 1:
        for threshold in detection_peers.THRESHOLDS:
            says = [detection_peers.pytest_benchmark_trial(old, new, threshold, k) for k in range(n)]
            found[f"pytest-benchmark median:{threshold:g}%"] = Share(sum(says), n)
    old, new = (side.get(detection_peers.PYPERF, ()) for side in (none, slowed))
    if old and new:
        ours, theirs = (detection_peers.processes_of(side) for side in (old, new))
        for name, least in (("pyperf compare_to", None), ("pyperf --min-speed 0.5", 0.5)):
            says = [detection_peers.pyperf_trial(ours, theirs, least, seed) for seed in range(n)]
            found[name] = Share(sum(says), n)
    return found


def goal_rows(title: str, fidelity: Fidelity, margin: float, cells: Sequence[Cell]) -> list[Row]:
    """Return the rows of the results: false FAILs, and what must be found."""
    rows = []
    wanted = GOAL_STEPS[fidelity]
    within = f" within {LIMIT_S:.0f} s" if fidelity is Fidelity.MEASURED else ""
    for cell in cells:
        place = f"{title}, from {cell.duets} duets"
        share, best = cell.shares[Verdict.FAIL], _best_peer(cell)
        name, peer = best if best else ("", None)
        if not cell.model.step:
            what = f"false FAIL, margin {100 * margin:g}%, {place}"
            goal = Goal("ours", high=FALSE_FAIL_GOAL)
        elif cell.model.step == wanted:
            what = f"FAIL of +{100 * wanted:g}%{within}, margin {100 * margin:g}%, {place}"
            goal = Goal("ours", low=DETECTION_GOAL)
        else:
            continue
        rows.append(Row(what, "share", share.value, peer, name, goal, share.n))
    return rows


def _best_peer(cell: Cell) -> tuple[str, float] | None:
    """Return pytest-benchmark's share at the threshold that is asked for by default."""
    name = "pytest-benchmark median:5%"
    return (name, cell.peers[name].value) if name in cell.peers else None


def render(title: str, margin: float, cells: Sequence[Cell], peer_s: Mapping[str, float]) -> str:
    """Return one setting's table as Markdown, with a line of what it rests on."""
    columns = list(dict.fromkeys(name for cell in cells for name in cell.peers))
    counted = any(cell.instructions is not None for cell in cells)
    head = [
        "slower by",
        *(["instructions"] if counted else []),
        "duets' mean",
        "FAIL",
        "PASS",
        "INCONCLUSIVE",
    ]
    head += ["takes", *(f"{name}: FAIL" for name in columns)]
    lines = [head, ["---"] * len(head)]
    for cell in cells:
        lines.append(
            [
                _percent(cell.model.true, cell.model.half_width),
                *([] if not counted else [f"{100 * (cell.instructions or 0):+.3f}%"]),
                _percent(cell.mean, cell.mean_half_width),
                *(str(cell.shares[v]) for v in (Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE)),
                f"{cell.comparison_s:.0f} s",
                *(str(cell.peers.get(name, "")) for name in columns),
            ]
        )
    duets = sorted({cell.duets for cell in cells})
    many = f"{duets[0]}" if len(duets) == 1 else f"{duets[0]} to {duets[-1]}"
    times = "".join(f"; {name} {format_value(s, 's')}" for name, s in peer_s.items())
    what = f"**{title}**, margin {100 * margin:g}%; drawn from {many} duets a row"
    what += f"; 95% of comparisons within {max(c.latest_s for c in cells):.0f} s{times}."
    return what + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(ratio: float, half_width: float) -> str:
    if not half_width:
        return f"{100 * ratio:+.3g}%" if ratio else "0"
    digits = 2 if half_width >= 0.0001 else 3
    return f"{100 * ratio:+.{digits}f}% ± {100 * half_width:.{digits}f}"
