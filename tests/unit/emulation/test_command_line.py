from pathlib import Path

import pytest

from harness.emulation import command
from harness.emulation.command import Profile
from harness.errors import DataError
from harness.model import QemuBoard

USERNET = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  11       127.0.0.1 42155       10.0.2.15    22     0     0
"""


def _arguments(profile: Profile, board: QemuBoard | None = None) -> list[str]:
    return command.machine_arguments(
        board or QemuBoard(),
        profile,
        kernel=Path("/i/vmlinuz"),
        initrd=Path("/i/initrd.img"),
        device_tree=Path("/i/board.dtb"),
        serial="0123456789abcdef",
    )


def _value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_the_port_is_the_one_that_was_bound():
    assert command.parse_forwarded_port(USERNET) == 42155


@pytest.mark.parametrize("text", ["", "Hub -1 (net0):\n", USERNET.replace("42155", "    0")])
def test_no_port_is_an_error(text):
    with pytest.raises(DataError, match="no forwarded SSH port"):
        command.parse_forwarded_port(text)


def test_no_machine_asks_for_a_port_of_its_own_choice_or_has_a_network():
    for profile in Profile:
        network = _value(_arguments(profile), "-netdev")
        assert "restrict=on" in network
        assert "hostfwd=tcp:127.0.0.1:0-:22" in network


def test_the_timing_profile_counts_instructions_on_one_core():
    arguments = _arguments(Profile.TIMING)
    assert _value(arguments, "-icount") == "shift=0,align=off,sleep=off"
    assert _value(arguments, "-accel") == "tcg,thread=single"
    assert _value(arguments, "-smp") == "1"
    assert {"nokaslr", "hil.spin=1"} <= set(_value(arguments, "-append").split())


def test_the_functional_profile_follows_the_host():
    arguments = _arguments(Profile.FUNCTIONAL, QemuBoard(smp=4, memory_bytes=1 << 30))
    assert "-icount" not in arguments
    assert _value(arguments, "-smp") == "4"
    assert _value(arguments, "-m") == "1024M"
    assert "hil.spin" not in _value(arguments, "-append")
    assert "hil.serial=0123456789abcdef" in _value(arguments, "-append").split()


def test_a_saved_state_fits_only_the_machine_it_was_saved_from(monkeypatch):
    monkeypatch.setattr(command, "qemu_version", lambda: "7.2")
    one = command.machine_hash(QemuBoard(), Profile.FUNCTIONAL)
    assert one == command.machine_hash(QemuBoard(), Profile.FUNCTIONAL)
    others = {
        command.machine_hash(QemuBoard(), Profile.TIMING),
        command.machine_hash(QemuBoard(memory_bytes=1 << 30), Profile.FUNCTIONAL),
        command.machine_hash(QemuBoard(smp=1), Profile.FUNCTIONAL),
        command.machine_hash(QemuBoard(board_model="Other"), Profile.FUNCTIONAL),
    }
    monkeypatch.setattr(command, "qemu_version", lambda: "8.0")
    others.add(command.machine_hash(QemuBoard(), Profile.FUNCTIONAL))
    assert len(others) == 5
    assert one not in others
