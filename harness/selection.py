"""What the options pick: which models, under which name, runtime and shapes; and a test's target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from harness import bundles, model_files, runtimes
from harness.errors import ConfigError, nearest
from harness.model import Baseline, CommandRuntime, Device, Plan, PlanModel, RuntimeSpec
from harness.runtimes import options as runtime_options

MAX_NAME_BYTES = 120  # of the 128 that a device allows: a number may follow


@dataclass(frozen=True)
class Target:
    """What a test is about: one model on one device, and what it is compared with."""

    device: Device
    model: PlanModel
    baseline: Baseline | None = None

    @property
    def id(self) -> str:
        return f"{self.device.name}-{self.model.name}"


def select_models(
    plan: Plan,
    given: Sequence[str],
    wanted: Sequence[RuntimeSpec],
    shapes: Mapping[str, tuple[int, ...]],
    options: Mapping[str, str] = MappingProxyType({}),
) -> tuple[PlanModel, ...]:
    """Return the models to measure: those given, else the plan's; once a runtime where several are named.

    `given` holds files, names of the plan, or NAME=FILE (a candidate measured as the plan's NAME); `options`
    are of the runtimes, name → text, and go over the plan's. Raises ConfigError with every problem.
    """
    problems: list[str] = []
    chosen: list[PlanModel] = []
    for text in given:
        try:
            chosen.append(_model(plan, text))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems, where="--model")
    models = chosen if given else list(plan.models)
    models = [replace(m, shapes={**m.shapes, **shapes}) if shapes else m for m in models]
    models = [runtimes.settled(m) for m in _with_runtimes(models, wanted, plan.runtimes)]
    models = _with_options(models, options, plan.runtimes)
    return tuple(_named_apart(models))


def require_usable(models: Iterable[PlanModel], own: Sequence[CommandRuntime] = ()) -> None:
    """Raise ConfigError, with every problem, unless each model has its files and a runtime for its format."""
    problems: list[str] = []
    for model in models:
        try:
            require_model_file(model.path)
            model = runtimes.settled(model)
            spec = model.runtime or model_files.default_runtime(model_files.format_of(model.path))
            found = runtimes.descriptor(spec, model_files.format_of(model.path), own)
            runtime_options.require_valid(model.options, found)
            bundles.files_of(model.path, model.options, found)
            for what, path in (("inputs", model.inputs_path), ("golden", model.golden_path)):
                if path is not None and not path.is_file():
                    raise ConfigError(f"no such {what} file.", where=str(path))
        except ConfigError as error:
            problems.append(str(error) if error.where else f"{model.path}: {error}")
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))  # a candidate and its baseline share their inputs


def require_model_file(path: Path) -> None:
    """Raise ConfigError unless there is a readable, non-empty file at `path`."""
    if not path.is_file():
        what = "is a folder, not a model file" if path.is_dir() else "no such model file"
        raise ConfigError(f"{what}.", where=str(path), next_step="Check --model, or `path` in the plan.")
    if path.stat().st_size == 0:
        raise ConfigError("the model file is empty.", where=str(path), next_step="Export it again.")


def _model(plan: Plan, text: str) -> PlanModel:
    by_name = {m.name: m for m in plan.models}
    name, equals, file = text.partition("=")
    if equals and name in by_name:
        return replace(by_name[name], path=Path(file).resolve())
    if text in by_name:
        return by_name[text]
    path = Path(text).resolve()
    if not path.exists():
        if equals and name:
            raise ConfigError(
                f"`{name}` is no model of the plan{nearest(name, by_name)}",
                next_step=f"Name it in the plan as models.{name}, or give the file alone: --model {file}.",
            )
        raise ConfigError(
            f"no such model file or plan model: {text}{_hint(text, by_name)}",
            next_step=f"Looked for it as {path}.",
        )
    same = [m for m in plan.models if m.path.resolve() == path]
    if same:
        return same[0]
    return PlanModel(name=path.name.replace("@", "_"), path=path)  # `@` is for name@runtime


def _hint(text: str, names: Mapping[str, PlanModel]) -> str:
    return nearest(text, names) if names else ""


def _with_runtimes(
    models: Sequence[PlanModel], wanted: Sequence[RuntimeSpec], own: Sequence[CommandRuntime]
) -> list[PlanModel]:
    if not wanted:
        return list(models)
    known = runtimes.descriptors(own)
    for spec in wanted:
        if spec.name not in known:
            raise ConfigError(f"unknown runtime `{spec.name}`{nearest(spec.name, known)}", where="--runtime")
    found: list[PlanModel] = []
    for model in models:
        format = model_files.format_of(model.path)
        fitting = [s for s in wanted if runtimes.runs_format(known[s.name], format)]
        if len(fitting) == 1:
            found.append(replace(model, runtime=fitting[0]))
        elif fitting:
            found += [replace(model, name=f"{model.name}@{spec}", runtime=spec) for spec in fitting]
        else:
            found.append(model)  # the options speak of other formats
    if models and all(m.runtime not in wanted for m in found):
        raise ConfigError(
            f"{', '.join(map(str, wanted))} runs none of the chosen models "
            f"({', '.join(sorted({m.path.suffix for m in models}))})",
            where="--runtime",
        )
    return found


def _with_options(
    models: Sequence[PlanModel], texts: Mapping[str, str], own: Sequence[CommandRuntime]
) -> list[PlanModel]:
    """Return the models with the options that the command line gives their runtimes, over the plan's."""
    if not texts:
        return list(models)
    known = runtimes.descriptors(own)
    used: dict[str, runtimes.RuntimeDescriptor] = {}
    found: list[PlanModel] = []
    for model in models:
        name = (model.runtime or model_files.default_runtime(model_files.format_of(model.path))).name
        if name in known:  # one that isn't: `require_usable` says so
            used[name] = known[name]
            given = runtime_options.typed_options(texts, known[name])
            model = replace(model, options={**model.options, **given})
        found.append(model)
    if used:
        runtime_options.require_known(texts, used)
    return found


def _named_apart(models: Sequence[PlanModel]) -> list[PlanModel]:
    """Return each model once, under a name of its own that a device takes as a file's name.

    Files of the same name get their folder's too, and a number where that isn't enough.
    """
    once = list({models_key(m): m for m in models}.values())
    names = [m.name for m in once]
    apart: list[PlanModel] = []
    for model in once:
        name = model.name
        if names.count(name) > 1:
            name = f"{model.path.parent.name}-{name}"
        name = plain = sanitised(name)
        taken = {m.name for m in apart}
        number = 2
        while name in taken:
            name, number = f"{plain}-{number}", number + 1
        apart.append(replace(model, name=name))
    return apart


def sanitised(name: str) -> str:
    """Return `name` as the device takes it (harness/agent/args.py): a plain file name, not too long."""
    plain = re.sub(r"[^\w.@=+-]+", "_", name)
    # the end tells files, and runtimes of one file, apart
    return plain.encode()[-MAX_NAME_BYTES:].decode(errors="ignore").lstrip(".") or "model"


def models_key(model: PlanModel) -> tuple[str, Path, str]:
    """Return what tells two chosen models apart."""
    return (model.name, model.path, str(model.runtime))
