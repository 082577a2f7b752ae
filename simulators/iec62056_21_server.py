"""Serves simulated meters by IEC 62056-21 mode C on pseudo-terminals, one meter each.

`MeterSide` is the meter's end of a session: bytes in, bytes out. It shares no code with the collector's decoder; one table of
messages in the tests holds both to the same bytes. `PtyServer` puts it on a pty whose speed it heeds as a real line would: it
hears a sign-on at the opening speed only, and says what follows the option select only to a reader that has changed over.

What can be read, in programming mode (R1, R5; R6 in partial blocks):

    0.9.1  0.9.2                time and date; with a season flag S where the equipment keeps local time
    0.0.0                       the equipment's number
    7-0:13.2.0  7-0:13.0.0      index, of the converted (with a convertor) and of the unconverted register, m³
    7-0:3.0.0                   the meter's own index, m³ (with a convertor: the convertor's own)
    P.01(from;to)               the log, an hour a row, with these three as channels
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

from simulators.meter import LogRow, Register, SimulatedMeter
from simulators.sites import Site

log = logging.getLogger(__name__)
LOCAL = ZoneInfo("Europe/London")
BAUDS = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
TERMIOS_BAUD = {300: termios.B300, 600: termios.B600, 1200: termios.B1200, 2400: termios.B2400, 4800: termios.B4800,
                9600: termios.B9600, 19200: termios.B19200}  # fmt: skip
INPUT_BYTES_MAX = 4096
BLOCK_CHARACTERS = 256
CHANGE_OVER_TRIES, CHANGE_OVER_EACH_S = 4000, 0.001
STATUS_WORD = {"clock_invalid": 0x0002}
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


class MeterSide:
    """The meter's end of a session with whoever calls. `baud`: the speed that it speaks now."""

    def __init__(
        self, meter: SimulatedMeter, site: Site, now: Callable[[], datetime], opening_baud: int = 300, fastest: str = "5"
    ) -> None:
        self._meter = meter
        self._site = site
        self._now = now
        self._opening_baud = opening_baud
        self._fastest = fastest
        self.baud = opening_baud
        self._input = b""
        self._open = False  # in programming mode, and let in where there is a password
        self._selected = False
        self._blocks: list[str] = []
        self._last = b""

    def hears(self, data: bytes, at_baud: int | None = None) -> bytes:
        """Take 7-bit characters that came in at a speed (None: at the right one), and give what the meter says to them."""
        if not self._meter.answers(self._now()):
            self._input = b""
            return b""
        self._input = (self._input + data)[-INPUT_BYTES_MAX:]
        said = b""
        while (message := self._next_message()) is not None:
            said += self._answer(message, at_baud)
        return said

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
        self.baud, self._open, self._selected, self._blocks = self._opening_baud, False, False, []
        return f"/DRY{self._fastest}\\@{self._site.equipment}\r\n".encode("ascii")

    def _select(self, message: str) -> bytes:
        self.baud = BAUDS.get(message[2], self._opening_baud)
        self._selected = True
        if message[3] == "0":
            return self._say(block("\r\n".join([*self._readout(), "!\r\n"])))
        self._open = self._site.password is None
        return self._say(b"\x01" + self._sealed(f"P0\x02({self._site.meter})"))

    def _command(self, text: str) -> bytes:
        if text == "B0":
            self.baud, self._selected, self._open = self._opening_baud, False, False
            return b""
        if not self._selected:
            return b""
        if found := re.fullmatch(r"P[12]\x02\((.*)\)", text):
            self._open = self._site.password in (None, found[1])
            return b"\x06" if self._open else self._say(block("(ER02)"))
        if found := re.fullmatch(r"R([156])\x02([^()]+)\((.*)\)", text):
            return self._read(found[2], found[3], in_blocks=found[1] == "6")
        return self._say(block("(ER01)"))

    def _read(self, code: str, argument: str, in_blocks: bool) -> bytes:
        if not self._open:
            return self._say(block("(ER03)"))
        text = self._profile(argument) if code == "P.01" else self._register(code)
        if not in_blocks:
            return self._say(block(text))
        self._blocks = [text[n : n + BLOCK_CHARACTERS] for n in range(0, len(text), BLOCK_CHARACTERS)]
        return self._next_block()

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

    # What there is to read.

    def _register(self, code: str) -> str:
        shows = self._meter.clock(self._now())
        if code == "0.9.1":
            return f"0.9.1({self._season_and_local(shows, '%H%M%S')})"
        if code == "0.9.2":
            return f"0.9.2({self._season_and_local(shows, '%y%m%d')})"
        if code == "0.0.0":
            return f"0.0.0({self._site.equipment})"
        for name, value in self._channels(self._meter.row_now(self._now())):
            if code == name:
                return f"{name}({value}*m3)"
        return "(ER10)"

    def _readout(self) -> list[str]:
        codes = ["0.0.0", "0.9.1", "0.9.2", *(name for name, _ in self._channels(self._meter.row_now(self._now())))]
        return [self._register(code) for code in codes]

    def _profile(self, argument: str) -> str:
        try:
            first, last = (_instant(stamp) for stamp in argument.split(";"))
        except ValueError:
            return "P.01(ERROR)"
        rows = self._meter.log(first, last, self._now())
        return "\r\n".join(line for part in _unbroken(rows) for line in self._profile_part(part)) or "P.01(ERROR)"

    def _profile_part(self, rows: Sequence[LogRow]) -> Iterator[str]:
        channels = self._channels(rows[0])
        status = sum(STATUS_WORD.get(name, 0) for name in rows[0].status)
        time = self._season_and_local(rows[0].at, "%y%m%d%H%M%S")
        yield f"P.01({time})({status:04X})(60)({len(channels)})" + "".join(f"({name})(m3)" for name, _ in channels)
        for row in rows:
            yield "".join(f"({value})" for _, value in self._channels(row))

    def _channels(self, row: LogRow) -> list[tuple[str, str]]:
        """Codes and values of what is in a row, in m³ with the register's own digits."""
        meter = self._meter
        main = "7-0:13.0.0" if meter.unconverted is None else "7-0:13.2.0"
        channels = [(main, _m3(meter.register, row.index))]
        if meter.unconverted is not None and row.unconverted is not None:
            channels.append(("7-0:13.0.0", _m3(meter.unconverted, row.unconverted)))
        return [*channels, ("7-0:3.0.0", _m3(meter.register, row.reference))]

    def _season_and_local(self, instant: datetime, form: str) -> str:
        if self._site.meter_time == "utc":
            return "2" + instant.astimezone(UTC).strftime(form)
        local = instant.astimezone(LOCAL)
        return ("1" if local.dst() else "0") + local.strftime(form)


