"""The pytest side: options, parametrisation, exit code. Thin: session.py measures, gate.py judges.

Loaded by a conftest.py (`pytest_plugins = ["harness.plugin"]`), never by entry point: its options would
clash with any other project that has a `--device`. Imports stay light: collection touches no device and
no numpy.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import budgets, cache, fixtures, selection
from harness import gate as gates
from harness import registry as registries
from harness.desk import BUDGETS, DESK, RUN, Desk
from harness.errors import ConfigError, HarnessError, HostSetupError, StoredRunError
from harness.fixtures import DEVICE_CLOCK, FAILING
from harness.interrupts import Interrupts
from harness.model import Verdict
from harness.plan import ON_REQUEST, SOAK, SUITES
from harness.selection import Target
from harness.units import format_duration

INTERRUPTS = pytest.StashKey[Interrupts]()
MAX_THREADS = 1024  # chosen: beyond any board's cores, and below what makes a runtime exhaust them


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "hardware-in-the-loop benchmarks")
    add = group.addoption
    add("--device", dest="hil_device", action="append", metavar="NAME",
        help="unit, device type or tag:NAME to measure on (repeatable)")  # fmt: skip
    add("--devices", dest="hil_devices_file", metavar="FILE",
        help="the devices.toml (default: searched from here upwards)")  # fmt: skip
    add("--model", dest="hil_model", action="append", metavar="FILE",
        help="file, the plan's NAME, or NAME=FILE: a candidate for that NAME (repeatable)")  # fmt: skip
    add("--plan", dest="hil_plan", metavar="FILE", help="the plan (default: release.toml beside the suites)")
    add("--baseline", dest="hil_baseline", action="append", metavar="[MODEL=]WHAT",
        help="compare with a recorded baseline, a file or the plan's NAME; for one MODEL, else for each "
        "(repeatable)")  # fmt: skip
    add("--runtime", dest="hil_runtime", action="append", metavar="NAME[==VERSION]",
        help="runtime to use instead of the plan's; several compare builds (repeatable)")  # fmt: skip
    add("--threads", dest="hil_threads", type=_threads, default=1, metavar="N",
        help="threads of the runtime (default: 1)")  # fmt: skip
    add("--shape", dest="hil_shape", action="append", metavar="INPUT=1x3x96x96",
        help="shape of an input that the model leaves open (repeatable)")  # fmt: skip
    add("--runtime-option", dest="hil_runtime_option", action="append", metavar="NAME=VALUE",
        help="option of the runtime, instead of the plan's (repeatable)")  # fmt: skip
    add("--soak", dest="hil_soak", metavar="TIME",
        help="keep each model at work for so long, as 72h or 2m, and look for leaks, drift and failures. "
        "Only the soak suite runs then, and what -m, -k or a file's name asks for. Ctrl-C leaves the soak "
        "running on the device")  # fmt: skip
    add("--report-dir", dest="hil_report_dir", metavar="DIR",
        help="put this session here (default: reports/<session>/)")  # fmt: skip


def _threads(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MAX_THREADS}, got {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(fixtures, "harness-fixtures")
    for suite in SUITES:
        config.addinivalue_line("markers", f"{suite}: belongs to the {suite} suite")
    config.addinivalue_line("markers", budgets.MARKER_HELP)
    # said of each latency test that fails before there are samples to replay; the failure says why
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used at all in this test")
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(_NoBenchmark(), "harness-no-benchmark")
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "harness: one pytest call measures one thing at a time, so that runs don't disturb each other; "
            "leave out -n (docs/decisions/0002-no-xdist.md)."
        )
    desk = config.stash[DESK] = Desk(config)
    try:
        desk.read()
    except (ConfigError, StoredRunError) as error:
        raise pytest.UsageError(f"harness: {error}") from None
    desk.termination.install()
    interrupts = config.stash[INTERRUPTS] = Interrupts()
    if not config.option.usepdb:  # a debugger has its own use for Ctrl-C
        interrupts.install()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    desk = metafunc.config.stash[DESK]
    targets = desk.targets()
    if not targets and not desk.devices:
        # collection alone needs no device: list each test once a model
        ids = [m.name for m in desk.models]
        metafunc.parametrize("target", [None] * len(ids), ids=ids, scope="session")
        return
    metafunc.parametrize("target", targets, ids=[t.id for t in targets], scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has nothing to measure; order by device, suite and model: a board is opened once."""
    desk = config.stash[DESK]
    _deselect(config, items)
    devices = {d.name: i for i, d in enumerate(desk.devices)}
    models = {m.name: i for i, m in enumerate(desk.models)}

    def key(item: pytest.Item) -> tuple[int, int, int]:
        target = _target_of(item)
        if target is None:
            return (-1, 0, 0)
        suite = next((i for i, name in enumerate(SUITES) if item.get_closest_marker(name)), len(SUITES))
        return (devices[target.device.name], suite, models[target.model.name])

    items.sort(key=key)
    for item in items:
        if "replay" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=DEVICE_CLOCK.read))
    _read_markers(items)


