"""Anything at all on a Modbus line: a true reading, no reading, or an error that says so; never another exception."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from collectors.modbus import ModbusMeter
from collectors.modbus_describe import Describer
from collectors.modbus_frames import Framing, LineError, Question
from collectors.modbus_line import modbus_line
from collectors.modbus_maps import known, register_map
from collectors.modbus_registers import BadRegisters, RecordDecoder, Words, header_of, header_spans
from collectors.reading import PollError
from collectors.trace import Frame
from tests.collectors.canned_modbus import CannedModbus, archive_registers
from tests.patience import patient

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
END = START + timedelta(days=1)
NOW = END + timedelta(minutes=3)
START_S = int(START.timestamp())
MAP = register_map("hourly_log")
ROWS = [(START_S + n * 3600, 5000 + n) for n in range(-30, 25)]
CANNED = CannedModbus(archive_registers(MAP, int(NOW.timestamp()), ROWS, 700))
FRAMINGS: tuple[Framing, ...] = ("tcp", "rtu")


def crc(body: bytes) -> bytes:
    """Bit by bit, as the standard has it (MODBUS over serial line, 6.2.2); the collector's is another one."""
    register = 0xFFFF
    for octet in body:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ 0xA001 if register & 1 else register >> 1
    return struct.pack("<H", register)


def asked(framing: Framing, unit: int, function: int, first: int, count: int) -> Question:
    body = struct.pack(">BBHH", unit, function, first, count)
    if function == 16:
        body += bytes((2 * count,)) + bytes(2 * count)
    sent = struct.pack(">HHH", 77, 0, len(body)) + body if framing == "tcp" else body + crc(body)
    return Question(framing, unit, function, first, count, 77 if framing == "tcp" else 0, sent)


def answered(question: Question, values: Sequence[int]) -> bytes:
    """The right answer's frame."""
    if question.function in (3, 4):
        body = bytes((question.unit, question.function, 2 * len(values))) + struct.pack(f">{len(values)}H", *values)
    else:
        body = struct.pack(">BBHH", question.unit, question.function, question.first, question.count)
    if question.framing == "tcp":
        return struct.pack(">HHH", question.transaction, 0, len(body)) + body
    return body + crc(body)


def judged(question: Question, data: bytes) -> bytes | None:
    """The frame that is taken for the answer, which is then one, and in `data`; None where none is."""
    try:
        frame = question.answer_in(data)
    except LineError:
        return None
    if frame is None:
        return None
    assert frame in data
    body = frame[6:] if question.framing == "tcp" else frame[:-2]
    assert body[:2] == bytes((question.unit, question.function))
    if question.framing == "rtu":
        assert crc(frame[:-2]) == frame[-2:]
    else:
        assert frame[:6] == struct.pack(">HHH", question.transaction, 0, len(body))
    if question.function in (3, 4):
        assert body[2] == 2 * question.count == len(body) - 3
    return frame


QUESTIONS = st.builds(
    asked,
    st.sampled_from(FRAMINGS),
    st.integers(1, 247),
    st.sampled_from((3, 4, 16)),
    st.integers(0, 65000),
    st.integers(1, 120),
)


@given(QUESTIONS, st.binary(max_size=600))
def test_random_octets_are_no_answer_or_one_that_holds(question: Question, data: bytes) -> None:
    judged(question, data)


@given(QUESTIONS, st.data())
def test_an_answer_whose_bits_flipped_is_never_taken_for_it(question: Question, data: st.DataObject) -> None:
    """A CRC-16 finds up to three wrong bits in any frame of this length; over TCP the header must still be right."""
    frame = answered(question, data.draw(st.lists(st.integers(0, 65535), min_size=question.count, max_size=question.count)))
    assert judged(question, frame) == frame
    bits = data.draw(st.sets(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3))
    wrong = bytearray(frame)
    for bit in bits:
        wrong[bit // 8] ^= 1 << bit % 8
    taken = judged(question, bytes(wrong))
    if question.framing == "rtu":
        assert taken is None


@given(QUESTIONS, st.data())
def test_pieces_of_answers_in_any_order_are_none_or_the_whole_one(question: Question, data: st.DataObject) -> None:
    """Cut off, repeated, out of order, behind other octets, among answers to others. (TCP keeps the order of octets, and its
    frames have no check sum: there whole frames, of which the last may be cut off.)"""
    values = data.draw(st.lists(st.integers(0, 65535), min_size=question.count, max_size=question.count))
    frame = answered(question, values)
    other = answered(
        asked(question.framing, question.unit % 247 + 1, question.function, question.first, question.count), values
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(frame)), max_size=3)))
    pieces = [frame[a:b] for a, b in zip([0, *cuts], [*cuts, len(frame)], strict=True)]
    odd = [*pieces, frame[:-1], question.sent, b"", b"\x00", b"\xff\xff"] if question.framing == "rtu" else []
    pool = st.sampled_from([*odd, frame, other])
    stream = b"".join(data.draw(st.lists(pool, max_size=6)))
    for end in {len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=3))}:
        taken = judged(question, stream[:end])
        assert taken is None or taken == frame


@given(st.integers(1, 120), st.data())
def test_a_tcp_answer_that_swallowed_the_beginning_of_the_next_is_none(count: int, data: st.DataObject) -> None:
    question = asked("tcp", 1, 3, 0, count)
    frame = answered(question, data.draw(st.lists(st.integers(0, 65535), min_size=count, max_size=count)))
    cut = data.draw(st.integers(9, len(frame) - 1))
    assert judged(question, frame[:cut] + frame) is None


