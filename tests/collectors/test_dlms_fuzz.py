"""Whatever comes in: a value, an event or a typed error, of bounded size; and never data whose check does not hold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from collectors.dlms_acse import decode_aare, decode_aarq, decode_initiate_request, decode_initiate_response, service_error
from collectors.dlms_base import NeedData, RemoteError, TooLong
from collectors.dlms_data import decode, octet_string
from collectors.dlms_hdlc import POLL, RR, SNRM, UA, Address, Frame, FrameReader, Parameters, decode_parameters
from collectors.dlms_link import HdlcLink, Opened, WrapperLink, WrapperReader, wrapped
from collectors.dlms_objects import capture_objects, profile_rows, scaler_unit, time_of
from collectors.dlms_security import Ciphering, general_parts, unseal
from collectors.dlms_time import decode_time
from collectors.dlms_xdlms import GetResponse, decode_message, decode_results
from tests.collectors.test_dlms_messages import (
    AARES,
    AARQS,
    CIPHERED_INITIATE,
    INITIATE,
    INITIATE_WITH_KEY,
    KEYS,
    MESSAGES,
    TITLE,
)
from tests.collectors.test_dlms_poll import PROTECTIONS, Rig

SEEDS = [bytes.fromhex(octets) for octets, _ in (*AARQS, *AARES, *MESSAGES)]
SEEDS += [
    INITIATE,
    INITIATE_WITH_KEY,
    CIPHERED_INITIATE,
    Parameters(500, 500).encode(),
    bytes.fromhex("07e50118ff0e303950ffc400"),
]
METER, CLIENT = Address(1, 17, 2), Address(16)
FRAMES = [
    Frame(CLIENT, METER, SNRM | 0x10, Parameters(500, 500).encode()),
    Frame(CLIENT, METER, 0x30, b"\xe6\xe7\x00" + SEEDS[0]),
    Frame(CLIENT, METER, RR | 0x10),
    Frame(CLIENT, METER, 0x52, b"\xe6\xe7\x00" + bytes(100), segmented=True),
]


@st.composite
def spoilt(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One or several of the seeds, cut, repeated, in another order, with bits flipped and octets put in; or anything."""
    octets = b"".join(draw(st.lists(st.sampled_from(seeds), max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(octets) - 1)))
        match draw(st.integers(0, 4)):
            case 0:
                octets = octets[:at]
            case 1:
                octets = octets[:at] + octets[at // 2 :]
            case 2 if octets:
                octets = octets[:at] + bytes([octets[at] ^ 1 << draw(st.integers(0, 7))]) + octets[at + 1 :]
            case 3:
                octets = octets[:at] + draw(st.binary(max_size=8)) + octets[at:]
            case _:
                octets = octets[at:] + octets[:at]
    return octets


def rows_of(octets: bytes) -> list[Any]:
    data = decode(octets)
    return [scaler_unit, time_of, capture_objects][len(octets) % 3](data), list(profile_rows(data, (), 3600))  # type: ignore[return-value]


DECODERS: list[Callable[[bytes], object]] = [
    decode, decode_message, decode_results, decode_aarq, decode_aare, decode_initiate_request, decode_initiate_response,
    service_error, decode_time, decode_parameters, general_parts, lambda octets: unseal(octets, TITLE, KEYS),
    lambda octets: Ciphering(TITLE, KEYS, 1).unprotect(octets), rows_of,
]  # fmt: skip


@how(max_examples=150, deadline=None)
@given(spoilt(SEEDS))
def test_every_decoder_gives_a_value_or_a_remote_error(octets: bytes) -> None:
    for decoder in DECODERS:
        try:
            decoder(octets)
        except RemoteError:
            continue


# Links: what comes out of them holds, and they come to an end.


def crc(octets: bytes) -> int:
    """CRC-16/X-25 bit by bit, beside the table of the decoder."""
    register = 0xFFFF
    for octet in octets:
        for bit in range(8):
            low = (register ^ octet >> bit) & 1
            register = register >> 1 ^ (0x8408 if low else 0)
    return register ^ 0xFFFF


@how(max_examples=150, deadline=None)
@given(spoilt([frame.encode() for frame in FRAMES]), st.integers(1, 40))
def test_a_frame_is_one_whose_checks_hold(stream: bytes, piece: int) -> None:
    reader, events = FrameReader(), 0
    for at in range(0, len(stream), piece):
        reader.receive_data(stream[at : at + piece])
        while True:
            events += 1
            assert events <= 3 * len(stream) + 3
            try:
                frame = reader.next_frame()
            except RemoteError:
                continue
            if isinstance(frame, NeedData):
                break
            body = frame.encode()[1:-1]
            assert body in stream
            assert crc(body[:-2]) == int.from_bytes(body[-2:], "little")


@pytest.mark.parametrize("link", [HdlcLink(16, METER), HdlcLink(16, METER, 500), WrapperLink(16, 1)])
def test_a_link_gives_events_or_remote_errors(link: HdlcLink | WrapperLink) -> None:
    whole = [frame.encode() for frame in FRAMES] + [wrapped(1, 16, SEEDS[0]), wrapped(1, 16, b"")]

    @how(max_examples=60, deadline=None)
    @given(st.lists(spoilt(whole), max_size=4))
    def listens(pieces: list[bytes]) -> None:
        link.open()
        if isinstance(link, HdlcLink):
            link.receive_data(Frame(CLIENT, METER, UA | POLL).encode())
            assert isinstance(link.next_event(), Opened)
        link.send(bytes(300))
        for piece in pieces:
            link.receive_data(piece)
            for _ in range(3 * len(piece) + 10):
                try:
                    if isinstance(link.next_event(), NeedData):
                        break
                except RemoteError:
                    continue
            else:
                raise AssertionError("no end of it")
            link.silence()

    listens()


@given(spoilt([wrapped(1, 16, seed) for seed in SEEDS[:6]]))
def test_a_wrapper_holds_no_more_than_one_message(stream: bytes) -> None:
    reader = WrapperReader()
    reader.receive_data(stream)
    taken = b""
    try:
        while not isinstance(found := reader.next_message(), NeedData):
            taken += wrapped(found.source, found.destination, found.message)
    except RemoteError:
        pass
    assert stream.startswith(taken)


# Ciphering.


@how(max_examples=100, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from(SEEDS[len(AARQS) + len(AARES) :]))
def test_what_was_changed_on_the_way_is_never_data(draw: st.DataObject, general: bool, text: bytes) -> None:
    meter, client = (Ciphering(TITLE, KEYS, 1, general=general) for _ in range(2))
    client.peer_title = TITLE
    message = GetResponse(1, octet_string(text)).encode()
    ciphered = meter.protect(message)
    changed = draw.draw(spoilt([ciphered]))
    try:
        found = client.unprotect(changed)
    except RemoteError:
        return
    assert (changed, found) == (ciphered, message)


@how(max_examples=25, deadline=None)
@given(st.data())
def test_over_a_wrapper_ciphering_keeps_out_what_tcp_lets_through(draw: st.DataObject) -> None:
    def spoil(_n: int, data: bytes) -> bytes:
        return draw.draw(spoilt([data])) if data and draw.draw(st.integers(0, 11)) == 0 else data

    rig = Rig(**PROTECTIONS["GMAC"], message_octets_max=200)
    try:
        readings = rig.read(spoil=spoil)
    except RemoteError:
        return
    assert readings.index == rig.truth(readings)


# Size.


def bombs() -> list[tuple[str, bytes]]:
    """A few octets each, which stand for very many values, or claim to."""
    wide = bytes.fromhex("13 02 02 01 ffff 00 11 01 00")  # a structure of 65,535 nulls and an octet
    deep = bytes.fromhex("13 01 ffff 01 ffff 01 ffff 11 01 00")
    return [
        ("a list of wide arrays", b"\xc4\x03\xc1" + bytes([100]) + (b"\x00" + wide) * 100),
        ("wide arrays within an array", b"\xc4\x01\xc1\x00\x01\x64" + wide * 100),
        ("arrays of arrays", b"\xc4\x01\xc1\x00" + deep),
        ("a length beyond all", b"\xc4\x01\xc1\x00\x09\x84\xff\xff\xff\xff"),
        ("more elements than octets", b"\xc4\x01\xc1\x00\x01\x84\xff\xff\xff\xff"),
        ("one within another", b"\xc4\x01\xc1\x00" + b"\x01\x01" * 30_000 + b"\x00"),
        ("types within types", b"\xc4\x01\xc1\x00\x13" + b"\x02\x01" * 30_000),
    ]


@pytest.mark.parametrize(("name", "octets"), bombs())
def test_few_octets_never_become_many_values(name: str, octets: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_message(octets)


def test_values_are_counted_over_a_whole_message() -> None:
    """In memory: some 20 MiB, where it would be gigabytes."""
    tracemalloc.start()
    try:
        with pytest.raises(TooLong):
            decode_message(bombs()[0][1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
