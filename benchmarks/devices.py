"""The devices that the items measure on, and the demo model made ready there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import ROOT
from harness import model_files, registry, runtimes
from harness.board import Board, RuntimeRequest
from harness.measure.bench import Bench
from harness.measure.prepare import prepare
from harness.model import Device, DeviceType, ModelCase, PlanModel
from harness.progress import Progress

MODEL = ROOT / "models" / "digits_fp32.onnx"
SMALL_MODEL = ROOT / "models" / "digits_int8.onnx"
INPUTS = ROOT / "models" / "digits_test.npz"
EMULATED = "rpi4-emulated"  # in devices.toml


def quiet() -> Progress:
    """Return a progress that says nothing."""
    return Progress(None)


def emulated_device() -> Device:
    """Return the emulated Pi of devices.toml."""
    return registry.load_registry(ROOT / "devices.toml").devices[EMULATED]


def local_device(home: Path, cpus: tuple[int, ...] = ()) -> Device:
    """Return this host as a device that lives in `home`."""
    return Device("local", DeviceType("local"), "local", home=str(home), pinned_cpus=cpus)


def resolve(model: Path) -> ModelCase:
    """Return a demo model with its inputs."""
    return model_files.resolve_case(PlanModel(model.stem, model, inputs_path=INPUTS))


def request_of(case: ModelCase) -> RuntimeRequest:
    """Return what `open_board` is asked for, so that the board has the case's runtime."""
    return case.runtime, runtimes.descriptor(case.runtime, case.artifact.format)


def ready(board: Board, case: ModelCase) -> Bench:
    """Return the case deployed on the board, one thread."""
    found = runtimes.descriptor(case.runtime, case.artifact.format)
    return prepare(board, case, found, threads=1, progress=quiet())


def site_of(bench: Bench) -> str:
    """Return where the bench's runtime environment is on its device (docs/agent-protocol.md, The store)."""
    return f"{bench.board.connection.home()}/envs/{bench.env.sha256}/site"


@contextlib.contextmanager
def closing(board: Board) -> Iterator[Board]:
    """Close the board at the end of the block."""
    try:
        yield board
    finally:
        board.close()
