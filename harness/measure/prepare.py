"""Make a model ready on a board: environment, deployment, signature, inputs. The way to every Bench."""

from __future__ import annotations

from harness import deploy, runtimes
from harness.board import Board
from harness.errors import ConfigError
from harness.measure.bench import Bench, Look
from harness.measure.inputs import Inputs, load_inputs, make_inputs
from harness.model import ModelCase, Signature
from harness.progress import Progress
from harness.runtimes import Environment, RuntimeDescriptor


def prepare(
    board: Board,
    case: ModelCase,
    found: RuntimeDescriptor,
    *,
    threads: int,
    progress: Progress,
    known: Look | None = None,
) -> Bench:
    """Return `case` deployed and active on `board`, with its inputs pushed.

    `known` spares the look into the model where another board gave it already. Raises ModelRejected
    when the runtime won't load it, ConfigError when the inputs don't fit.
    """
    env = runtimes.environment(case.runtime, found, board.platform, progress.say)
    board.install(env, progress)
    with progress.step(f"{board.device.name}: pushing {case.name}"):
        deployed = deploy.deploy(board.connection, board.client, case.artifact, progress.bytes)
    look = known or _look(board, case, found, env, deployed.path, threads, progress)
    return Bench(
        board=board,
        case=case,
        runtime=found,
        env=env,
        deployed=deployed,
        look=look,
        inputs_path=board.push_bytes(look.inputs.data, look.inputs.sha256),
        threads=threads,
        progress=progress,
    )


def _look(
    board: Board,
    case: ModelCase,
    found: RuntimeDescriptor,
    env: Environment,
    model_path: str,
    threads: int,
    progress: Progress,
) -> Look:
    progress.say("reading its signature")
    child = board.client.spawn("signature", env=env.sha256, adapter=env.adapter)
    try:
        loaded = child.load(model_path, threads=threads, options={**found.options, **case.options})
    finally:
        child.close()
    inputs = _inputs(case, found, loaded.signature)
    return Look(loaded.signature, inputs, loaded.quantised, child.runtime_version)


def _inputs(case: ModelCase, found: RuntimeDescriptor, signature: Signature) -> Inputs:
    if not signature.inputs and found.adapter != "command":  # an executable may make its own
        raise ConfigError("the model has no inputs, so there is nothing to feed it.", where=case.name)
    if case.inputs_path is not None and signature.inputs:
        return load_inputs(case.inputs_path, signature, case.shapes)
    return make_inputs(signature, case.shapes, case.name)
