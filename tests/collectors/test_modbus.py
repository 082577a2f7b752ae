"""Reading a Modbus meter over real sockets: what comes back is right, or it is no reading."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from collectors.modbus import ModbusMeter
from collectors.modbus_line import ModbusLine
from collectors.modbus_maps import register_map
from collectors.reader import Answer, Unanswered
from collectors.reading import PollError
from tests.collectors.canned_modbus import CannedModbus, Row, Spoil, archive_registers, as_it_is

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
END = START + timedelta(days=1)
NOW = END + timedelta(minutes=3)
HOUR = 3600
START_S = int(START.timestamp())
MAP = register_map("hourly_log")


def hours(first: int, last: int) -> list[Row]:
    """Records from the `first` to the `last` hour after the Day's start; the index is 5000 and the hour."""
    return [(START_S + n * HOUR, 5000 + n) for n in range(first, last + 1)]


def server(rows: Iterable[Row] = (), newest: int = 700, spoil: Spoil = as_it_is, clock_off_s: int = 0) -> CannedModbus:
    clock_s = int(NOW.timestamp()) + clock_off_s
    return CannedModbus(archive_registers(MAP, clock_s, list(rows) or hours(-30, 24), newest), spoil)


async def ask(port: int, timeout_s: float = 10.0, unit: int = 1) -> Answer:
    meter = ModbusMeter(ModbusLine("127.0.0.1", port, timeout_s), unit, MAP, "site-1")
    return await meter.read_day(START, END, lambda: NOW)


def read(canned: CannedModbus, timeout_s: float = 10.0) -> Answer:
    async def main() -> Answer:
        async with canned.serving():
            return await ask(canned.port, timeout_s)

    return asyncio.run(main())


def test_a_day_is_25_readings_in_three_requests() -> None:
    canned = server()
    readings = read(canned).readings
    assert readings.at == tuple(START + timedelta(hours=n) for n in range(25))
    assert readings.index == readings.unconverted == tuple(range(5000, 5025))
    assert readings.reference_index is not None
    assert (readings.reference_index.start, readings.reference_index.end) == (5000, 5024)
    assert readings.clock_offset_s == 0
    assert len(canned.requests) == 3


@pytest.mark.parametrize("newest", [0, 5, 24, 1439])
def test_the_ring_goes_round(newest: int) -> None:
    assert read(server(newest=newest)).readings.index == tuple(range(5000, 5025))


@pytest.mark.parametrize("later", [1, 30, 400])
def test_an_old_day_is_found_in_the_archive(later: int) -> None:
    canned = server(hours(-100, 24 + later))
    assert read(canned).readings.index == tuple(range(5000, 5025))
    assert len(canned.requests) == 3


@pytest.mark.parametrize(
    ("missing", "after"),
    [({7}, 0), ({3, 4, 5, 6}, 60), (set(range(30, 90)), 200), (set(range(-40, 0)), 3), (set(range(1, 24)), 100)],
)
def test_hours_that_the_archive_skipped_are_missing_and_no_others(missing: set[int], after: int) -> None:
    rows = [row for n, row in zip(range(-300, 25 + after), hours(-300, 24 + after), strict=True) if n not in missing]
    assert read(server(rows)).readings.index == tuple(None if n in missing else 5000 + n for n in range(25))


def test_hours_that_are_there_twice_do_not_push_others_out() -> None:
    # After the Day the clock was put back again and again: many records more than hours.
    rows = hours(-60, 24) + [(START_S + 24 * HOUR + 60 * n, 6000 + n) for n in range(2, 40)]
    assert read(server(rows)).readings.index == tuple(range(5000, 5025))


def test_a_record_without_a_value_is_a_missing_reading() -> None:
    rows = [(at, None if at == START_S + 5 * HOUR else index) for at, index in hours(-5, 24)]
    answer = read(server(rows))
    assert answer.readings.index[5] is None
    assert not answer.readings.complete
    assert answer.readings.has_boundaries


def test_an_archive_that_ends_before_the_day_does_gives_what_there_is() -> None:
    readings = read(server(hours(-5, 20))).readings
    assert readings.index == (*range(5000, 5021), None, None, None, None)
    assert readings.reference_index is None


def test_an_archive_that_begins_after_the_day_says_since_when() -> None:
    answer = read(server(hours(24, 60)))
    assert answer.readings.index == (*[None] * 24, 5024)
    assert answer.log_from == END


def test_an_empty_archive_is_no_reading_and_no_error() -> None:
    canned = CannedModbus(archive_registers(MAP, int(NOW.timestamp()), [], 0))
    answer = read(canned)
    assert set(answer.readings.index) == {None}
    assert answer.log_from is None


def test_instants_are_the_meters_own_and_its_clocks_offset_is_reported() -> None:
    rows = [(at + 20, index) for at, index in hours(-5, 24)]
    readings = read(server(rows, clock_off_s=-600)).readings
    assert readings.at[0] == START + timedelta(seconds=20)
    assert readings.clock_offset_s == -600


