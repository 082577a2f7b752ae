"""IEC 62056-21 as the reading device speaks it: bytes in, events out; no port, no clock.

Modes A, B and C: sign-on, identification, option select, data readout, programming mode with password, reads, partial blocks
and writes; mode E as far as HDLC takes over. The rules of this file:

- `send(event)` gives the bytes of what we say; `receive_data` takes what came in; `next_event` gives one event, or
  `NEED_DATA`, or raises a `RemoteError`. After a `RemoteError` the bytes at fault are gone, the state is as before, and the
  next frame can be read: ask for it with `Again`, or say the last message once more.
- What may be said and heard in which state is `TABLE`, and nothing else. The state changes by it alone.
- A frame with a wrong block check character (BCC) is an error, never an answer; so is an answer to another question.
- Corrupt is not incomplete: bytes that cannot belong to a frame end it at once, and are not waited for.
- Memory is bounded by `FRAME_BYTES_MAX`.

Bytes are 7-bit characters; the transport adds, checks and strips parity (`serial_port.py`).
"""

from __future__ import annotations

import re
from enum import Enum, auto

from collectors.iec62056_21_messages import (
    ACK,
    BAUD_MODE_C,
    CRLF,
    EOT,
    ETX,
    NAK,
    NEED_DATA,
    SOH,
    STX,
    Accepted,
    Again,
    Answer,
    AskedAgain,
    Break,
    Challenge,
    Continue,
    Ended,
    HdlcFollows,
    Heard,
    Identification,
    NeedData,
    PartAnswer,
    Password,
    Read,
    ReadoutFollows,
    Refused,
    Said,
    Select,
    SelectHdlc,
    SignOn,
    Write,
    bcc,
    encode,
)  # fmt: skip

FRAME_BYTES_MAX = 32 * 1024
IDENTIFICATION_BYTES_MAX = 64


class ProtocolError(Exception):
    """What all errors of this protocol are."""


class LocalError(ProtocolError):
    """We tried to say what may not be said in this state."""


class RemoteError(ProtocolError):
    """What came in is not what a meter may say."""


class WrongBcc(RemoteError):
    """A whole frame, and its block check character is wrong."""


class Malformed(RemoteError):
    """Bytes that are no frame, or a frame that means nothing here."""


class TooLong(RemoteError):
    """More than `FRAME_BYTES_MAX` without an end."""


class WrongAnswer(RemoteError):
    """A sound answer, to another question: one that was asked before. The answer to this one may still come."""


class State(Enum):
    """Where a session stands."""

    IDLE = auto()  # nothing said, or all over
    CALLED = auto()  # sign-on sent
    IDENTIFIED = auto()  # the meter said who it is (mode C)
    SELECTED = auto()  # option chosen; in modes A and B, where there is none to choose, identified
    CHANGING = auto()  # HDLC chosen (mode E), not yet confirmed
    READY = auto()  # programming mode; it is our turn
    PROVING = auto()  # password sent
    WRITING = auto()  # write command sent
    ASKED = auto()  # read command sent
    MORE = auto()  # a partial block received; the next waits for us


TABLE: dict[State, dict[type[Said] | type[Heard], State]] = {
    State.IDLE: {SignOn: State.CALLED, Break: State.IDLE},
    State.CALLED: {
        Identification: State.IDENTIFIED,
        ReadoutFollows: State.SELECTED,
        SignOn: State.CALLED,
        Break: State.IDLE,
    },
    State.IDENTIFIED: {Select: State.SELECTED, SelectHdlc: State.CHANGING, Break: State.IDLE},
    State.CHANGING: {HdlcFollows: State.IDLE, Break: State.IDLE},
    State.SELECTED: {
        Challenge: State.READY,
        Answer: State.IDLE,
        Ended: State.IDLE,
        Again: State.SELECTED,
        Break: State.IDLE,
    },
    State.READY: {Password: State.PROVING, Read: State.ASKED, Write: State.WRITING, Ended: State.IDLE, Break: State.IDLE},
    State.PROVING: {
        Accepted: State.READY,
        Refused: State.READY,
        AskedAgain: State.READY,
        Ended: State.IDLE,
        Again: State.PROVING,
        Password: State.PROVING,
        Break: State.IDLE,
    },
    State.WRITING: {
        Accepted: State.READY,
        Refused: State.READY,
        AskedAgain: State.READY,
        Ended: State.IDLE,
        Again: State.WRITING,
        Write: State.WRITING,
        Break: State.IDLE,
    },
    State.ASKED: {
        Answer: State.READY,
        PartAnswer: State.MORE,
        Refused: State.READY,
        AskedAgain: State.READY,
        Ended: State.IDLE,
        Again: State.ASKED,
        Read: State.ASKED,
        Break: State.IDLE,
    },
    State.MORE: {Continue: State.ASKED, Ended: State.IDLE, Break: State.IDLE},
}

