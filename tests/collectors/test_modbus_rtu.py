"""Modbus RTU on pseudo-terminals and behind converters: what comes back is right, or it is no reading."""

from __future__ import annotations

import asyncio
import os
import re
import tty
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from pymodbus.framer import FramerRTU

from collectors.modbus import ModbusMeter
from collectors.modbus_line import ModbusLine, SerialModbusLine, modbus_line
from collectors.modbus_maps import register_map
from collectors.poll import make_readers
from collectors.reader import Answer, Unanswered
from collectors.reading import PollError
from simulators.serve import ServedMeter
from tests.collectors.canned_modbus import CannedModbus, Row, archive_registers
from tests.patience import patient

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
END = START + timedelta(days=1)
NOW = END + timedelta(minutes=3)
HOUR = 3600
START_S = int(START.timestamp())
MAP = register_map("hourly_log")
TRUTH = tuple(range(5000, 5025))
ANSWER_S = 1.0  # what meters are given for an answer that does not come

# Takes the question, the answer's frame and how many were before it; gives what is put on the line, each after a pause in s.
Line = Callable[[bytes, bytes, int], Iterable[tuple[float, bytes]]]


def as_it_is(_question: bytes, answer: bytes, _number: int) -> list[tuple[float, bytes]]:
    return [(0, answer)]


def crc(body: bytes) -> bytes:
    return FramerRTU.compute_CRC(body).to_bytes(2, "big")


def framed(body: bytes) -> bytes:
    return body + crc(body)


def hours(first: int, last: int) -> list[Row]:
    return [(START_S + n * HOUR, 5000 + n) for n in range(first, last + 1)]


class CannedLine:
    """A pseudo-terminal with a meter of canned registers on it; `line` decides what it puts on the wire."""

    def __init__(self, line: Line = as_it_is, unit: int = 1) -> None:
        registers = archive_registers(MAP, int(NOW.timestamp()), hours(-30, 24), 700)
        self._canned, self.line, self.unit = CannedModbus(registers), line, unit
        self.babble: Callable[[bytes], None] = print  # what puts octets on the line
        self.questions: list[bytes] = []
        self.times: list[float] = []

    @contextmanager
    def serving(self):  # type: ignore[no-untyped-def]
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop = asyncio.get_running_loop()
        waiting = b""

        def hear() -> None:
            nonlocal waiting
            waiting += os.read(master, 4096)
            while len(waiting) >= 8:
                question, waiting = waiting[:8], waiting[8:]
                assert crc(question[:-2]) == question[-2:], "what is sent has a right CRC"
                self.times.append(loop.time())
                self.questions.append(question)
                after = 0.0
                for pause_s, octets in self.line(question, self._answer(question), len(self.questions) - 1):
                    after += pause_s
                    loop.call_later(after, write, octets)

        def write(octets: bytes) -> None:
            if master is not None:
                with suppress(BlockingIOError):
                    os.write(master, octets)

        self.babble = write

        loop.add_reader(master, hear)
        try:
            yield os.ttyname(slave)
        finally:
            loop.remove_reader(master)
            closing, master = master, None
            os.close(closing)
            os.close(slave)

    def _answer(self, question: bytes) -> bytes:
        head = bytes(6) + question[:2]
        first, count = int.from_bytes(question[2:4], "big"), int.from_bytes(question[4:6], "big")
        return framed(self._canned._answer(head, first, count)[6:])


async def polled(canned: CannedLine, polls: int, timeout_s: float) -> list[Answer | PollError]:
    found: list[Answer | PollError] = []
    with canned.serving() as path:
        meter = ModbusMeter(modbus_line(f"serial:{path}", timeout_s, 115200, "even"), 1, MAP, "site-1")
        for _ in range(polls):
            try:
                found.append(await meter.read_day(START, END, lambda: NOW))
            except PollError as error:
                found.append(error)
    return found


