"""The adapter as QEMU sees it, message by message, and as Linux's i2c-tiny-usb drives it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.emulation.sensors import usbredir
from harness.emulation.sensors.i2c_chips import Bus, Reading
from harness.emulation.sensors.usbredir import Adapter, ProtocolError

HELLO = struct.pack("<III", 0, 68, 0) + b"qemu usb-redir guest 7.2".ljust(64, b"\0") + struct.pack("<I", 0xFF)
TO_HOST = 0x80


def message(kind, body=b"", number=7):
    return struct.pack("<IIQ", kind, len(body), number) + body


def control(request_type, request, value=0, index=0, length=0, data=b"", number=7):
    head = struct.pack("<BBBBHHH", request_type & 0x80, request, request_type, 0, value, index, length)
    return message(100, head + data, number)


def split(data):
    """Return the messages in what the adapter sent: (type, id, body)."""
    found = []
    while data:
        kind, length, number = struct.unpack_from("<IIQ", data)
        found.append((kind, number, data[16 : 16 + length]))
        data = data[16 + length :]
    return found


class Driver:
    """What Linux's driver does, against an adapter."""

    def __init__(self, adapter):
        self.adapter = adapter

    def ask(self, *args, **kwargs):
        ((kind, number, body),) = split(self.adapter.receive(control(*args, **kwargs)))
        assert (kind, number) == (100, 7)
        return body[3], body[10:]  # status, data

    def i2c(self, address, data=b"", read=0):
        """Return (acknowledged, bytes read), after one message and the question for its status."""
        if read:
            _, got = self.ask(0xC1, 4 + 3, 1, address, read)
        else:
            _, got = self.ask(0x41, 4 + 1, 0, address, len(data), data)
        return self.ask(0xC1, 3, 0, 0, 1) == (0, b"\x01"), got


@pytest.fixture
def bus():
    made = Bus()
    made.set(Reading(52.27, 5.1, 0.7))
    return made


@pytest.fixture
def adapter(bus):
    made = Adapter(bus)
    made.receive(HELLO)
    return made


def test_it_greets_and_then_shows_one_interface(bus):
    answer = Adapter(bus).receive(HELLO)
    kind, length, number = struct.unpack_from("<III", answer)
    assert (kind, length, number) == (0, 68, 0)
    (capabilities,) = struct.unpack_from("<I", answer, 12 + 64)
    assert capabilities == 0b1110000
    after = split(answer[12 + 68 :])
    assert [kind for kind, _, _ in after] == [5, 4, 1]
    # sizes as in usbredirproto.h: ep_info with packet sizes, interface_info, device_connect
    assert [len(body) for _, _, body in after] == [160, 132, 8]
    assert after[2][2] == struct.pack("<BBBBHH", 1, 0xFF, 0, 0, 0x0403, 0xC631)


def test_a_restored_machine_goes_on_without_a_greeting(bus):
    fresh = Adapter(bus)
    assert Driver(fresh).i2c(0x48, b"\0") == (True, b"")
    acknowledged, data = Driver(fresh).i2c(0x48, read=2)
    assert (acknowledged, int.from_bytes(data, "big") >> 5) == (True, 418)  # 52.25 °C


def test_descriptors_are_what_the_driver_looks_for(adapter):
    driver = Driver(adapter)
    status, device = driver.ask(TO_HOST, 6, 0x0100, 0, 64)
    assert (status, len(device), device[8:12]) == (0, 18, b"\x03\x04\x31\xc6")
    status, configuration = driver.ask(TO_HOST, 6, 0x0200, 0, 9)
    assert (status, len(configuration)) == (0, 9)  # cut to what was asked for
    assert driver.ask(TO_HOST, 6, 0x0302, 0x0409, 255)[1][2:].decode("utf-16le") == "i2c-tiny-usb"
    assert driver.ask(TO_HOST, 6, 0x0F00, 0, 5) == (4, b"")  # stalled: no such descriptor
    assert driver.ask(TO_HOST, 0, 0, 0, 2) == (0, b"\0\0")


def test_configurations_are_confirmed(adapter):
    replies = split(
        adapter.receive(message(6, b"\1") + message(7) + message(9, b"\0\0") + message(10, b"\0"))
    )
    assert [(kind, body) for kind, _, body in replies] == [
        (8, b"\0\1"),
        (8, b"\0\1"),
        (11, b"\0\0\0"),
        (11, b"\0\0\0"),
    ]


def test_the_driver_learns_what_the_adapter_can(adapter):
    driver = Driver(adapter)
    assert driver.ask(0xC1, 0, 0x1234, 0, 2) == (0, b"\x34\x12")  # echo
    assert struct.unpack("<I", driver.ask(0xC1, 1, 0, 0, 4)[1])[0] & 1  # I2C_FUNC_I2C
    assert driver.ask(0x41, 2, 10, 0, 0) == (0, b"")  # delay
    assert driver.ask(0xC1, 99, 0, 0, 1) == (4, b"")


def test_a_chip_that_is_not_there_is_told_by_the_status(adapter):
    assert Driver(adapter).i2c(0x50, b"\0")[0] is False
    assert Driver(adapter).i2c(0x50, read=2) == (False, b"\0\0")
    assert Driver(adapter).i2c(0x48, b"\0")[0] is True


def test_unplugged_and_plugged(adapter):
    assert split(adapter.unplug()) == [(2, 0, b"")]
    assert [kind for kind, _, _ in split(adapter.plug())] == [5, 4, 1]


def test_a_reset_of_what_is_in_use_is_passed_on(bus):
    told = []
    adapter = Adapter(bus, on_reset=lambda: told.append(1))
    adapter.receive(HELLO)
    assert adapter.receive(message(3)) == b""  # while it enumerates what it has found
    assert told == []
    adapter.receive(message(6, b"\1"))
    assert adapter.receive(message(3)) == b""
    assert told == [1]
    adapter.plug()
    adapter.receive(message(3))
    assert told == [1]


@given(st.lists(st.integers(1, 60), max_size=30))
def test_messages_may_come_in_any_pieces(cuts):
    stream = HELLO + control(0x41, 5, 0, 0x48, 1, b"\0") + control(0xC1, 7, 1, 0x48, 2)
    bus = Bus()
    bus.set(Reading(25.0, 5.0, 0.5))
    whole = Adapter(bus).receive(stream)
    adapter, answer, at = Adapter(bus), b"", 0
    for cut in cuts:
        answer += adapter.receive(stream[at : at + cut])
        at += cut
    assert answer + adapter.receive(stream[at:]) == whole


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for(data):
    adapter = Adapter(Bus())
    adapter.receive(HELLO)
    try:
        adapter.receive(data)
    except ProtocolError:
        return


def test_an_endless_message_is_refused(adapter):
    with pytest.raises(ProtocolError, match="a message of"):
        adapter.receive(struct.pack("<IIQ", 100, usbredir.MAX_MESSAGE_BYTES + 1, 0))
    with pytest.raises(ProtocolError, match="a control packet of 3 bytes"):
        Adapter(Bus()).receive(message(100, b"abc"))
