"""A runtime's options as a user sets them: in the plan, models.NAME.options, or by --runtime-option.

Which there are and of what type, the runtime's descriptor says (`settable`); what they do is its adapter's
to know.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import ConfigError, nearest
from harness.model import ModelCase, OptionValue
from harness.runtimes.known import RuntimeDescriptor

_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def parse_option(text: str) -> tuple[str, str]:
    """Return (name, value as text) of "empty_weights=true". Raises ConfigError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise ConfigError(f"{text!r} is not an option; expected NAME=VALUE", where="--runtime-option")
    return name.strip(), value.strip()


def require_valid(options: Mapping[str, OptionValue], found: RuntimeDescriptor) -> None:
    """Raise ConfigError, with every problem, unless a runtime has all these options, each of its type."""
    problems: list[str] = []
    for name, value in options.items():
        kind = found.settable.get(name)
        if kind is None:
            problems.append(_unknown(name, found))
        elif not _is_of(value, kind):
            problems.append(
                f"option `{name}` of runtime `{found.name}` is {value!r}, expected {_EXPECTED[kind]}"
            )
    if problems:
        raise ConfigError(problems)


def typed_options(texts: Mapping[str, str], found: RuntimeDescriptor) -> dict[str, OptionValue]:
    """Return those of `texts` that this runtime has, of its types. Raises ConfigError with every problem."""
    options: dict[str, OptionValue] = {}
    problems: list[str] = []
    for name, text in texts.items():
        if name not in found.settable:
            continue
        try:
            options[name] = _read(text, found.settable[name])
        except ValueError:
            expected = _EXPECTED[found.settable[name]]
            problems.append(f"option `{name}` of runtime `{found.name}` is {text!r}, expected {expected}")
    if problems:
        raise ConfigError(problems, where="--runtime-option")
    return options


def require_known(texts: Mapping[str, str], runtimes: Mapping[str, RuntimeDescriptor]) -> None:
    """Raise ConfigError, with every problem, unless each option is one of at least one of the `runtimes`."""
    problems = [
        "; ".join(_unknown(name, found) for found in runtimes.values())
        for name in texts
        if not any(name in found.settable for found in runtimes.values())
    ]
    if problems:
        raise ConfigError(problems, where="--runtime-option")


def runtime_settings(case: ModelCase) -> dict[str, dict[str, OptionValue]]:
    """Return what a run's settings say of the options that a user set: nothing where none were."""
    return {"runtime_options": dict(sorted(case.options.items()))} if case.options else {}


def _unknown(name: str, found: RuntimeDescriptor) -> str:
    hint = nearest(name, found.settable) if found.settable else "; it has none that can be set"
    return f"runtime `{found.name}` has no option `{name}`{hint}"


def _is_of(value: OptionValue, kind: type) -> bool:
    # bool is an int in Python, and a whole number will do where any number does
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def _read(text: str, kind: type) -> OptionValue:
    """Return the value that `text` means. Raises ValueError."""
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    value: OptionValue = kind(text)
    return value
