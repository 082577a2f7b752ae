"""DLMS/COSEM's HDLC and wrapper, fed any octets in pieces: events or typed errors, an end to them, and no frame whose check
sequences do not hold."""

from __future__ import annotations

from collections.abc import Callable

from collectors.dlms_base import NeedData, RemoteError
from collectors.dlms_describe import described
from collectors.dlms_hdlc import Address, Frame, FrameReader
from collectors.dlms_link import HdlcLink, WrapperLink, WrapperReader, wrapped

METER, CLIENT = Address(1, 17, 2), Address(16)
_UA = bytes.fromhex("7EA01F21022373E6C781801205019A06019A070400000001080400000001CCA27E")
_AARE = bytes.fromhex(
    "7EA0382102233034E7E6E7006129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400001E1D04C80007B86A7E"
)
_RECEIVE_READY = Frame(CLIENT, METER, 0x31).encode()
_PART = Frame(CLIENT, METER, 0x30, b"\xe6\xe7\x00\xc4\x01", True).encode()
SEEDS = (
    bytes((0, 255)) + _UA + _AARE,
    bytes((1, 255)) + _UA,
    bytes((2, 3)) + _AARE + _RECEIVE_READY,
    bytes((2, 255)) + _PART + _RECEIVE_READY,
    bytes((2, 255)) + Frame(CLIENT, METER, 0x1F).encode() + Frame(CLIENT, METER, 0x13, b"\xe6\xe7\x00\x0f").encode(),
    bytes((3, 255)) + wrapped(1, 16, b"\xc4\x01\xc1\x00\x00"),
    bytes((4, 5)) + wrapped(1, 16, b"\xc4") + wrapped(2, 16, b""),
)


def decode(data: bytes) -> None:
    """The first octet says who hears it, the second how much comes at a time; the rest comes in."""
    if len(data) < 3:
        return
    kind, size, said = data[0] % 5, 1 + data[1], data[2:]
    described(said, "wrapper" if kind > 2 else "hdlc", is_ours=bool(size % 2))  # in words, for who sets a meter up
    if kind == 0:
        reader = FrameReader()
        for frame in _drained(reader.receive_data, reader.next_frame, said, size):
            if isinstance(frame, Frame):
                assert frame.encode() in said, "a frame whose check sequences do not hold"
    elif kind == 3:
        stream = WrapperReader()
        _drained(stream.receive_data, stream.next_message, said, size)
    else:
        link = _link(kind)
        _drained(link.receive_data, link.next_event, said, size)
        if link.silence():  # what looked like the beginning of a frame is passed over
            _drained(link.receive_data, link.next_event, bytes(len(said)), 256)


def _link(kind: int) -> HdlcLink | WrapperLink:
    if kind == 4:
        return WrapperLink(16, 1)
    link = HdlcLink(16, METER)
    link.open()
    if kind == 2:
        link.receive_data(_UA)
        link.next_event()
        link.send(bytes(300))
    return link


def _drained(receive: Callable[[bytes], None], next_event: Callable[[], object], said: bytes, size: int) -> list[object]:
    found: list[object] = []
    for n in range(0, max(1, len(said)), size):
        receive(said[n : n + size])
        for _ in range(len(said) + 2):
            try:
                event = next_event()
            except RemoteError:
                continue
            if isinstance(event, NeedData):
                break
            found.append(event)
        else:
            raise AssertionError("it does not come to an end")
    return found
