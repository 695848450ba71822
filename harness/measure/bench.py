"""What every measurement works with: a model made ready on a board, and what comes out of measuring it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.board import Board
from harness.deploy import Deployed
from harness.measure.inputs import Inputs
from harness.model import Comparison, Condition, Fidelity, Measurement, ModelCase, Series, Signature
from harness.progress import Progress
from harness.remote import Child
from harness.runtimes import Environment, RuntimeDescriptor


@dataclass(frozen=True)
class Look:
    """What one look into the model gave; the same on every board.

    `quantised` says whether it computes in integers inside, None where the runtime doesn't tell. A command
    that makes its own inputs has a signature without any.
    """

    signature: Signature
    inputs: Inputs
    quantised: bool | None
    runtime_version: str


@dataclass(frozen=True)
class Bench:
    """A deployed model on an open board, with its inputs there too."""

    board: Board
    case: ModelCase
    runtime: RuntimeDescriptor
    env: Environment
    deployed: Deployed
    look: Look
    inputs_path: str  # on the device
    threads: int
    progress: Progress

    @property
    def signature(self) -> Signature:
        return self.look.signature

    @property
    def inputs(self) -> Inputs:
        return self.look.inputs

    @property
    def time_fidelity(self) -> Fidelity | None:
        """Return the fidelity of times on this board; None where its clock says nothing."""
        return self.board.time_fidelity

    @contextmanager
    def child(
        self,
        name: str,
        *,
        batch_size: int = 1,
        cpus: Sequence[int] | None = None,
        cgroup: Mapping[str, int] | None = None,
        threads: int | None = None,
    ) -> Iterator[tuple[Child, int]]:
        """Yield a fresh process with the model loaded and inputs set, and its load time in ns.

        It runs on `cpus`; None: on those that the device's entry pins. `cgroup` limits it as in
        `AgentClient.spawn`. `threads` are the runtime's; None: those of the bench.
        """
        wanted = self.board.device.pinned_cpus if cpus is None else tuple(cpus)
        child = self.board.client.spawn(
            name, env=self.env.sha256, adapter=self.env.adapter, cpus=wanted, cgroup=cgroup
        )
        try:
            loaded = child.load(self.deployed.path, threads=threads or self.threads, options=self.options())
            if self.signature.inputs or batch_size > 1:  # a command may make its own
                child.set_inputs(npz_path=self.inputs_path, batch_size=batch_size)
            yield child, loaded.load_time_ns
        finally:
            child.close()

    def options(self) -> dict[str, Any]:
        """Return what the adapter's `load` gets: the runtime's options, the user's, and shapes they fixed."""
        shapes = {name: list(shape) for name, shape in self.case.shapes.items()}
        return {**self.runtime.options, **self.case.options, **({"shapes": shapes} if shapes else {})}


@dataclass(frozen=True)
class Observation:
    """What one measurement brought back; session.py makes a Run of it."""

    measurements: tuple[Measurement, ...] = ()
    series: tuple[Series, ...] = ()
    conditions: tuple[Condition, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    scenario: str | None = None
    log: str = ""
    comparisons: tuple[Comparison, ...] = ()
    invalid: str = ""  # why the evidence is incomplete, so that the run says nothing