def _deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out comparisons without a baseline, and scenarios that the plan doesn't ask for.

    They aren't skipped: a skip says that something is lacking, and a release counts it as missing.
    """
    out = [
        i
        for i in items
        if not fixtures.is_wanted(_target_of(i), getattr(i, "fixturenames", ()))
        or _waits_for_request(config, i)
    ]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = {id(item) for item in out}
        items[:] = [item for item in items if id(item) not in gone]


def _waits_for_request(config: pytest.Config, item: pytest.Item) -> bool:
    """Return whether a test is of a suite that takes minutes or days, and nothing asks for that suite.

    With --soak that is every suite but the soak.
    """
    if "target" not in getattr(item, "fixturenames", ()):
        return False
    desk = config.stash[DESK]
    suites = {name for name in SUITES if item.get_closest_marker(name)}
    if SOAK in suites and desk.soak_s is not None:
        return not _is_soaked(desk, _target_of(item))
    waiting = suites if desk.soak_s is not None else suites.intersection((*ON_REQUEST, SOAK))
    if not waiting and (suites or desk.soak_s is None):
        return False
    words = {*re.findall(r"[^\W_]+", f"{config.option.markexpr} {config.option.keyword}")}
    if desk.soak_s is None:
        words |= set(desk.plan.required_suites) - {SOAK}
    if words & waiting:
        return False
    folder = config.invocation_params.dir
    return item.path.resolve() not in {(folder / arg.split("::")[0]).resolve() for arg in config.args}


def _is_soaked(desk: Desk, target: Target | None) -> bool:
    """Return whether a soak is for this model: where the plan gives some a table `soak`, for those alone.

    One that --model names is soaked in any case.
    """
    chosen = {m.name for m in desk.models if m.soak is not None}
    return target is None or not chosen or bool(desk.config.option.hil_model) or target.model.name in chosen


def _read_markers(items: list[pytest.Item]) -> None:
    """Keep with each test the budgets that its markers set; a wrong one ends the call here."""
    problems: list[str] = []
    for item in items:
        levels: dict[pytest.Collector | pytest.Item, list[pytest.Mark]] = {}
        for node, mark in item.iter_markers_with_node(budgets.MARKER):
            levels.setdefault(node, []).append(mark)  # type: ignore[arg-type]
        if not levels:
            continue
        target = _target_of(item)
        model, device_type = (target.model.name, target.device.type.name) if target else ("", "")
        try:
            item.stash[BUDGETS] = budgets.marker_budgets(
                list(levels.values()), model, device_type, item.nodeid.partition("[")[0]
            )
            if "target" not in getattr(item, "fixturenames", ()):
                raise ConfigError("@budget is for a test that measures: it asks for no `target`")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise pytest.UsageError("harness: " + "\n".join(dict.fromkeys(problems)))


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    idle = config.pluginmanager.get_plugin("hypothesispytest")
    if idle is not None and "hypothesis" not in sys.modules:
        # its summary imports all of hypothesis to say nothing (6.170): half a second of every call
        config.pluginmanager.unregister(idle)
    if config.option.collectonly:
        return
    desk = config.stash[DESK]
    wanting = [i for i in session.items if "target" in getattr(i, "fixturenames", ())]
    if wanting and not desk.devices:
        registry = registries.load_registry(
            registries.find_devices_file(config.option.hil_devices_file, Path(config.invocation_params.dir))
        )
        raise pytest.UsageError(
            f"harness: no device given; add --device NAME, one of: {', '.join(registries.names(registry))}."
        )
    if wanting and not desk.models:
        plan = f"name some in {desk.plan.path}" if desk.plan.path else "write a plan (harness init)"
        raise pytest.UsageError(f"harness: no model to measure; add --model FILE, or {plan}.")
    targets = list({t.id: t for i in wanting if (t := _target_of(i)) is not None}.values())
    try:
        beside = [t.baseline.model for t in targets if t.baseline and t.baseline.model]
        models = {m.name: m for m in (*(t.model for t in targets), *beside)}
        selection.require_usable(models.values(), desk.plan.runtimes)
    except ConfigError as error:
        raise pytest.UsageError(f"harness: {error}") from None
    try:
        desk.require_soakable([t for i in wanting if i.get_closest_marker(SOAK) and (t := _target_of(i))])
        desk.require_calibrations(
            [t for i in wanting if "latency_run" in getattr(i, "fixturenames", ()) and (t := _target_of(i))]
        )
    except ConfigError as error:
        raise pytest.UsageError(f"harness: {error}") from None
    if wanting:
        _require_cache()
    desk.start(targets)


def _require_cache() -> None:
    """End the call with HostSetupError's code where the cache's folder can't be made: no run could begin."""
    try:
        cache.root()
    except OSError as error:
        told = HostSetupError(
            f"the cache's folder can't be made: {error.strerror or error}.",
            where=str(error.filename),
            next_step="Make it writable, or set HIL_HARNESS_CACHE to a folder that is.",
        )
        pytest.exit(f"harness: {told}", returncode=told.exit_code)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | list[str]:
    """Say how long several soaks will take: one follows another."""
    desk = config.stash[DESK]
    count = sum(1 for item in items if item.get_closest_marker(SOAK) and _target_of(item) is not None)
    if desk.soak_s is None or count < 2:
        return []
    each, whole = format_duration(desk.soak_s), format_duration(count * desk.soak_s)
    return f"{count} soaks of {each}, one after another: {whole} in all. --model takes one."


