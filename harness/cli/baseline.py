"""`harness baseline`: record a finished session's numbers and files under a name; list, show, remove."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import baselines
from harness import plan as plans
from harness.cli.options import (
    ActionRow,
    add_actions,
    add_command,
    print_table,
    reports_dir,
    session_folder,
)
from harness.metrics import METRICS
from harness.model import Measurement, RecordedBaseline
from harness.store import codec, read_session
from harness.units import counted, format_quantity


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "baseline",
        "record, list, show or remove baselines",
        "What candidates are compared with: pytest suites/ --device NAME --baseline NAME. It holds the\n"
        "numbers of finished sessions, by model and unit, and the models' files. A file is measured again\n"
        "beside the candidate; without one the numbers serve, where unit, build and settings are the same.",
    )
    rows: Sequence[ActionRow] = (
        ("set", set_baseline, "record a finished session under a name", _SET),
        ("list", list_baselines, "names, and what each holds", _LIST),
        ("show", show, "the numbers of one, and what they were taken with", _SHOW),
        ("remove", remove, "remove one with its files", "Remove a baseline: its numbers and its files."),
    )
    for name, action in add_actions(parser, rows, required=True):
        if name != "list":
            action.add_argument("name", metavar="NAME", help="the baseline's name")
        if name == "set":
            action.add_argument(
                "session", metavar="SESSION", nargs="?", help="a session's folder (default: reports/latest)"
            )
            action.add_argument(
                "--force", action="store_true", help="record runs that are not PASS or NOT_JUDGED too"
            )
        elif name in ("list", "show"):
            action.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")


_SET = """Record every completed run of a finished session, with the models' files. What the baseline holds
already of the same model on the same unit is replaced, the rest stays: units can be recorded one by one.
Refused: a session that was interrupted or is damaged; and, without --force, one with a run that is neither
PASS nor NOT_JUDGED."""
_LIST = "List the recorded baselines: which models, on which units, and whether their files are there."
_SHOW = "Print the numbers of a baseline, and what must match where its files are gone."


def _folder(args: argparse.Namespace) -> Path:
    return baselines.baselines_dir(reports_dir(args))


def set_baseline(args: argparse.Namespace) -> int:
    session = read_session(session_folder(args, args.session or "latest"))
    plan = plans.plan_from_mapping(dict(session.record.plan), session.record.plan_path or "plan")
    entries = baselines.entries_of(session, args.name, plan.budgets, force=args.force)
    replaced = {(old.model, old.device_name): old for old in baselines.put(_folder(args), args.name, entries)}
    for entry in entries:
        facts = entry.facts
        count = len(facts.numbers)
        line = f"{args.name}: {facts.model} on {facts.device_name}: {counted(count, 'number')}"
        line += f" and its file {facts.artifact_sha256[:12]}" if facts.artifact_file else " without its file"
        old = replaced.get(entry.key)
        if old is not None:
            line += f", in place of those of {old.recorded_at[:19]}Z ({old.artifact_sha256[:12]})"
        sys.stdout.write(line + "\n")
        if entry.note:
            sys.stdout.write(f"  {entry.note}: its numbers alone will serve, not side by side\n")
        if doubts := sorted({doubt for number in facts.numbers for doubt in number.doubts}):
            doubtful = sum(bool(number.doubts) for number in facts.numbers)
            sys.stdout.write(
                f"  {doubtful} of them count only where the file is measured again; "
                "as recorded they can't be compared:\n"
            )
            sys.stdout.write("".join(f"    {doubt}\n" for doubt in doubts))
    return 0


def list_baselines(args: argparse.Namespace) -> int:
    folder = _folder(args)
    rows = [entry for name in baselines.names(folder) for entry in baselines.read(folder, name)]
    if args.format == "json":
        return _write_json(rows)
    if not rows:
        sys.stdout.write(f"no baseline is recorded in {folder}; record one: harness baseline set NAME\n")
        return 0
    table = [
        (e.name, e.model, e.device_name, _build(e), e.recorded_at[:10], _file_state(folder, e)) for e in rows
    ]
    print_table(("name", "model", "unit", "runtime", "recorded", "file"), table)
    return 0


def show(args: argparse.Namespace) -> int:
    folder = _folder(args)
    entries = baselines.read(folder, args.name)
    if args.format == "json":
        return _write_json(entries)
    for i, entry in enumerate(entries):
        sys.stdout.write("\n" if i else "")
        _show_entry(entry, _file_state(folder, entry))
    return 0


def _show_entry(entry: RecordedBaseline, file: str) -> None:
    governors = sorted({n.governor or "not shown" for n in entry.numbers})
    facts = (
        ("recorded", f"{entry.recorded_at[:19]}Z in session {entry.session_id}"),
        ("unit", f"{entry.device_name} ({entry.device_type}), serial {entry.serial or 'not shown'}"),
        ("platform", f"{entry.platform}, kernel {entry.kernel or 'not shown'}"),
        ("runtime", f"{_build(entry)} ({', '.join(entry.packages) or 'packages not shown'})"),
        ("threads", str(entry.threads)),
        ("governor", ", ".join(governors)),
        ("file", f"{entry.artifact_sha256[:12]}, {file}"),
    )
    sys.stdout.write(f"{entry.name}: {entry.model} on {entry.device_name}\n")
    for what, value in facts:
        sys.stdout.write(f"  {what:<9} {value}\n")
    rows = []
    for number in entry.numbers:
        m = number.measurement
        scope = ", ".join(filter(None, (m.scenario, f"batch {m.batch_size}" if m.batch_size > 1 else "")))
        rows.append(("  " + m.metric, scope, *_cells(m), str(m.n), str(m.fidelity), number.profile))
    print_table(("  metric", "scenario", "value", "90% interval", "n", "fidelity", "profile"), rows)


def _cells(m: Measurement) -> tuple[str, str]:
    unit = METRICS[m.metric].unit if m.metric in METRICS else "1"
    value = "none" if m.value is None else format_quantity(m.value, unit)
    if m.low is None and m.high is None:
        return value, "–"
    if m.low == m.high:
        return value, "exact"
    low, high = ("…" if bound is None else format_quantity(bound, unit) for bound in (m.low, m.high))
    return value, f"{low} to {high}"


def _build(entry: RecordedBaseline) -> str:
    return f"{entry.runtime}=={entry.runtime_version}" if entry.runtime_version else entry.runtime


def _file_state(folder: Path, entry: RecordedBaseline) -> str:
    if entry.artifact_file is None:
        return "not recorded"
    return "there" if baselines.artifact_path(folder, entry) else "gone"


def _write_json(entries: Any) -> int:
    sys.stdout.write(codec.dump_json({"entries": codec.to_plain(list(entries))}).decode())
    return 0


def remove(args: argparse.Namespace) -> int:
    baselines.remove(_folder(args), args.name)
    sys.stdout.write(f"{args.name}: removed\n")
    return 0
