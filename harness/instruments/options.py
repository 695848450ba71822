"""Keys of an instrument's table that several kinds have, and how they become options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from harness.errors import ConfigError
from harness.instruments.base import Context
from harness.model import Channel, ChannelKind, InstrumentSpec, Mode
from harness.toml_schema import Section

DEFAULT_TIMEOUT_S = 2.0
KIND_NAMES = tuple(kind.value for kind in ChannelKind)
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def parse_common(section: Section, *, rate_hz: float | None, boundary: str) -> dict[str, Any]:
    """Return `rate_hz`, `boundary`, `timeout_s` and `stale_after_s` (None: the kind's default)."""
    return {
        "rate_hz": section.quantity("rate", "Hz", at_least=0.001) or rate_hz,
        "boundary": section.text("boundary") or boundary,
        "timeout_s": section.quantity("timeout_s", "s", at_least=0.05) or DEFAULT_TIMEOUT_S,
        "stale_after_s": section.quantity("stale_after_s", "s", at_least=0),
    }


def parse_uncertainty(section: Section) -> dict[str, Any]:
    """Return `uncertainty_ratio` and `uncertainty_abs` (in the channel's unit), None where not stated."""
    return {
        "uncertainty_ratio": section.quantity("uncertainty", "ratio", at_least=0),
        "uncertainty_abs": section.quantity("uncertainty_abs", "1", at_least=0),
    }


def parse_url(section: Section, key: str) -> str:
    """Return a plain http(s) address without a path; anything else is a problem."""
    text = section.text(key, required=True) or ""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        section.problem(key, f'expected an address as "http://plug-3.lan", got {text!r}')
    elif parts.username or parts.password:
        section.problem(key, "secrets don't belong in this file; name a variable by `password_env`")
    return text.rstrip("/")


def parse_variable(section: Section, key: str) -> str | None:
    """Return the name of an environment variable."""
    name = section.text(key)
    if name is not None and _VARIABLE.fullmatch(name) is None:
        section.problem(key, f"expected the name of an environment variable, got {name!r}")
        return None
    return name


def read_secret(spec: InstrumentSpec, context: Context, key: str) -> str | None:
    """Return the value of the variable that option `key` names; None where none is named.

    Raises ConfigError where it isn't set.
    """
    variable = spec.options.get(key)
    if variable is None:
        return None
    if not context.environ.get(variable):
        raise ConfigError(
            f"the environment variable {variable} is not set.",
            where=spec.where or spec.name,
            next_step=f"Export it, or drop `{key}`.",
        )
    return context.environ[variable]


def make_channel(
    options: Mapping[str, Any], id_: str, site: str, kind: ChannelKind, source: str, **more: Any
) -> Channel:
    """Return a channel with the options that `parse_common` and `parse_uncertainty` gave."""
    values: dict[str, Any] = {
        "mode": Mode.INSTANTANEOUS,
        "rate_hz": options.get("rate_hz"),
        "boundary": options.get("boundary", ""),
        "uncertainty_ratio": options.get("uncertainty_ratio"),
        "uncertainty_abs": options.get("uncertainty_abs"),
        **more,
    }
    return Channel(id=id_, site=site, kind=kind, source=source, **values)
