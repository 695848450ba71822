"""Build, boot, snapshot and supervise a virtual board.

    image = build_image(board, progress)               # cached under a hash of its recipe
    with start(image, board, name="rpi4", profile=Profile.FUNCTIONAL) as machine:
        …  # ssh -i image.ssh_key_path -p machine.ssh_port image.user@127.0.0.1
        machine.save("with-runtimes")                  # later: start(…, snapshot="with-runtimes")

Ephemeral machines end with the process that started them, however it ends. Supervised ones are found again
by `find_machine(name)` and ended by `stop_machine(name)` or when their lease has run out.
"""

from harness.emulation.cache import CacheEntry, cache_entries, prune_cache, remove_cache_entry
from harness.emulation.command import Profile
from harness.emulation.host import check_host
from harness.emulation.image import Image, build_image
from harness.emulation.launch import boot, power_on, start
from harness.emulation.machine import Machine
from harness.emulation.snapshots import has_snapshot
from harness.emulation.supervise import (
    MachineInfo,
    extend_lease,
    find_machine,
    list_machines,
    stop_machine,
)

__all__ = [
    "CacheEntry",
    "Image",
    "Machine",
    "MachineInfo",
    "Profile",
    "boot",
    "build_image",
    "cache_entries",
    "check_host",
    "extend_lease",
    "find_machine",
    "has_snapshot",
    "list_machines",
    "power_on",
    "prune_cache",
    "remove_cache_entry",
    "start",
    "stop_machine",
]
