"""Duets: what blocks say, when looking ends, in which order processes are loaded. Numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import stats
from harness.errors import Unsupported
from harness.measure import duet as duets
from harness.measure.duet import (
    MEASURED,
    VIRTUAL,
    DuetSettings,
    measure_duet,
    take_looks,
)
from harness.measure.duet_effects import Arms, Duet, compare
from harness.measure.in_turns import too_little_memory
from harness.model import Comparison, Effect, Fidelity, Method
from harness.remote import DuetBlocks
from harness.remote.duet import DuetArm

SETTINGS = DuetSettings(3, 3, 4, 2.0, 100, 0)
BASE_NS = 1_000_000
CALLS = 4
T_95_2 = 2.91999  # Student's t, 0.95, 2 degrees of freedom (any table)


def arm(name: str, blocks_ns: Sequence[int], **changes: Any) -> DuetArm:
    """Return one arm whose calls take what their block says, in ns."""
    latency_ns = np.repeat(np.array(blocks_ns, dtype=np.int64), CALLS)
    made = DuetArm(
        child=name,
        latency_ns=latency_ns,
        start_ns=np.cumsum(latency_ns),
        block=np.repeat(np.arange(len(blocks_ns), dtype=np.int32), CALLS),
        instructions=None,
        not_counted="no counter",
        calls=CALLS,
        warmup_iterations=8,
        warmup_flat=True,
        warmup_median_ns=BASE_NS,
        turns_ns=int(latency_ns.sum()),
        usage={},
        clock_check={},
    )
    return replace(made, **changes)


def made(
    candidate_ns: Sequence[int],
    baseline_ns: Sequence[int],
    *,
    load_ns: tuple[int, int] = (5_000_000, 5_000_000),
    first_ns: tuple[int, int] = (2_000_000, 2_000_000),
    counts: tuple[int | None, int | None] = (None, None),
    **changes: Any,
) -> Duet:
    """Return a duet of these block medians; `counts` are each arm's instructions a call."""
    sides = [
        arm(
            name,
            values,
            instructions=None if count is None else np.full(len(values), count * CALLS, dtype=np.int64),
        )
        for name, values, count in zip(
            ("candidate-0", "baseline-0"), (candidate_ns, baseline_ns), counts, strict=True
        )
    ]
    blocks = DuetBlocks(
        arms=(sides[0], sides[1]),
        order=np.zeros(len(candidate_ns), dtype=np.uint8),
        pairs_requested=SETTINGS.pairs,
        pairs_got=len(candidate_ns),
        ended_by="pairs",
        seed=1,
        clock="CLOCK_MONOTONIC",
        elapsed_ns=1,
    )
    return Duet(0, load_ns, first_ns, replace(blocks, **changes))


def of_ratio(ratio: float, pairs: int = 4, **more: Any) -> Duet:
    return made([round(BASE_NS * ratio)] * pairs, [BASE_NS] * pairs, **more)


def gathered(*found: Duet) -> Arms:
    arms = Arms()
    for each in found:
        arms.append(each)
    return arms


def said(arms: Arms, confidence: float = 0.9) -> dict[str, Comparison]:
    return {c.metric: c for c in compare(arms, Fidelity.MEASURED, "release", confidence, seed=1)}


# --- the steady state -------------------------------------------------------------------------------


def test_a_ratio_without_noise_is_exact():
    p50 = said(gathered(*(of_ratio(1.2) for _ in range(3))))["latency_p50_ns"]
    assert (p50.value, p50.low, p50.high) == pytest.approx((1.2, 1.2, 1.2))
    assert (p50.candidate, p50.baseline, p50.n) == (1_200_000, 1_000_000, 12)
    assert (p50.effect, p50.method, p50.baseline_name) == (Effect.RATIO, Method.DUET, "release")
    assert p50.settings["duet_ratios"] == pytest.approx([1.2] * 3)


def test_drift_hits_both_arms_and_cancels():
    level = np.array([1.0, 1.5, 2.0, 4.0]) * BASE_NS
    drifting = made((level * 1.1).astype(int).tolist(), level.astype(int).tolist())
    p50 = said(gathered(drifting, drifting, drifting))["latency_p50_ns"]
    assert (p50.value, p50.low, p50.high) == pytest.approx((1.1, 1.1, 1.1))


