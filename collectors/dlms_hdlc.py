"""HDLC frames of DLMS/COSEM (IEC 62056-46, frame format type 3): to bytes, and out of a stream of bytes.

A frame is 7E, format and length, destination, source, control, header check, information, frame check, 7E. The length says
where it ends, so 7E within it needs no escape. A frame with a wrong check is an error, never a frame; what cannot be the
beginning of a frame is not waited for. A frame has at most 2,047 octets, which bounds what is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from collectors.dlms_base import NEED_DATA, Cursor, LocalError, Malformed, NeedData, WrongCheck

FLAG = 0x7E
LENGTH_MAX = 0x7FF
SEGMENTED_BIT = 0x0800
POLL = 0x10  # the poll/final bit of the control octet
SNRM, DISC, UA, DM, FRMR, UI = 0x83, 0x43, 0x63, 0x0F, 0x87, 0x03  # without POLL
RR, RNR = 0x01, 0x05
INFORMATION_DEFAULT = 128
_LENGTH_MIN = 2 + 1 + 1 + 1 + 2


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x8408 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()


def check_sequence(data: bytes) -> bytes:
    """CRC-16/X-25 of the data, low octet first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ 0xFFFF).to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Address:
    """A station: the upper (logical device) and lower (physical) part of its address, in 1, 2 or 4 octets in all.

    One octet holds an upper part alone, up to 127; two hold two such; four hold two up to 16,383. A client has one octet.
    """

    upper: int
    lower: int = 0
    size: int = 1

    def encode(self) -> bytes:
        """The octets; only the last has its lowest bit set. LocalError where it does not fit."""
        each_max = 0x3FFF if self.size == 4 else 0x7F
        if self.size not in (1, 2, 4) or not 0 <= self.upper <= each_max or not 0 <= self.lower <= each_max:
            raise LocalError(
                f"address {self.upper}/{self.lower} in {self.size} octets; allowed: 1, 2 or 4 octets, 7 or 14 bits each"
            )
        if self.size == 1 and self.lower:
            raise LocalError(f"address {self.upper}/{self.lower} does not fit one octet")
        groups = {
            1: [self.upper],
            2: [self.upper, self.lower],
            4: [self.upper >> 7, self.upper & 0x7F, self.lower >> 7, self.lower & 0x7F],
        }[self.size]
        return bytes([*(group << 1 for group in groups[:-1]), groups[-1] << 1 | 1])


def _take_address(cursor: Cursor) -> Address:
    groups: list[int] = []
    while True:
        byte = cursor.unsigned()
        groups.append(byte >> 1)
        if byte & 1:
            break
        if len(groups) == 4:
            raise Malformed("an address of more than four octets")
    match groups:
        case [upper]:
            return Address(upper)
        case [upper, lower]:
            return Address(upper, lower, 2)
        case [a, b, c, d]:
            return Address(a << 7 | b, c << 7 | d, 4)
    raise Malformed("an address of three octets")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `control` with its poll/final bit; `segmented`: the message goes on in the next."""

    destination: Address
    source: Address
    control: int
    information: bytes = b""
    segmented: bool = False

    def encode(self) -> bytes:
        """With flags and check sequences. LocalError where it is too long."""
        addresses = self.destination.encode() + self.source.encode()
        count = 2 + len(addresses) + 1 + 2 + (len(self.information) + 2 if self.information else 0)
        if count > LENGTH_MAX:
            raise LocalError(f"a frame of {count} octets; allowed: {LENGTH_MAX}")
        form = 0xA000 | (SEGMENTED_BIT if self.segmented else 0) | count
        body = form.to_bytes(2, "big") + addresses + bytes([self.control])
        if self.information:
            body += check_sequence(body) + self.information
        return bytes([FLAG]) + body + check_sequence(body) + bytes([FLAG])

    @property
    def polls(self) -> bool:
        """The poll/final bit: the other side may speak now."""
        return bool(self.control & POLL)

    @property
    def is_information(self) -> bool:
        """Whether this is a numbered I-frame."""
        return not self.control & 1

    @property
    def sent(self) -> int:
        """N(S) of an I-frame."""
        return self.control >> 1 & 7

    @property
    def expects(self) -> int:
        """N(R) of an I-frame, RR or RNR: the number that the sender expects next."""
        return self.control >> 5

    @property
    def kind(self) -> int:
        """The control octet without poll/final; of RR and RNR without their number too."""
        if self.control & 0x0F in (RR, RNR):
            return self.control & 0x0F
        return self.control & ~POLL & 0xFF


def information_control(sent: int, expects: int) -> int:
    """The control octet of an I-frame, with poll/final."""
    return expects << 5 | POLL | sent << 1


class FrameReader:
    """Frames out of a stream: `receive_data`, then `next_frame` until NEED_DATA. After an error go on with `next_frame`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take what came in, in pieces of any size."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what came in."""
        self._buffer.clear()

    def skip_partial(self) -> bool:
        """Give up the frame that is not whole, and look for one behind its beginning, which may have been none."""
        while self._buffer:
            start = self._buffer.find(FLAG, 1)
            del self._buffer[: start if start > 0 else len(self._buffer)]
            if len(self._buffer) > 3 and self._buffer[1] & 0xF0 == 0xA0:
                count = int.from_bytes(self._buffer[1:3], "big") & LENGTH_MAX
                if _LENGTH_MIN <= count <= len(self._buffer) - 2:
                    return True
        return False

    def next_frame(self) -> Frame | NeedData:
        """The next frame; raises WrongCheck for one whose check does not hold, Malformed for what is no frame."""
        start = self._buffer.find(FLAG)
        if start < 0:
            self._buffer.clear()
            return NEED_DATA
        while self._buffer[start + 1 : start + 2] == bytes([FLAG]):
            start += 1
        del self._buffer[:start]
        if len(self._buffer) < 3:
            return self._wait_or_drop(len(self._buffer) > 1 and self._buffer[1] & 0xF0 != 0xA0)
        count = int.from_bytes(self._buffer[1:3], "big") & LENGTH_MAX
        if self._buffer[1] & 0xF0 != 0xA0 or count < _LENGTH_MIN:
            return self._wait_or_drop(True)
        if len(self._buffer) < count + 2:
            return NEED_DATA
        if self._buffer[count + 1] != FLAG:
            del self._buffer[0]
            raise Malformed(f"no flag where a frame of {count} octets ends")
        body = bytes(self._buffer[1 : count + 1])
        del self._buffer[: count + 1]  # the flag that ends it may begin the next
        return _frame(body)

    def _wait_or_drop(self, is_no_frame: bool) -> NeedData:
        if is_no_frame:
            del self._buffer[0]
            raise Malformed("a flag, and no frame format behind it")
        return NEED_DATA


