"""`harness devices`: the inventory; check, calibrate, fit, capture, chamber, up, down and ssh."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from harness import board as boards
from harness import leases
from harness import registry as registries
from harness.cli import calibrate, capture, chamber, fit
from harness.cli.check_instruments import describe_instruments
from harness.cli.console import exit_code_of
from harness.cli.options import (
    DEVICE_HELP,
    ActionRow,
    add_actions,
    add_command,
    load_registry,
    positive_number,
    print_table,
    select_one,
)
from harness.errors import ConfigError, HarnessError
from harness.model import Device
from harness.progress import Progress
from harness.units import counted, format_bytes

DEFAULT_HOURS = 8.0


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "devices",
        "list, check, start, stop or enter devices",
        "The devices of devices.toml: list them, check them, enter them; start and stop emulated ones.",
    )
    parser.set_defaults(function=list_devices)
    rows: Sequence[ActionRow] = (
        ("list", list_devices, "names, types, addresses, who holds them (the default)", _LIST),
        ("check", check, "connect and say what is there", _CHECK),
        (
            "calibrate",
            calibrate.calibrate,
            "say how often it would cry wolf, and what it would miss",
            calibrate.DESCRIPTION,
        ),
        ("fit", fit.run, "calibrate estimates of milliseconds against a real board", fit.DESCRIPTION),
        ("capture", capture.run, "copy what its sensors' files hold", capture.DESCRIPTION),
        ("chamber", chamber.run, "run a command at several temperatures", chamber.DESCRIPTION),
        ("up", up, "start an emulated device and keep it", _UP),
        ("down", down, "stop a device that `up` started", _DOWN),
        ("ssh", ssh, "open a shell on a device, or run a command there", _SSH),
    )
    for name, action in add_actions(parser, rows):
        if name == "check":
            action.add_argument("name", nargs="?", metavar="NAME", help="(default: every device)")
        elif name != "list":
            action.add_argument("name", metavar="NAME", help=DEVICE_HELP)
        if name == "calibrate":
            calibrate.add_options(action)
        if name == "fit":
            fit.add_options(action)
        if name == "capture":
            capture.add_options(action)
        if name == "chamber":
            chamber.add_options(action)
        if name == "up":
            action.add_argument(
                "--profile",
                choices=(boards.FUNCTIONAL, boards.TIMING),
                default=boards.FUNCTIONAL,
                help="timing: one core, a deterministic clock (default: %(default)s)",
            )
            action.add_argument(
                "--hours",
                type=positive_number,
                default=DEFAULT_HOURS,
                help="its lifetime (default: %(default)g)",
            )
        if name == "ssh":
            action.add_argument(
                "argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="(default: a shell)"
            )


_LIST = "List the devices of devices.toml: how each is reached, whether it is up, and who holds it."
_CHECK = """Connect to a device, or to each, start the agent there and print what it is and what its
instruments read. An emulated one that isn't up is booted for it. The exit code is the first failure's
(docs/errors.md)."""
_UP = """Start an emulated device that stays until `down` or the end of its lifetime. Sessions and
`deploy` use it as it is. `up` of one that is up already prolongs its lifetime."""
_DOWN = "Stop an emulated device that `up` started. Its disk goes with it."
_SSH = """Open a shell on a device, or run a command there, its host key verified. The exit code is ssh's:

    harness devices ssh rpi4 -- uname -m"""


def list_devices(args: argparse.Namespace) -> int:
    from harness import emulation

    running = {m.name: m for m in emulation.list_machines()}
    held = leases.holders()
    rows: list[tuple[str, ...]] = []
    for device in load_registry(args).devices.values():
        states = []
        if device.name in running:
            states.append(_state(running[device.name]))
        if device.name in held:
            states.append(f"held by {held[device.name]}")
        rows.append((device.name, device.type.name, device.kind, _address(device), "; ".join(states)))
    print_table(("name", "type", "kind", "address", "state"), rows)
    return 0


def _state(machine: Any) -> str:
    hours = machine.seconds_left / 3600
    if machine.state != "running":
        return str(machine.state)
    return f"up ({machine.profile}, port {machine.ssh_port}, {hours:.1f} h left)"


def _address(device: Device) -> str:
    if device.ssh:
        user = f"{device.ssh.user}@" if device.ssh.user else ""
        return f"{user}{device.ssh.host}:{device.ssh.port}"
    return "emulated" if device.qemu else "this host"


def check(args: argparse.Namespace) -> int:
    """Connect to each device and print what it is; return the first failure's exit code."""
    registry = load_registry(args)
    devices = registries.select(registry, args.name) if args.name else tuple(registry.devices.values())
    first_failure = 0
    for device in devices:
        try:
            line = _describe(device)
        except HarnessError as error:
            line = f"{device.name}: NOT OK  {_without_name(error, device.name)}"
            first_failure = first_failure or exit_code_of(error)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return first_failure


