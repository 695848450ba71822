"""`harness deploy`: versions of models on a device; roll back; collect garbage."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

from harness import board as boards
from harness import deploy as deployment
from harness import model_files
from harness import registry as registries
from harness.model import Artifact
from harness.progress import Progress
from harness.units import format_bytes


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "deploy", help="put models on a device, list versions, roll back", description=__doc__
    )
    parser.add_argument(
        "--devices", metavar="FILE", help="the devices.toml (default: searched from here upwards)"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, function, text, extra in (
        ("push", push, "deploy a model file and make it the active version", ("model",)),
        (
            "list",
            list_versions,
            "versions of a model, newest first; without a model, what is active",
            ("model?",),
        ),
        ("rollback", rollback, "make the version before the active one active again", ("model",)),
        ("gc", collect, "remove what no model has used lately", ()),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("device", help="unit, type or tag:NAME")
        for argument in extra:
            if argument.endswith("?"):
                action.add_argument(argument[:-1], nargs="?", help="name of the model")
            else:
                action.add_argument(argument, help="file" if name == "push" else "name of the model")
        if name == "push":
            action.add_argument("--name", help="name of the model (default: the file's)")
        if name == "gc":
            action.add_argument(
                "--keep-versions", type=int, default=3, help="versions kept of each model (default: 3)"
            )
        action.set_defaults(function=function)


def _open(args: argparse.Namespace) -> boards.Board:
    registry = registries.load_registry(registries.find_devices_file(args.devices, Path.cwd()))
    device = registries.select(registry, args.device)[0]
    return boards.open_board(device, boards.profile_for(device, boards.FUNCTIONAL), (), Progress(sys.stderr))


def push(args: argparse.Namespace) -> int:
    artifact: Artifact = model_files.artifact_of(Path(args.model), args.name)
    board = _open(args)
    try:
        done = deployment.deploy(board.connection, board.client, artifact)
    finally:
        board.close()
    sent = "sent" if done.pushed else "already there"
    sys.stdout.write(
        f"{done.name}: {done.sha256[:12]} is active ({sent}, {format_bytes(artifact.size_bytes)})\n"
    )
    return 0


def list_versions(args: argparse.Namespace) -> int:
    board = _open(args)
    try:
        if args.model is None:
            for name, sha256 in sorted(board.client.request("store_status").args["active"].items()):
                sys.stdout.write(f"{name}  {sha256}\n")
            return 0
        for version in deployment.versions(board.client, args.model):
            when = datetime.datetime.fromtimestamp(version.activated_at_ns / 1e9, datetime.UTC)
            mark = "active" if version.active else ""
            sys.stdout.write(f"{version.sha256}  {when:%Y-%m-%d %H:%M:%S}Z  {mark}".rstrip() + "\n")
        return 0
    finally:
        board.close()


def rollback(args: argparse.Namespace) -> int:
    board = _open(args)
    try:
        sha256 = deployment.roll_back(board.client, args.model)
    finally:
        board.close()
    sys.stdout.write(f"{args.model}: {sha256[:12]} is active again\n")
    return 0


def collect(args: argparse.Namespace) -> int:
    board = _open(args)
    try:
        removed, freed = deployment.collect_garbage(board.client, keep_versions=args.keep_versions)
    finally:
        board.close()
    sys.stdout.write(f"removed {len(removed)} objects, freed {format_bytes(freed)}\n")
    return 0
