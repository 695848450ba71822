"""What the fixture `gate` says of a run that doesn't pass."""

from __future__ import annotations

from dataclasses import replace

from support import records

from harness.fixtures import told
from harness.gate import results_of
from harness.model import Verdict


def test_what_one_line_said_the_next_of_the_same_verdict_leaves_out():
    (base, *_) = results_of(records.sample_runs()[0], ())
    busy = "load: 60%, expected 30%. End it."

    def row(verdict: Verdict, *reasons: str):
        return replace(base, verdict=verdict, reasons=reasons)

    lines = told(
        [
            row(Verdict.INVALID, busy, "p50: +1%"),
            row(Verdict.INVALID, busy, "p90: +2%"),
            row(Verdict.INVALID, busy),
            row(Verdict.FAIL, busy),
            row(Verdict.FAIL),
        ]
    )
    assert lines == [
        "INVALID: load: 60%, expected 30%. End it; p50: +1%",
        "INVALID: p90: +2%",
        f"FAIL: {busy}",
        "FAIL: ",
    ]