def test_one_slow_call_of_a_block_changes_nothing():
    slow = of_ratio(1.2)
    slow.blocks.arms[0].latency_ns[::CALLS] *= 1000
    p50 = said(gathered(slow, of_ratio(1.2)))["latency_p50_ns"]
    assert p50.value == pytest.approx(1.2)


def test_the_interval_is_students_t_over_the_duets():
    # logs 0, ln 1.01, ln 1.03: their mean and standard error by hand
    logs = [0.0, math.log(1.01), math.log(1.03)]
    mean = sum(logs) / 3
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / 2 / 3)
    p50 = said(gathered(*(of_ratio(r) for r in (1.0, 1.01, 1.03))))["latency_p50_ns"]
    assert p50.value == pytest.approx(math.exp(mean))
    assert p50.low == pytest.approx(math.exp(mean - T_95_2 * error), rel=1e-5)
    assert p50.high == pytest.approx(math.exp(mean + T_95_2 * error), rel=1e-5)
    assert (p50.df, p50.settings["interval_basis"]) == (2, stats.BETWEEN)


@given(st.permutations([0.9, 1.0, 1.05, 1.2]), st.floats(1.0, 3.0))
def test_neither_the_order_of_duets_nor_a_common_factor_matters(ratios, factor):
    def p50_of(ratios: Sequence[float], base_ns: int) -> Comparison:
        level = [made([round(r * base_ns)] * 3, [base_ns] * 3) for r in ratios]
        return said(gathered(*level))["latency_p50_ns"]

    one, other = p50_of([0.9, 1.0, 1.05, 1.2], 10**9), p50_of(ratios, round(10**9 * factor))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-6)


def test_changed_arms_give_the_inverse():
    blocks = ([1_100_000, 1_120_000, 1_090_000], [1_000_000, 1_010_000, 990_000])
    there = said(gathered(made(*blocks), made(*blocks)))["latency_p50_ns"]
    back = said(gathered(made(*blocks[::-1]), made(*blocks[::-1])))["latency_p50_ns"]
    assert back.value == pytest.approx(1 / there.value)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


# --- tails ------------------------------------------------------------------------------------------


def test_a_tail_with_too_few_samples_says_how_many_it_takes():
    p99 = said(gathered(*(of_ratio(1.2) for _ in range(3))), 0.95)["latency_p99_ns"]
    assert (p99.low, p99.high, p99.n) == (None, None, 48)
    assert p99.value == pytest.approx(1.2)
    needed = stats.samples_needed(99, 0.95)
    assert p99.reasons == (f"48 samples an arm can't bound the ratio of p99s; {needed} can",)


def test_the_arm_with_fewer_samples_counts():
    plain = of_ratio(1.2)
    longer = arm("baseline-0", [BASE_NS] * 8, block=np.repeat(np.arange(4, dtype=np.int32), 2 * CALLS))
    uneven = replace(plain, blocks=replace(plain.blocks, arms=(plain.blocks.arms[0], longer)))
    p99 = said(gathered(uneven))["latency_p99_ns"]
    assert p99.n == 16
    assert p99.reasons[0].startswith("16 samples an arm")


