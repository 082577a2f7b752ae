"""Frames of facts: any bytes are facts, broken entries with a reason, or a FrameError; a fact is the same once packed again."""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec

from metering.facts import Alarm, PollFailed, Readings
from metering.wire import VERSION, FrameError, canonical, decode_fact, decode_frame, encode_fact, encode_frame

AT = datetime(2026, 3, 1, 5, tzinfo=UTC)
FACTS = (
    Readings(meter_point="A", meter="m", gas_day=date(2026, 3, 1), first_at=AT, interval_s=3600, index=(1, 2, None)),
    Readings(meter_point="A", meter="m", gas_day=date(2026, 3, 1), at=(AT,), index=(7,), unconverted=(8,), status=("tamper",)),
    PollFailed(meter_point="A", meter="m", gas_day=date(2026, 3, 1), reason="silence", attempts=3),
    Alarm(meter_point="A", meter="m", at=AT, kind="other", detail="lid"),
)
SEEDS = (
    b"\x00" + encode_frame(FACTS, "gw"),
    b"\x00" + encode_frame(FACTS[:1], "gw", AT),
    *(b"\x01" + encode_fact(fact) for fact in FACTS),
)


def decode(data: bytes) -> None:
    """The first octet says whether the rest is a message of the topic `facts`, or one entry of one."""
    message = data[1:]
    if data[:1] == b"\x01":  # lengths of lengths are hard to guess
        payload = msgspec.msgpack.encode([None, [msgspec.Raw(message)]])
        message = msgspec.msgpack.encode([VERSION, "gw", "", payload, b""])
    try:
        frame = decode_frame(message)
    except FrameError:
        return
    for fact in frame.facts:
        assert canonical(decode_fact(encode_fact(fact))) == canonical(fact)
    assert all(broken.reason for broken in frame.broken)
