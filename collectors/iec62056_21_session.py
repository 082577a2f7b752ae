"""A session with a meter over a line: what is said until it is answered, or has failed with a cause.

Sign-on, where the make wants it after waking it up; the option select with the change of speed; the password; questions, writes
and their answers; the break. What is not answered, or wrongly, is said again, `attempts` times in all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeVar

from collectors.iec62056_21 import Client, Malformed, RemoteError, State, WrongAnswer
from collectors.iec62056_21_data import MeterTime, data_sets
from collectors.iec62056_21_messages import (
    BAUD_MODE_C,
    WAKE_UP,
    Accepted,
    Again,
    Answer,
    AskedAgain,
    Break,
    Challenge,
    Continue,
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
    encode,
    without_secret,
)
from collectors.os_error import in_words
from collectors.profile_maps import Archive
from collectors.reading import PollError
from collectors.serial_port import CharacterLine

ANSWER_CHARACTERS_MAX = 1024 * 1024
HEARD_OCTETS_MAX = 0x10000  # of one message, in one frame of the trace
READOUT_TIMES = 3  # as long as another exchange may take: all that the meter has, at 300 Bd perhaps
_H = TypeVar("_H", bound=Heard)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a session is. The standard: a meter reacts within 1.5 s, characters come within 1.5 s of each other.

    `reaction_s`: how long we wait before we speak; None: as the standard has it, 0.2 s, or 0.02 s for quick meters.
    `exchange_timeout_s`: the most that one question with its answer may take. `wake_up_s`: from the first NUL to the sign-on.
    """

    answer_timeout_s: float = 2.0
    exchange_timeout_s: float = 60.0
    reaction_s: float | None = None
    attempts: int = 3
    wake_up_s: float = 2.2 + 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec62056Meter:
    """What to know of a meter to read it. Codes are those of its profile's channels; `m3_per_tick` that of `index_code`'s
    register and of the reference's.

    `log`: what a Day is read from (`ProfileMap.log`), with `archive` for lis200. `interval_code`: the register of the recording
    interval, in `interval_unit_s`; None: it cannot be set. `clock_code`: the register of date and time; None: 0.9.2 and 0.9.1.
    """

    site: str
    m3_per_tick: Decimal
    index_code: str = "7-0:13.0.0"
    unconverted_code: str | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference_code: str | None = "7-0:3.0.0"
    device_address: str = ""
    password: str | None = field(default=None, repr=False)
    password_level: Literal[1, 2] = 1
    lock_code: str = ""
    interval_s: int = 3600
    baud: int = 300
    baud_max: int = 9600
    partial_blocks: bool = False
    wake_up: bool = False
    time: MeterTime = field(default_factory=MeterTime)
    log: Literal["profile", "lis200", "readout"] = "profile"
    archive: Archive | None = None
    stored_code: str | None = None
    formatted: bool = True
    interval_code: str | None = None
    interval_unit_s: int = 60
    clock_code: str | None = None
    clock_may_be_set: bool = False


class NoAnswer(PollError):
    """Nothing usable came, however often it was asked for."""


class RefusedBy(PollError):
    """The meter will not; `text` is what it says, as `ER03` or `#0104`."""

    def __init__(self, site: str, name: str, text: str) -> None:
        super().__init__(site, f"{name}: refused: {text}")
        self.text = text


async def in_session(
    line: CharacterLine,
    meter: Iec62056Meter,
    timing: Timing,
    work: Callable[[Session], Awaitable[_T]],
    in_programming_mode: bool = True,
) -> _T:
    """What `work` brings, in programming mode, or where it signs on itself, for a readout or HDLC. Hold the line's lock.

    Raises PollError: where the line breaks, where the meter does not answer, where it says what it may not.
    """
    session = Session(line, meter, timing)
    try:
        await line.open(meter.baud)
        try:
            if in_programming_mode:
                await session.program()
            return await work(session)
        finally:
            await session.end()
            await line.done()
    except OSError as error:
        await line.reset()
        raise PollError(meter.site, f"line {line.path}: {in_words(error)}") from error
    except RemoteError as error:
        raise PollError(meter.site, f"{type(error).__name__}: {error}") from error


