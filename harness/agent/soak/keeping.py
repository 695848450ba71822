"""What soaks that haven't ended still need of the store: it isn't removed under them."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterator, Set

from .folder import SoakFolder, list_ids

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def needed_hashes(home: str) -> Set[str]:
    """Return the hashes of objects and environments that soaks use, running or to be resumed."""
    found: Set[str] = set()
    for soak_id in list_ids(home):
        folder = SoakFolder(home, soak_id)
        if folder.living_runner() is not None or folder.end().ended is None:
            for variant in _variants(folder.read_object("spec.json")):
                paths = [str(variant.get(key) or "") for key in ("model_path", "npz_path")]
                # a bundle's files lie in a folder of its name
                names = [part for path in paths for part in os.path.realpath(path).split(os.sep)]
                found.update(name for name in [*names, str(variant.get("env"))] if _SHA256.match(name))
    return found


def _variants(spec: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    for stream in spec.get("streams", []):
        yield from stream.get("variants", [])
