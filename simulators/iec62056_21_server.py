"""Serves simulated meters by IEC 62056-21 on pseudo-terminals, one meter each, or behind a TCP converter.

`MeterSide` is the meter's end of a session: bytes in, bytes out. It shares no code with the collector's decoder; one table of
messages in the tests holds both to the same bytes. `PtyServer` puts it on a pty whose speed it heeds as a real line would: it
hears a sign-on at the opening speed only, and says what follows the option select only to a reader that has changed over.

What it says is in `iec62056_21_registers.py`: in programming mode by R1 and R5, in blocks by R3 and R6; W1 and W5 write.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import termios
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from simulators.iec62056_21_registers import Refused, Registers
from simulators.meter import SimulatedMeter
from simulators.pty_line import PtyLine
from simulators.sites import Site

log = logging.getLogger(__name__)
BAUDS = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
BAUDS_MODE_B = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}
TERMIOS_BAUD = {300: termios.B300, 600: termios.B600, 1200: termios.B1200, 2400: termios.B2400, 4800: termios.B4800,
                9600: termios.B9600, 19200: termios.B19200}  # fmt: skip
INPUT_BYTES_MAX = 4096
BLOCK_CHARACTERS = 256
CHANGE_OVER_TRIES, CHANGE_OVER_EACH_S = 4000, 0.001
WAKE_UP_MIN = 50  # NULs
LOCK = "4:171.0"  # of LIS200, where the password is written
MESSAGE = re.compile(rb"/\?[^!/\r\n]*!\r\n|\x06[0-9]{3}\r\n|\x01[^\x01]*?\x03.|\x15", re.DOTALL)
MESSAGE_OR_ACK = re.compile(MESSAGE.pattern + rb"|\x06(?![0-9])", re.DOTALL)
PARITY = bytes(c | 0x80 if c.bit_count() % 2 else c for c in range(128)) + bytes(range(128, 256))


def check_character(covered: bytes) -> int:
    """Exclusive or of the bytes after the start character, the end character included."""
    check = 0
    for byte in covered:
        check ^= byte
    return check


def block(text: str, end: str = "\x03") -> bytes:
    """STX, text, end, check character."""
    covered = (text + end).encode("ascii")
    return b"\x02" + covered + bytes([check_character(covered)])


@dataclass(frozen=True)
class Make:
    """What kind of meter it is.

    `speed`: its baud character, a letter in mode B. `hdlc`: what answers once HDLC has been chosen (mode E). `sleeps`: it wants
    to be woken up. `lis200`: it lets in by a register, and refuses by numbers. `stored_days`: how many it stores the index of.
    """

    mode: Literal["A", "B", "C"] = "C"
    speed: str = "5"
    hdlc: Callable[[bytes], bytes] | None = None
    sleeps: bool = False
    lis200: bool = False
    stored_days: int = 0
    has_clock: bool = True


MODE_C = Make()


class MeterSide:
    """The meter's end of a session with whoever calls. `baud`: the speed that it speaks now; `in_hdlc`: what it speaks."""

    def __init__(
        self, meter: SimulatedMeter, site: Site, now: Callable[[], datetime], opening_baud: int = 300, make: Make = MODE_C
    ) -> None:
        self._meter = meter
        self._site = site
        self._now = now
        self._opening_baud = opening_baud
        self._make = make
        self._registers = Registers(meter, site, now, make.stored_days, make.has_clock)
        self.baud = opening_baud
        self.in_hdlc = False
        self.hdlc_baud = opening_baud
        self._input = b""
        self._nulls = 0
        self._open = False  # in programming mode, and let in where there is a password
        self._selected = False
        self._pending = False  # identified, and what it reads out follows by itself
        self._blocks: list[str] = []
        self._last = b""

    def hears(self, data: bytes, at_baud: int | None = None) -> bytes:
        """Take 7-bit characters that came in at a speed (None: at the right one), and give what the meter says to them."""
        if not self._meter.answers(self._now()):
            self._input = b""
            return b""
        if self.in_hdlc and self._make.hdlc is not None:
            if at_baud != self._opening_baud or self.baud == self._opening_baud:
                return self._make.hdlc(data)
            self.in_hdlc = False
        self._nulls += data.count(0)
        self._input = (self._input + data)[-INPUT_BYTES_MAX:]
        said = b""
        while (message := self._next_message()) is not None:
            said += self._answer(message, at_baud)
        return said

    def goes_on(self) -> bytes:
        """What follows by itself once what it said last is out: the readout of modes A and B, in mode B at its own speed."""
        if not self._pending:
            return b""
        self._pending = False
        self.baud = BAUDS_MODE_B.get(self._make.speed, self._opening_baud)
        return self._say(block(self._registers.readout()))

    def _next_message(self) -> bytes | None:
        """The next whole message: a request or option select to its line end, a command to its check character, ACK or NAK."""
        found = (MESSAGE_OR_ACK if self._blocks else MESSAGE).search(self._input)
        if found is None:
            return None
        self._input = self._input[found.end() :]
        return found[0]

    def _answer(self, message: bytes, at_baud: int | None) -> bytes:
        if message.startswith(b"/?"):
            return self._identify(message, at_baud)
        if message == b"\x15":
            return self._say(self._last)
        if message.startswith(b"\x06") and len(message) > 1:
            return self._select(message.decode("ascii"))
        if message == b"\x06":
            return self._next_block()
        if message[-1] != check_character(message[1:-1]):
            return b"\x15"
        return self._command(message[1:-2].decode("ascii", "replace"))

    def _identify(self, message: bytes, at_baud: int | None) -> bytes:
        address = message[2:-3].decode("ascii", "replace").lstrip("0")
        if at_baud not in (None, self._opening_baud) or address not in ("", self._site.device_address.lstrip("0")):
            return b""
        if self._make.sleeps and self._nulls < WAKE_UP_MIN:
            return b""
        self.baud, self._open, self._selected, self._blocks = self._opening_baud, False, False, []
        self._pending = self._make.mode != "C"
        enhanced = "\\@" if self._make.hdlc is None else "\\2"
        return f"/DRY{self._make.speed}{enhanced}{self._site.equipment}\r\n".encode("ascii")

    def _select(self, message: str) -> bytes:
        if message[1] == "2":
            self.in_hdlc = self._make.hdlc is not None and message[3] == "2"
            self.hdlc_baud = BAUDS.get(message[2], self._opening_baud)
            return message.encode("ascii") if self.in_hdlc else b""  # still at the opening speed
        self.baud = BAUDS.get(message[2], self._opening_baud)
        self._selected = True
        if message[3] == "0":
            return self._say(block(self._registers.readout()))
        self._open = self._site.password is None
        return self._say(b"\x01" + self._sealed(f"P0\x02({self._site.meter})"))

    def _command(self, text: str) -> bytes:
        if text == "B0":
            self.baud, self._selected, self._open, self._nulls = self._opening_baud, False, False, 0
            return b""
        if not self._selected:
            return b""
        if found := re.fullmatch(r"P[12]\x02\((.*)\)" if not self._make.lis200 else rf"W1\x02{re.escape(LOCK)}\((.*)\)", text):
            self._open = self._site.password in (None, found[1])
            return b"\x06" if self._open else self._refuse("ER02")
        if found := re.fullmatch(r"([RW])([1356])\x02([^()]+)\((.*)\)", text):
            return self._obey(found[1], found[3], found[4], in_blocks=found[2] in "36")
        return self._refuse("ER01")

    def _obey(self, letter: str, code: str, argument: str, in_blocks: bool) -> bytes:
        if not self._open:
            return self._refuse("ER03")
        try:
            if letter == "W":
                self._registers.write(code, argument)
                return b"\x06"
            return self._read(code, argument, in_blocks)
        except Refused as refusal:
            return self._refuse(str(refusal))

    def _read(self, code: str, argument: str, in_blocks: bool) -> bytes:
        if code == "3:V.0":
            self._blocks = self._registers.archive(argument)
            return self._next_block()
        text = self._registers.profile(argument) if code == "P.01" else self._registers.text(code)
        if not in_blocks:
            return self._say(block(text))
        self._blocks = [text[n : n + BLOCK_CHARACTERS] for n in range(0, len(text), BLOCK_CHARACTERS)]
        return self._next_block()

    def _refuse(self, error: str) -> bytes:
        return self._say(block(f"(#{error[2:].zfill(4)})" if self._make.lis200 and error[:2] == "ER" else f"({error})"))

    def _next_block(self) -> bytes:
        text = self._blocks.pop(0)
        return self._say(block(text, "\x04" if self._blocks else "\x03"))

    def _say(self, answer: bytes) -> bytes:
        """A frame, spoiled where that is the meter's fault; it can be asked for again."""
        self._last = answer
        match self._meter.spoils_answer():
            case "wrong_check":
                return answer[:-1] + bytes([answer[-1] ^ 0x01])
            case "short":
                return answer[: len(answer) // 2]
            case _:
                return answer

    def _sealed(self, text: str) -> bytes:
        covered = (text + "\x03").encode("ascii")
        return covered + bytes([check_character(covered)])


class PtyServer(PtyLine):
    """Serves one meter's side on a pseudo-terminal of its own; `path` is what a collector opens.

    `link`: a path to make a symbolic link to the pty at. `parity`: characters carry even parity in their eighth bit.
    """

    def __init__(self, side: MeterSide, link: Path | None = None, parity: bool = True) -> None:
        self._side = side
        self._parity = parity
        super().__init__(link)
        _set_baud(self._slave, side.baud)

    def _hear(self) -> None:
        data = os.read(self._master, 4096)
        was_in_hdlc = self._side.in_hdlc
        if self._parity and not was_in_hdlc:
            data = bytes(c & 0x7F for c in data if c.bit_count() % 2 == 0)
        parity = self._parity and not was_in_hdlc
        if said := self._side.hears(data, self._line_baud()):
            self._say(said, self._side.baud, parity)
        if following := self._side.goes_on():
            self._say(following, self._side.baud, parity)
        if self._side.in_hdlc and not was_in_hdlc:
            self._side.baud = self._side.hdlc_baud

    def _say(self, said: bytes, baud: int, parity: bool, tries: int = CHANGE_OVER_TRIES) -> None:
        """Say it once the reader's speed is ours; to one who does not change over, it is noise that he cannot read."""
        if self._line_baud() != baud and tries:
            asyncio.get_running_loop().call_later(CHANGE_OVER_EACH_S, self._say, said, baud, parity, tries - 1)
            return
        if self._line_baud() != baud:
            said = b"\xff" * len(said)
        self._write(said.translate(PARITY) if parity else said)

    def _write(self, data: bytes) -> None:
        try:
            sent = os.write(self._master, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            log.info("%s: %s", self.path, error)
            return
        if sent < len(data):
            asyncio.get_running_loop().call_later(CHANGE_OVER_EACH_S, self._write, data[sent:])

    def _line_baud(self) -> int | None:
        speed = termios.tcgetattr(self._slave)[5]
        return next((baud for baud, constant in TERMIOS_BAUD.items() if constant == speed), None)


class ConverterServer:
    """Serves one meter's side behind a TCP port, as a converter does that passes characters on and has one speed."""

    def __init__(self, side: MeterSide, parity: bool = True) -> None:
        self._side = side
        self._parity = parity
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Start; the port that it listens on."""
        self._server = await asyncio.start_server(self._serve, host, port)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """Hang up, and listen no more."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while data := await reader.read(4096):
                if self._parity:
                    data = bytes(c & 0x7F for c in data if c.bit_count() % 2 == 0)
                said = self._side.hears(data) + self._side.goes_on()
                writer.write(said.translate(PARITY) if self._parity else said)
                await writer.drain()
        except OSError as error:
            log.info("%s", error)
        finally:
            self._open.discard(writer)
            writer.close()


def _set_baud(line: int, baud: int) -> None:
    attributes = termios.tcgetattr(line)
    attributes[4] = attributes[5] = TERMIOS_BAUD[baud]
    termios.tcsetattr(line, termios.TCSANOW, attributes)
