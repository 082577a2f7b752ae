"""DLMS/COSEM's messages, data and times: a value or a typed error; and what was read can be written, and is the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from collectors.dlms_acse import (
    Aare,
    Aarq,
    InitiateRequest,
    InitiateResponse,
    decode_aare,
    decode_aarq,
    decode_initiate_request,
    decode_initiate_response,
    service_error,
)
from collectors.dlms_base import RemoteError
from collectors.dlms_data import Data, Kind, array, encode, long_unsigned, octet_string, structure
from collectors.dlms_data import decode as decode_data
from collectors.dlms_objects import CLOCK_COLUMN, CLOCK_TIME, CaptureObject, capture_objects, profile_rows, scaler_unit, time_of
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_time import decode_time, encode_time
from collectors.dlms_xdlms import (
    AccessError,
    GetRequest,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    SetResponse,
    Wanted,
    decode_message,
    decode_results,
)  # fmt: skip

_TIME = bytes.fromhex("07ea03010705000000800000")
_ROW = structure(octet_string(_TIME), Data(Kind.UNSIGNED, 0), Data(Kind.DOUBLE_LONG_UNSIGNED, 423378))
_COLUMNS = (
    CLOCK_COLUMN,
    CaptureObject(1, b"\x00\x00\x60\x0a\x01\xff", 2),
    CaptureObject(3, b"\x07\x00\x0d\x00\x00\xff", 2),
)
_KEYS = Keys(bytes(16), bytes(range(16)))


def _encoded_again(data: bytes) -> None:
    value = decode_data(data)
    assert repr(decode_data(encode(value))) == repr(value)  # by what it shows: NaN is not itself


def _time(data: bytes) -> None:
    time = decode_time(data)
    assert decode_time(encode_time(time)) == time
    time.instants()


def _objects(data: bytes) -> None:
    value = decode_data(data)
    readers: tuple[Callable[[Data], Any], ...] = (capture_objects, scaler_unit, time_of)
    for reader in readers:
        try:
            reader(value)
        except RemoteError:
            continue


def _rows(data: bytes) -> None:
    for row in profile_rows(decode_data(data), _COLUMNS, 3600):
        assert len(row.values) == len(_COLUMNS)


def _unprotected(data: bytes) -> None:
    ciphering = Ciphering(b"GATEWAY1", _KEYS)
    ciphering.peer_title = b"METER001"
    ciphering.unprotect(data)


DECODERS: tuple[Callable[[bytes], Any], ...] = (
    decode_message, decode_results, decode_aare, decode_aarq, decode_initiate_request, decode_initiate_response, service_error,
    _encoded_again, _time, _objects, _unprotected, _rows,
)  # fmt: skip
_OF_EACH = (
    (0, GetResponse(1, long_unsigned(1)).encode()),
    (0, GetResponse(1, array(_ROW, _ROW)).encode()),
    (0, GetResponseBlock(1, False, 1, b"\x12\x00").encode()),
    (0, GetResponseList(1, (long_unsigned(1), AccessError(4))).encode()),
    (0, SetResponse(1, 0).encode()),
    (0, GetRequest(1, Wanted(CLOCK_TIME)).encode()),
    (2, Aare(0, 0, information=InitiateResponse(0x00121D, 1024).encode()).encode()),
    (3, Aarq(information=InitiateRequest(0x00121D, 1024).encode()).encode()),
    (4, InitiateRequest(0x00121D, 1024).encode()),
    (5, InitiateResponse(0x00121D, 1024).encode()),
    (6, bytes.fromhex("0e010601")),
    (7, encode(array(_ROW, _ROW))),
    (7, bytes.fromhex("1302020c1204") + b"\x06abc\x00\x01"),
    (8, _TIME),
    (10, Ciphering(b"METER001", _KEYS, 1).protect(GetResponse(1, long_unsigned(1)).encode())),
    (9, encode(array(*(column.data() for column in _COLUMNS)))),
    (11, encode(array(_ROW, structure(Data(Kind.NULL, None), Data(Kind.NULL, None), Data(Kind.LONG_UNSIGNED, 7))))),
)
SEEDS = tuple(bytes((number,)) + data for number, data in _OF_EACH)


def decode(data: bytes) -> None:
    """The first octet says as what the rest is read."""
    if not data:
        return
    try:
        DECODERS[data[0] % len(DECODERS)](data[1:])
    except RemoteError:
        return
