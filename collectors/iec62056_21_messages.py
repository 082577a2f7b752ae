"""IEC 62056-21's messages as the reading device says and hears them, and the bytes of what it says.

Mode C, the readouts of modes A and B, and how mode E opens. A frame is SOH or STX, text, ETX (or EOT: more follows), block
check character.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import reduce
from operator import xor
from typing import Final, Literal, TypeAlias

SOH, STX, ETX, EOT, ACK, NAK = b"\x01", b"\x02", b"\x03", b"\x04", b"\x06", b"\x15"
CRLF = b"\r\n"
BAUD_MODE_C = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
BAUD_MODE_B = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}
WAKE_UP = bytes(66)  # to meters on a battery, before the sign-on: 2.1 to 2.3 s of NUL at 300 Bd (annex B)


# What we say.


@dataclass(frozen=True, slots=True)
class SignOn:
    """Call the meter of this device address; empty: whichever hears it."""

    address: str = ""


@dataclass(frozen=True, slots=True)
class Select:
    """Go on at this baud character of the identification, into readout or programming mode."""

    mode: Literal["readout", "programming"]
    baud_character: str = "0"


@dataclass(frozen=True, slots=True)
class SelectHdlc:
    """Go on at this baud character by HDLC (mode E)."""

    baud_character: str


@dataclass(frozen=True, slots=True)
class Password:
    """P1 (or P2) with the password; or W1 of it to the register `lock`, by which some makes let in."""

    text: str
    level: Literal[1, 2] = 1
    lock: str = ""

    def __repr__(self) -> str:
        return f"Password(level={self.level}, lock={self.lock!r})"


@dataclass(frozen=True, slots=True)
class Read:
    """R5 of a data set by its code, or R6: in partial blocks; without `formatted` R1 and R3."""

    code: str
    argument: str = ""
    partial: bool = False
    formatted: bool = True


@dataclass(frozen=True, slots=True)
class Write:
    """W5 of a data set by its code; without `formatted` W1."""

    code: str
    value: str
    formatted: bool = True


@dataclass(frozen=True, slots=True)
class Continue:
    """ACK: the partial block is good, send the next."""


@dataclass(frozen=True, slots=True)
class Again:
    """NAK: what came was not good, say it again."""


@dataclass(frozen=True, slots=True)
class Break:
    """B0: the session is over."""


# What we hear.


@dataclass(frozen=True, slots=True)
class _Identity:
    manufacturer: str
    baud_character: str
    text: str

    @property
    def baud(self) -> int:
        """The speed that `baud_character` stands for; 300 where it stands for none (mode A)."""
        return {**BAUD_MODE_B, **BAUD_MODE_C}.get(self.baud_character, 300)

    @property
    def quick(self) -> bool:
        """Whether the meter reacts within 20 ms, and not 200 ms."""
        return self.manufacturer[2].islower()

    @property
    def has_hdlc(self) -> bool:
        """Whether the meter speaks HDLC too (mode E)."""
        return self.text.startswith("\\2")


@dataclass(frozen=True, slots=True)
class Identification(_Identity):
    """Who the meter is (mode C). `baud_character` stands for its highest speed."""


@dataclass(frozen=True, slots=True)
class ReadoutFollows(_Identity):
    """The identification of a meter of mode A or B: its readout follows by itself, in mode B at `baud`."""


@dataclass(frozen=True, slots=True)
class HdlcFollows:
    """The meter confirms: from now on HDLC, 8 bits without parity, at this baud character, and nothing of this protocol."""

    baud_character: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """P0: programming mode is open; the operand of the password, often the serial number."""

    operand: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """ACK: the password is right, what was written is taken."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The meter's error text, such as `ER01` or `ERROR`."""

    text: str


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """NAK: the meter did not understand; say the last message again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of the data block that was asked for."""

    text: str


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """The text of a partial block; more waits for `Continue`."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """B0: the meter ends the session."""


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = auto()


NEED_DATA: Final = NeedData.NEED_DATA
Said: TypeAlias = SignOn | Select | SelectHdlc | Password | Read | Write | Continue | Again | Break
Heard: TypeAlias = (
    Identification | ReadoutFollows | HdlcFollows | Challenge | Accepted | Refused | AskedAgain | Answer | PartAnswer | Ended
)


def bcc(covered: bytes) -> int:
    """The block check character: exclusive or of all after the first SOH or STX, through ETX or EOT."""
    return reduce(xor, covered, 0)


def framed(start: bytes, body: bytes, end: bytes = ETX) -> bytes:
    """A frame with its block check character."""
    return start + body + end + bytes((bcc(body + end),))


def encode(event: Said) -> bytes:
    """The bytes of what we say."""
    match event:
        case SignOn(address):
            return f"/?{address}!\r\n".encode("ascii")
        case Select(mode, baud_character):
            return f"\x060{baud_character}{'1' if mode == 'programming' else '0'}\r\n".encode("ascii")
        case SelectHdlc(baud_character):
            return f"\x062{baud_character}2\r\n".encode("ascii")
        case Password(text, level, lock):
            command = f"W1\x02{lock}" if lock else f"P{level}\x02"
            return framed(SOH, f"{command}({text})".encode("ascii"))
        case Read(code, argument, partial, formatted):
            kind = 1 + 2 * partial if not formatted else 5 + partial
            return framed(SOH, f"R{kind}\x02{code}({argument})".encode("ascii"))
        case Write(code, value, formatted):
            return framed(SOH, f"W{5 if formatted else 1}\x02{code}({value})".encode("ascii"))
        case Continue():
            return ACK
        case Again():
            return NAK
        case Break():
            return framed(SOH, b"B0")


def without_secret(event: Said) -> bytes:
    """The bytes of what we say, to be shown: a password's characters, and the check over them, as stars."""
    data = encode(event)
    return data[: data.index(b"(") + 1] + b"*" * len(event.text) + b")\x03*" if isinstance(event, Password) else data
