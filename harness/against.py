"""What --baseline picks: for each chosen model and device, what it is compared with.

`[MODEL=]WHAT`: WHAT is the name of a recorded baseline, a model of the plan, or a file. Without MODEL it is
for every chosen model but itself. A model that no --baseline is for has the plan's `baseline`; `--baseline
none` compares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import baselines, model_files, runtimes
from harness.errors import ConfigError, nearest
from harness.judging import plan_name
from harness.model import Baseline, Device, Plan, PlanModel, RecordedBaseline, RuntimeSpec
from harness.selection import models_key, require_model_file, sanitised

RECORDED_PREFIX = "recorded:"  # tells a recorded baseline from a file or a model of the same name
NONE = "none"
_SEPARATORS = ("/", "\\")


@dataclass(frozen=True)
class Choice:
    """What one --baseline means, before any device: a recorded baseline, a plan's model, or a file."""

    text: str  # WHAT, as it was asked for
    entries: tuple[RecordedBaseline, ...] | None = None  # of a recorded baseline
    model: PlanModel | None = None  # of the plan
    path: Path | None = None
    for_one: bool = False  # MODEL was given, or one model alone is chosen


def choose(
    given: Sequence[str], plan: Plan, models: Sequence[PlanModel], folder: Path
) -> Mapping[str, Choice]:
    """Return what each chosen model is compared with, by its name. `folder` holds the recorded baselines.

    Raises ConfigError with every problem: no such baseline, two for one model, a MODEL that isn't chosen, a
    model that would be compared with itself alone.
    """
    problems: list[str] = []
    chosen: dict[str, Choice] = {}
    if NONE in given:
        if len(given) > 1:
            raise ConfigError(f"`{NONE}` compares nothing: give it alone.", where="--baseline")
        return chosen
    for text in dict.fromkeys(given):
        try:
            wanted, what = _split(text, plan, models, folder)
            choice = replace(_resolve(what, plan, folder), for_one=wanted is not None or len(models) == 1)
            served = [m for m in (wanted or models) if not _is_itself(choice, m)]
            if not served:
                raise ConfigError(_nothing_left(what, wanted, models))
            for model in served:
                if model.name in chosen:
                    first = chosen[model.name].text
                    problems.append(f"two baselines for `{model.name}`: {first} and {what}; it has one.")
                chosen.setdefault(model.name, choice)
        except ConfigError as error:
            problems += error.problems if len(error.problems) > 1 else [str(error)]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), where="--baseline")
    return {**_planned([m for m in models if m.name not in chosen], plan, folder), **chosen}


def _planned(models: Iterable[PlanModel], plan: Plan, folder: Path) -> Mapping[str, Choice]:
    """Return what the plan's own `baseline` keys say of these models; files are relative to the plan's."""
    chosen: dict[str, Choice] = {}
    problems: list[str] = []
    for model in models:
        if model.baseline is None:
            continue
        beside = plan.path.parent / model.baseline if plan.path else Path(model.baseline)
        try:
            what = str(beside.resolve()) if beside.is_file() else model.baseline
            choice = replace(_resolve(what, plan, folder), text=model.baseline, for_one=True)
        except ConfigError as error:
            place = f"models.{plan_name(model.name)}.baseline"
            problems.append(f"{place}: {error} Or compare nothing: --baseline {NONE}.")
            continue
        if not _is_itself(choice, model):
            chosen[model.name] = choice
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), where=str(plan.path))
    return chosen


def _split(
    text: str, plan: Plan, models: Sequence[PlanModel], folder: Path
) -> tuple[list[PlanModel] | None, str]:
    """Return (the models that MODEL= names, WHAT); None where there is no MODEL=."""
    for i in (i for i, c in enumerate(text) if c == "="):
        served = [m for m in models if text[:i] in (m.name, plan_name(m.name))]
        if served and text[i + 1 :]:
            return served, text[i + 1 :]
    name, equals, what = text.partition("=")
    is_file = Path(text).exists() or any(c in name for c in _SEPARATORS)
    if equals and what and not is_file and text not in {m.name for m in plan.models}:
        there = [m.name for m in models]
        raise ConfigError(f"`{name}` is no chosen model{nearest(name, there)}")
    return None, text


def _resolve(what: str, plan: Plan, folder: Path) -> Choice:
    if what.startswith(RECORDED_PREFIX):
        return Choice(what, entries=baselines.read(folder, what.removeprefix(RECORDED_PREFIX)))
    there = baselines.names(folder)
    model = next((m for m in plan.models if m.name == what), None)
    path = Path(what)
    if any(c in what for c in _SEPARATORS):
        require_model_file(path)
        return Choice(what, path=path.resolve())
    if what in there:
        if model is not None or path.exists():
            other = "a model of the plan" if model else "a file here"
            file = str(model.path) if model else f"./{what}"
            raise ConfigError(
                f"`{what}` is a recorded baseline and {other}.",
                next_step=f"Say {RECORDED_PREFIX}{what} for the recorded one, {file} for the other.",
            )
        return Choice(what, entries=baselines.read(folder, what))
    if model is not None:
        return Choice(what, model=model)
    if path.exists():
        require_model_file(path)
        return Choice(what, path=path.resolve())
    known = (*there, *(m.name for m in plan.models))
    hint = nearest(what, known) if known else "; nothing is recorded yet"
    raise ConfigError(
        f"no recorded baseline, model of the plan or file `{what}`{hint}",
        next_step=f"Record one from a finished session: harness baseline set {sanitised(what)}.",
    )


