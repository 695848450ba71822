"""The figure of a calibration's own networks: out of the store alone, one panel for each fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.model import Fidelity
from harness.report.estimates import estimates
from harness.report.plots import draw

SAID = {
    "calibration": "rpi4-ncnn",
    "precision": "fp32",
    "by": "one factor of the virtual clock",
    "mean_error_ratio": 0.1,
    "source": "a README",
    "points": {"small": [10.0, 11.0], "large": [100.0, 80.0]},
}


def data(*said: Any) -> Any:
    return SimpleNamespace(
        runs=[SimpleNamespace(settings={"estimate": s} if s else {}, threads=1) for s in said]
    )


def test_a_panel_for_each_fit_and_a_row_for_each_network():
    found = estimates(data(SAID, SAID, {**SAID, "precision": "int8"}, None, {"problem": "none"}))
    assert found is not None
    assert found.fidelity == (Fidelity.ESTIMATED,)
    assert [p.title for p in found.panels] == ["rpi4-ncnn, fp32 on 1 thread", "rpi4-ncnn, int8 on 1 thread"]
    assert "off by 10.0% on average, at worst -20.0% (large)" in found.panels[0].description
    assert found.rows[0][:6] == ("rpi4-ncnn", "fp32", "1", "one factor of the virtual clock", "small", 10.0)
    assert found.rows[0][7] == pytest.approx(0.1)
    assert len(found.rows) == 4


def test_a_session_without_estimates_has_no_such_figure():
    assert estimates(data(None, {"problem": "no calibration"})) is None


def test_it_is_drawn():
    found = estimates(data(SAID))
    assert found is not None
    assert draw(found.panels[0], "estimates-1").startswith("<svg")