def read(canned: CannedLine, polls: int = 1) -> list[Answer | PollError]:
    """What that many polls of the Day bring, one after the other, where none is to time out."""
    return asyncio.run(asyncio.wait_for(polled(canned, polls, patient(3)), patient(15)))


def read_all(lines: Iterable[Line]) -> list[list[Answer | PollError]]:
    """What two polls bring on each of these lines: all at once, for time-outs take their time."""

    async def main() -> list[list[Answer | PollError]]:
        return await asyncio.gather(*(polled(CannedLine(line), 2, ANSWER_S) for line in lines))

    return asyncio.run(asyncio.wait_for(main(), patient(40)))


def good(answer: Answer | PollError) -> bool:
    """A whole and true answer; an answer must never be anything else."""
    if isinstance(answer, PollError):
        return False
    assert answer.readings.index == TRUTH
    assert answer.readings.at == tuple(START + timedelta(hours=n) for n in range(25))
    assert answer.readings.clock_offset_s == 0
    return True


def test_a_day_is_25_readings_in_three_questions() -> None:
    canned = CannedLine()
    assert [good(answer) for answer in read(canned, polls=2)] == [True, True]
    assert len(canned.questions) == 6


def test_an_answer_in_single_octets_is_an_answer() -> None:
    def trickle(_question: bytes, answer: bytes, _n: int) -> list[tuple[float, bytes]]:
        return [(0.0002, answer[n : n + 1]) for n in range(len(answer))]

    assert good(read(CannedLine(trickle))[0])


@pytest.mark.parametrize(
    "before",
    [
        lambda question, answer: b"\x00\xff\x01",  # noise of a line that turns round
        lambda question, answer: question,  # an adapter that hears itself
        lambda question, answer: framed(b"\x09" + answer[1:-2].replace(b"\x13", b"\x14")),  # another unit's answer
        lambda question, answer: question + framed(b"\x09\x83\x02"),
        lambda question, answer: b"\x01\x03",  # an answer that was begun and broken off
    ],
)
def test_noise_echo_and_answers_of_other_units_before_the_answer_are_passed_over(
    before: Callable[[bytes, bytes], bytes],
) -> None:
    assert good(read(CannedLine(lambda question, answer, _: [(0, before(question, answer)), (0.01, answer)]))[0])


# (what is put on the line instead of the answer, what the poll then says)
Spoilt = tuple[Callable[[bytes, bytes], bytes], str]
SPOILT: list[Spoilt] = [
    (lambda q, a: a[:20] + bytes([a[20] ^ 4]) + a[21:], "its CRC is wrong"),
    (lambda q, a: q + a[:-1] + bytes([a[-1] ^ 1]), "its CRC is wrong"),
    (lambda q, a: framed(bytes((a[0], a[1], a[2] - 2)) + a[3:-4]), r"short answer: \d+ of \d+ registers from \d+ on"),
    (lambda q, a: framed(bytes((a[0], a[1], a[2] + 2)) + a[3:-2] + b"\0\0"), r"answer: \d+ of \d+ registers from \d+ on"),
    (lambda q, a: framed(a[:1] + b"\x83\x06"), r"exception answer 6 \(device busy\) for register"),
    (lambda q, a: framed(b"\x09" + a[1:-2]), "octets within .* and no answer in them"),  # of another unit
    (lambda q, a: framed(a[:1] + b"\x04" + a[2:-2]), "octets within .* and no answer in them"),
    (lambda q, a: a[:-4], "octets within .* and no answer in them"),
    (lambda q, a: q, "octets within .* and no answer in them"),
    (lambda q, a: b"\x55" * 3000, "no answer in them"),
    (lambda q, a: b"", "no answer within 1"),
]


