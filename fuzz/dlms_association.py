"""A DLMS/COSEM association in any state, with and without ciphering, told any messages: an event or a typed error. What it
says in answer is a message."""

from __future__ import annotations

from collectors.dlms_acse import Aare, InitiateResponse, Mechanism
from collectors.dlms_base import RemoteError
from collectors.dlms_client import Associate, Association, Credentials, Get, Release, Set
from collectors.dlms_data import long_unsigned
from collectors.dlms_link import Say
from collectors.dlms_objects import CLOCK_TIME
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_xdlms import (
    AccessError,
    DataNotification,
    ExceptionResponse,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    SetResponse,
    Wanted,
    decode_message,
)  # fmt: skip

_AGREED = InitiateResponse(0x00121D, 1024)
_ACCEPTED = Aare(0, 0, information=_AGREED.encode()).encode()
_KEYS = Keys(bytes(16), bytes(range(16)))
_CLOCK = Wanted(CLOCK_TIME)
_SAID = (Get((_CLOCK,)), Get((_CLOCK, _CLOCK)), Set(CLOCK_TIME, long_unsigned(1)), Release())


def _proof_wanted() -> bytes:
    meter = Ciphering(b"METER001", _KEYS, 1)
    information = meter.protect_initiate(_AGREED.encode())
    return Aare(
        0, 14, ciphered=True, mechanism=5, title=b"METER001", challenge=b"a sound challenge", information=information
    ).encode()


def _told(*messages: bytes) -> bytes:
    """Messages as `decode` takes them apart: each with two octets of length before it."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


SEEDS = (
    b"\x00" + _told(_ACCEPTED),
    b"\x01" + _told(GetResponse(1, long_unsigned(1)).encode()),
    b"\x01" + _told(*(GetResponseBlock(1, n == 2, n, b"\x12\x00\x2a"[n - 1 : n + 1]).encode() for n in (1, 2))),
    b"\x02" + _told(GetResponseList(1, (long_unsigned(1), AccessError(4))).encode()),
    b"\x03" + _told(DataNotification(1, None, long_unsigned(1)).encode(), SetResponse(1, 0).encode()),
    b"\x04" + _told(ExceptionResponse(1, 6, 7).encode(), bytes.fromhex("6303800100")),
    b"\x05" + _told(_proof_wanted()),
)


def _association(kind: int) -> Association:
    if kind == 5:
        association = Association(Credentials(Mechanism.GMAC), Ciphering(b"GATEWAY1", _KEYS), b"our own challenge")
        association.send(Associate())
        return association
    association = Association()
    association.send(Associate())
    if kind > 0:
        association.heard(_ACCEPTED)
        association.send(_SAID[kind - 1])
    return association


def decode(data: bytes) -> None:
    """The first octet says where the association stands; then come messages, each with two octets of length before it."""
    if not data:
        return
    association, rest = _association(data[0] % 6), data[1:]
    while len(rest) >= 2:
        end = 2 + int.from_bytes(rest[:2], "big")
        message, rest = rest[2:end], rest[end:]
        try:
            heard = association.heard(message)
        except RemoteError:
            continue
        if isinstance(heard, Say) and data[0] % 6 < 5:  # in the clear
            decode_message(heard.data)
