"""Opening and releasing an association: AARQ, AARE, RLRQ, RLRE in BER, and the xDLMS initiate messages within them in A-XDR
(IEC 62056-5-3). Each has an `encode`, and a function that decodes it and raises `RemoteError`.

An AARE may say its protocol version, and much else that nobody needs here: that is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from collectors.dlms_base import Cursor, Malformed, octets

DLMS_VERSION = 6
CONTEXT, MECHANISM_NAME = bytes.fromhex("60857405080100")[:-1], bytes.fromhex("60857405080200")[:-1]
INITIATE_REQUEST, INITIATE_RESPONSE, SERVICE_ERROR = 0x01, 0x08, 0x0E
AARQ, AARE, RLRQ, RLRE = 0x60, 0x61, 0x62, 0x63
CONFORMANCE_TAG = bytes.fromhex("5f1f0400")
VAA_NAME = 0x0007  # of logical name referencing


class Mechanism(IntEnum):
    """Authentication: none, a password, or a proof by GMAC."""

    NONE = 0
    LOW = 1
    GMAC = 5


class Conformance(IntFlag):
    """Services; those of the 24 bits that we know of."""

    GENERAL_PROTECTION = 1 << 22
    GENERAL_BLOCK_TRANSFER = 1 << 21
    ATTRIBUTE_0_WITH_SET = 1 << 15
    PRIORITY = 1 << 14
    ATTRIBUTE_0_WITH_GET = 1 << 13
    BLOCKS_WITH_GET = 1 << 12
    BLOCKS_WITH_SET = 1 << 11
    BLOCKS_WITH_ACTION = 1 << 10
    MULTIPLE_REFERENCES = 1 << 9
    DATA_NOTIFICATION = 1 << 7
    ACCESS = 1 << 6
    GET = 1 << 4
    SET = 1 << 3
    SELECTIVE_ACCESS = 1 << 2
    EVENT_NOTIFICATION = 1 << 1
    ACTION = 1 << 0


WANTED = (
    Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.SELECTIVE_ACCESS | Conformance.BLOCKS_WITH_GET
    | Conformance.MULTIPLE_REFERENCES | Conformance.PRIORITY
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aarq:
    """Asks for an association with logical names. `title`: the client's system title, needed for ciphering and HLS."""

    mechanism: Mechanism = Mechanism.NONE
    ciphered: bool = False
    title: bytes = b""
    authentication: bytes = field(default=b"", repr=False)
    information: bytes = b""

    def encode(self) -> bytes:
        """The message."""
        body = _tagged(0xA1, _tagged(0x06, CONTEXT + bytes([3 if self.ciphered else 1])))
        if self.title:
            body += _tagged(0xA6, _tagged(0x04, self.title))
        if self.mechanism is not Mechanism.NONE:
            body += b"\x8a\x02\x07\x80" + _tagged(0x8B, MECHANISM_NAME + bytes([self.mechanism]))
            body += _tagged(0xAC, _tagged(0x80, self.authentication))
        return _tagged(AARQ, body + _tagged(0xBE, _tagged(0x04, self.information)))


@dataclass(frozen=True, slots=True)
class Aare:
    """The meter's answer. `result` 0: accepted; `diagnostic` why not, or 14: it wants a proof of us first.

    `title`: the meter's system title; `challenge`: what we have to prove ourselves with.
    """

    result: int
    diagnostic: int
    by_provider: bool = False
    ciphered: bool = False
    mechanism: int = Mechanism.NONE
    title: bytes = b""
    challenge: bytes = field(default=b"", repr=False)
    information: bytes = b""

    def encode(self) -> bytes:
        """The message."""
        body = _tagged(0xA1, _tagged(0x06, CONTEXT + bytes([3 if self.ciphered else 1])))
        body += _tagged(0xA2, _tagged(0x02, bytes([self.result])))
        body += _tagged(0xA3, _tagged(0xA2 if self.by_provider else 0xA1, _tagged(0x02, bytes([self.diagnostic]))))
        if self.title:
            body += _tagged(0xA4, _tagged(0x04, self.title))
        if self.mechanism != Mechanism.NONE:
            body += b"\x88\x02\x07\x80" + _tagged(0x89, MECHANISM_NAME + bytes([self.mechanism]))
        if self.challenge:
            body += _tagged(0xAA, _tagged(0x80, self.challenge))
        return _tagged(AARE, body + _tagged(0xBE, _tagged(0x04, self.information)))


def decode_aarq(message: bytes) -> Aarq:
    """An AARQ. Raises RemoteError."""
    parts = _parts(message, AARQ)
    mechanism = parts.get(0x8B, MECHANISM_NAME + b"\0")[-1:]
    try:
        return Aarq(
            mechanism=Mechanism(mechanism[0] if mechanism else 0),
            ciphered=_is_ciphered(parts),
            title=_inner(parts, 0xA6, 0x04),
            authentication=_inner(parts, 0xAC, 0x80),
            information=_inner(parts, 0xBE, 0x04),
        )
    except ValueError as error:
        raise Malformed(str(error)) from error


