"""What all decoders of DLMS/COSEM share: the errors they raise, the sign for "not enough yet", and a cursor over octets.

A decoder of this family takes bytes and gives a value or raises a `RemoteError`; nothing else comes out, whatever goes in.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class DlmsError(Exception):
    """What all errors of this protocol are."""


class LocalError(DlmsError):
    """We tried to say what may not be said here, or what cannot be written."""


class RemoteError(DlmsError):
    """What came in is not what a meter may say."""


class Malformed(RemoteError):
    """Bytes that mean nothing, or nothing here."""


class WrongCheck(RemoteError):
    """A whole frame, and its check sequence (HCS or FCS) is wrong."""


class TooLong(RemoteError):
    """More than we are ready to hold."""


class WrongAnswer(RemoteError):
    """A sound message, to another question or from somebody else. The answer to ours may still come."""


class NotAuthentic(RemoteError):
    """A protected message whose tag does not hold, that is said again, or that should have been protected and was not."""


class Refused(RemoteError):
    """The meter understood, and will not: a rejected association, an exception response, a data access error."""


class NeedData(Enum):
    """The type of NEED_DATA."""

    NEED_DATA = auto()


NEED_DATA: Final = NeedData.NEED_DATA


class Cursor:
    """Octets that are read from the front. Each method raises Malformed where they are too few. `values`: how many values
    have been made of them so far, for a few octets can claim very many."""

    def __init__(self, data: bytes, values: int = 0) -> None:
        self.values = values
        self._data = bytes(data)
        self._at = 0

    @property
    def left(self) -> int:
        """How many octets have not been read."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        if count > self.left:
            raise Malformed(f"{count} octets wanted, {self.left} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def peek(self) -> int | None:
        """The next octet, which stays; None at the end."""
        return self._data[self._at] if self.left else None

    def unsigned(self, size: int = 1) -> int:
        """A big-endian unsigned number of `size` octets."""
        return int.from_bytes(self.take(size), "big")

    def signed(self, size: int = 1) -> int:
        """A big-endian number of `size` octets, two's complement."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def flag(self) -> bool:
        """An octet that is 0 or not: an A-XDR BOOLEAN, or whether an OPTIONAL follows."""
        return self.unsigned() != 0

    def length(self) -> int:
        """A length as A-XDR and BER write it: an octet, or 0x81 to 0x84 and so many octets."""
        first = self.unsigned()
        if first < 0x80:
            return first
        if not 0x81 <= first <= 0x84:
            raise Malformed(f"length octet {first:#04x}")
        return self.unsigned(first & 0x7F)

    def octets(self) -> bytes:
        """A length, and as many octets."""
        return self.take(self.length())

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def end(self, what: str) -> None:
        """Malformed where anything is left behind `what`."""
        if self.left:
            raise Malformed(f"{self.left} octets behind {what}")


def length(count: int) -> bytes:
    """A length as A-XDR and BER write it, shortest form."""
    if count < 0x80:
        return bytes([count])
    size = (count.bit_length() + 7) // 8
    return bytes([0x80 | size]) + count.to_bytes(size, "big")


def octets(data: bytes) -> bytes:
    """A length, and the octets."""
    return length(len(data)) + data
