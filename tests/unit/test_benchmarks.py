"""The arithmetic of the benchmarks and their tables. What they measure is not asserted here: times vary."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import __main__ as command
from benchmarks import loadgen, results
from benchmarks.sessions import compute_timeline
from benchmarks.table import (
    HEADINGS,
    Goal,
    Row,
    cells_of,
    compute_covered,
    compute_paired_ratio,
    compute_spread,
    decode_row,
    encode_row,
    failed,
    format_goal,
    format_value,
    render_markdown,
    render_text,
)

ROOT = Path(__file__).parents[2]


def test_ratio_is_of_the_values_unless_pairs_were_taken():
    assert Row("x", "s", 3.0, 2.0).ratio == 1.5
    assert Row("x", "s", 3.0, 2.0, paired_ratio=1.1).ratio == 1.1


@pytest.mark.parametrize("peer", [None, 0.0])
def test_no_ratio_without_a_peer(peer: float | None):
    assert Row("x", "s", 3.0, peer).ratio is None


@pytest.mark.parametrize(
    ("ours", "passed"), [(0.98, False), (0.99, True), (1.0, True), (1.01, True), (1.02, False)]
)
def test_a_goal_of_a_ratio_includes_its_bounds(ours: float, passed: bool):
    assert Row("x", "s", ours, 1.0, goal=Goal("ratio", 0.99, 1.01)).passed is passed


def test_a_goal_of_the_value_does_not_look_at_the_ratio():
    assert Row("x", "s", 0.9, 0.001, goal=Goal("ours", high=1.0)).passed is True
    assert Row("x", "s", 1.1, 100.0, goal=Goal("ours", high=1.0)).passed is False


def test_a_goal_that_nothing_was_measured_for_is_missed():
    assert Row("x", "s", None, goal=Goal("ours", high=1.0)).passed is False
    assert Row("x", "s", 1.0, None, goal=Goal("ratio", high=1.0)).passed is False
    assert failed("x", "no sshd").passed is False


def test_without_a_goal_nothing_is_judged():
    assert Row("x", "s", 1.0, 2.0).passed is None


def test_paired_ratio_is_the_median_of_ratios_not_the_ratio_of_medians():
    # the host slowed down by 10 between the pairs: each pair still says 2
    assert compute_paired_ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0]) == 2.0
    assert compute_paired_ratio([1.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_pairs_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        compute_paired_ratio([1.0, 2.0], [1.0])


def test_spread_is_range_over_median():
    assert compute_spread([99.0, 100.0, 102.0]) == pytest.approx(0.03)
    assert compute_spread([5.0]) == 0.0


@pytest.mark.parametrize(
    ("windows", "covered"),
    [
        ([], 0.0),
        ([(1, 2), (3, 5)], 3.0),
        ([(3, 5), (1, 2)], 3.0),  # in any order
        ([(1, 4), (2, 3)], 3.0),  # one within another
        ([(1, 3), (2, 5)], 4.0),  # overlapping
        ([(-5, 1), (9, 20)], 2.0),  # beyond the whole
        ([(11, 12)], 0.0),
    ],
)
def test_windows_that_overlap_count_once(windows: list[tuple[float, float]], covered: float):
    assert compute_covered(windows, 0.0, 10.0) == covered


def test_a_session_is_split_into_windows_on_the_device_and_the_rest():
    def window(op: str, device: str, begin_s: float, end_s: float) -> dict[str, object]:
        return {"op": op, "device": device, "begin_s": begin_s, "end_s": end_s}

    timeline = compute_timeline(
        [
            window("load", "rpi4-emulated", 110.0, 111.0),
            window("first", "local", 111.0, 111.5),  # the reference on the host: not a sample, not a window
            window("first", "rpi4-emulated", 112.0, 113.0),
            window("measure", "rpi4-emulated", 114.0, 119.0),
        ],
        begin_s=100.0,
        whole_s=20.0,
    )
    assert timeline.first_sample_s == 13.0
    assert timeline.outside_s == 13.0


def test_values_and_goals_read_with_their_units():
    assert format_value(0.00586, "s") == "5.86 ms"
    assert format_value(0.372, "share") == "37.20%"
    assert format_value(None, "s") == "–"
    assert format_goal(Goal("ratio", 0.99, 1.01), "s") == "0.99 to 1.01"
    assert format_goal(Goal("ours", high=1.0), "s") == "≤ 1.00 s"
    assert format_goal(Goal("ratio", low=2.0), "s") == "≥ 2"
    assert format_goal(None, "s") == ""


def test_a_row_has_a_cell_for_each_heading():
    row = Row("push", "s", 2.0, 1.0, "scp", Goal("ratio", high=1.5), 5)
    assert dict(zip(HEADINGS, cells_of(row), strict=True)) == {
        "what": "push", "ours": "2.00 s", "peer or limit": "1.00 s scp", "ratio": "2.000",
        "goal": "≤ 1.5", "": "FAIL", "n": "5",
    }  # fmt: skip


def test_an_item_that_could_not_be_measured_says_why_in_its_row():
    cells = cells_of(failed("push", "no sshd on this host"))
    assert cells[:2] == ("push", "no sshd on this host")
    assert "FAIL" in cells
    assert len(cells) == len(HEADINGS)


def test_text_is_aligned():
    lines = render_text([Row("a", "s", 1.0), Row("a longer name", "s", 2.0)]).splitlines()
    assert len({line.index(v) for line, v in zip(lines, ("ours", "1.00", "2.00"), strict=True)}) == 1


def test_markdown_keeps_its_columns_whatever_is_in_a_cell():
    text = render_markdown([failed("a | b", "first line\nsecond")])
    header, rule, row = text.splitlines()
    unescaped = re.compile(r"(?<!\\)\|")
    assert {len(unescaped.findall(line)) for line in (header, rule, row)} == {len(HEADINGS) + 1}


FULL_ROW = Row("x", "s", 0.1 + 0.2, 1e-9, "p", Goal("ours", None, 2.0), 3, 1.5)


@pytest.mark.parametrize("row", [FULL_ROW, failed("y", "z")])
def test_rows_survive_being_kept(row: Row, tmp_path: Path):
    assert decode_row(encode_row(row)) == row
    results.save("item", [row], quick=True, folder=tmp_path)
    (kept,) = results.load(["absent", "item"], folder=tmp_path)
    assert (kept.name, kept.quick, kept.rows) == ("item", True, (row,))


def test_results_replace_only_what_is_between_the_marks(tmp_path: Path):
    docs = tmp_path / "page.md"
    docs.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.write_docs([results.Result("x", "2026-01-02", False, (Row("new row", "s", 1.0),))], docs)
    text = docs.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "new row" in text
    assert "2026-01-02" in text


def test_a_page_without_marks_is_not_written(tmp_path: Path):
    docs = tmp_path / "page.md"
    docs.write_text("no marks")
    with pytest.raises(ValueError, match="results"):
        results.write_docs([], docs)
    assert docs.read_text() == "no marks"


def test_quick_results_are_marked_as_such():
    quick = results.Result("steady", "2026-01-02", True, ())
    assert "--quick: steady" in results.render_results([quick])


def test_an_unknown_item_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        command.main(["stedy"])
    assert exit_.value.code == 2
    assert "steady" in capsys.readouterr().err


@pytest.mark.parametrize(("ours", "code"), [(0.5, 0), (1.5, 1)])
def test_a_missed_goal_shows_in_the_exit_code(
    ours: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kept = results.Result("steady", "2026-01-02", False, (Row("r", "s", ours, goal=Goal("ours", high=1.0)),))
    monkeypatch.setattr(results, "load", lambda names: [kept])
    assert command.main(["steady", "--show"]) == code
    assert ("FAIL" in capsys.readouterr().out) is bool(code)


@pytest.mark.parametrize(
    ("asked", "times"),
    [(["steady"], 1), (["steady", "collect"], 2), (["steady", "--show"], 1), (["steady", "--missing"], 1)],
)
def test_rows_are_printed_again_only_where_they_do_not_stand_right_above(
    asked: list[str], times: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rows = (Row("p50", "s", 0.5),)
    monkeypatch.setattr(command.importlib, "import_module", lambda name: SimpleNamespace(run=lambda q: rows))
    monkeypatch.setattr(results, "save", lambda name, rows, quick: None)
    monkeypatch.setattr(
        results, "load", lambda names: [results.Result(n, "", False, rows) for n in names[:1]]
    )
    assert command.main(asked) == 0
    assert capsys.readouterr().out.count("p50") == times + ("collect" in asked)


def test_the_page_names_every_item_and_has_its_marks():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [item for item in command.ITEMS if f"`{item}`" not in page] == []
    assert page.index(results.BEGIN) < page.index(results.END)
    assert [item for item in command.ITEMS if not (ROOT / "benchmarks" / f"{item}.py").is_file()] == []


class Windows:
    """A child whose windows are made up: calls of 1 to n ns, or as a schedule has them."""

    def measure(self, *, iterations: int, **_: object) -> SimpleNamespace:
        return SimpleNamespace(latency_ns=np.arange(1, iterations + 1))

    def paced(self, offsets: object, **_: object) -> SimpleNamespace:
        return SimpleNamespace(latency_ns=np.asarray(offsets) * 0 + 7)


def test_our_figures_of_a_window_are_those_that_loadgen_gives():
    asked = {"queries": 100, "rate_per_s": 10.0, "seed": 1}
    single = loadgen._ours(Windows(), {**asked, "scenario": "SingleStream"})
    assert single == {"p90": 90.0, "p99": 99.0}
    assert loadgen._ours(Windows(), {**asked, "scenario": "Server"}) == {"p90": 7.0, "p99": 7.0}
    assert loadgen._ours(Windows(), {**asked, "scenario": "Offline"}) == {"sample_ns": 50.5}


def test_each_figure_against_loadgen_has_a_row_of_its_own():
    rows = [case.what(figure) for case in loadgen.CASES for figure in case.goals]
    assert len(set(rows)) == len(rows)
    assert {case.scenario for case in loadgen.CASES} == {"SingleStream", "MultiStream", "Server", "Offline"}