def _is_itself(choice: Choice, model: PlanModel) -> bool:
    """Return whether a plan's model would be compared with itself; two builds of it are two things."""
    if choice.model is None:
        return False
    other = choice.model
    return other.path.resolve() == model.path.resolve() and _runtime_text(other) == _runtime_text(model)


def _runtime_text(model: PlanModel) -> str:
    spec = runtimes.settled(model).runtime
    return str(spec or model_files.DEFAULT_RUNTIMES.get(model_files.format_of(model.path), ""))


def _nothing_left(what: str, wanted: Iterable[PlanModel] | None, models: Sequence[PlanModel]) -> str:
    if not models:
        return f"no model is chosen that `{what}` could be compared with."
    return f"`{what}` would be compared with itself alone: choose a candidate, --model NAME=FILE."


# --- for one device -------------------------------------------------------------------------------


def baselines_for(
    choices: Mapping[str, Choice],
    models: Iterable[PlanModel],
    devices: Iterable[Device],
    folder: Path,
    plan: Plan,
) -> Mapping[tuple[str, str], Baseline]:
    """Return each model's baseline on each device, by (device name, model name).

    A baseline's own model has a name that no other file has. Raises ConfigError, with every problem, where a
    recorded baseline has nothing for a model or unit, StoredRunError where its copy of a file changed.
    """
    models = tuple(models)
    names = {models_key(m): m.name for m in models}
    found: dict[tuple[str, str], Baseline] = {}
    problems: list[str] = []
    for device in devices:
        for model in models:
            if model.name not in choices:
                continue
            try:
                baseline = _baseline(choices[model.name], model, device, folder, plan)
            except ConfigError as error:
                problems.append(str(error))
                continue
            if baseline.model is not None:
                named = replace(baseline.model, name=_own_name(baseline.model, names))
                baseline = replace(baseline, model=named)
            found[device.name, model.name] = baseline
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), where="--baseline")
    return found


def _own_name(model: PlanModel, names: dict[tuple[str, Path, str], str]) -> str:
    """Return a name for a baseline's model, the same for the same file and runtime; add it to `names`."""
    key = models_key(model)
    if key not in names:
        name = plain = sanitised(model.name)
        number = 2
        while name in names.values():
            name, number = f"{plain}-{number}", number + 1
        names[key] = name
    return names[key]


def _baseline(choice: Choice, model: PlanModel, device: Device, folder: Path, plan: Plan) -> Baseline:
    """Return what `model` is compared with on `device`: its inputs and shapes are the candidate's."""
    name = f"{model.name}.baseline"
    if choice.entries is not None:
        entry = _entry_for(choice, model, device)
        path = baselines.use_artifact(folder, entry)
        if path is None:
            return Baseline(choice.text, None, entry)
        own = {command.name for command in plan.runtimes}  # an executable on the device has no version
        spec = RuntimeSpec(entry.runtime, None if entry.runtime in own else entry.runtime_version)
        return Baseline(choice.text, _with_runtime(replace(model, name=name, path=path), spec, model), entry)
    if choice.model is not None:
        inputs = choice.model.inputs_path or model.inputs_path
        return Baseline(choice.text, replace(choice.model, name=name, inputs_path=inputs))
    assert choice.path is not None
    spec_or_none = _runtime_of(model, choice.path, plan)
    beside = _with_runtime(replace(model, name=name, path=choice.path), spec_or_none, model)
    return Baseline(choice.text, beside)


def _with_runtime(beside: PlanModel, spec: RuntimeSpec | None, model: PlanModel) -> PlanModel:
    """Return `beside` with its runtime, and the candidate's options where that is the candidate's too."""
    beside = replace(beside, runtime=spec)
    same = _runtime_text(beside).partition("==")[0] == _runtime_text(model).partition("==")[0]
    return replace(beside, options=model.options if same else {})


def _runtime_of(model: PlanModel, path: Path, plan: Plan) -> RuntimeSpec | None:
    """Return the candidate's runtime where it runs this file too, else None: the file's own default."""
    if model.runtime is None:
        return None
    found = runtimes.descriptors(plan.runtimes).get(model.runtime.name)
    fits = found is not None and runtimes.runs_format(found, model_files.format_of(path))
    return model.runtime if fits else None


def _entry_for(choice: Choice, model: PlanModel, device: Device) -> RecordedBaseline:
    entries = choice.entries or ()
    name = choice.text.removeprefix(RECORDED_PREFIX)
    wanted = plan_name(model.name)
    mine = [e for e in entries if e.model == wanted]
    if not mine and choice.for_one and len({e.model for e in entries}) == 1:
        mine = list(entries)  # there is no doubt which candidate it is for, and it holds one model
    if not mine:
        held = sorted({e.model for e in entries})
        hint = f"; it holds {', '.join(held)}" if held else "; it is empty"
        one = f"say --baseline {wanted}={choice.text}, " if len(held) == 1 and not choice.for_one else ""
        raise ConfigError(
            f"baseline `{name}` has nothing for model `{wanted}`{hint}",
            next_step=f"Give the candidate as --model NAME=FILE, {one}or record it too: "
            f"harness baseline set {name}; --baseline {NONE} compares nothing.",
        )
    here = [e for e in mine if e.device_name == device.name]
    if not here:
        others = ", ".join(sorted({e.device_name for e in mine}))
        raise ConfigError(
            f"baseline `{name}` is another unit's: {wanted} was recorded on {others}.",
            next_step=f"Record one on {device.name}: measure there with --baseline {NONE}, then harness "
            f"baseline set {name}.",
        )
    return here[0]