@pytest.mark.parametrize("number", [0, 1])
def test_a_bad_answer_is_never_a_reading_and_does_not_spoil_the_next_poll(number: int) -> None:
    def line(spoil: Callable[[bytes, bytes], bytes]) -> Line:
        return lambda question, answer, n: [(0, spoil(question, answer) if n == number else answer)]

    for (_, cause), (failed, then) in zip(SPOILT, read_all(line(spoil) for spoil, _ in SPOILT), strict=True):
        assert isinstance(failed, PollError)
        assert re.search(cause, failed.cause), failed.cause
        assert isinstance(failed, Unanswered) == (cause == "no answer within 1")
        assert good(then), cause


def test_an_answer_that_comes_too_late_does_not_meet_the_next_question() -> None:
    """It would be of the right unit, function and length: its values are others, to be seen."""

    def late(number: int) -> Line:
        def line(_question: bytes, answer: bytes, n: int) -> list[tuple[float, bytes]]:
            if n != number:
                return [(0, answer)]
            return [(1.3 * ANSWER_S, framed(answer[:8] + bytes(octet ^ 1 for octet in answer[8:-2])))]

        return line

    for failed, then in read_all(late(number) for number in range(3)):
        assert isinstance(failed, Unanswered)
        assert good(then)


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    def twice(_question: bytes, answer: bytes, _n: int) -> list[tuple[float, bytes]]:
        return [(0, answer), (0, answer)]

    assert good(read(CannedLine(twice))[0])


def test_a_second_answer_that_meets_the_next_question_is_no_reading() -> None:
    """Right after the next question: as an adapter that buffers may do it. Both archive questions are of one length."""
    last: list[bytes] = [b""]

    def again(_question: bytes, answer: bytes, n: int) -> list[tuple[float, bytes]]:
        found = [(0.0, last[0]), (0.02, answer)] if len(last[0]) == len(answer) else [(0.0, answer)]
        last[0] = answer
        return found

    for answer in read(CannedLine(again), polls=3):
        if isinstance(answer, Answer):
            assert all(index in (None, truth) for index, truth in zip(answer.readings.index, TRUTH, strict=True))


def test_a_dead_unit_costs_the_others_of_its_line_no_more_than_its_time_out() -> None:
    async def main() -> None:
        canned = CannedLine(lambda question, answer, _: [(0, answer)] if question[0] == 1 else [])
        with canned.serving() as path:
            line = SerialModbusLine(path, 115200, "none", ANSWER_S)
            dead, alive = (ModbusMeter(line, unit, MAP, f"site-{unit}") for unit in (2, 1))
            with pytest.raises(Unanswered):
                await dead.read_day(START, END, lambda: NOW)
            # The dead one's late answer is feared for as long as its time-out again; nobody else waits for that.
            assert line._late_until.keys() == {2}
            assert good(await alive.read_day(START, END, lambda: NOW))
            assert [question[0] for question in canned.questions] == [2, 1, 1, 1]

    asyncio.run(asyncio.wait_for(main(), patient(15)))


@pytest.mark.parametrize("noise", [b"\x01", b"\x01\x03\x10", b"\x55" * 64])
def test_a_line_that_babbles_is_a_failed_poll_in_its_time(noise: bytes) -> None:
    async def babbled(poll: asyncio.Task[Answer], canned: CannedLine) -> None:
        while not poll.done():
            canned.babble(noise)
            await asyncio.sleep(0.002)

    async def main() -> None:
        canned = CannedLine(lambda _question, answer, n: [(0, answer)] if n else [])
        with canned.serving() as path:
            meter = ModbusMeter(SerialModbusLine(path, 115200, "none", ANSWER_S), 1, MAP, "site-1")
            for _ in range(2):  # the first question is not answered, the others in the midst of noise
                poll = asyncio.create_task(meter.read_day(START, END, lambda: NOW))
                await babbled(poll, canned)
                assert isinstance(poll.exception(), PollError) or (canned.questions[1:] and good(poll.result()))
            assert good(await meter.read_day(START, END, lambda: NOW))

    asyncio.run(asyncio.wait_for(main(), patient(20)))


