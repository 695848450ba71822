"""An i2c-tiny-usb adapter at the far end of QEMU's usb-redir: bytes in, bytes out, no I/O.

Messages as in usbredir's protocol description (spice-space.org, usb-redirection-protocol.md); the adapter as
in Linux's drivers/i2c/busses/i2c-tiny-usb.c.

A machine that is restored goes on where its sister stood: there is no hello then, and headers have 64-bit ids
from the first byte on, because both sides had agreed on that. What comes first tells the two apart.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from .i2c_chips import Bus, Nak

HELLO, CONNECT, DISCONNECT, RESET, INTERFACE_INFO, EP_INFO = range(6)
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS = 6, 7, 8
SET_ALT_SETTING, GET_ALT_SETTING, ALT_SETTING_STATUS = 9, 10, 11
CONTROL_PACKET = 100
# what xHCI insists on: endpoints' packet sizes and 64-bit ids; the third comes with them
CAPABILITIES = 1 << 4 | 1 << 5 | 1 << 6
SUCCESS, STALLED = 0, 4
MAX_MESSAGE_BYTES = 1 << 20  # chosen: the guest's driver sends some bytes at a time

_NARROW, _WIDE = struct.Struct("<III"), struct.Struct("<IIQ")
_CONTROL = struct.Struct("<BBBBHHH")  # endpoint, request, requesttype, status, value, index, length
VENDOR, PRODUCT = 0x0403, 0xC631  # i2c_tiny_usb_table

_TO_HOST = 0x80
_STANDARD, _VENDOR_TYPE = 0x00, 0x40
_GET_STATUS, _GET_DESCRIPTOR = 0, 6
_DEVICE_DESCRIPTOR = struct.pack(
    "<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0xFF, 0, 0, 8, VENDOR, PRODUCT, 0x0205, 1, 2, 0, 1
)
_CONFIGURATION = struct.pack("<BBHBBBBB", 9, 2, 18, 1, 1, 0, 0x80, 5) + bytes([9, 4, 0, 0, 0, 0, 0, 0, 0])
_STRINGS = ("", "hil-harness", "i2c-tiny-usb")

_CMD_ECHO, _CMD_GET_FUNC, _CMD_SET_DELAY, _CMD_GET_STATUS, _CMD_I2C_IO = range(5)
_CMD_LAST = _CMD_I2C_IO + 3  # bits for begin and end
_STATUS_IDLE, _STATUS_ACK, _STATUS_NAK = range(3)
_FUNCTIONS = 0x00000001 | 0x0EFF0000 | 0x00000008  # I2C, emulated SMBus, PEC (linux/i2c.h)


class ProtocolError(Exception):
    """QEMU sent something that isn't usbredir."""


def _string_descriptor(index: int) -> bytes | None:
    if index >= len(_STRINGS):
        return None
    body = struct.pack("<H", 0x0409) if index == 0 else _STRINGS[index].encode("utf-16le")
    return bytes([len(body) + 2, 3]) + body


