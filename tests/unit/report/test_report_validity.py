"""Validity at a glance, warm-up by process, and what calibrations say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import compared, records

from harness.model import Condition, Detectable, Run, Scope
from harness.report.calibration import build_calibrations
from harness.report.data import ReportData, build_report
from harness.report.validity import Validity, build_validity
from harness.store import read_session

HOT = Condition("throttling", "0x4 after", "no bit set", False, "Cool the board.")


def _validity(*conditions: tuple[Condition, ...]) -> Validity:
    runs = [records.run(f"{n:03d}-x", conditions=found) for n, found in enumerate(conditions, 1)]
    validity = build_validity(runs)
    assert validity is not None
    return validity


def _warm(process: str, calls: int, *, flat: bool = True) -> Condition:
    said = f"{'yes' if flat else 'no'} after {calls} calls"
    return Condition(f"warm-up flat ({process})", said, "medians of blocks within 2%", flat or None)


def test_what_invalidates_everything_comes_first() -> None:
    validity = _validity((compared.BUSY, *records.CONDITIONS), (compared.BUSY,), (HOT,))
    assert [(b.name, b.scope) for b in validity.breaches] == [
        ("throttling", "everything"),
        ("other load", "absolute numbers only"),
    ]
    assert [anchor for anchor, _ in validity.breaches[1].runs] == ["run-1", "run-2"]
    assert validity.breaches[0].remedy == "Cool the board."


def test_held_breached_unseen_and_capped_add_up() -> None:
    validity = _validity(
        (*records.CONDITIONS, HOT, _warm("process 1", 9), _warm("process 2", 40, flat=False))
    )
    assert validity.said == "4 of 7 conditions held, 1 breached, 1 not observable, 1 ended by a cap."
    assert validity.unseen == (("throttling", "1"),)


def test_alike_breaches_are_one_row_with_what_was_seen() -> None:
    seen = [replace(compared.BUSY, observed=f"{n}%") for n in range(60, 67)]
    (breach,) = _validity(*((c,) for c in seen)).breaches
    assert breach.observed == ("60%", "61%", "62%", "63%", "and 3 more")
    assert len(breach.runs) == 7


def test_another_remedy_or_scope_is_another_row() -> None:
    wide = replace(compared.BUSY, scope=Scope.ALL)
    assert len(_validity((compared.BUSY,), (wide,), (replace(wide, remedy="Wait."),)).breaches) == 3


def test_warm_up_is_told_by_process() -> None:
    validity = _validity(
        (_warm("duet 1, candidate", 8), _warm("duet 1, baseline", 2000, flat=False)),
        (_warm("process 1", 12),),
        records.CONDITIONS,
    )
    assert [(row.anchor, row.processes, row.state.word) for row in validity.warm_ups] == [
        ("run-1", "duet 1, candidate: 8 · duet 1, baseline: 2000 (capped)", "1 capped"),
        ("run-2", "process 1: 12", "flat"),
    ]
    assert validity.warm_up_said == "medians were flat in 2 of 3 processes; in the others a cap ended it"


def test_without_conditions_there_is_no_section() -> None:
    assert build_validity([records.run(conditions=())]) is None
    assert build_validity([]) is None


# --- calibrations ---------------------------------------------------------------------------------


def _data(tmp_path: Path, *runs: Run, **changes: object) -> ReportData:
    return build_report(read_session(records.write_session(tmp_path, compared.session(**changes), runs)))


def test_rates_come_with_their_numbers_and_intervals(tmp_path: Path) -> None:
    found = build_calibrations(_data(tmp_path, compared.duet_run()))
    assert found is not None
    assert found.without == ()
    (unit,) = found.units
    facts = dict(unit.facts)
    # Clopper-Pearson, 0 of 40: 1 - 0.05^(1/40) = 7.2%
    assert facts["false FAIL"] == "0 of 40: 0% (90% interval 0% to 7.2%)"
    assert facts["INCONCLUSIVE"].startswith("2 of 40: 5% ")
    assert facts["half-width of the 90% interval, median"] == "±0.031%"
    assert unit.detectable == (
        ("1 min", "+0.14%", "measured"),
        ("5 min", "+0.11%", "extrapolated"),
        ("20 min", "+0.104%", "extrapolated"),
    )


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    odd = compared.calibration(
        trials=0, false_fails=0, inconclusives=0, detectable=(Detectable(1.5, None, True),)
    )
    found = build_calibrations(_data(tmp_path, compared.duet_run(), calibrations=(odd,)))
    assert found is not None
    assert dict(found.units[0].facts)["false FAIL"] == "no trials"
    assert found.units[0].detectable == (("1.5 min", "can't be told", "extrapolated"),)


@pytest.mark.parametrize("compares", [True, False])
def test_a_unit_without_calibration_is_named_only_where_it_compared(tmp_path: Path, compares: bool) -> None:
    run = compared.duet_run() if compares else records.run()
    found = build_calibrations(_data(tmp_path, run, calibrations=()))
    assert (found is not None and found.without == ("rpi4-emulated",)) if compares else found is None