def _target_of(item: pytest.Item) -> Target | None:
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("target") if callspec else None
    return found if isinstance(found, Target) else None  # pytest marks "no models" by an object of its own


class _NoBenchmark:
    @pytest.fixture
    def benchmark(self) -> None:
        """Stands in where pytest-benchmark is switched off."""
        return


# -- verdict and exit code


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and not item.stash.get(RUN, False):
        item.config.stash[DESK].foreign_failure = True  # a failure that none of our runs explains
    elif report.when == "call" and report.failed and not _is_ours(report):
        item.config.stash[DESK].foreign_failure = True
    return report  # type: ignore[return-value]


def _is_ours(report: pytest.TestReport) -> bool:
    text = str(report.longrepr)
    return any(text.startswith(f"{v.value}:") for v in FAILING)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    desk = session.config.stash.get(DESK, None)
    if desk is None or desk.session is None:
        return
    desk.termination.cleaning_up = True
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        desk.session.interrupted = True
    try:
        desk.folder = desk.session.finish()
    except HarnessError as error:
        # on a line of its own: pytest's progress has not ended its line
        sys.stderr.write(f"\nharness: the session could not be completed: {error}\n")
        session.exitstatus = error.exit_code
        return
    if desk.session.internal_error:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return
    desk.verdict = gates.session_verdict(desk.results(), interrupted=desk.session.interrupted)
    code = int(exitstatus)
    if desk.usage_error and code not in (2, 3):
        code = int(pytest.ExitCode.USAGE_ERROR)
    desk.exit_code = gates.combine_exit(code, desk.verdict, other_failures=desk.foreign_failure)
    session.exitstatus = desk.exit_code


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    desk = config.stash.get(DESK, None)
    if desk is None or desk.session is None or desk.verdict is None or desk.folder is None:
        return
    release = gates.release_verdict(desk.results(), desk.session.runs, desk.plan)
    write = terminalreporter.write_line
    terminalreporter.section("harness")
    judged = any(result.verdict is not Verdict.NOT_JUDGED for result in desk.results())
    unjudged = "" if judged or desk.verdict is not Verdict.PASS else ": measured, and judged by no budget"
    write(f"session  {desk.verdict.value}  (exit code {desk.exit_code}){unjudged}")
    write(f"release  {release.verdict.value}")
    for line in release.missing[:8]:
        write(f"         {line}")
    if len(release.missing) > 8:
        write(f"         and {len(release.missing) - 8} more, in the report")
    from harness.report.wording import estimate_lines  # with the report: not on the way to the first test

    for line in estimate_lines(desk.results()):
        write(f"estimate {line}")
    write(f"report   {os.path.relpath(desk.folder / 'report.html')}")
    for soak in desk.session.soaks:
        write(f"soak     {soak.soak_id} goes on by itself on its device:")
        write(f"         harness soak attach {soak.soak_id}   collects, judges and stores it")


def pytest_unconfigure(config: pytest.Config) -> None:
    desk = config.stash.get(DESK, None)
    if desk is None:
        return
    try:
        if desk.session is not None:
            desk.session.close()
    finally:
        desk.termination.restore()
        if INTERRUPTS in config.stash:
            config.stash[INTERRUPTS].restore()