def test_a_tail_with_enough_samples_has_bounds():
    enough = -(-stats.samples_needed(90, 0.9) // CALLS)
    p90 = said(gathered(*(of_ratio(1.2, pairs=enough) for _ in range(2))))["latency_p90_ns"]
    assert (p90.value, p90.low, p90.high) == pytest.approx((1.2, 1.2, 1.2))


# --- instructions -----------------------------------------------------------------------------------


def test_instructions_are_per_call_with_the_extremes_of_the_duets():
    found = said(gathered(of_ratio(1.0, counts=(1_012, 1_000)), of_ratio(1.0, counts=(1_014, 1_000))))
    counted = found["instructions"]
    assert (counted.candidate, counted.baseline, counted.n) == (1013, 1000, 2)
    assert (counted.value, counted.low, counted.high) == pytest.approx((1.013, 1.012, 1.014))
    assert counted.fidelity is Fidelity.MEASURED


def test_instructions_of_arms_with_other_numbers_of_calls():
    one = of_ratio(1.0, counts=(1_000, 1_000))
    twice = replace(one.blocks.arms[0], calls=2 * CALLS, instructions=one.blocks.arms[0].instructions * 2)
    found = said(gathered(replace(one, blocks=replace(one.blocks, arms=(twice, one.blocks.arms[1])))))
    assert found["instructions"].value == pytest.approx(1.0)


@pytest.mark.parametrize("counts", [(None, 1000), (1000, None), (None, None), (1000, 0)])
def test_without_a_count_on_either_side_there_is_no_comparison(counts):
    assert "instructions" not in said(gathered(of_ratio(1.0, counts=counts), of_ratio(1.0)))
    assert "instructions" not in said(gathered(of_ratio(1.0, counts=(1, 1)), of_ratio(1.0, counts=counts)))


# --- once a process ---------------------------------------------------------------------------------


def test_load_time_and_first_inference_are_paired_by_duet():
    loads = [(6_000_000, 5_000_000), (12_000_000, 10_000_000), (4_000_000, 4_000_000)]
    found = said(gathered(*(of_ratio(1.0, load_ns=load, first_ns=(3, 2)) for load in loads)))
    load = found["load_time_ns"]
    assert (load.method, load.n, load.df) == (Method.ABBA, 3, 2)
    assert load.value == pytest.approx((1.2 * 1.2 * 1.0) ** (1 / 3))
    assert load.low < load.value < load.high
    # the logs are ln 1.2 twice and 0: standard error ln 1.2 / 3
    assert load.high / load.value == pytest.approx(math.exp(T_95_2 * math.log(1.2) / 3), rel=1e-5)
    first = found["first_inference_ns"]
    assert (first.value, first.low, first.high) == pytest.approx((1.5, 1.5, 1.5))


def test_one_duet_has_no_interval_of_what_happens_once():
    load = said(gathered(of_ratio(1.0)))["load_time_ns"]
    assert (load.value, load.low, load.high, load.df) == (1.0, None, None, None)


def test_only_what_is_asked_for_is_compared():
    arms = gathered(of_ratio(1.0), of_ratio(1.0))
    found = compare(arms, Fidelity.MEASURED, "b", 0.9, 1, metrics=("load_time_ns", "latency_p50_ns"))
    assert {c.metric for c in found} == {"load_time_ns", "latency_p50_ns"}


# --- looks ------------------------------------------------------------------------------------------


class Looking:
    """Draws duets, and stays undecided for the first looks."""

    def __init__(self, undecided_looks: int) -> None:
        self.undecided_looks = undecided_looks
        self.drawn: list[int] = []
        self.seen: list[Comparison] = []

    def draw(self, so_far: int) -> Duet:
        self.drawn.append(so_far)
        return of_ratio(1.0 + 0.001 * (so_far % 3))

    def undecided(self, comparisons: Sequence[Comparison]) -> bool:
        self.seen.append(next(c for c in comparisons if c.metric == "latency_p50_ns"))
        return len(self.seen) <= self.undecided_looks

    def take(self, settings: DuetSettings = SETTINGS) -> tuple[Arms, tuple[Comparison, ...], int]:
        return take_looks(self.draw, settings, Fidelity.MEASURED, "release", seed=1, undecided=self.undecided)


@pytest.mark.parametrize(("undecided", "looks"), [(0, 1), (1, 2), (2, 3), (99, 3)])
def test_it_goes_on_exactly_while_undecided_and_stops_at_the_cap(undecided, looks):
    looking = Looking(undecided)
    arms, comparisons, taken = looking.take()
    assert taken == looks == len(looking.seen)
    assert looking.drawn == list(range(SETTINGS.duets * looks))
    assert len(arms.blocks) == len(arms.load_ns) == SETTINGS.duets * looks
    assert [c.n for c in looking.seen] == [12 * look for look in range(1, looks + 1)]
    assert looking.seen[-1] in comparisons


def test_each_look_has_the_confidence_that_was_declared_for_the_cap():
    looking = Looking(99)
    looking.take()
    declared = stats.pocock_confidences(3, per_look=3)
    assert tuple(c.confidence for c in looking.seen) == declared
    assert declared[0] > 0.95
    once = Looking(99)
    once.take(replace(SETTINGS, looks=1))
    assert [c.confidence for c in once.seen] == [pytest.approx(0.9)]


def test_the_rule_never_sees_single_duets():
    looking = Looking(99)
    looking.take(replace(SETTINGS, duets=2, looks=2))
    assert [c.n for c in looking.seen] == [8, 16]


# --- on a device that plays along -------------------------------------------------------------------


class Player:
    """Both models on one device: notes which process is loaded when, and how each duet is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cpus: Sequence[int] = (0, 1, 2, 3)) -> None:
        self.loaded: list[str] = []
        self.cpus: set[tuple[int, ...]] = set()
        self.asked: list[dict[str, Any]] = []
        self.alive: set[str] = set()
        self.free_bytes: int | None = None
        self.fed = "inputs"
        self.device = SimpleNamespace(pinned_cpus=(), timeout_s=10.0, name="pi")
        self.details = {"cpus": list(cpus)}
        monkeypatch.setattr(duets, "run_duet", self._run)

    def _run(self, client: Any, children: Sequence[Any], **asked: Any) -> DuetBlocks:
        assert [c.name.partition("-")[0] for c in children] == ["candidate", "baseline"]
        assert self.alive == {c.name for c in children}
        self.asked.append(asked)
        return of_ratio(1.5, pairs=asked["pairs"]).blocks

    def bench(
        self, sha256: str, load_ns: int = 5_000_000, fidelity: Fidelity | None = Fidelity.MEASURED
    ) -> Any:
        @contextmanager
        def child(name: str, *, cpus: Sequence[int]) -> Any:
            self.loaded.append(name)
            self.alive.add(name)
            self.cpus.add(tuple(cpus))
            sample = SimpleNamespace(vm_hwm_bytes=100_000_000)
            yield SimpleNamespace(name=name, first=lambda: load_ns // 2, sample=lambda: sample), load_ns
            self.alive.discard(name)

        board = SimpleNamespace(
            device=self.device,
            facts=SimpleNamespace(details=self.details),
            client=None,
            connection=SimpleNamespace(quiet=nullcontext),
            conditions=lambda: {"mem_available_bytes": self.free_bytes},
        )
        case = SimpleNamespace(
            name="door",
            artifact=SimpleNamespace(sha256=sha256, model_bytes=1000),
            runtime="onnxruntime==1.20.1",
        )
        return SimpleNamespace(
            inputs=SimpleNamespace(sha256=self.fed),
            board=board,
            case=case,
            child=child,
            threads=1,
            time_fidelity=fidelity,
            env=SimpleNamespace(packages=("onnxruntime==1.20.1",)),
            progress=SimpleNamespace(count=lambda *a: None, say=lambda *a: None),
            look=SimpleNamespace(runtime_version="1.20.1"),
        )

    def measure(self, seed: int = 7, settings: DuetSettings = SETTINGS, **more: Any) -> Any:
        ours, theirs = self.bench("aa", 6_000_000), self.bench("bb")
        return measure_duet(ours, theirs, "release", seed=seed, settings=settings, **more)


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    return Player(monkeypatch)


def test_every_second_duet_loads_in_the_other_order(player):
    player.measure(settings=replace(SETTINGS, duets=8, looks=1))
    firsts = [name.partition("-")[0] for name in player.loaded[::2]]
    assert len(firsts) == 8
    assert all(one != other for one, other in zip(firsts[::2], firsts[1::2], strict=True))
    assert [name.rpartition("-")[2] for name in player.loaded] == [str(i // 2) for i in range(16)]
    assert not player.alive


def test_a_seed_gives_the_same_orders_again_and_another_one_others(monkeypatch):
    def orders(seed: int) -> tuple[list[str], list[int]]:
        player = Player(monkeypatch)
        player.measure(seed, replace(SETTINGS, duets=16, looks=1))
        return player.loaded, [asked["seed"] for asked in player.asked]

    assert orders(1) == orders(1)
    assert orders(1)[0] != orders(2)[0]
    assert not set(orders(1)[1]) & set(orders(2)[1])
    assert len(set(orders(1)[1])) == 16


def test_the_device_is_asked_for_what_the_settings_say(player):
    player.measure()
    for asked in player.asked:
        assert (asked["pairs"], asked["block_ns"], asked["drop"]) == (4, SETTINGS.block_ns, 1)
        assert (asked["max_duration_ns"], asked["warmup_max"]) == (2_000_000_000, 100)


def test_a_run_keeps_what_it_takes_to_repeat_it(player):
    seen = player.measure()
    assert (seen.scenario, seen.settings["seed"], seen.settings["looks_taken"]) == ("single_stream", 7, 1)
    assert (seen.settings["baseline"], seen.settings["baseline_sha256"]) == ("release", "bb")
    assert (seen.settings["duets"], seen.settings["pairs"]) == (3, 4)
    for arm_name in ("candidate", "baseline"):
        (series,) = (s for s in seen.series if (s.name, s.arm) == ("latency_ns", arm_name))
        assert series.process.tolist() == sorted([0, 1, 2] * 16)
        assert series.block.tolist() == sorted([0, 1, 2, 3] * CALLS) * 3
    (load,) = (s for s in seen.series if (s.name, s.arm) == ("load_time_ns", "candidate"))
    assert load.values.tolist() == [6_000_000] * 3


def test_a_look_of_several_is_told_one_of_one_is_not(player):
    p50 = next(c for c in player.measure().comparisons if c.metric == "latency_p50_ns")
    assert p50.reasons[-1].startswith("look 1 of at most 3, declared beforehand: its interval is at 9")
    alone = player.measure(settings=replace(SETTINGS, looks=1)).comparisons
    assert all("look" not in reason for c in alone for reason in c.reasons)


def test_extension_asks_what_will_judge(player):
    asked: list[float] = []

    def undecided(comparisons: Sequence[Comparison]) -> bool:
        asked.append(next(c.value for c in comparisons if c.metric == "latency_p50_ns"))
        return len(asked) < 2

    seen = player.measure(undecided=undecided)
    assert asked == pytest.approx([1.5, 1.5])
    assert seen.settings["looks_taken"] == 2
    assert len(player.asked) == 6


@pytest.mark.parametrize(
    ("pinned", "cpus", "expected"), [((), (0, 1, 2, 3), (3,)), ((1,), (0, 1, 2, 3), (1,)), ((), (), ())]
)
def test_both_arms_run_on_the_same_core(monkeypatch, pinned, cpus, expected):
    player = Player(monkeypatch, cpus=cpus)
    player.device.pinned_cpus = pinned
    assert player.measure().settings["cpus"] == list(expected)
    assert player.cpus == {expected}


def test_a_duet_of_too_few_pairs_is_a_breach(player, monkeypatch):
    monkeypatch.setattr(duets, "run_duet", lambda *a, **k: cut)
    cut = of_ratio(1.0, pairs=2).blocks
    assert all(c.ok is not False for c in player.measure().conditions)
    arms = gathered(of_ratio(1.0, pairs=1))
    lines = [c for c in duets._conditions(arms, SETTINGS) if c.name.startswith("pairs of blocks")]
    assert [(c.observed, c.ok) for c in lines] == [("1", False)]


def test_a_warm_up_that_was_cut_is_shown_and_breaks_nothing(player, monkeypatch):
    whole = of_ratio(1.0).blocks
    capped = replace(whole, arms=(replace(whole.arms[0], warmup_flat=False), whole.arms[1]))
    monkeypatch.setattr(duets, "run_duet", lambda *a, **k: capped)
    lines = {c.name: c.ok for c in player.measure().conditions}
    assert lines["warm-up flat (duet 1, candidate)"] is None
    assert lines["warm-up flat (duet 1, baseline)"] is True


def test_no_times_from_a_board_whose_clock_says_nothing(player):
    with pytest.raises(Unsupported, match="mean nothing"):
        measure_duet(player.bench("aa", fidelity=None), player.bench("bb"), "b", seed=1)
    assert player.loaded == []


def test_fewer_duets_on_a_virtual_clock():
    assert duets.settings_for(Fidelity.VIRTUAL) is VIRTUAL
    assert duets.settings_for(Fidelity.MEASURED) is MEASURED
    assert VIRTUAL.duets * VIRTUAL.pairs < MEASURED.duets * MEASURED.pairs


# --- a device that can't hold both ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_bytes", "why"),
    [
        (None, None),
        (4 << 30, None),
        (126_000_000, None),
        (124_000_000, "124 MB are free, the other may need 125 MB"),
    ],
)
def test_whether_both_models_fit(player, free_bytes, why):
    player.free_bytes = free_bytes
    found = too_little_memory(player.bench("aa"), player.bench("bb"))
    assert (found is None) == (why is None)
    assert why is None or why in found
    # where nothing says how much is free, or plenty is, nothing is loaded to see
    assert bool(player.loaded) == (free_bytes is not None and free_bytes < 1 << 30)


def test_arms_that_are_fed_differently_are_shown_and_break_nothing(player):
    def fed(ours: str, theirs: str) -> Any:
        benches = []
        for player.fed in (ours, theirs):
            benches.append(player.bench("aa"))
        seen = measure_duet(benches[0], benches[1], "release", seed=7, settings=SETTINGS)
        return next(c for c in seen.conditions if c.name == "inputs of both arms")

    assert fed("same", "same").ok is True
    line = fed("one", "other")
    assert (line.ok, line.observed) == (None, "each its own: the models take different ones")
