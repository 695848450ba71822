"""What one pytest call was asked for: devices, models, plan, and the session they are measured in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from harness import against, baselines, leases, model_files, selection
from harness import gate as gates
from harness import plan as plans
from harness import registry as registries
from harness.errors import ConfigError
from harness.model import Baseline, Budget, Device, Plan, PlanModel, Verdict
from harness.progress import Progress
from harness.runtimes.options import parse_option
from harness.selection import Target
from harness.signals import Termination
from harness.soak_settings import parse_duration_s

if TYPE_CHECKING:
    from harness.session import Session


class Desk:
    """What one pytest call was asked for, and its session."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.problem: ConfigError | None = None
        self.devices: tuple[Device, ...] = ()
        self.local: Device | None = None
        self.plan = Plan(None)
        self.models: tuple[PlanModel, ...] = ()
        self.baselines: Mapping[tuple[str, str], Baseline] = {}  # by device and model
        self.session: Session | None = None
        self.usage_error = False
        self.foreign_failure = False
        self.verdict: Verdict | None = None
        self.exit_code = 0
        self.terminal = _terminal()
        self.folder: Path | None = None
        self.reports_dir = Path(config.invocation_params.dir) / "reports"
        self.termination = Termination()
        self.soak_s: float | None = None  # how long --soak asks for

    def read(self) -> None:
        """Read devices.toml and the plan, and settle what is measured on what, and against what.

        Raises ConfigError, StoredRunError where a recorded baseline can't be read.
        """
        option = self.config.option
        self.soak_s = _soak_s(option.hil_soak)
        file = registries.find_devices_file(option.hil_devices_file, Path(self.config.invocation_params.dir))
        registry = registries.load_registry(file)
        self.local = registry.devices.get("local")
        chosen: dict[str, Device] = {}
        for name in option.hil_device or ():
            device = _first_free(registries.select(registry, name))
            chosen.setdefault(device.name, device)
        self.devices = tuple(chosen.values())
        path = self._plan_path(option.hil_plan)
        self.plan = plans.load_plan(path) if path else Plan(None)
        self.reports_dir = self._repository(file, path) / "reports"
        runtimes = [model_files.parse_runtime(text) for text in option.hil_runtime or ()]
        shapes = dict(model_files.parse_shape(text) for text in option.hil_shape or ())
        options = dict(parse_option(text) for text in option.hil_runtime_option or ())
        self.models = selection.select_models(self.plan, option.hil_model or (), runtimes, shapes, options)
        folder = baselines.baselines_dir(self.reports_dir)
        choices = against.choose(option.hil_baseline or (), self.plan, self.models, folder)
        self.baselines = against.baselines_for(choices, self.models, self.devices, folder, self.plan)

    def _plan_path(self, given: str | None) -> Path | None:
        if given:
            return Path(given)
        folders = [Path(str(arg).split("::")[0]) for arg in self.config.args]
        folders = [f if f.is_dir() else f.parent for f in folders]
        for folder in (*folders, self.config.rootpath / "suites"):
            if (folder / "release.toml").is_file():
                return folder / "release.toml"
        return None

    def _repository(self, devices_file: Path, plan_path: Path | None) -> Path:
        """Return the folder that reports/ goes into: devices.toml's, else the plan's suites', else this one.

        Not pytest's rootdir: without an ini file it is the common folder of all arguments, --model's too.
        """
        if not registries.is_packaged(devices_file):
            return devices_file.parent
        if plan_path is not None:
            return plan_path.resolve().parent.parent
        return Path(self.config.invocation_params.dir)

    def targets(self) -> list[Target]:
        return [
            Target(device, model, self.baselines.get((device.name, model.name)))
            for device in self.devices
            for model in self.models
        ]

    def soak_given(self) -> dict[str, Any]:
        """Return what the options set of a soak, over what plan and devices.toml say."""
        return {} if self.soak_s is None else {"duration_s": self.soak_s}

    def require_soakable(self, targets: list[Target]) -> None:
        """Raise ConfigError, with every problem, unless a soak of each target can begin."""
        if not targets:
            return
        from harness import soaking

        problems: list[str] = []
        for target in targets:
            try:
                soaking.check(self.plan, target, self.soak_given())
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)))

    def require_calibrations(self, targets: list[Target]) -> None:
        """Raise ConfigError for a broken calibration of the user's own, where estimates would rest on it."""
        if any(target.device.qemu is not None for target in targets):
            from harness import estimating

            estimating.own_calibrations(self.reports_dir)

    def start(self, targets: list[Target]) -> Session:
        from harness.session import Session, SessionOptions

        option = self.config.option
        writer = self.config.get_terminal_writer()
        self.session = Session(
            SessionOptions(
                reports_dir=self.reports_dir,
                report_dir=Path(option.hil_report_dir) if option.hil_report_dir else None,
                threads=option.hil_threads,
                command=("pytest", *self.config.invocation_params.args),
                soak=self.soak_given(),
            ),
            self.plan,
            targets,
            self.local,
            Progress(self.terminal, column=lambda: writer.width_of_current_line),
        )
        return self.session

    def results(self) -> list[Any]:
        runs = gates.standing_runs(self.session.runs if self.session else ())
        return [r for run in runs for r in gates.results_of(run, self.plan.budgets)]


def _soak_s(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration_s(text)
    except ConfigError as error:
        raise ConfigError(error.what, where="--soak") from None


def _terminal() -> TextIO | None:
    """Return a stream of its own to the terminal, if there is one: pytest redirects stdout during a test."""
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "w") if sys.stdout.isatty() else None
    except (OSError, ValueError):  # stdout is no file here
        return None


def _first_free(candidates: tuple[Device, ...]) -> Device:
    """Return the first unit that nobody holds; where all are held, the first, and its lease says by whom."""
    if len(candidates) == 1:
        return candidates[0]
    held = leases.holders()
    return next((d for d in candidates if d.name not in held), candidates[0])


DESK = pytest.StashKey[Desk]()
RUN = pytest.StashKey[bool]()
BUDGETS = pytest.StashKey[tuple[Budget, ...]]()  # of a test: what its markers set, for its model and device
