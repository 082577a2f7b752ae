"""Whatever comes over the line: an event, NEED_DATA or a typed error, in bounded time and memory; nothing whose check fails.

Streams are real sessions spoiled: bits flipped, pieces cut out, said twice, in another order, with noise between; fed in pieces
of any size. What is decoded of a frame's text is spoiled in the same way, behind a check character that is right.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.iec62056_21 import FRAME_BYTES_MAX, TABLE, Client, Malformed, RemoteError, State
from collectors.iec62056_21_clock import date_and_time
from collectors.iec62056_21_data import MeterTime, Row, data_sets, profile_rows
from collectors.iec62056_21_describe import described
from collectors.iec62056_21_lis200 import archive_rows
from collectors.iec62056_21_messages import (
    Accepted,
    Answer,
    AskedAgain,
    Challenge,
    Ended,
    HdlcFollows,
    Heard,
    Identification,
    NeedData,
    PartAnswer,
    ReadoutFollows,
    Refused,
    bcc,
    framed,
)
from collectors.iec62056_21_poll import day_readings
from collectors.iec62056_21_readout import Codes, readout_rows
from collectors.iec62056_21_session import Iec62056Meter
from collectors.profile_maps import Archive
from collectors.reading import PollError
from tests.collectors.iec62056_21_golden import GOLDEN, LIS200, MODE_B, MODE_E, PART, PROFILE, READOUT

LISTENING = [state for state in State if set(TABLE[state]) & set(get_args(Heard))]
MESSAGES = [step.data for table in (GOLDEN, MODE_B, MODE_E, LIS200) for step in table]
CONTROLS = [b"\x01", b"\x02", b"\x03", b"\x04", b"\x06", b"\x15", b"/", b"(", b")", b"!"]
FIRST, LAST = datetime(2026, 10, 24, 4, tzinfo=UTC), datetime(2026, 10, 25, 5, tzinfo=UTC)
METER = Iec62056Meter(site="here", m3_per_tick=Decimal("0.1"), interval_s=360)
ARCHIVE = Archive(columns={"7-0:13.0.0": 4}, time_column=3, check_column=6, status_column=5, messages={"9": "battery_low"})
LINE = "(4711)(12)(2026-10-24,06:00:00)(0423378.0*m3)(1;9)(CRC Ok)\r\n"
LINES = LINE + LINE.replace("06:00", "07:00") + LINE.replace("24,06:00", "25,01:30") * 2
STORED = READOUT.replace("!", "7-0:13.26.0*01(0423378.0*m3)(2261025040000)\r\n7-0:13.26.0*02(1*m3)(261024050000)\r\n!")
CODES = Codes(("7-0:13.0.0", "7-0:3.0.0"), "7-0:13.0.0", "7-0:13.26.0")


@st.composite
def spoiled(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Some of these in any order, said again, cut, with bits flipped and noise between."""
    parts = draw(st.lists(st.one_of(st.sampled_from(whole), st.binary(max_size=12)), min_size=1, max_size=6))
    octets = bytearray(b"".join(parts))
    for _ in range(draw(st.integers(0, 4))):
        if not octets:
            break
        at = draw(st.integers(0, len(octets) - 1))
        match draw(st.sampled_from(["flip", "cut", "again", "put", "end"])):
            case "flip":
                octets[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del octets[at : at + draw(st.integers(1, 40))]
            case "again":
                octets[at:at] = octets[at : at + draw(st.integers(1, 40))]
            case "put":
                octets[at:at] = draw(
                    st.sampled_from([b"\x01", b"\x02", b"\x03", b"\x04", b"\x06", b"\x15", b"/", b"(", b")", b"!"])
                )
            case "end":
                del octets[at:]
    return bytes(octets)


def heard_by(state: State, stream: bytes, sizes: list[int]) -> list[Heard]:
    """What a client in this state makes of the stream, and that it comes to an end with it, in bounded memory."""
    client, heard, at, turns = Client(), [], 0, 0
    client.state = state
    while at < len(stream):
        size = sizes[turns % len(sizes)]
        client.receive_data(stream[at : at + size])
        at += size
        while True:
            turns += 1
            assert turns <= 2 * len(stream) + 2 * at + 8, "it does not come to an end"
            try:
                event = client.next_event()
            except RemoteError:
                continue
            if isinstance(event, NeedData):
                break
            heard.append(event)
            if client.state is State.IDLE:
                client.state = state
        assert len(client._buffer) <= FRAME_BYTES_MAX
    return heard


def evidence(event: Heard) -> list[bytes]:
    """What must have come in for an event to be: with the check character, where there is one."""
    match event:
        case Answer(text):
            return [framed(b"\x02", text.encode())]
        case PartAnswer(text):
            return [framed(b"\x02", text.encode(), b"\x04")]
        case Challenge(operand):
            return [framed(b"\x01", f"P0\x02({operand})".encode()), framed(b"\x01", b"P0")]
        case Identification(maker, character, text) | ReadoutFollows(maker, character, text):
            return [f"/{maker}{character}{text}\r\n".encode()]
        case HdlcFollows(character):
            return [f"\x062{character}2\r\n".encode()]
        case Accepted():
            return [b"\x06"]
        case AskedAgain():
            return [b"\x15"]
        case Ended():
            return [framed(b"\x01", b"B0")]
        case Refused(text):
            return [f"({text})".encode()]


@given(st.sampled_from(LISTENING), spoiled(MESSAGES), st.lists(st.integers(1, 64), min_size=1, max_size=4))
@settings(max_examples=600, deadline=None)
def test_any_stream_gives_events_of_which_each_is_in_it_whole(state: State, stream: bytes, sizes: list[int]) -> None:
    for event in heard_by(state, stream, sizes):
        assert any(octets in stream for octets in evidence(event))
        if isinstance(event, Refused):
            assert any(_is_whole(stream, start) for start in range(len(stream)) if stream[start] == 0x02)


def _is_whole(stream: bytes, start: int) -> bool:
    """Whether a frame with a right check character begins here."""
    end = next((n for n in range(start + 1, len(stream)) if stream[n] in (0x03, 0x04)), None)
    return end is not None and len(stream) > end + 1 and bcc(stream[start + 1 : end + 1]) == stream[end + 1]


@given(spoiled([PROFILE.encode(), PART.encode()]), st.sampled_from(["utc", "local"]))
@settings(max_examples=300, deadline=None)
def test_any_profile_is_rows_in_order_or_malformed(octets: bytes, keeps: str) -> None:
    text = octets.decode("ascii", "ignore")
    try:
        rows = profile_rows(text, MeterTime(keeps))  # type: ignore[arg-type]
    except Malformed:
        return
    check(rows, text)


@given(spoiled([LINES.encode(), LINE.encode()]))
@settings(max_examples=300, deadline=None)
def test_any_archive_is_rows_in_order_or_malformed(octets: bytes) -> None:
    text = octets.decode("ascii", "ignore")
    try:
        rows = archive_rows([text], ARCHIVE, MeterTime("local"))
    except Malformed:
        return
    check(rows, text)


@given(spoiled([STORED.encode()]))
@settings(max_examples=300, deadline=None)
def test_any_readout_is_readings_or_malformed(octets: bytes) -> None:
    text = octets.decode("ascii", "ignore")
    try:
        rows = readout_rows(list(data_sets(text)), CODES, MeterTime("local"), LAST)
    except Malformed:
        return
    check(rows, text)


def check(rows: list[Row], text: str) -> None:
    """Instants rise; a value is digits that came; what the Day then is, is readings, or an error that says why not."""
    assert [row.at for row in rows] == sorted({row.at for row in rows})
    for row in rows:
        for value in row.values.values():
            assert value is None or (value.is_finite() and value >= 0)
    try:
        readings = day_readings(METER, FIRST, LAST, rows, None)
    except (PollError, Malformed):
        return
    assert (readings.at[0], readings.at[-1], len(readings.at)) == (FIRST, LAST, len(readings.index))


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_date_and_time_is_one_or_malformed(date: str, time: str) -> None:
    try:
        season, local = date_and_time(date, time)
    except Malformed:
        return
    assert season in ("", "0", "1", "2")
    assert local.tzinfo is None


@given(spoiled([*MESSAGES, bytes(66)]))
@settings(max_examples=300, deadline=None)
def test_any_octets_can_be_described_and_no_password_is(octets: bytes) -> None:
    words = described(octets)
    assert words
    assert words.isprintable()
    assert "12345678" not in described(b"\x01P1\x02(12345678)\x03i")