def test_the_line_is_silent_for_as_long_as_the_map_says_before_each_question() -> None:
    answered: list[float] = []

    def noted(_question: bytes, answer: bytes, _n: int) -> list[tuple[float, bytes]]:
        answered.append(asyncio.get_running_loop().time())
        return [(0, answer)]

    async def main() -> None:
        with canned.serving() as path:
            map_ = msgspec.structs.replace(MAP, pause_s=0.08)
            meter = ModbusMeter(SerialModbusLine(path, 9600, "none", patient(3)), 1, map_, "site-1")
            assert good(await meter.read_day(START, END, lambda: NOW))

    canned = CannedLine(noted)
    asyncio.run(asyncio.wait_for(main(), patient(15)))
    assert min(later - before for before, later in zip(answered, canned.times[1:], strict=False)) >= 0.08


def test_a_line_that_is_not_there_says_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        meter = ModbusMeter(modbus_line(f"serial:{tmp_path}/ttyUSB7", 1.0), 1, MAP, "site-1")
        with pytest.raises(Unanswered, match=r"there is no .*/ttyUSB7"):
            await meter.read_day(START, END, lambda: NOW)
        (tmp_path / "file").touch()
        meter = ModbusMeter(modbus_line(f"serial:{tmp_path}/file", 1.0), 1, MAP, "site-1")
        with pytest.raises(PollError):
            await meter.read_day(START, END, lambda: NOW)

    asyncio.run(main())


def test_a_line_that_goes_away_during_a_poll_is_a_failed_poll_and_comes_back_by_itself(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        link = tmp_path / "line"
        line = modbus_line(f"serial:{link}", ANSWER_S, 115200, "none")
        meter = ModbusMeter(line, 1, MAP, "site-1")
        gone = CannedLine(lambda q, a, n: [])
        with gone.serving() as path:
            link.symlink_to(path)
            poll = asyncio.create_task(meter.read_day(START, END, lambda: NOW))
            while not gone.questions:
                await asyncio.sleep(0.01)
        with pytest.raises(Unanswered, match="the connection was closed"):
            await poll
        link.unlink()
        with CannedLine().serving() as path:
            link.symlink_to(path)
            assert good(await meter.read_day(START, END, lambda: NOW))

    asyncio.run(asyncio.wait_for(main(), patient(20)))


@pytest.mark.parametrize("chunk", [1, 7, 300])
def test_rtu_over_tcp_reads_through_a_converter(chunk: int) -> None:
    """A converter: TCP on one side, the serial line's octets as they come on the other."""

    async def main() -> None:
        canned = CannedLine()

        async def convert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    answer = canned._answer(await reader.readexactly(8))
                    for n in range(0, len(answer), chunk):
                        writer.write(answer[n : n + chunk])
                        await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(convert, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line = modbus_line(f"rtu+tcp://127.0.0.1:{port}", patient(2.0))
        assert isinstance(line, ModbusLine)
        assert good(await ModbusMeter(line, 1, MAP, "site-1").read_day(START, END, lambda: NOW))
        server.close()

    asyncio.run(asyncio.wait_for(main(), patient(15)))


@pytest.mark.parametrize("address", ["", "tcp://", "tcp://host", "udp://host:502", "serial:", "rtu://host:1", "tcp://host:0x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        modbus_line(address, 1.0)


def test_meters_of_one_line_share_it_and_its_speed() -> None:
    def served(number: int, baud: int | None) -> ServedMeter:
        return ServedMeter(
            meter_point=f"MP{number}", meter=f"M-{number}", protocol="modbus", address="serial:/dev/ttyUSB0", device=number,
            map="hourly_log", baud=baud,
        )  # fmt: skip

    one, other = make_readers([served(1, 9600), served(2, 9600)], 5.0)
    assert (one.lock, one.trace) == (other.lock, other.trace)
    with pytest.raises(ValueError, match="meter M-2 of MP2: baud: found 19200; allowed: 9600, as with the others at serial:"):
        make_readers([served(1, 9600), served(2, None)], 5.0)