class Adapter:
    """One adapter and its bus, from the connection's first byte to its last.

    `on_reset` is called when the guest resets an adapter that it had in use: it boots.
    """

    def __init__(self, bus: Bus, on_reset: Callable[[], None] = lambda: None) -> None:
        self._bus = bus
        self._on_reset = on_reset
        self._received = b""
        self._header: struct.Struct | None = None  # of what comes next; None: not known yet
        self._wide = False  # of what we send
        self._status = _STATUS_IDLE
        self._plugged = False  # and the guest hasn't configured it yet
        self.transfers = 0

    def receive(self, data: bytes) -> bytes:
        """Return what to answer to `data`. Raises ProtocolError."""
        self._received += data
        answer = b""
        while True:
            message = self._next()
            if message is None:
                return answer
            answer += self._handle(*message)

    def unplug(self) -> bytes:
        """Return what tells QEMU that the adapter is gone."""
        return self._message(DISCONNECT, 0, b"")

    def plug(self) -> bytes:
        """Return what tells QEMU that the adapter is there: one interface, endpoint 0 alone."""
        self._plugged = True
        unused = [255] * 15
        sizes = struct.pack("<16H", 8, *[0] * 15)
        endpoints = bytes([0, *unused, 0, *unused]) + bytes(64) + sizes + sizes
        return (
            self._message(EP_INFO, 0, endpoints)
            + self._message(INTERFACE_INFO, 0, struct.pack("<I", 1) + bytes(128))
            + self._message(CONNECT, 0, struct.pack("<BBBBHH", 1, 0xFF, 0, 0, VENDOR, PRODUCT))
        )

    def _next(self) -> tuple[int, int, bytes] | None:
        """Return the next whole message: (type, id, body)."""
        if self._header is None:
            if len(self._received) < 4:
                return None
            begins = int.from_bytes(self._received[:4], "little") == HELLO
            self._header = _NARROW if begins else _WIDE
            self._wide = not begins
        if len(self._received) < self._header.size:
            return None
        kind, length, number = self._header.unpack_from(self._received)
        if length > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message of {length} bytes")
        end = self._header.size + length
        if len(self._received) < end:
            return None
        body, self._received = self._received[self._header.size : end], self._received[end:]
        self._header = _WIDE
        return kind, number, body

    def _message(self, kind: int, number: int, body: bytes) -> bytes:
        header = _WIDE if self._wide else _NARROW
        return header.pack(kind, len(body), number) + body

    def _handle(self, kind: int, number: int, body: bytes) -> bytes:
        if kind == HELLO:
            hello = self._message(HELLO, 0, b"hil-harness".ljust(64, b"\0") + struct.pack("<I", CAPABILITIES))
            self._wide = True
            return hello + self.plug()
        if kind == CONTROL_PACKET:
            return self._control(number, body)
        if kind == RESET:
            if not self._plugged:  # a guest resets what has just been plugged in, too
                self._on_reset()
            return b""
        if len(body) < {SET_CONFIGURATION: 1, SET_ALT_SETTING: 2, GET_ALT_SETTING: 1}.get(kind, 0):
            raise ProtocolError(f"a message of type {kind} and {len(body)} bytes")
        if kind == SET_CONFIGURATION:
            self._plugged = False
            return self._message(CONFIGURATION_STATUS, number, bytes([SUCCESS, body[0]]))
        if kind == GET_CONFIGURATION:
            return self._message(CONFIGURATION_STATUS, number, bytes([SUCCESS, 1]))
        if kind == SET_ALT_SETTING:
            return self._message(ALT_SETTING_STATUS, number, bytes([SUCCESS, body[0], body[1]]))
        if kind == GET_ALT_SETTING:
            return self._message(ALT_SETTING_STATUS, number, bytes([SUCCESS, body[0], 0]))
        return b""  # filters and cancelled packets: every packet is answered at once

    def _control(self, number: int, body: bytes) -> bytes:
        if len(body) < _CONTROL.size:
            raise ProtocolError(f"a control packet of {len(body)} bytes")
        endpoint, request, request_type, _, value, index, length = _CONTROL.unpack_from(body)
        answer = self._request(request_type, request, value, index, length, body[_CONTROL.size :])
        data = b"" if answer is None else answer[:length]
        count = len(data) if request_type & _TO_HOST else length
        status = STALLED if answer is None else SUCCESS
        head = _CONTROL.pack(endpoint, request, request_type, status, value, index, count)
        return self._message(CONTROL_PACKET, number, head + data)

    def _request(
        self, request_type: int, request: int, value: int, index: int, length: int, data: bytes
    ) -> bytes | None:
        """Return the data of an answer; None: the request isn't known."""
        kind = request_type & 0x60
        if kind == _VENDOR_TYPE:
            if _CMD_I2C_IO <= request <= _CMD_LAST:
                return self._transfer(index, length if request_type & _TO_HOST else None, data)
            return {
                _CMD_ECHO: struct.pack("<H", value),
                _CMD_GET_FUNC: struct.pack("<I", _FUNCTIONS),
                _CMD_SET_DELAY: b"",
                _CMD_GET_STATUS: bytes([self._status]),
            }.get(request)
        if kind == _STANDARD and request_type & _TO_HOST:
            if request == _GET_STATUS:
                return b"\0\0"
            if request == _GET_DESCRIPTOR:
                descriptors = {1: _DEVICE_DESCRIPTOR, 2: _CONFIGURATION, 3: _string_descriptor(value & 0xFF)}
                return descriptors.get(value >> 8)
        return None

    def _transfer(self, address: int, read_count: int | None, data: bytes) -> bytes:
        """Run one message on the bus; the driver asks for its status next."""
        self.transfers += 1
        self._status = _STATUS_ACK
        try:
            if read_count is not None:
                return self._bus.read(address, read_count)
            self._bus.write(address, data)
        except Nak:
            self._status = _STATUS_NAK
        return bytes(read_count or 0)