def only(number: int, frames: Iterable[bytes] | None) -> Spoil:
    """Spoils the `number`-th answer."""
    return lambda frame, n: frames if n == number else [frame]


def changed(frame: bytes, at: int, byte: int) -> bytes:
    return frame[:at] + bytes([byte]) + frame[at + 1 :]


def shorter(frame: bytes, _n: int) -> list[bytes]:
    """A whole, well-formed answer with one register too few: no error to pymodbus."""
    length, count = struct.unpack(">H", frame[4:6])[0], frame[8]
    return [frame[:4] + struct.pack(">H", length - 2) + frame[6:8] + bytes([count - 2]) + frame[9:-2]]


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (shorter, r"short answer: 7 of 8 registers from 0 on"),
        (lambda frame, _: [changed(frame, 8, 4)], r"corrupt answer: 4 bytes announced, 16 in the frame"),
        (lambda frame, _: [changed(frame, 7, 4)], r"answer of function 4, asked was 3"),
        (lambda frame, _: [changed(frame, 7, 99)], r"corrupt answer: function 99"),
        (lambda frame, _: [changed(frame, 3, 1)], r"corrupt answer: protocol identifier 1"),
        (lambda frame, _: [frame[:7] + b"\x83\x06"], r"exception answer 6 \(device busy\) for register 0"),
        (lambda frame, _: [b"\0\0" + frame[2:]], r"answer without our transaction identifier"),
    ],
)
def test_a_bad_answer_is_never_a_reading(spoil: Spoil, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    # The exception answer is cut from a longer frame: its length field must say so.
    def sent(frame: bytes, n: int) -> Iterable[bytes] | None:
        frames = list(spoil(frame, n) or ())
        return [f[:4] + struct.pack(">H", len(f) - 6) + f[6:] if len(f) == 9 else f for f in frames]

    with pytest.raises(PollError, match=cause) as failed:
        read(server(spoil=sent))
    assert failed.value.site == "site-1"
    assert not isinstance(failed.value, Unanswered)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda _frame, _n: [], "no answer within 0.2 s"),
        (lambda frame, _n: [frame[:-3]], "no answer within 0.2 s"),
        (lambda frame, _n: [changed(frame, 6, 9)], "no answer within 0.2 s"),  # of another unit
        (lambda _frame, _n: None, "the connection was closed"),
        (lambda frame, n: [frame] if n < 2 else None, "the connection was closed"),
    ],
)
def test_silence_in_any_form_is_a_failed_poll(spoil: Spoil, cause: str) -> None:
    with pytest.raises(Unanswered, match=cause):
        read(server(spoil=spoil), timeout_s=0.2)


def test_nobody_there_is_a_failed_poll() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unanswered, match="no connection"):
            asyncio.run(ask(free.getsockname()[1]))


def test_a_late_answer_to_an_earlier_request_is_not_taken_for_this_one() -> None:
    # Before each answer comes one that carries the transaction identifier before, and other values.
    def late(frame: bytes, n: int) -> list[bytes]:
        before = struct.unpack(">H", frame[:2])[0] - 1
        stale = struct.pack(">H", before or 999) + frame[2:9] + b"\xee" * (len(frame) - 9)
        return [stale, frame]

    assert read(server(spoil=late)).readings.index == tuple(range(5000, 5025))


def test_an_answer_that_comes_after_the_time_out_does_not_meet_the_next_poll() -> None:
    async def main() -> None:
        held: list[bytes] = []

        def hold(frame: bytes, n: int) -> list[bytes]:
            if n == 0:
                held.append(frame)
                return []
            return [changed(frame, 12, 7), *held] if n == 1 else [frame]  # too late, and behind another's answer

        canned = server(spoil=hold)
        async with canned.serving():
            line = ModbusLine("127.0.0.1", canned.port, 0.1)
            meter = ModbusMeter(line, 1, MAP, "site-1")
            with pytest.raises(Unanswered):
                await meter.read_day(START, END, lambda: NOW)
            canned.spoil = as_it_is
            assert (await meter.read_day(START, END, lambda: NOW)).readings.complete
            assert canned.connections == 2

    asyncio.run(main())


def test_an_interval_that_the_archive_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="interval_s: 900; allowed with this map: multiples of 3600"):
        ModbusMeter(ModbusLine("127.0.0.1", 1, 1.0), 1, register_map("pulse_recorder"), "site-1", 900)
    with pytest.raises(ValueError, match="interval_s: 450; allowed with this map: multiples of 60 from 360 on"):
        ModbusMeter(ModbusLine("127.0.0.1", 1, 1.0), 1, MAP, "site-1", 450)
    ModbusMeter(ModbusLine("127.0.0.1", 1, 1.0), 1, MAP, "site-1", 900)
