"""The item of borrowed estimates: its table follows from the counts kept, and the docs hold it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import ConfigError, DataError, HostSetupError
from harness.estimate import estimator, model

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import estimate_borrowed as borrowed
from benchmarks import estimate_borrowed_models as models


@pytest.fixture(scope="module")
def kept():
    return borrowed.load_kept()


@pytest.fixture(scope="module")
def lines(kept):
    return {line.name: line for line in borrowed.lines_of(kept, estimator.shipped())}


def test_each_published_figure_has_its_counts(kept):
    assert [(n.name, n.precision, n.board_ms) for n in kept.networks] == [
        (one.name, one.precision, {borrowed.THREADS: one.board_ms}) for one in borrowed.PUBLISHED
    ]
    assert kept.source == borrowed.SOURCE


def test_each_published_figure_has_a_network_that_is_made():
    made = [name for name, _, _ in models.NETWORKS]
    assert {one.name for one in borrowed.PUBLISHED} == {*made, *(f"{name}_int8" for name in models.INT8)}


def test_the_docs_hold_this_table(kept):
    _, _, inside = borrowed.PAGE.read_text(encoding="utf-8").partition(borrowed.BEGIN)
    assert inside.startswith(f"\n{borrowed.render(kept, estimator.shipped())}\n{borrowed.END}")


def test_none_of_the_shipped_calibrations_is_of_this_runtime(kept):
    assert kept.runtime not in {c.runtime for c in estimator.shipped()}  # else nothing would be borrowed


def test_the_band_for_several_threads_is_the_lender_s_but_for_its_reach(lines):
    for line in lines.values():
        assert line.several.board_ms == line.lender.board_ms
        assert line.several.low_ms == line.lender.low_ms
        assert line.several.high_ms == max(line.lender.high_ms, line.alone.high_ms)


def test_a_slower_core_makes_the_cycles_longer_and_leaves_memory_alone(kept, lines):
    network = kept.networks[0]
    (lender,) = (c for c in estimator.shipped() if c.name == "rpi4-ncnn")
    shares = model.shares_ms(lender.fit("fp32", borrowed.THREADS), network.features)
    by_hand = shares["cycles"] * 1.8 / 1.5 + shares["memory_lines"] + shares["stored_bytes"]
    assert lines[borrowed.TITLES[network.name]].slower_ms == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("published_ms", "said"), [(9.9, "no"), (10, "yes"), (20, "yes"), (20.1, "by the reach"), (30.1, "no")]
)
def test_a_figure_is_held_by_the_narrower_band_first(published_ms, said):
    lender = model.Estimate(15, 10, 20, 0.9, 25, ())
    line = borrowed.Line("n", lender, dataclasses.replace(lender, high_ms=30), lender, 18, published_ms)
    assert line.held_by == said


def test_a_network_without_an_estimate_is_an_error(kept):
    with pytest.raises(DataError, match="mobilenet_v1: there is no estimate: no calibration of device type"):
        borrowed.lines_of(dataclasses.replace(kept, device_type="rpi9"), estimator.shipped())


def test_other_terms_are_those_of_the_lender_s_fit(kept, lines, capsys):
    assert borrowed.main(["show", "--terms", *model.PHYSICAL]) == 0
    shown = capsys.readouterr().out
    for name, line in lines.items():
        assert f"| {name} | {line.published_ms / line.several.board_ms:.2f} |" in shown


def test_a_term_that_does_not_exist_is_refused(kept):
    with pytest.raises(ConfigError, match="loaded_bytes"):
        borrowed.render_terms(kept, estimator.shipped(), ["cycles", "loaded_byte"])


def a_bench(monkeypatch, precision, answer):
    monkeypatch.setattr(borrowed.estimating, "precision_of", lambda bench: precision)
    monkeypatch.setattr(borrowed.counting, "read_features", lambda bench: answer)
    return SimpleNamespace(board=SimpleNamespace(device=SimpleNamespace(name="pi")))


def test_what_was_counted_is_kept_beside_what_is_published(monkeypatch, kept, capsys):
    features = kept.networks[0].features
    bench = a_bench(monkeypatch, "fp32", (features, ""))
    counted = borrowed._count(bench, borrowed.PUBLISHED[0])
    assert counted.features == features
    assert counted.board_ms == {borrowed.THREADS: 77}
    assert "MobileNet V1 fp32" in capsys.readouterr().out


def test_a_file_of_another_precision_is_not_counted(monkeypatch):
    bench = a_bench(monkeypatch, "int8", (None, "must not be asked"))
    with pytest.raises(DataError, match=r"mobilenet_v1\.tflite: it is int8, expected fp32"):
        borrowed._count(bench, borrowed.PUBLISHED[0])


def test_a_board_that_could_not_count_says_why(monkeypatch):
    bench = a_bench(monkeypatch, "fp32", (None, "the plugin saw no marks"))
    with pytest.raises(HostSetupError, match=r"pi: mobilenet_v1\.tflite: the plugin saw no marks"):
        borrowed._count(bench, borrowed.PUBLISHED[0])


def test_a_network_that_is_not_published_is_refused(capsys):
    with pytest.raises(SystemExit):
        borrowed.main(["count", "--models", "m", "--only", "mobilenet_v9"])
    assert "mobilenet_v3_small" in capsys.readouterr().err
