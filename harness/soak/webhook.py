"""Tells a URL of an alert: one POST of JSON. A failure is an answer, never an exception: the soak goes on.

The URL may hold a secret, as most chat services' do. So it comes from the environment variable that the plan
names, and nothing here puts it into a message, a record or a file.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from harness.errors import ConfigError

TIMEOUT_S = 10.0  # chosen: longer than any chat service takes, and a collector's visit waits so long


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a POST that is followed as a GET loses what it carries, without a word."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def webhook_url(variable: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the URL in an environment variable. Raises ConfigError, which shows none of it."""
    value = (os.environ if environ is None else environ).get(variable, "").strip()
    if not value:
        raise ConfigError(
            f"soak.webhook_env names ${variable}, which isn't set.",
            where="soak",
            next_step=f"Put the URL there, or leave webhook_env out: export {variable}=https://…",
        )
    if not is_url(value):
        raise ConfigError(f"${variable} holds no http:// or https:// URL.", where="soak")
    return value


def is_url(text: str) -> bool:
    """Return whether `text` is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        return False


def post(url: str, message: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> str:
    """POST `message` as JSON; return "" when it was taken, else why not, without the URL."""
    try:
        request = urllib.request.Request(
            url,
            data=json.dumps(message).encode(),
            headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "hil-harness"},
            method="POST",
        )
        with _OPENER.open(request, timeout=timeout_s) as answer:
            status = int(answer.status)
        return "" if 200 <= status < 300 else f"answered {status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except urllib.error.URLError as error:
        return f"can't be reached: {type(error.reason).__name__}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"can't be reached: {type(error).__name__}"


def alert_message(
    soak_id: str, device: str, rule: str, text: str, *, aborted: bool, t_s: float
) -> dict[str, Any]:
    """Return what is posted of an alert.

    `text` says which rule fired and when. Chat services show the message's key of that name.
    """
    ending = " The soak was stopped." if aborted else ""
    return {
        "text": f"Soak {soak_id} on {device}, {text}.{ending}",
        "soak": soak_id,
        "device": device,
        "rule": rule,
        "aborted": aborted,
        "soak_time_s": t_s,
    }
