"""`harness deploy`: versions of models on a device; roll back; collect garbage."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import board as boards
from harness import bundles, leases, model_files, runtimes
from harness import deploy as deployment
from harness.cli.devices import open_profile, running_machine
from harness.cli.models import add_runtime_option, find_plan, select_models
from harness.cli.options import DEVICE_HELP, ActionRow, add_actions, add_command, select_one, whole_number
from harness.errors import ConfigError, nearest
from harness.model import Artifact, PlanModel
from harness.progress import Progress
from harness.runtimes.options import require_valid
from harness.selection import sanitised
from harness.units import counted, format_bytes


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "deploy",
        "put models on a device, list versions, roll back",
        "Versions of models on a device. Its store is content-addressed: bytes that are there aren't sent\n"
        "again, a name switches to another version in one step, and versions before it stay until `gc`.",
    )
    rows: Sequence[ActionRow] = (
        ("push", push, "deploy a model file and make it the active version", _PUSH),
        ("list", list_versions, "versions of a model; without one, what is active", _LIST),
        ("rollback", rollback, "make the version before the active one active", _ROLLBACK),
        ("gc", collect, "remove versions that are no longer wanted", _GC),
    )
    for name, action in add_actions(parser, rows, required=True):
        action.add_argument("device", metavar="DEVICE", help=DEVICE_HELP)
        if name == "push":
            _add_push_options(action)
        elif name == "rollback":
            action.add_argument("model", metavar="MODEL", help="its name there")
        elif name == "list":
            action.add_argument("model", metavar="MODEL", nargs="?", help="its name there (default: all)")
        else:
            action.add_argument(
                "--keep-versions",
                type=whole_number(1),
                default=3,
                metavar="N",
                help="newest versions kept of each model (default: %(default)s); the active one always is",
            )


_PUSH = """Send a model, verify it there by its SHA-256 and make it the active version of its name. A model
of several files, as ncnn's .param and .bin, is named by one of them and goes there whole, as the
suites send it: which files belong to it is its runtime's to say."""
_LIST = "List the versions of a model, newest first; without a model, each name's active version."
_ROLLBACK = "Make the version before the active one active again. Twice goes back two versions."
_GC = "Remove versions that are neither active nor among the newest, and leftovers of broken transfers."


def _add_push_options(action: argparse.ArgumentParser) -> None:
    action.add_argument("file", metavar="FILE", help="the model's file, or a model of suites/release.toml")
    action.add_argument(
        "--name",
        metavar="MODEL",
        help="its name there (default: the file's, or the plan's where that is given)",
    )
    action.add_argument(
        "--runtime", metavar="NAME", help="its runtime, where neither its format nor the plan says it"
    )
    add_runtime_option(action)


@contextlib.contextmanager
def _open(args: argparse.Namespace) -> Iterator[boards.Board]:
    """Yield the open device, held meanwhile."""
    device = select_one(args, args.device)
    if device.qemu is not None and running_machine(device) is None:
        raise ConfigError(
            "it is emulated and not up: what is put on it would go with it.",
            where=device.name,
            next_step=f"Start it first: harness devices up {device.name}.",
        )
    with leases.lease(device, purpose=f"harness deploy {args.action}"):
        board = boards.open_board(device, open_profile(device), (), Progress(sys.stderr))
        try:
            yield board
        finally:
            board.close()


def _require_model(board: boards.Board, name: str) -> None:
    active = board.client.request("store_status").args["active"]
    if name not in active:
        raise ConfigError(
            f"no model `{name}` is deployed there{nearest(name, active)}", where=board.device.name
        )


def push(args: argparse.Namespace) -> int:
    artifact = _artifact(args)
    progress = Progress(sys.stderr)
    with _open(args) as board, progress.step(f"{board.device.name}: pushing {artifact.name}"):
        done = deployment.deploy(board.connection, board.client, artifact, progress.bytes)
    sent = f"{format_bytes(artifact.size_bytes)} sent" if done.pushed else "its bytes were there already"
    of = f": {', '.join(artifact.files)}" if artifact.files else ""
    before = f", before it {done.previous_sha256[:12]}" if done.previous_sha256 else ""
    sys.stdout.write(f"{done.name}: {done.sha256[:12]} is active ({sent}{of}{before})\n")
    return 0


def _artifact(args: argparse.Namespace) -> Artifact:
    """Return the model that is asked for, whole. Raises ConfigError.

    A file of a format that no runtime is known for goes as it is: a program on the device may read it.
    """
    _, plan = find_plan(args)
    try:
        (model,) = select_models(
            plan, [args.file], [args.runtime] if args.runtime else [], args.runtime_option
        )
    except ConfigError as why:
        where = "FILE" if why.where == "--model" else why.where
        raise ConfigError(why.problems, where=where, next_step=why.next_step) from why
    if model.path.is_dir():
        raise ConfigError("is a folder, expected a model file.", where=str(model.path))
    artifact = model_files.artifact_of(model.path, _name_there(args, model))
    if model.runtime is None and artifact.format not in model_files.DEFAULT_RUNTIMES:
        return artifact
    alone = replace(model, inputs_path=None, golden_path=None)  # they stay here
    case = replace(model_files.resolve_case(alone), artifact=artifact)
    found = runtimes.descriptor(case.runtime, artifact.format, plan.runtimes)
    require_valid(case.options, found)
    return bundles.with_all_files(case, found).artifact


def _name_there(args: argparse.Namespace, model: PlanModel) -> str:
    """Return what a model is called on the device. Raises ConfigError for a name that no device takes."""
    if args.name is None:
        is_file = model.path == Path(args.file).resolve()
        return sanitised(model.path.name) if is_file else model.name
    name: str = args.name
    if sanitised(name) != name:
        raise ConfigError(
            f"{name!r} can't be a model's name on a device.",
            where="--name",
            next_step=f"Use letters, digits and any of ._=+@-, such as {sanitised(name)}.",
        )
    return name


def list_versions(args: argparse.Namespace) -> int:
    with _open(args) as board:
        if args.model is None:
            active: dict[str, str] = board.client.request("store_status").args["active"]
            for name, sha256 in sorted(active.items()):
                sys.stdout.write(f"{sha256}  {name}\n")
            if not active:
                sys.stdout.write(f"no model is deployed on {board.device.name}\n")
            return 0
        _require_model(board, args.model)
        for version in deployment.versions(board.client, args.model):
            when = datetime.datetime.fromtimestamp(version.activated_at_ns / 1e9, datetime.UTC)
            mark = "active" if version.active else ""
            sys.stdout.write(f"{version.sha256}  {when:%Y-%m-%d %H:%M:%S}Z  {mark}".rstrip() + "\n")
    return 0


def rollback(args: argparse.Namespace) -> int:
    with _open(args) as board:
        _require_model(board, args.model)
        sha256 = deployment.roll_back(board.client, args.model)
    sys.stdout.write(f"{args.model}: {sha256[:12]} is active again\n")
    return 0


def collect(args: argparse.Namespace) -> int:
    with _open(args) as board:
        removed, freed = deployment.collect_garbage(board.client, keep_versions=args.keep_versions)
    sys.stdout.write(f"removed {counted(len(removed), 'version')}, freed {format_bytes(freed)}\n")
    return 0
