"""A scripted driver of a Joulescope: the part of pyjoulescope_driver's interface that is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

EPOCH_S = 1_514_764_800  # of time64
LEVELS = {"p": 4.2, "v": 5.0, "i": 0.84}
CHUNK = 100  # samples a message


class Driver:
    """One JS220, or `paths`. It streams from a thread while a signal's `ctrl` is on."""

    paths: tuple[str, ...] = ("u/js220/000415",)
    lose: frozenset[int] = frozenset()  # numbers of the messages that get lost
    mute = False

    def __init__(self) -> None:
        self.rate_hz = 1_000_000
        self.subscribed: dict[str, Callable[[str, Any], None]] = {}
        self.streams: dict[str, threading.Event] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.finalized = False

    def device_paths(self) -> list[str]:
        return list(self.paths)

    def open(self, path: str, mode: str | None = None) -> None:
        if path not in self.paths:
            raise RuntimeError(f"jsdrv_open {path}: not found")

    def publish(self, topic: str, value: Any) -> None:
        if topic.endswith("/h/fs"):
            self.rate_hz = value
        if not topic.endswith("/ctrl") or self.mute:
            return
        if value:
            ending = self.streams[topic] = threading.Event()
            thread = threading.Thread(target=self._stream, args=(topic, ending), daemon=True)
            self.threads[topic] = thread
            thread.start()
        elif topic in self.streams:
            self.streams.pop(topic).set()
            self.threads.pop(topic).join()

    def _stream(self, topic: str, ending: threading.Event) -> None:
        signal = topic.split("/")[-2]
        factor = 2_000_000 // self.rate_hz  # sample_id counts at 2 MHz
        number = 0
        while not ending.is_set() and number < 2000:
            message = {
                "sample_id": (1000 + number * CHUNK) * factor,
                "sample_rate": 2_000_000,
                "decimate_factor": factor,
                "utc": (number * CHUNK << 30) // self.rate_hz + (7 << 30),
                "data": np.full(CHUNK, LEVELS[signal], np.float32),
            }
            heard = self.subscribed.get(topic.replace("ctrl", "!data"))
            if heard and number not in self.lose:
                heard(topic.replace("ctrl", "!data"), message)
            number += 1
            ending.wait(CHUNK / self.rate_hz)

    def subscribe(self, topic: str, flags: str, fn: Callable[[str, Any], None]) -> None:
        assert flags == "pub"
        self.subscribed[topic] = fn

    def unsubscribe(self, topic: str, fn: Callable[[str, Any], None]) -> None:
        assert self.subscribed.pop(topic) == fn

    def finalize(self) -> None:
        self.finalized = True
