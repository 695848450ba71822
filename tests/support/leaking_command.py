"""A runtime for tests that leaks on purpose. It speaks json-lines (docs/agent-protocol.md), stdlib only.

    leaking_command.py [--leak BYTES] [--drop-every CALLS] [--files-every CALLS] [--work NS]

Each call keeps BYTES that it has written to. `--drop-every` lets go of all of them every so many calls: a
cache that fills and is emptied, a sawtooth without a leak. `--files-every` leaves a file open every so many
calls. A call computes for about `--work` ns (100 µs) of its own clock.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import sys
import time

FLAGS = ("--leak", "--drop-every", "--files-every", "--work")


class Runtime:
    """The model: y = x, slowly."""

    def __init__(self, options: dict[str, int]) -> None:
        self.leak_bytes = options.get("--leak", 0)
        self.drop_every = options.get("--drop-every", 0)
        self.files_every = options.get("--files-every", 0)
        self.work_ns = options.get("--work", 100_000)
        self.calls = 0
        self.kept: list[bytes | mmap.mmap] = []
        self.files: list[int] = []
        self.data = b""

    def call(self) -> int:
        """Return the time of one call in ns."""
        begin = time.perf_counter_ns()
        self.calls += 1
        if self.leak_bytes:
            self.kept.append(self._allocate())
        if self.drop_every and self.calls % self.drop_every == 0:
            for piece in self.kept:
                if isinstance(piece, mmap.mmap):
                    piece.close()
            self.kept.clear()
        if self.files_every and self.calls % self.files_every == 0:
            self.files.append(os.open(os.devnull, os.O_RDONLY))
        while time.perf_counter_ns() - begin < self.work_ns:
            pass
        return time.perf_counter_ns() - begin

    def _allocate(self) -> bytes | mmap.mmap:
        if not self.drop_every:
            return b"\1" * self.leak_bytes
        # pages of its own, so that letting go gives them back whatever the allocator keeps
        piece = mmap.mmap(-1, self.leak_bytes)
        piece.write(b"\1" * self.leak_bytes)
        return piece

    def answer(self, request: dict[str, object]) -> dict[str, object]:
        """Return the answer to one request."""
        op = request["op"]
        if op == "load":
            spec = {"shape": [None, 4], "dtype": "float32"}
            return {"inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}], "version": "1"}
        if op == "feed":
            (entry,) = request["arrays"]  # type: ignore[misc]
            with open(str(request["path"]), "rb") as file:
                file.seek(entry["offset"])
                self.data = file.read(entry["nbytes"])
            return {}
        if op == "run":
            return {"latency_ns": [self.call() for _ in range(int(str(request["count"])))]}
        if op == "read":
            with open(str(request["path"]), "wb") as file:
                file.write(self.data)
            shape = [len(array.array("f", self.data)) // 4, 4]
            size = len(self.data)
            return {
                "arrays": [{"name": "y", "dtype": "float32", "shape": shape, "offset": 0, "nbytes": size}]
            }
        return {"ok": False, "message": f"no op `{op}`"}


def main() -> None:
    """Answer requests until stdin ends."""
    names, values = sys.argv[1::2], sys.argv[2::2]
    unknown = sorted(set(names) - set(FLAGS))
    if unknown or len(names) != len(values):
        raise SystemExit(f"{sys.argv[0]}: {sys.argv[1:]}, expected pairs of {', '.join(FLAGS)} and a number")
    runtime = Runtime({name: int(value) for name, value in zip(names, values, strict=True)})
    for line in sys.stdin:
        sys.stdout.write(json.dumps({"ok": True} | runtime.answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