class Session:
    """One session on an open line."""

    def __init__(self, line: CharacterLine, meter: Iec62056Meter, timing: Timing) -> None:
        self.meter = meter
        self._line = line
        self._timing = timing
        self._client = Client()
        self._reaction_s = 0.2 if timing.reaction_s is None else timing.reaction_s
        self._shown: tuple[bytes, bytes] | None = None  # what we said last with a secret in it, and without

    async def program(self) -> None:
        """As far as programming mode, and let in."""
        await self._selected("programming")
        if self.meter.password is not None:
            said = Password(self.meter.password, self.meter.password_level, self.meter.lock_code)
            await self.ask(said, Accepted)

    async def readout(self) -> str:
        """The data that a meter reads out: in modes A and B by itself, in mode C when asked for."""
        heard = await self._selected("readout")
        assert isinstance(heard, Answer)
        return heard.text

    async def hdlc(self) -> int:
        """The speed at which the meter goes on by HDLC, from now on (mode E)."""
        heard = await self._selected("hdlc")
        assert isinstance(heard, HdlcFollows)
        speed = BAUD_MODE_C[heard.baud_character]
        await self._line.set_baud(speed)
        return speed

    async def value(self, code: str, argument: str = "") -> str:
        """The one value of a data set, as text. RefusedBy where the meter will not."""
        read = Read(code, argument, formatted=self.meter.formatted)
        answer = await self.ask(read, Answer)
        sets = list(data_sets(answer.text))
        if len(sets) != 1 or len(sets[0].values) != 1:
            raise Malformed(f"{code}: {answer.text[:32]!r} is not one value")
        return sets[0].values[0]

    async def write(self, code: str, value: str) -> None:
        """Write a data set. RefusedBy where the meter will not."""
        await self.ask(Write(code, value, self.meter.formatted), Accepted)

    async def blocks(self, read: Read) -> list[str]:
        """The answer's text, in as many blocks as it came in. RefusedBy where the meter will not."""
        said: Said = read
        texts: list[str] = []
        while True:
            heard: Answer | PartAnswer = await self.ask(said, Answer, PartAnswer)
            texts.append(heard.text)
            if sum(map(len, texts)) > ANSWER_CHARACTERS_MAX:
                raise Malformed(f"an answer of more than {ANSWER_CHARACTERS_MAX} characters")
            if isinstance(heard, Answer):
                return texts
            said = Continue()

    async def end(self) -> None:
        """Say that it is over. Nothing is expected, and what goes wrong here spoils no reading."""
        if self._client.state not in (State.IDLE, State.CALLED):
            try:
                await self._write(Break())
            except OSError:
                await self._line.reset()

    async def ask(self, said: Said, *expected: type[_H], baud: int | None = None) -> _H:
        """Say it until one of the expected events answers it; `baud`: the speed to go on at once it is said."""
        saying, cause = said, "no answer"
        for _ in range(self._timing.attempts):
            await self._say(saying, baud)
            try:
                async with asyncio.timeout(self._timing.exchange_timeout_s):
                    heard = await self._hear()
            except TimeoutError:
                timeout_s = self._timing.exchange_timeout_s
                raise PollError(self.meter.site, f"{_name(said)}: no whole answer within {timeout_s:g} s") from None
            except RemoteError as error:
                cause = f"{type(error).__name__}: {error}"
                if isinstance(said, SelectHdlc):
                    break  # which of the two protocols would it take what we say for?
                saying = said if isinstance(said, SignOn) else Again()
                continue
            if isinstance(heard, expected):
                return heard
            if heard is None and isinstance(said, Select | SelectHdlc):
                break  # at which speed would it hear us now?
            if heard is not None and (isinstance(said, Continue) or not isinstance(heard, AskedAgain)):
                raise self._refusal(_name(said), heard)
            cause = "no answer" if heard is None else "it does not understand"
            saying = Again() if isinstance(said, Continue) else said
        raise NoAnswer(self.meter.site, f"{_name(said)}: {cause}")

    async def _selected(self, what: Literal["programming", "readout", "hdlc"]) -> Heard:
        """Sign on and choose. A meter that falls silent at the change of speed is called anew, at the first speed."""
        for attempt in range(1, self._timing.attempts + 1):
            await self._wake()
            identified: _Identified = await self.ask(SignOn(self.meter.device_address), Identification, ReadoutFollows)
            if self._timing.reaction_s is None and identified.quick:
                self._reaction_s = 0.02
            try:
                return await self._select(identified, what)
            except NoAnswer:
                if attempt == self._timing.attempts:
                    raise
                await self.end()
                await self._line.open(self.meter.baud)
        raise AssertionError("the last attempt returns or raises")

    async def _select(self, identified: _Identified, what: Literal["programming", "readout", "hdlc"]) -> Heard:
        if isinstance(identified, ReadoutFollows):
            if what != "readout":
                raise PollError(self.meter.site, "sign-on: a meter of mode A or B, which reads out and has no log to ask for")
            return await self._follow(identified.baud)
        fastest = min(identified.baud, self.meter.baud_max)
        character = max(c for c in BAUD_MODE_C if BAUD_MODE_C[c] <= fastest)
        if what == "hdlc":
            if not identified.has_hdlc:
                raise PollError(self.meter.site, f"sign-on: {identified.text!r} offers no HDLC (mode E)")
            return await self.ask(SelectHdlc(character), HdlcFollows)
        expected: type[Heard] = Challenge if what == "programming" else Answer
        return await self.ask(Select(what, character), expected, baud=BAUD_MODE_C[character])

    async def _follow(self, baud: int) -> Heard:
        """What a meter of mode A or B says by itself, in mode B at its own speed. It says it but once a call."""
        timeout_s = READOUT_TIMES * self._timing.exchange_timeout_s
        await self._line.set_baud(baud)
        try:
            async with asyncio.timeout(timeout_s):
                heard = await self._hear()
        except TimeoutError:
            raise PollError(self.meter.site, f"readout: no whole answer within {timeout_s:g} s") from None
        except RemoteError as error:
            raise NoAnswer(self.meter.site, f"readout: {type(error).__name__}: {error}") from error
        if not isinstance(heard, Answer):
            raise NoAnswer(self.meter.site, "readout: no answer")
        return heard

    def _refusal(self, name: str, heard: Heard) -> PollError:
        if isinstance(heard, Refused):
            return RefusedBy(self.meter.site, name, heard.text)
        return PollError(self.meter.site, f"{name}: answered by {type(heard).__name__.lower()}")

    async def _wake(self) -> None:
        if self.meter.wake_up:
            self._line.trace.sent(WAKE_UP)
            await self._line.write(WAKE_UP)
            await asyncio.sleep(self._timing.wake_up_s)

    async def _say(self, said: Said, baud: int | None) -> None:
        await asyncio.sleep(self._reaction_s)
        await self._write(said)
        if baud is not None:
            await self._line.set_baud(baud)

    async def _write(self, said: Said) -> None:
        shown = without_secret(said)
        self._shown = (encode(said), shown) if isinstance(said, Password) else None
        self._line.trace.sent(shown)
        await self._line.write(self._client.send(said))

    async def _hear(self) -> Heard | None:
        """The next event; None where nothing comes. Late answers to other questions are let pass."""
        octets = b""
        try:
            while True:
                try:
                    event = self._client.next_event()
                except WrongAnswer:
                    continue
                if not isinstance(event, NeedData):
                    return event
                data = await self._line.read(self._timing.answer_timeout_s)
                if not data:
                    return None
                octets += data
                if len(octets) > HEARD_OCTETS_MAX:  # somebody babbles
                    self._line.trace.heard(self._without_echo(octets))
                    octets = b""
                self._client.receive_data(data)
        finally:  # in one frame, however the characters trickled in
            self._line.trace.heard(self._without_echo(octets))

    def _without_echo(self, octets: bytes) -> bytes:
        """What came in, to be shown: where it echoes a password, or begins to, without it."""
        if self._shown is None:
            return octets
        said, shown = self._shown
        return shown[: len(octets)] if said.startswith(octets) else octets.replace(said, shown)


_Identified = Identification | ReadoutFollows


def _name(said: Said) -> str:
    if isinstance(said, Read | Write):
        return said.code
    return {SignOn: "sign-on", Select: "option select", SelectHdlc: "option select"}.get(
        type(said), type(said).__name__.lower()
    )