@given(QUESTIONS, st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=4))
def test_whatever_went_over_the_line_can_be_described(question: Question, frames: list[tuple[bool, bytes]]) -> None:
    for name in known():
        describer = Describer(question.framing, register_map(name))
        for is_sent, octets in [*frames, (True, question.sent), (False, answered(question, [9] * question.count)), *frames]:
            assert describer.describe(Frame(NOW, is_sent, octets))


@given(st.sampled_from(known()), st.data())
def test_any_registers_are_a_header_or_bad_registers(name: str, data: st.DataObject) -> None:
    map_ = register_map(name)
    words = data.draw(st.randoms(use_true_random=False))
    odd = st.sampled_from([0, 1, 9, 0x7FF0, 0x8000, 0xFFFF])

    def registers(count: int) -> list[int]:
        return [data.draw(odd) if words.random() < 0.3 else words.randrange(65536) for _ in range(count)]

    answers = [Words(span.first, registers(span.length), map_.word_order) for span in header_spans(map_)]
    interval = Words(map_.interval.address, registers(2), map_.word_order) if map_.interval else None
    try:
        header = header_of(answers, map_, interval)
        assert 0 <= header.stored <= map_.archive.capacity
        assert header.interval_s >= 60
    except BadRegisters:
        return


@given(st.sampled_from(known()), st.data())
def test_any_registers_are_records_or_bad_registers(name: str, data: st.DataObject) -> None:
    archive, order = register_map(name).archive, register_map(name).word_order
    words = data.draw(st.lists(st.integers(0, 65535), min_size=archive.record_registers, max_size=archive.record_registers))
    try:
        (record,) = RecordDecoder(archive, order).records([Words(archive.address, words, order)])
    except BadRegisters:
        return
    for count in (record.index, record.unconverted, record.own_index):
        assert count is None or 0 <= count < 2**62
    datetime.fromtimestamp(record.at_s, UTC)


# A whole poll, over real sockets.

HARM = st.sampled_from(["as it is", "cut", "flip", "twice", "noise before", "other first", "swapped", "random", "nothing"])


def harmed(frame: bytes, framing: Framing, harm: str, seed: int) -> bytes:
    cut = seed % len(frame)
    other = bytes((frame[0] ^ 1,)) + frame[1:]
    return {
        "cut": frame[:cut],
        "flip": flipped(frame, framing, seed),
        "twice": frame + frame,
        "noise before": b"\0" * (seed % 3) + frame if framing == "rtu" else frame,
        "other first": other + frame,
        "swapped": frame[cut:] + frame[:cut],
        "random": bytes((seed * n * n + n) % 251 for n in range(seed % 400)),
        "nothing": b"",
    }.get(harm, frame)


def flipped(frame: bytes, framing: Framing, seed: int) -> bytes:
    """A bit that is not what it was; over TCP one of the header, for the rest has TCP's own check alone."""
    bit = seed % (8 * (9 if framing == "tcp" else len(frame)))
    return frame[: bit // 8] + bytes((frame[bit // 8] ^ 1 << bit % 8,)) + frame[bit // 8 + 1 :]


async def poll(framing: Framing, harms: list[tuple[str, int]]) -> None:
    """Each answer is harmed in its way, and the connection then closed, unless it is as it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        n = 0
        try:
            while True:
                question = await reader.readexactly(12 if framing == "tcp" else 8)
                head = question[:8] if framing == "tcp" else bytes(6) + question[:2]
                first, count = struct.unpack(">HH", question[8:] if framing == "tcp" else question[2:6])
                answer = CANNED._answer(head, first, count)
                frame = answer if framing == "tcp" else answer[6:] + crc(answer[6:])
                harm, seed = harms[n] if n < len(harms) else ("as it is", 0)
                n += 1
                writer.write(harmed(frame, framing, harm, seed))
                await writer.drain()
                if harm not in ("as it is", "twice", "noise before", "other first"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    scheme = "tcp" if framing == "tcp" else "rtu+tcp"
    address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    meter = ModbusMeter(modbus_line(address, patient(5)), 1, MAP, "site-1")
    try:
        answer = await meter.read_day(START, END, lambda: NOW)
        for n, (at, index) in enumerate(zip(answer.readings.at, answer.readings.index, strict=True)):
            assert index is None or (at, index) == (START + timedelta(hours=n), 5000 + n)
        assert answer.readings.clock_offset_s == 0
    except PollError:
        return
    finally:
        await meter.close()
        server.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FRAMINGS), st.lists(st.tuples(HARM, st.integers(0, 10_000)), max_size=4))
@example("rtu", [("twice", 0), ("twice", 0), ("twice", 0)])
@example("tcp", [("twice", 0), ("other first", 0), ("twice", 0)])
def test_a_poll_of_a_harmed_line_brings_true_readings_or_none(framing: Framing, harms: list[tuple[str, int]]) -> None:
    asyncio.run(asyncio.wait_for(poll(framing, harms), patient(20)))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_poll_of_a_line_without_harm_is_whole(framing: Framing) -> None:
    question = asked(framing, 1, 3, 0, 8)
    assert judged(question, answered(question, [0] * 8)) is not None
    asyncio.run(asyncio.wait_for(poll(framing, []), patient(20)))