def decode_aare(message: bytes) -> Aare:
    """An AARE. Raises RemoteError."""
    parts = _parts(message, AARE)
    by_provider = parts.get(0xA3, b"")[:1] == b"\xa2"
    mechanism = parts.get(0x89, MECHANISM_NAME + b"\0")[-1:]
    result = _inner(parts, 0xA2, 0x02)
    diagnostic = Cursor(_inner(parts, 0xA3, 0xA2 if by_provider else 0xA1))
    diagnostic.take(min(1, diagnostic.left))
    if len(result) != 1:
        raise Malformed("an AARE without a result")
    return Aare(
        result=result[0],
        diagnostic=int.from_bytes(diagnostic.octets()[-1:], "big") if diagnostic.left else 0,
        by_provider=by_provider,
        ciphered=_is_ciphered(parts),
        mechanism=mechanism[0] if mechanism else 0,
        title=_inner(parts, 0xA4, 0x04),
        challenge=_inner(parts, 0xAA, 0x80),
        information=_inner(parts, 0xBE, 0x04),
    )


def release_request(information: bytes = b"") -> bytes:
    """RLRQ, with a reason: normal."""
    return _tagged(RLRQ, b"\x80\x01\x00" + (_tagged(0xBE, _tagged(0x04, information)) if information else b""))


def release_response() -> bytes:
    """RLRE: normal."""
    return bytes.fromhex("6303800100")


def _tagged(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + octets(content)


def _parts(message: bytes, tag: int) -> dict[int, bytes]:
    cursor = Cursor(message)
    if cursor.unsigned() != tag:
        raise Malformed(f"message {message[0]:#04x} where {tag:#04x} belongs")
    body = Cursor(cursor.octets())
    cursor.end("an association message")
    parts: dict[int, bytes] = {}
    while body.left:
        part = body.unsigned()
        content = body.octets()
        if part in parts:
            raise Malformed(f"part {part:#04x} twice")
        parts[part] = content
    return parts


def _inner(parts: dict[int, bytes], tag: int, inner: int) -> bytes:
    if tag not in parts:
        return b""
    cursor = Cursor(parts[tag])
    if cursor.unsigned() != inner:
        raise Malformed(f"part {tag:#04x} holds {parts[tag][0]:#04x}, not {inner:#04x}")
    content = cursor.octets()
    cursor.end(f"part {tag:#04x}")
    return content


def _is_ciphered(parts: dict[int, bytes]) -> bool:
    name = _inner(parts, 0xA1, 0x06)
    if name[:-1] != CONTEXT or name[-1] not in (1, 3):
        raise Malformed(f"application context {name.hex() or 'missing'}; known: logical names, with and without ciphering")
    return name[-1] == 3


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """What the client proposes. `dedicated_key`: of this association alone."""

    conformance: int = WANTED
    message_octets_max: int = 0xFFFF
    dedicated_key: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """The message."""
        key = b"\x01" + octets(self.dedicated_key) if self.dedicated_key else b"\x00"
        proposed = CONFORMANCE_TAG + self.conformance.to_bytes(3, "big") + self.message_octets_max.to_bytes(2, "big")
        return bytes([INITIATE_REQUEST]) + key + b"\x00\x00" + bytes([DLMS_VERSION]) + proposed


@dataclass(frozen=True, slots=True)
class InitiateResponse:
    """What the meter agrees to."""

    conformance: int
    message_octets_max: int

    def encode(self) -> bytes:
        """The message."""
        agreed = CONFORMANCE_TAG + self.conformance.to_bytes(3, "big") + self.message_octets_max.to_bytes(2, "big")
        return bytes([INITIATE_RESPONSE, 0, DLMS_VERSION]) + agreed + VAA_NAME.to_bytes(2, "big")


def decode_initiate_request(message: bytes) -> InitiateRequest:
    """An InitiateRequest. Raises RemoteError."""
    cursor = _initiate(message, INITIATE_REQUEST)
    key = cursor.octets() if cursor.flag() else b""
    if cursor.flag():
        cursor.flag()  # response-allowed
    _version(cursor)
    conformance, most = _conformance(cursor), cursor.unsigned(2)
    cursor.end("an initiate request")
    return InitiateRequest(conformance, most, key)


def decode_initiate_response(message: bytes) -> InitiateResponse:
    """An InitiateResponse. Raises RemoteError."""
    cursor = _initiate(message, INITIATE_RESPONSE)
    _version(cursor)
    conformance, most = _conformance(cursor), cursor.unsigned(2)
    cursor.take(2)
    cursor.end("an initiate response")
    return InitiateResponse(conformance, most)


def service_error(message: bytes) -> str | None:
    """What a confirmedServiceError says, in words; None where the message is none. Raises Malformed."""
    if message[:1] != bytes([SERVICE_ERROR]):
        return None
    cursor = Cursor(message[1:])
    service, choice, value = cursor.unsigned(), cursor.unsigned(), cursor.unsigned()
    cursor.end("a service error")
    return f"service error {service}, {choice}, {value}"


def _initiate(message: bytes, tag: int) -> Cursor:
    cursor = Cursor(message)
    if cursor.unsigned() != tag:
        raise Malformed(f"initiate message {message[0]:#04x} where {tag:#04x} belongs")
    return cursor


def _version(cursor: Cursor) -> None:
    """Quality of service, where it is said, and the version."""
    if cursor.flag():
        cursor.take(1)
    if (version := cursor.unsigned()) != DLMS_VERSION:
        raise Malformed(f"DLMS version {version}; known: {DLMS_VERSION}")


def _conformance(cursor: Cursor) -> int:
    """[APPLICATION 31], whose tag has two octets; some makes write only the first."""
    if cursor.unsigned() != CONFORMANCE_TAG[0]:
        raise Malformed("no conformance block")
    if cursor.peek() == CONFORMANCE_TAG[1]:
        cursor.take(1)
    if cursor.take(2) != CONFORMANCE_TAG[2:]:
        raise Malformed("a conformance block of other than 24 bits")
    return cursor.unsigned(3)
