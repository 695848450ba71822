"""`harness devices`: the inventory; check, up, down and ssh."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from harness import board as boards
from harness import registry as registries
from harness.errors import ConfigError, HarnessError, Unsupported
from harness.model import Device
from harness.progress import Progress
from harness.units import format_bytes


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "devices", help="list, check, start, stop or enter devices", description=__doc__
    )
    parser.set_defaults(function=list_devices)
    parser.add_argument(
        "--devices", metavar="FILE", help="the devices.toml (default: searched from here upwards)"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, function, text in (
        ("list", list_devices, "names, types and how they are reached (the default)"),
        ("check", check, "connect and say what is there"),
        ("up", up, "start an emulated device that stays until `down` or its lifetime ends"),
        ("down", down, "stop a device started by `up`"),
        ("ssh", ssh, "open a shell, or run a command, on a device"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(function=function)
        if name != "list":
            action.add_argument("name", nargs="?" if name == "check" else None, help="unit, type or tag:NAME")
        if name == "up":
            action.add_argument(
                "--profile", choices=(boards.FUNCTIONAL, boards.TIMING), default=boards.FUNCTIONAL
            )
            action.add_argument("--hours", type=float, default=8.0, help="its lifetime (default: 8)")
        if name == "ssh":
            action.add_argument("argv", nargs=argparse.REMAINDER, help="command (default: a shell)")


def _registry(args: argparse.Namespace) -> registries.Registry:
    return registries.load_registry(registries.find_devices_file(args.devices, Path.cwd()))


def _one(args: argparse.Namespace) -> Device:
    return registries.select(_registry(args), args.name)[0]


def list_devices(args: argparse.Namespace) -> int:
    from harness import emulation

    running = {m.name: m for m in emulation.list_machines()}
    rows: list[tuple[str, ...]] = []
    for device in _registry(args).devices.values():
        state = _state(running[device.name]) if device.name in running else ""
        rows.append((device.name, device.type.name, device.kind, _address(device), state))
    _print_table(("name", "type", "kind", "address", "state"), rows)
    return 0


def _state(machine: Any) -> str:
    hours = machine.seconds_left / 3600
    return f"{machine.state} ({machine.profile}, port {machine.ssh_port}, {hours:.1f} h left)"


def _is_up(name: str) -> bool:
    from harness import emulation

    return any(m.name == name for m in emulation.list_machines())


def _address(device: Device) -> str:
    if device.ssh:
        user = f"{device.ssh.user}@" if device.ssh.user else ""
        return f"{user}{device.ssh.host}:{device.ssh.port}"
    return "emulated" if device.qemu else "this host"


def check(args: argparse.Namespace) -> int:
    """Connect to each device and print what it is; the exit code is the worst error's."""
    registry = _registry(args)
    devices = registries.select(registry, args.name) if args.name else tuple(registry.devices.values())
    worst = 0
    for device in devices:
        try:
            board = boards.open_board(
                device, boards.profile_for(device, boards.FUNCTIONAL), (), Progress(sys.stderr)
            )
        except HarnessError as error:
            sys.stdout.write(f"{device.name}: NOT OK  {error}\n")
            worst = worst or error.exit_code
            continue
        try:
            d = board.facts.details
            free = int(board.client.request("store_status").args["free_bytes"])
            sys.stdout.write(
                f"{device.name}: ok  {d.get('model') or board.facts.platform}, {d['cpus']} cores, "
                f"{format_bytes(d['ram_bytes'])} RAM, {format_bytes(free)} free, "
                f"kernel {d['kernel']}, Python {d['python']}\n"
            )
        finally:
            board.close()
    return worst


def up(args: argparse.Namespace) -> int:
    """Start a supervised emulated machine, or say that it runs already."""
    from harness import emulation

    device = _one(args)
    board = _emulated(device)
    if _is_up(device.name):
        machine = emulation.find_machine(device.name)
    else:
        progress = Progress(sys.stderr)
        with progress.step(f"{device.name}: starting"):
            image = emulation.build_image(board, progress.share)
            machine = emulation.start(
                image,
                board,
                name=device.name,
                profile=emulation.Profile(args.profile),
                supervised=True,
                lifetime_s=args.hours * 3600,
                progress=progress.share,
            )
    sys.stdout.write(
        f"{device.name}: up on port {machine.ssh_port}; enter it: harness devices ssh {device.name}\n"
    )
    return 0


def down(args: argparse.Namespace) -> int:
    from harness import emulation

    device = _one(args)
    _emulated(device)
    emulation.stop_machine(device.name)
    sys.stdout.write(f"{device.name}: down\n")
    return 0


def ssh(args: argparse.Namespace) -> int:
    """Replace this process by ssh to the device, its host key verified."""
    from harness import emulation
    from harness.connect.openssh import ssh_argv
    from harness.connect.qemu import compute_address

    device = _one(args)
    if device.kind == "local":
        raise Unsupported("this is the host itself.", where=device.name)
    address = device.ssh
    if device.qemu:
        address = compute_address(emulation.find_machine(device.name))
    if address is None:
        raise Unsupported("it has no SSH address.", where=device.name)
    argv = ssh_argv(address, args.argv)
    os.execvp(argv[0], argv)


def _emulated(device: Device) -> Any:
    if device.qemu is None:
        raise ConfigError(
            f"its kind is {device.kind}; only emulated devices go up and down.",
            where=device.name,
        )
    return device.qemu


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
