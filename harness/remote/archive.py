"""The agent as the one file that is pushed to a device."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

AGENT_FOLDER = Path(__file__).parent.parent / "agent"


def build_archive() -> tuple[bytes, str]:
    """Return the agent as a zip that Python runs, and its SHA-256. Same sources, same bytes."""
    buffer = io.BytesIO()
    # stored, not deflated: the bytes then don't depend on the host's zlib
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", (AGENT_FOLDER / "bootstrap.py").read_bytes())
        for path in sorted(AGENT_FOLDER.rglob("*.py")):
            _add(archive, "hil_agent/" + path.relative_to(AGENT_FOLDER).as_posix(), path.read_bytes())
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)