_FRAME_STARTS: dict[type[Said] | type[Heard], bytes] = {
    Identification: b"/", Challenge: SOH, Ended: SOH, Accepted: ACK, HdlcFollows: ACK,
    AskedAgain: NAK, Answer: STX, PartAnswer: STX, Refused: STX,
}  # fmt: skip
_IDENTIFICATION = re.compile(r"/([A-Za-z]{2}[A-Za-z])([^/!\r\n])([^/!\r\n]{0,56})\r\n")
_HDLC_FOLLOWS = re.compile(rb"\x062[0-6]2\r\n")
_REFUSAL = re.compile(r"[^(]*\((ER[^)]*|#[^)]*)\)\s*", re.IGNORECASE)
_CONTROLS_IN_TEXT = frozenset(CRLF)


class Client:
    """One session with one meter. `state` is where it stands; see the rules at the head of this file."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.echoes = False  # learnt at sign-on: an optical head gives back what we send
        self._buffer = bytearray()
        self._overflown = False
        self._echo = b""
        self._asked = ""
        self._scanned = 0  # of the frame in the buffer, so that a slow line is not read over and over

    def send(self, event: Said) -> bytes:
        """The bytes that say it; LocalError where that may not be said in this state.

        The line is half-duplex: what came in before we spoke is no answer to it, and is dropped.
        """
        following = TABLE[self.state].get(type(event))
        if following is None:
            allowed = ", ".join(kind.__name__ for kind in TABLE[self.state])
            raise LocalError(f"{type(event).__name__} in state {self.state.name}; allowed: {allowed}")
        if not isinstance(event, Again):  # after a partial block, what follows need not say again what it is
            self._asked = event.code if isinstance(event, Read) else ""
        data = encode(event)
        self.state = following
        self._echo = data if self.echoes else b""
        self._drop(len(self._buffer))
        self._overflown = False
        return data

    def receive_data(self, data: bytes) -> None:
        """Take what came in, in pieces of any size."""
        self._buffer += data
        if len(self._buffer) > FRAME_BYTES_MAX:
            self._drop(len(self._buffer))
            self._overflown = True

    def next_event(self) -> Heard | NeedData:
        """The next event, or NEED_DATA; RemoteError for what is no meter's message in this state."""
        if self._overflown:
            self._overflown = False
            raise TooLong(f"more than {FRAME_BYTES_MAX} bytes without an end")
        if self._echo and not self._take_echo():
            return NEED_DATA
        self._skip_noise()
        if self._buffer.startswith(b"/?") and CRLF in self._buffer:
            self.echoes = True
            self._drop(self._buffer.find(CRLF) + 2)
            self._skip_noise()
        event = self._take_event() if self._buffer else NEED_DATA
        if isinstance(event, NeedData):
            return NEED_DATA
        following = TABLE[self.state].get(type(event))
        if following is None:
            raise Malformed(f"{type(event).__name__} in state {self.state.name}")
        self.state = following
        return event

    def _take_echo(self) -> bool:
        """Take our own message off; False while it may still be coming. What differs from it is not an echo."""
        if self._buffer.startswith(self._echo):
            self._drop(len(self._echo))
        elif self._echo.startswith(self._buffer):
            return False
        self._echo = b""
        return True

    def _skip_noise(self) -> None:
        """Drop what cannot start a message in this state."""
        starts = {_FRAME_STARTS[kind][0] for kind in TABLE[self.state] if kind in _FRAME_STARTS}
        for skipped, byte in enumerate(self._buffer):
            if byte in starts:
                if skipped:
                    self._drop(skipped)
                return
        self._drop(len(self._buffer))

    def _take_event(self) -> Heard | NeedData:
        first = self._buffer[:1]
        if first == b"/":
            return self._take_identification()
        if HdlcFollows in TABLE[self.state]:
            return self._take_confirmation()
        if first in (ACK, NAK):
            self._drop(1)
            return Accepted() if first == ACK else AskedAgain()
        return self._take_frame()

    def _take_identification(self) -> Heard | NeedData:
        end = self._buffer.find(CRLF)
        if end < 0:
            if len(self._buffer) > IDENTIFICATION_BYTES_MAX:
                self._drop(1)
                raise Malformed("an identification without an end")
            return NEED_DATA
        line = self._drop(end + 2)
        found = _IDENTIFICATION.fullmatch(line.decode("ascii", "replace"))
        if found is None or not (found[2] + found[3]).isprintable():
            raise Malformed("an identification that is none")
        kind = Identification if found[2] in BAUD_MODE_C else ReadoutFollows
        return kind(*found.groups())

    def _take_confirmation(self) -> Heard | NeedData:
        end = self._buffer.find(CRLF)
        if end < 0 and len(self._buffer) < 6:
            return NEED_DATA
        found = _HDLC_FOLLOWS.match(self._buffer)
        if found is None:
            self._drop(1)
            raise Malformed("a confirmation of HDLC that is none")
        return HdlcFollows(chr(self._drop(found.end())[2]))

    def _take_frame(self) -> Heard | NeedData:
        """SOH or STX, text, ETX or EOT, BCC. A byte that no text holds ends it there, and what follows is read afresh."""
        command_end = 3 if self._buffer[:1] == SOH else 0
        for n in range(max(1, self._scanned), len(self._buffer)):
            byte = self._buffer[n]
            if byte in (ETX[0], EOT[0]):
                self._scanned = n
                return self._close_frame(n) if len(self._buffer) > n + 1 else NEED_DATA
            if byte == STX[0] and n == command_end:
                continue
            if byte >= 0x7F or (byte < 0x20 and byte not in _CONTROLS_IN_TEXT):
                self._drop(n)
                raise Malformed(f"byte {byte:#04x} within a frame")
        self._scanned = len(self._buffer)
        return NEED_DATA

    def _close_frame(self, end: int) -> Heard:
        frame = self._drop(end + 2)
        body, closing, check = frame[1:end], frame[end : end + 1], frame[end + 1]
        if bcc(body + closing) != check:
            raise WrongBcc(f"BCC {check:#04x}, computed {bcc(body + closing):#04x}, over {len(body)} bytes")
        text = body.decode("ascii")
        if frame[:1] == SOH:
            return _command(text)
        if closing == ETX and (refusal := _REFUSAL.fullmatch(text)) and Refused in TABLE[self.state]:
            return Refused(refusal[1])
        if not _is_answer_to(self._asked, text):
            raise WrongAnswer(f"asked for {self._asked}, got {text[:16]!r}")
        return Answer(text) if closing == ETX else PartAnswer(text)

    def _drop(self, count: int) -> bytes:
        dropped = bytes(self._buffer[:count])
        self._scanned = 0
        del self._buffer[:count]
        return dropped


def _command(text: str) -> Heard:
    """The meter's commands: P0 with the operand, and B0."""
    if text == "B0":
        return Ended()
    if found := re.fullmatch(r"P0\x02\(([^()]*)\)", text):
        return Challenge(found[1])
    if text == "P0":
        return Challenge("")
    raise Malformed(f"command {text[:16]!r}")


def _is_answer_to(code: str, text: str) -> bool:
    """Whether the answer's name is the one asked for; an answer may leave its name out, or the value group before it."""
    name = text[: text.find("(")] if "(" in text else ""
    return not name or not code or name == code or name.rpartition(":")[2] == code.rpartition(":")[2]
