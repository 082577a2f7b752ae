"""Modbus frames: whether the octets that came in hold the answer to a question, over TCP (MBAP header) or RTU (CRC-16).

Pure: no I/O, no clock. pymodbus builds the questions and reads registers out of answers; here is judged which octets it gets to
see, for it lets pass short answers, answers of other functions and, over RTU, whatever comes first. After "MODBUS Application
Protocol V1.1b3" and "MODBUS over serial line V1.02".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pymodbus.framer import FramerRTU

Framing = Literal["tcp", "rtu"]
READS = {3: "holding", 4: "input"}
WRITES = (6, 16)
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target did not respond",
}  # fmt: skip
ILLEGAL_ADDRESS = 2
OCTETS_MAX = 8 * 260  # that may come in before an answer is there


class LineError(Exception):
    """What came over the line is no answer to what was asked."""


class NothingCame(LineError):
    """No connection, no answer within the time-out, or the connection was closed."""


class Refused(LineError):
    """A proper exception answer: the meter heard the question, and says no. `code`: of EXCEPTIONS."""

    def __init__(self, said: str, code: int) -> None:
        super().__init__(said)
        self.code = code


class Garbled(LineError):
    """The answer came, and its check sum is wrong."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is under way: `count` registers from `first` on, of function 3 or 4 (read), 6 or 16 (write).

    `transaction` is that of the MBAP header; `sent` the whole frame, which some serial adapters send back.
    """

    framing: Framing
    unit: int
    function: int
    first: int
    count: int
    transaction: int
    sent: bytes

    def answer_in(self, data: bytes) -> bytes | None:
        """The frame that answers it; None where more has to come. Raises LineError where `data` cannot become the answer.

        `data`: all that has come in since the question was sent.
        """
        frame = self._tcp(data) if self.framing == "tcp" else self._rtu(data)
        if frame is None and len(data) > OCTETS_MAX:
            raise LineError(f"{len(data)} octets, and no answer in them")
        return frame

    def _tcp(self, data: bytes) -> bytes | None:
        """Answers to other questions, and of other units, are passed over: they are late, or lost their way."""
        answer = None
        for frame in _tcp_frames(data):
            transaction, unit, body = int.from_bytes(frame[:2], "big"), frame[6], frame[7:]
            if transaction == 0 and self.transaction:
                raise LineError("answer without our transaction identifier")
            if answer is None and transaction == self.transaction and unit == self.unit:
                self._check(body)
                answer = frame
        return answer

    def _rtu(self, data: bytes) -> bytes | None:
        """Noise, our own question's echo, and frames of other units may stand before the answer."""
        start = data.find(self.unit)
        while 0 <= start < len(data) - 4:
            size = self._rtu_size(data, start)
            if size is not None and start + size <= len(data) and crc_holds(data[start : start + size]):
                self._check(data[start + 1 : start + size - 2])
                return data[start : start + size]
            start = data.find(self.unit, start + 1)
        heard = data.removeprefix(self.sent)
        begins = self.sent[:6] if self.function in WRITES else bytes((self.unit, self.function, 2 * self.count & 0xFF))
        octets = 8 if self.function in WRITES else 5 + 2 * self.count
        if not self.sent.startswith(heard) and heard.startswith(begins) and len(heard) >= octets:
            raise Garbled("corrupt answer: its CRC is wrong")
        return None

    def _rtu_size(self, data: bytes, start: int) -> int | None:
        """How long a frame of ours is, if one begins there: the answer, a shorter or longer one, or an exception. What a
        question's echo would be counted as is none of these: it is of an even length."""
        unit, function, count = data[start : start + 3]
        if unit != self.unit or function & 0x7F != self.function:
            return None
        if function >= 0x80:
            return 5
        if function in WRITES:
            return 8
        return 5 + count if count % 2 == 0 else None

    def _check(self, body: bytes) -> None:
        """Raise LineError where a whole frame of ours (from its function code on, without check sum) is not what was asked."""
        if body[0] == self.function | 0x80:
            said = f"exception answer {body[1]} ({EXCEPTIONS.get(body[1], 'unknown')}) for register {self.first}"
            raise Refused(said, body[1])
        if body[0] != self.function:
            raise LineError(f"answer of function {body[0] & 0x7F}, asked was {self.function}")
        if self.function in READS and body[1] != 2 * self.count:
            short = "short " if body[1] < 2 * self.count else ""
            raise LineError(f"{short}answer: {body[1] // 2} of {self.count} registers from {self.first} on")
        if self.function in WRITES and body[1:5] != self._written():
            raise LineError(f"the answer is to another write than that of register {self.first}")

    def _written(self) -> bytes:
        """The four octets after the function code that repeat what was written: address, and value or count."""
        start = 8 if self.framing == "tcp" else 2
        return self.sent[start : start + 4]


def crc_holds(frame: bytes) -> bool:
    """Whether an RTU frame ends with the CRC of what is before."""
    return FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big"))


def check_unasked(framing: Framing, data: bytes) -> None:
    """Raise LineError where octets that nobody asked for are no frames: over TCP, whose frames have no check sum, the answer
    before them may then have been a broken one that swallowed the beginning of the next."""
    if framing == "tcp":
        _tcp_frames(data)


def _tcp_frames(data: bytes) -> list[bytes]:
    """The whole frames in `data`; the last may be incomplete. Raises LineError where something is no answer's frame."""
    frames, start = [], 0
    while start < len(data):
        head = data[start : start + 9]
        if wrong := _header_error(head):
            raise LineError(wrong)
        end = start + 6 + int.from_bytes(head[4:6], "big")
        if len(head) < 9 or len(data) < end:
            break
        frames.append(data[start:end])
        start = end
    return frames


def _header_error(head: bytes) -> str:
    """What is wrong with the first 9 octets of a TCP answer, as far as they are there; empty where nothing is."""
    if protocol := int.from_bytes(head[2:4], "big"):
        return f"corrupt answer: protocol identifier {protocol}"
    if len(head) < 9:
        return ""
    length, function, count = int.from_bytes(head[4:6], "big"), head[7], head[8]
    if function & 0x7F not in (*READS, *WRITES):
        return f"corrupt answer: function {function}"
    if function in READS and count != length - 3:
        return f"corrupt answer: {count} bytes announced, {length - 3} in the frame"
    wanted = 3 if function >= 0x80 else 6 if function in WRITES else length
    if not 3 <= length == wanted <= 254:
        return f"corrupt answer: {length} octets in the frame"
    return ""
