"""QEMU's command line for a board and a profile. Pure, apart from asking QEMU for its version and tree."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from enum import StrEnum
from pathlib import Path

from harness.emulation.fdt import with_root_strings
from harness.emulation.tools import run_tool
from harness.errors import DataError
from harness.model import QemuBoard

QEMU = "qemu-system-aarch64"
FORMAT = 2  # raise it when saved states no longer fit the command line below
NO_SERIAL = "0" * 16
# The I2C bus and the firmware's port. The keeper's companion (sensors/serve.py) listens before QEMU starts: a
# connection that came later would be greeted anew, while a restored guest expects to go on.
SENSOR_SOCKETS = {"usb": "usb.sock", "board": "board.sock", "chips": "chips.sock"}
SENSOR_ARGUMENTS = (
    *("-device", "qemu-xhci,id=xhci,p2=2,p3=2"),
    *("-chardev", f"socket,id=i2c,path={SENSOR_SOCKETS['usb']}"),
    *("-device", "usb-redir,id=i2c0,bus=xhci.0,chardev=i2c"),
    *("-device", "virtio-serial-device,id=ports,max_ports=2"),
    *("-chardev", f"socket,id=board,path={SENSOR_SOCKETS['board']}"),
    *("-device", "virtserialport,bus=ports.0,nr=1,chardev=board,name=hil.board"),
)


class Profile(StrEnum):
    """Which clock a machine has.

    FUNCTIONAL: every core a host thread, time follows the host. For deployment, accuracy, memory, faults.
    TIMING: one core, one nanosecond of guest time per instruction. For latency: repeatable, not board time.
    """

    FUNCTIONAL = "functional"
    TIMING = "timing"


def cores(board: QemuBoard, profile: Profile) -> int:
    """Return how many cores the guest sees."""
    return 1 if profile is Profile.TIMING else board.smp


def hardware_arguments(board: QemuBoard, profile: Profile) -> list[str]:
    """Return what decides the machine and its device tree."""
    return [
        *("-machine", "virt,gic-version=3"),
        *("-cpu", board.cpu),
        *("-smp", str(cores(board, profile))),
        *("-m", f"{board.memory_bytes >> 20}M"),
    ]


def clock_arguments(profile: Profile) -> list[str]:
    """Return the clock and the threads of a profile."""
    if profile is Profile.TIMING:
        return ["-accel", "tcg,thread=single", "-icount", "shift=0,align=off,sleep=off"]
    return ["-accel", "tcg,thread=multi"]


def kernel_line(profile: Profile, serial: str) -> str:
    """Return the kernel's command line. A panic restarts the board after a second.

    A restored machine has the line it was saved with; this one, with its `serial`, holds from its next boot.
    """
    words = f"console=ttyAMA0 quiet loglevel=3 random.trust_cpu=on rw panic=1 hil.serial={serial}"
    return f"{words} nokaslr hil.spin=1" if profile is Profile.TIMING else words


def machine_arguments(
    board: QemuBoard, profile: Profile, *, kernel: Path, initrd: Path, device_tree: Path, serial: str
) -> list[str]:
    """Return the whole command. Files of the running machine are named relative to its folder.

    The guest sees no network (`restrict`), only its SSH port is forwarded; port 0 lets the kernel pick a
    free one while it binds, so that machines started at once can't collide.
    """
    return [
        QEMU,
        *hardware_arguments(board, profile),
        *clock_arguments(profile),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-kernel", str(kernel), "-initrd", str(initrd), "-dtb", str(device_tree)),
        *("-append", kernel_line(profile, serial)),
        # cache=unsafe still hands over each flush to the host's kernel; it only spares the host's disk.
        # So what the guest has flushed survives a killed QEMU, as it would a power cut.
        *("-drive", "if=none,id=disk0,file=disk.qcow2,format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-device,id=blk0,drive=disk0,werror=report,rerror=report"),
        *("-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
        *("-device", "virtio-net-device,id=nic0,netdev=net0,mac=52:54:00:12:34:56"),
        *("-device", "virtio-rng-device"),
        *("-device", "virtio-balloon-device,id=balloon0"),
        *("-chardev", "socket,id=con,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on"),
        *("-serial", "chardev:con"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *SENSOR_ARGUMENTS,
    ]


def parse_forwarded_port(text: str) -> int:
    """Return the host's port out of the monitor's `info usernet`.

    Raises DataError when it shows no forwarded port.
    """
    match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s", text)
    if match is None or int(match.group(1)) == 0:
        raise DataError(f"QEMU shows no forwarded SSH port: {text.strip()[:200]!r}")
    return int(match.group(1))


@functools.cache
def qemu_version() -> str:
    """Return the first line of QEMU's version."""
    return run_tool([QEMU, "--version"], timeout_s=60).decode("utf-8", "replace").splitlines()[0]


def machine_hash(board: QemuBoard, profile: Profile) -> str:
    """Return a name for all that a saved state depends on beside its image."""
    files = {"kernel": Path("k"), "initrd": Path("i"), "device_tree": Path("d")}
    arguments = machine_arguments(board, profile, **files, serial=NO_SERIAL)
    text = json.dumps([FORMAT, qemu_version(), arguments, board.board_model])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_device_tree(board: QemuBoard, profile: Profile, folder: Path) -> bytes:
    """Return QEMU's device tree for the board, with the Pi's model string and room for a serial number.

    `folder` takes a temporary file.
    """
    dump = folder / "qemu.dtb"
    argv = [QEMU, *hardware_arguments(board, profile), "-nodefaults", "-display", "none"]
    argv[argv.index("virt,gic-version=3")] += ",dumpdtb=qemu.dtb"
    run_tool(argv, timeout_s=60, cwd=folder)
    blob = dump.read_bytes()
    dump.unlink()
    return with_root_strings(blob, {"model": f"{board.board_model} (emulated)", "serial-number": NO_SERIAL})