def _without_name(error: HarnessError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def _describe(device: Device) -> str:
    """Open the device, which nobody else may hold, and return a line about it."""
    with leases.lease(device, purpose="harness devices check"):
        board = boards.open_board(device, open_profile(device), (), Progress(sys.stderr))
        try:
            d = board.facts.details
            free = int(board.client.request("store_status").args["free_bytes"])
            readings = "".join(f"\n{line}" for line in describe_instruments(board))
        finally:
            board.close()
    return (
        f"{device.name}: ok  {d.get('model') or board.facts.platform}, {counted(len(d['cpus']), 'core')}, "
        f"{format_bytes(d['ram_bytes'])} RAM, {format_bytes(free)} free, "
        f"kernel {d['kernel']}, Python {d['python']}{readings}"
    )


def open_profile(device: Device) -> str:
    """Return the profile to open a device in: that of its machine which is up, else the functional one."""
    machine = running_machine(device)
    return str(machine.profile) if machine else boards.profile_for(device, boards.FUNCTIONAL)


def running_machine(device: Device) -> Any:
    """Return what is known of the device's supervised machine; None where none runs."""
    from harness import emulation

    if device.qemu is None:
        return None
    found = (m for m in emulation.list_machines() if m.name == device.name and m.state == "running")
    return next(found, None)


def up(args: argparse.Namespace) -> int:
    """Start a supervised emulated machine, or prolong the one that runs already."""
    from harness import counting, emulation

    device = select_one(args, args.name)
    board = _emulated(device)
    machine = running_machine(device)
    if machine and machine.profile != args.profile:
        raise ConfigError(
            f"it is up in the {machine.profile} profile, and has one at a time.",
            where=device.name,
            next_step=f"Stop it first: harness devices down {device.name}.",
        )
    if machine:
        emulation.extend_lease(device.name, args.hours * 3600)
    else:
        plugin, why_not = counting.plugin_for(device, args.profile)
        if why_not:
            sys.stderr.write(f"{device.name}: {why_not}\n")
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
                extra_arguments=plugin,
            )
    sys.stdout.write(
        f"{device.name}: up on port {machine.ssh_port} for {args.hours:g} h; "
        f"enter it: harness devices ssh {device.name}\n"
    )
    return 0


def down(args: argparse.Namespace) -> int:
    from harness import emulation

    device = select_one(args, args.name)
    _emulated(device)
    emulation.stop_machine(device.name)
    sys.stdout.write(f"{device.name}: down\n")
    return 0


def ssh(args: argparse.Namespace) -> int:
    """Replace this process by ssh to the device, its host key verified."""
    from harness import emulation
    from harness.connect.openssh import ssh_argv
    from harness.connect.qemu import compute_address

    device = select_one(args, args.name)
    if device.kind == "local":
        raise ConfigError("this is the host itself; there is nothing to connect to.", where=device.name)
    address = device.ssh
    if device.qemu:
        address = compute_address(emulation.find_machine(device.name))
    if address is None:
        raise ConfigError(f"its kind is {device.kind}, which has no SSH address.", where=device.name)
    command = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    argv = ssh_argv(address, command)
    os.execvp(argv[0], argv)


def _emulated(device: Device) -> Any:
    if device.qemu is None:
        raise ConfigError(
            f"its kind is {device.kind}; only emulated devices go up and down.",
            where=device.name,
        )
    return device.qemu