def _frame(body: bytes) -> Frame:
    if check_sequence(body[:-2]) != body[-2:]:
        raise WrongCheck(f"FCS {body[-2:].hex()}, computed {check_sequence(body[:-2]).hex()}, over {len(body) - 2} octets")
    cursor = Cursor(body[:-2])
    form = cursor.unsigned(2)
    destination, source, control = _take_address(cursor), _take_address(cursor), cursor.unsigned()
    header = body[: len(body) - 2 - cursor.left]
    if cursor.left and check_sequence(header) != cursor.take(2):
        raise WrongCheck("HCS wrong, within an FCS that holds")
    return Frame(destination, source, control, cursor.rest(), bool(form & SEGMENTED_BIT))


@dataclass(frozen=True, slots=True)
class Parameters:
    """What SNRM and UA may carry: octets of information in a frame, and frames in a row, as the sender has it."""

    transmit: int = INFORMATION_DEFAULT
    receive: int = INFORMATION_DEFAULT
    transmit_window: int = 1
    receive_window: int = 1

    def encode(self) -> bytes:
        """The information field. Octet counts in one octet where they fit, as the standard's example has them in two."""
        sizes = (self.transmit, self.receive)
        group = b"".join(_parameter(5 + n, size, 1 if size < 0x100 else 2) for n, size in enumerate(sizes))
        windows = (self.transmit_window, self.receive_window)
        group += b"".join(_parameter(7 + n, window, 4) for n, window in enumerate(windows))
        return b"\x81\x80" + bytes([len(group)]) + group


def _parameter(number: int, value: int, size: int) -> bytes:
    return bytes([number, size]) + value.to_bytes(size, "big")


def decode_parameters(information: bytes) -> Parameters:
    """Those of an SNRM or UA; what is not said has its default. Raises Malformed."""
    if not information:
        return Parameters()
    cursor = Cursor(information)
    if cursor.take(2) != b"\x81\x80":
        raise Malformed("parameters that do not begin with 81 80")
    group = Cursor(cursor.take(cursor.unsigned()))
    said: dict[int, int] = {}
    while group.left:
        number = group.unsigned()
        said[number] = int.from_bytes(group.take(group.unsigned()), "big")
    for number in (5, 6):
        if not 16 <= said.get(number, INFORMATION_DEFAULT) <= LENGTH_MAX:
            raise Malformed(f"information fields of {said[number]} octets")
    default = Parameters()
    return Parameters(said.get(5, default.transmit), said.get(6, default.receive), said.get(7, 1), said.get(8, 1))
