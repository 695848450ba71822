"""Reading TOML against what may be in it: every problem found, in one error.

A `Section` is one table. Each typed getter takes a key, checks it and remembers its name; `finish` then
knows which keys nobody asked for and reports them with the nearest valid one. A problem is collected, not
raised, and the getter returns its default, so one reading finds all of them; `Problems.check` raises.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest
from harness.units import parse_quantity

# what a name in these files may be: it ends up in folder names, TOML keys and messages
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_SECRET_KEYS = re.compile(r"(^|_)(password|passwd|passphrase|secret|token|private_key)(_|$)", re.IGNORECASE)


class Problems:
    """Every problem of one file, each with its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        self.found.append(f"{place}: {what}" if place else what)

    def check(self) -> None:
        """Raise ConfigError with all of them, if there are any."""
        if self.found:
            raise ConfigError(self.found, where=str(self.path))


class Section:
    """One table of a TOML file. `place` is its dotted name, "" for the file itself."""

    def __init__(self, data: Mapping[str, Any], place: str, problems: Problems) -> None:
        self.data = data
        self.place = place
        self.problems = problems
        self._known: set[str] = set()

    def at(self, key: str) -> str:
        """Return the dotted name of `key`, quoted where TOML needs it."""
        shown = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
        return f"{self.place}.{shown}" if self.place else shown

    def problem(self, key: str, what: str) -> None:
        self.problems.add(self.at(key), what)

    def _take(self, key: str, kind: type | tuple[type, ...], expected: str, required: bool) -> Any:
        """Return the value of `key`, None where it is absent or of another kind (then it's a problem)."""
        self._known.add(key)
        if key not in self.data:
            if required:
                self.problem(key, f"is missing; expected {expected}")
            return None
        value = self.data[key]
        # bool is an int in Python, never in TOML
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem(key, f"expected {expected}, got {value!r}")
            return None
        return value

    def text(self, key: str, *, required: bool = False, choices: Iterable[str] = ()) -> str | None:
        allowed = tuple(choices)
        value: str | None = self._take(key, str, "a string", required)
        if value is not None and not value.strip():
            self.problem(key, "is empty")
            return None
        if value is not None and allowed and value not in allowed:
            self.problem(key, _not_one_of(value, allowed))
            return None
        return value

    def texts(self, key: str, *, required: bool = False, choices: Iterable[str] = ()) -> tuple[str, ...]:
        """Return a list of strings, each of them once."""
        allowed = tuple(choices)
        values = self._take(key, list, "a list of strings", required) or []
        kept: list[str] = []
        for value in values:
            if not isinstance(value, str):
                self.problem(key, f"expected a list of strings, got {value!r} in it")
            elif allowed and value not in allowed:
                self.problem(key, _not_one_of(value, allowed))
            elif value in kept:
                self.problem(key, f"{value!r} is there twice")
            else:
                kept.append(value)
        return tuple(kept)

    def arguments(self, key: str) -> tuple[str, ...]:
        """Return an argument list, required: strings in order, repeats and all; () where it is a problem."""
        values = self._take(key, list, "a list of strings", True)
        if values is None:
            return ()
        if not values or not all(isinstance(value, str) for value in values) or not values[0]:
            self.problem(key, f"expected a list of strings, the executable first, got {values!r}")
            return ()
        return tuple(values)

    def integer(self, key: str, *, required: bool = False, at_least: int = 0) -> int | None:
        value: int | None = self._take(key, int, "an integer", required)
        if value is not None and value < at_least:
            self.problem(key, f"expected {at_least} or more, got {value}")
            return None
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._take(key, bool, "true or false", False)
        return value

    def integers(self, key: str, *, at_least: int = 0) -> tuple[int, ...]:
        values = self._take(key, list, "a list of integers", False) or []
        kept: list[int] = []
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
                self.problem(key, f"expected integers of {at_least} or more, got {value!r} in it")
            else:
                kept.append(value)
        return tuple(kept)

    def quantity(
        self, key: str, unit: str, *, required: bool = False, at_least: float | None = None
    ) -> float | None:
        """Return a number in the stored unit `unit`, written plainly or as "48 ms"."""
        self._known.add(key)
        if key not in self.data:
            if required:
                self.problem(key, "is missing")
            return None
        try:
            number = parse_quantity(self.data[key], unit)
        except ConfigError as error:
            self.problem(key, error.what)
            return None
        if at_least is not None and number < at_least:
            self.problem(key, f"expected {at_least:.10g} or more, got {self.data[key]!r}")
            return None
        return number

    def path(self, key: str, *, required: bool = False) -> Path | None:
        """Return a path, relative ones from the file's own folder; `~` is the user's home."""
        value = self.text(key, required=required)
        if value is None:
            return None
        return (self.problems.path.parent / Path(value).expanduser()).resolve()

    def table(self, key: str, *, required: bool = False) -> Section | None:
        value = self._take(key, dict, "a table", required)
        return None if value is None else Section(value, self.at(key), self.problems)

    def tables(self, key: str) -> tuple[tuple[str, Section], ...]:
        """Return the named tables in table `key`: (name, section), in the file's order."""
        outer = self.table(key)
        return () if outer is None else outer.named_tables()

    def named_tables(self) -> tuple[tuple[str, Section], ...]:
        """Return all of this table's keys as named tables; anything else in it is a problem."""
        found = []
        for name in self.data:
            if NAME.fullmatch(name) is None:
                self.problem(name, "a name starts with a letter or digit; `.`, `_` and `-` may follow")
                continue
            section = self.table(name)
            if section is not None:
                found.append((name, section))
        return tuple(found)

    def version(self, readable: int) -> None:
        """Check `schema_version`; a file without one is of the current version."""
        version = self.integer("schema_version", at_least=1)
        if version is not None and version != readable:
            self.problem("schema_version", f"this harness reads {readable}, got {version}")

    def finish(self) -> None:
        """Report every key that no getter asked for."""
        for key in self.data:
            if key in self._known:
                continue
            if _SECRET_KEYS.search(key):
                self.problem(
                    key,
                    "secrets don't belong in this file; let ssh-agent hold the key or name its file with "
                    "`identity_path`, and pass anything else through the environment",
                )
            else:
                self.problem(key, f"unknown key{nearest(key, self._known)}")


def _not_one_of(name: str, valid: tuple[str, ...]) -> str:
    hint = nearest(name, valid)
    return f"{name!r} is not one of {', '.join(valid)}{hint if 'did you mean' in hint else ''}"


_CHECK_PATH = "Check its path; `harness init` writes files to begin with."


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables. Raises ConfigError where it can't be read or isn't TOML."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors put a byte order mark in front
    except FileNotFoundError:
        raise ConfigError("no such file.", where=str(path), next_step=_CHECK_PATH) from None
    except OSError as error:
        why = f"can't be read: {error.strerror or error}."
        raise ConfigError(why, where=str(path), next_step=_CHECK_PATH) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"can't be read: line {line} has a byte, 0x{error.object[error.start]:02x}, that is not UTF-8.",
            where=str(path),
            next_step="Save it as UTF-8, which TOML is.",
        ) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}", where=str(path)) from error