def _unbroken(rows: Sequence[LogRow]) -> Iterator[list[LogRow]]:
    """Runs of rows an hour apart and of one status."""
    for _, run in groupby(enumerate(rows), lambda item: (item[1].at - item[0] * timedelta(hours=1), item[1].status)):
        yield [row for _, row in run]


def _instant(stamp: str) -> datetime:
    """`Syymmddhhmm` in British local time, or UTC where S is 2."""
    if not re.fullmatch("[012][0-9]{10}", stamp):
        raise ValueError(stamp)
    local = datetime.strptime(stamp[1:], "%y%m%d%H%M").replace(tzinfo=UTC)
    return local - timedelta(hours=1) if stamp[0] == "1" else local


def _m3(register: Register, index: int) -> str:
    value = index * register.m3_per_tick
    places = max(0, -int(register.m3_per_tick.as_tuple().exponent))
    width = register.digits + (1 if places else 0)
    return f"{value:0{width}.{places}f}" if places else f"{Decimal(value):0{width}f}"


class PtyServer:
    """Serves one meter's side on a pseudo-terminal of its own; `path` is what a collector opens.

    `link`: a path to make a symbolic link to the pty at. `parity`: characters carry even parity in their eighth bit.
    """

    def __init__(self, side: MeterSide, link: Path | None = None, parity: bool = True) -> None:
        self._side = side
        self._parity = parity
        self._link = link
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        _set_baud(self._slave, side.baud)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
            self.path = str(link)

    def start(self) -> None:
        """Serve in the running event loop."""
        asyncio.get_running_loop().add_reader(self._master, self._hear)

    def close(self) -> None:
        """Hang up: whoever reads the line sees its end."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def _hear(self) -> None:
        data = os.read(self._master, 4096)
        if self._parity:
            data = bytes(c & 0x7F for c in data if c.bit_count() % 2 == 0)
        said = self._side.hears(data, self._line_baud())
        if said:
            self._say(said)

    def _say(self, said: bytes, tries: int = CHANGE_OVER_TRIES) -> None:
        """Say it once the reader's speed is ours; to one who does not change over, it is noise that he cannot read."""
        if self._line_baud() != self._side.baud and tries:
            asyncio.get_running_loop().call_later(CHANGE_OVER_EACH_S, self._say, said, tries - 1)
            return
        if self._line_baud() != self._side.baud:
            said = b"\xff" * len(said)
        self._write(said.translate(PARITY) if self._parity else said)

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


def _set_baud(line: int, baud: int) -> None:
    attributes = termios.tcgetattr(line)
    attributes[4] = attributes[5] = TERMIOS_BAUD[baud]
    termios.tcsetattr(line, termios.TCSANOW, attributes)
