"""From the host's apt sources to the guest's: same mirrors and keys, one fixed suite, arm64.

The guest is Debian 12 on every host, so that its Python (3.11) and the wheels that fit it are the same
everywhere. A Debian host lends its own mirrors; an Ubuntu host uses `DEFAULT_MIRROR` with the keys of the
package debian-archive-keyring. `HIL_HARNESS_DEBIAN_MIRROR` names another mirror on either.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.emulation.host import KEYRING
from harness.errors import HostSetupError

SUITE = "bookworm"
ARCHITECTURE = "arm64"
PYTHON = "3.11"  # of that suite
DEFAULT_MIRROR = "http://deb.debian.org"
ENV_MIRROR = "HIL_HARNESS_DEBIAN_MIRROR"
_NAMED_SUITES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_SUITES = frozenset([*_NAMED_SUITES, "oldoldstable", "oldstable", "stable", "testing", "unstable"])
_SCHEMES = ("http", "https", "mirror+http", "mirror+https", "tor+http", "tor+https")
_SUFFIXES = ("-updates", "-security", "/updates", "-backports", "-proposed-updates")


@dataclass(frozen=True)
class Entry:
    """One archive of the host's apt sources. `options` are lower-case (signed-by, trusted …)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


def parse_one_line(text: str) -> list[Entry]:
    """Return the `deb` entries of a sources.list file (sources.list(5), one-line style)."""
    entries = []
    for raw in text.splitlines():
        words = raw.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        options: list[tuple[str, str]] = []
        if rest and rest[0].startswith("["):
            joined = " ".join(rest)
            inside, _, after = joined[1:].partition("]")
            options = [(k.lower(), v) for k, _, v in (w.partition("=") for w in inside.split())]
            rest = after.split()
        if len(rest) >= 3:
            entries.append(Entry(rest[0], rest[1], tuple(rest[2:]), tuple(options)))
    return entries


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    stanza: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t" and key:
            stanza[key] += "\n" + line
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            stanza[key] = value.strip()


def parse_deb822(text: str) -> list[Entry]:
    """Return the enabled `deb` entries of a .sources file (sources.list(5), deb822 style)."""
    entries = []
    for stanza in _stanzas(text):
        enabled = stanza.get("enabled", "yes").lower() not in ("no", "false", "0")
        if "deb" not in stanza.get("types", "").split() or not enabled:
            continue
        options = tuple((k, stanza[k]) for k in ("signed-by", "trusted") if k in stanza)
        components = tuple(stanza.get("components", "").split())
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                entries.append(Entry(uri, suite, components, options))
    return entries


def read_host_entries(folder: Path = Path("/etc/apt")) -> list[Entry]:
    """Return all entries of the host's apt sources; unreadable files are passed over as apt does."""
    entries: list[Entry] = []
    one_line = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    for path, parse in [
        *((p, parse_one_line) for p in one_line),
        *((p, parse_deb822) for p in sorted((folder / "sources.list.d").glob("*.sources"))),
    ]:
        try:
            entries += parse(path.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, PermissionError):
            continue
    return entries


def _base_suite(suite: str) -> tuple[str, str]:
    for suffix in _SUFFIXES:
        if suite.endswith(suffix):
            return suite[: -len(suffix)], suffix
    return suite, ""


def _trust(entry: Entry) -> int:
    """Return how surely an entry is the Debian archive; 0: it isn't.

    Third parties use the same suite and component names, so the address and the key must speak for it.
    """
    base, _ = _base_suite(entry.suite)
    url = urllib.parse.urlsplit(entry.uri)
    if base not in _SUITES or "main" not in entry.components or url.scheme not in _SCHEMES:
        return 0
    if f".{url.hostname or ''}".endswith(".debian.org"):
        return 3
    signed_by = dict(entry.options).get("signed-by", "")
    if "debian-archive" in signed_by:
        return 2
    return int(not signed_by and base in _NAMED_SUITES and "debian" in url.path)


def debian_mirrors(entries: Iterable[Entry]) -> tuple[Entry | None, Entry | None]:
    """Return the host's (main, security) entries of the Debian archive, None for what it lacks."""
    best: dict[bool, Entry] = {}
    for entry in entries:
        _, suffix = _base_suite(entry.suite)
        security = suffix in ("-security", "/updates")
        if not _trust(entry) or not (security or suffix == ""):
            continue
        if security not in best or _trust(entry) > _trust(best[security]):
            best[security] = entry
    return best.get(False), best.get(True)


def _stanza(uri: str, suites: str, options: Iterable[tuple[str, str]]) -> str:
    fields = {"signed-by": KEYRING, **{k: v for k, v in options if k in ("signed-by", "trusted")}}
    lines = [
        "Types: deb",
        f"URIs: {uri}",
        f"Suites: {suites}",
        "Components: main",
        f"Architectures: {ARCHITECTURE}",
        *(f"{key.title()}: {value}" for key, value in fields.items()),
    ]
    return "\n".join(lines) + "\n"


def guest_sources(entries: Iterable[Entry], *, distribution: str, mirror: str | None = None) -> str:
    """Return the guest's sources file (deb822). `distribution` is the host's os-release ID.

    Raises HostSetupError when a Debian host's sources hold no Debian archive.
    """
    mirror = mirror or os.environ.get(ENV_MIRROR) or None
    main, security = debian_mirrors(entries) if distribution == "debian" else (None, None)
    if mirror is None and main is None and distribution == "debian":
        raise HostSetupError(
            "the host's apt sources hold no Debian archive with component main, so the arm64 image has "
            "nothing to be built from.",
            where="/etc/apt/sources.list.d",
            next_step=f"Add one, or set {ENV_MIRROR}={DEFAULT_MIRROR}.",
        )
    if mirror is not None or main is None:
        base = (mirror or DEFAULT_MIRROR).rstrip("/")
        return (
            _stanza(f"{base}/debian", f"{SUITE} {SUITE}-updates", ())
            + "\n"
            + _stanza(f"{base}/debian-security", f"{SUITE}-security", ())
        )
    text = _stanza(main.uri, f"{SUITE} {SUITE}-updates", main.options)
    if security is not None:
        text += "\n" + _stanza(security.uri, f"{SUITE}-security", security.options)
    return text
