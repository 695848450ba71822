"""Trials from kept duets: they end and are judged as comparisons are, and say what their duets say."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from support import duets

from harness import stats
from harness.margins import judge_family
from harness.measure.duet import MEASURED, take_looks
from harness.measure.trials import METRIC, Spread, compute_spread, detectable, take_trial
from harness.metrics import METRICS
from harness.model import Fidelity, Verdict

MARGIN = 0.005


def trials(kept, count=40, margin=MARGIN, settings=MEASURED):
    return [take_trial(kept, settings, Fidelity.MEASURED, margin, seed) for seed in range(count)]


def test_a_model_that_is_the_same_passes_and_one_beyond_its_margin_fails():
    assert {t.verdict for t in trials(duets.keep(60, between=0.003))} == {Verdict.PASS}
    assert {t.verdict for t in trials(duets.keep(60, ratio=1.02))} == {Verdict.FAIL}


def test_at_its_margin_it_stays_open_until_the_last_look():
    found = trials(duets.keep(60, ratio=1 + MARGIN))
    undecided = [t for t in found if t.verdict is Verdict.INCONCLUSIVE]
    assert len(undecided) > len(found) / 2
    assert {t.looks for t in undecided} == {MEASURED.looks}
    assert {t.duets for t in undecided} == {MEASURED.duets * MEASURED.looks}


def test_a_clear_one_ends_with_the_first_look():
    found = trials(duets.keep(60, ratio=1.1))
    assert {(t.looks, t.duets) for t in found} == {(1, MEASURED.duets)}
    assert {t.wall_s for t in found} == {MEASURED.duets * 0.5}


def test_a_seed_gives_its_trial_again_and_another_one_another():
    kept = duets.keep(30)
    assert take_trial(kept, MEASURED, Fidelity.MEASURED, MARGIN, 3) == take_trial(
        kept, MEASURED, Fidelity.MEASURED, MARGIN, 3
    )
    assert len({t.comparison.value for t in trials(kept, 10)}) == 10


def test_slower_duets_never_get_a_better_verdict():
    better = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    for seed in range(10):
        found = [
            better.index(
                take_trial(
                    duets.keep(30, seed=7, ratio=ratio), MEASURED, Fidelity.MEASURED, MARGIN, seed
                ).verdict
            )
            for ratio in (0.99, 1.0, 1.002, 1.005, 1.008, 1.02)
        ]
        assert found == sorted(found)


def test_the_verdict_is_the_one_of_the_duets_that_were_drawn():
    """The same draws through the comparison and the gate by hand."""
    kept = duets.keep(40, ratio=1.004)
    trial = take_trial(kept, MEASURED, Fidelity.MEASURED, MARGIN, 11)
    order = random.Random(11)
    row = METRICS[METRIC]
    _, comparisons, looks = take_looks(
        lambda _: kept[order.randrange(len(kept))].duet,
        MEASURED,
        Fidelity.MEASURED,
        "itself",
        seed=11,
        undecided=lambda found: judge_family(found[:1], [MARGIN], [row])[0].verdict is Verdict.INCONCLUSIVE,
    )
    assert comparisons[0] == trial.comparison  # all metrics were compared here, one there
    assert looks == trial.looks
    assert judge_family(comparisons[:1], [MARGIN], [row])[0].verdict is trial.verdict


def test_without_duets_there_is_no_trial():
    with pytest.raises(ValueError, match="no duets"):
        take_trial([], MEASURED, Fidelity.MEASURED, MARGIN, 1)


def test_the_half_width_is_that_of_90_percent_whatever_the_looks_confidence_was():
    kept = duets.keep(36)
    one = replace(MEASURED, duets=36, looks=1)
    looked = take_trial(kept, replace(MEASURED, duets=36, looks=2), Fidelity.MEASURED, 0.5, 5)
    alone = take_trial(kept, one, Fidelity.MEASURED, 0.5, 5)
    assert looked.comparison.confidence > alone.comparison.confidence == 0.9
    assert looked.half_width_ratio == pytest.approx(alone.half_width_ratio)
    c = alone.comparison
    assert alone.half_width_ratio == pytest.approx(math.sqrt(c.high / c.low) - 1)


def test_the_spread_is_split_into_processes_and_pairs():
    # 400 duets: the standard deviation between them is known within 4%
    spread = compute_spread(duets.keep(400, between=0.005))
    assert spread.between_sd == pytest.approx(0.005, rel=0.12)
    # a median over 12 pairs, each the difference of two normal deviates of 0.002: 1.25 × 0.0028 / √12
    assert spread.within_se == pytest.approx(0.00102, rel=0.2)
    assert spread.wall_s == 0.5
    assert compute_spread(duets.keep(200, between=0.0)).between_sd < 0.0005


def test_one_duet_has_no_spread():
    with pytest.raises(ValueError, match="at least 2"):
        compute_spread(duets.keep(1))


def test_what_is_detectable_shrinks_with_time_towards_the_margin():
    spread = Spread(0.005, 0.001, 0.5)
    found = [detectable(spread, minutes, 0.01) for minutes in (1.0, 5.0, 20.0)]
    assert found[0] > found[1] > found[2] > 0.01
    assert found[0] == pytest.approx(stats.detectable_ratio(0.005, 0.001, 120, 0.9, 0.95, margin=0.01) - 1)


def test_nothing_is_detectable_where_two_duets_do_not_fit():
    assert detectable(Spread(0.005, 0.001, 40.0), 1.0, 0.01) is None


def test_what_is_called_detectable_is_detected():
    """95% of comparisons of that length fail a model that is slower by so much."""
    one_look = replace(MEASURED, duets=40, looks=1)
    kept = duets.keep(300)
    ratio = detectable(compute_spread(kept), 40 * 0.5 / 60, MARGIN)
    slower = duets.keep(300, ratio=1 + ratio)
    failed = sum(t.verdict is Verdict.FAIL for t in trials(slower, 200, settings=one_look))
    low, high = stats.clopper_pearson(failed, 200, 0.99)
    assert low <= 0.975  # the bank's own mean is off by some 0.03%, half a standard error of a trial
    assert high >= 0.90
