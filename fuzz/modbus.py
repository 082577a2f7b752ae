"""Modbus answers, over TCP and RTU, and the registers in them: a frame that answers the question, a wait for more, or a
LineError; records or BadRegisters."""

from __future__ import annotations

import struct

from pymodbus.framer import FramerRTU

from collectors.modbus_frames import LineError, Question, crc_holds
from collectors.modbus_maps import register_map
from collectors.modbus_registers import BadRegisters, RecordDecoder, Words, header_of, header_spans, record_spans

_MAP = register_map("hourly_log")
_HEADER, _RECORDS = header_spans(_MAP), record_spans(_MAP.archive, 700, 25, _MAP.max_count)
_COUNT = 4


def _with_crc(body: bytes) -> bytes:
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def _question(framing: int, function: int) -> Question:
    body = struct.pack(">BBHH", 1, function, 100, 1 if function == 6 else _COUNT)
    if framing == 0:
        return Question("tcp", 1, function, 100, _COUNT, 7, struct.pack(">HHH", 7, 0, len(body)) + body)
    return Question("rtu", 1, function, 100, _COUNT, 0, _with_crc(body))


_READ = struct.pack(">BBB4H", 1, 3, 8, 1, 2, 3, 4)
_WRITTEN = struct.pack(">BBHH", 1, 6, 100, 1)
SEEDS = (
    b"\x00\x00" + struct.pack(">HHH", 7, 0, len(_READ)) + _READ,
    b"\x00\x00" + struct.pack(">HHH", 6, 0, len(_READ)) + _READ + struct.pack(">HHH", 7, 0, 3) + b"\x01\x83\x02",
    b"\x00\x02" + struct.pack(">HHH", 7, 0, len(_WRITTEN)) + _WRITTEN,
    b"\x01\x00" + _with_crc(_READ),
    b"\x01\x00" + _question(1, 3).sent + b"\x00\xff" + _with_crc(_READ),
    b"\x01\x00" + _with_crc(b"\x01\x83\x02"),
    b"\x01\x02" + _with_crc(_WRITTEN),
    b"\x02\x00" + bytes(2 * sum(span.length for span in (*_HEADER, *_RECORDS))),
)


def decode(data: bytes) -> None:
    """The first octet says whether the rest comes over TCP, over RTU, or is registers; the second the function asked for."""
    if len(data) < 2:
        return
    kind, said = data[0] % 3, data[2:]
    if kind == 2:
        _registers(said)
        return
    question = _question(kind, (3, 4, 6, 16)[data[1] % 4])
    for end in range(len(said) + 1) if len(said) < 64 else (len(said),):  # as it comes in, octet by octet
        try:
            frame = question.answer_in(said[:end])
        except LineError:
            return
        if frame is not None:
            assert frame in said
            assert kind == 0 or crc_holds(frame), "an answer whose check sum does not hold"
            return


def _registers(octets: bytes) -> None:
    wanted = 2 * sum(span.length for span in (*_HEADER, *_RECORDS))  # others the line refuses
    words = struct.unpack(f">{wanted // 2}H", octets[:wanted].ljust(wanted, b"\x00"))
    answers = []
    for span in (*_HEADER, *_RECORDS):
        answers.append(Words(span.first, words[: span.length], _MAP.word_order))
        words = words[span.length :]
    try:
        header_of(answers[: len(_HEADER)], _MAP)
        RecordDecoder(_MAP.archive, _MAP.word_order).records(answers[len(_HEADER) :])
    except BadRegisters:
        return
