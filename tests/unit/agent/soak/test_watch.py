"""What happens to a device between two windows, told from its clocks, bits, counters and kernel log."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.agent.soak.watch import HARDWARE, ClockWatch, KernelLog, ShortageWatch, ThrottleWatch

S = 10**9


@pytest.mark.parametrize(
    ("moved_ns", "elapsed_ns", "text"),
    [
        (3600 * S, 10 * S, "forward by 3600.0 s"),
        (-3600 * S, 10 * S, "back by 3600.0 s"),
        (S, 10 * S, "forward by 1.0 s"),
        (400_000_000, 10 * S, ""),
        (1_400_000_000, 3600 * S, ""),  # as fast as an hour of slewing goes
        (3 * S, 3600 * S, "forward by 3.0 s"),
    ],
)
def test_clock_steps(moved_ns: int, elapsed_ns: int, text: str) -> None:
    watch = ClockWatch(10**18, 5 * S)
    found = watch.look(10**18 + elapsed_ns + moved_ns, 5 * S + elapsed_ns)
    assert [(event, details["step_ns"]) for event, _, details in found] == (
        [("clock_step", moved_ns)] if text else []
    )
    assert not text or text in found[0][1]
    # what was told once is the clock from now on
    assert watch.look(10**18 + elapsed_ns + moved_ns + S, 6 * S + elapsed_ns) == []


def test_throttling_begins_and_ends_once() -> None:
    watch = ThrottleWatch()
    looks = [None, 0, 0, 0x4, 0x50005, 0x50005, 0x50000, 0x50000]
    found = [[(event, details["bits"]) for event, _, details in watch.look(bits)] for bits in looks]
    assert found == [[], [], [], [("throttled", 4)], [], [], [("unthrottled", 0x50000)], []]


def test_throttling_between_two_looks_is_seen() -> None:
    watch = ThrottleWatch()
    assert watch.look(0x10000) == []  # it was before the soak
    ((event, text, _),) = watch.look(0x50000)
    assert event == "throttled"
    assert "meanwhile" in text


def test_throttled_from_the_start() -> None:
    ((event, _, _),) = ThrottleWatch().look(0x50005)
    assert event == "throttled"


@pytest.mark.parametrize(
    ("counts", "told", "expected"),
    [
        ([3, 3, 4, 4, 4], [0, 1, 0, 0], [0, 0, 0, 0]),  # counted and told in one window
        ([3, 6, 6, 6, 6], [0, 3, 0, 0], [0, 0, 0, 0]),  # counted first: a group of three
        ([3, 4, 4, 4, 4], [0, 0, 0, 0], [0, 1, 0, 0]),  # another's, told a window later
        ([3, 6, 6, 6, 6], [0, 1, 0, 0], [0, 2, 0, 0]),
        ([3, 4, 5, 5, 5], [0, 1, 0, 0], [0, 0, 1, 0]),
        ([None, 4, None, 9, 9], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_kills_of_others_are_told_and_those_of_streams_are_not_told_twice(
    counts: list[int | None], told: list[int], expected: list[int]
) -> None:
    each = iter(counts)
    watch = ShortageWatch(lambda: next(each))
    found = [watch.look(number) for number in told]
    assert [look[0][2]["kills"] if look else 0 for look in found] == expected
    assert all(event == "oom" for look in found for event, _, _ in look)


HARDWARE_LINES = [
    # in the kernel's formats; figures are made up
    "mce: [Hardware Error]: Machine check events logged",
    "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0",
    "I/O error, dev mmcblk0, sector 2359296 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
    "blk_update_request: critical medium error, dev sda, sector 1024 op 0x0:(READ)",
    "mmcblk0: error -110 sending status command, retrying",
    "nvme nvme0: I/O 12 QID 3 timeout, aborting",
    "nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10",
    "thermal thermal_zone0: cpu-thermal: critical temperature reached, shutting down",
    "hwmon hwmon1: Undervoltage detected!",
    "Under-voltage detected! (0x00050005)",
]
HARMLESS_LINES = [
    "EXT4-fs (mmcblk0p2): mounted filesystem with ordered data mode",
    "mmc1: error -110 whilst initialising SDIO card",
    "nvme nvme0: 4/0/0 default/read/poll queues",
    "EDAC MC: Ver: 3.0.0",
    "thermal_sys: Registered thermal governor 'step_wise'",
    "Out of memory: Killed process 812 (python3)",
]


@pytest.mark.parametrize("line", HARDWARE_LINES)
def test_hardware_lines(line: str) -> None:
    assert HARDWARE.search(line)


@pytest.mark.parametrize("line", HARMLESS_LINES)
def test_harmless_lines(line: str) -> None:
    assert not HARDWARE.search(line)


class Kmsg:
    """/dev/kmsg as read(2) gives it: a record a read, EPIPE where some were overwritten, then EAGAIN."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.records: list[bytes | int] = []
        self.sought = False
        self.path = tmp_path / "kmsg"
        self.path.write_bytes(b"")
        real_open, real_lseek = os.open, os.lseek

        def opened(path: str, flags: int, *more: int) -> int:
            return real_open(path, flags, *more)

        def seek(descriptor: int, offset: int, how: int) -> int:
            self.sought = how == os.SEEK_END
            return real_lseek(descriptor, offset, how)

        def read(descriptor: int, size: int) -> bytes:
            if not self.records:
                raise BlockingIOError
            record = self.records.pop(0)
            if isinstance(record, int):
                raise OSError(record, os.strerror(record))
            return record

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "lseek", seek)
        monkeypatch.setattr(os, "read", read)


def test_the_kernel_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kmsg = Kmsg(monkeypatch, tmp_path)
    log = KernelLog(str(kmsg.path))
    assert kmsg.sought
    assert log.look() == []
    kmsg.records = [
        b"6,339,5140900,-;usb 1-1: new device\n SUBSYSTEM=usb\n",
        b"3,340,5140901,-;I/O error, dev mmcblk0, sector 8 op 0x0:(READ)\n SUBSYSTEM=block\n",
        errno.EPIPE,
        b"12,341,5140902,-;a program says I/O error, dev sda, sector 1\n",  # facility 1: user
        b"2,342,5140903,c;mce: [Hardware Error]: Machine check events logged\n",
    ]
    ((event, text, details),) = log.look()
    assert event == "hardware_error"
    assert details == {"lines": 2}
    assert text == (
        "I/O error, dev mmcblk0, sector 8 op 0x0:(READ); mce: [Hardware Error]: Machine check events logged"
    )
    kmsg.records = [b"2,%d,1,-;Undervoltage detected!\n" % i for i in range(400, 450)]
    ((_, text, details),) = log.look()
    assert details == {"lines": 50}
    assert text.endswith("and 45 more")
    log.close()


def test_after_a_reboot_it_is_read_from_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kmsg = Kmsg(monkeypatch, tmp_path)
    KernelLog(str(kmsg.path), from_start=True).close()
    assert not kmsg.sought


def test_a_log_that_cannot_be_read_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = KernelLog(str(tmp_path / "none"))
    assert "No such file" in log.why_not
    assert log.look() == []
    kmsg = Kmsg(monkeypatch, tmp_path)
    kmsg.records = [errno.EPERM]
    log = KernelLog(str(kmsg.path))
    assert log.look() == []
    assert "not permitted" in log.why_not
