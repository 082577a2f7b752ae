"""What loggers push: facts, or a BadPayload with the reason; and what is taken goes through a frame unchanged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from collectors.mqtt_payloads import (
    BadPayload,
    Columns,
    Confirmation,
    IntervalRequest,
    PushedAlarm,
    columns,
    compact,
    compact_columns,
    decoded,
    to_alarm,
    to_facts,
)
from metering.facts import AnyFact
from metering.gasday import GasDays
from metering.wire import canonical, decode_fact, encode_fact

_DAYS = GasDays()
_FIRST = datetime(2026, 10, 4, 5, tzinfo=UTC)
_COLUMNS = Columns("m", [_FIRST + timedelta(hours=n) for n in range(25)], [5000 + n for n in range(25)])


def _readings(data: bytes) -> list[AnyFact]:
    return [*to_facts(columns(data), "A", _DAYS)]


def _compact(data: bytes) -> list[AnyFact]:
    return [*to_facts(compact_columns(data), "A", _DAYS)]


def _alarm(data: bytes) -> list[AnyFact]:
    return [to_alarm(decoded(data, PushedAlarm), "A")]


DECODERS = (_readings, _compact, _alarm, partial(decoded, kind=Confirmation), partial(decoded, kind=IntervalRequest))
SEEDS = (
    b'\x00{"meter": "m", "first_at": "2026-10-04T05:00:00Z", "interval_s": 3600, "index": [1, 2, null, 4]}',
    b'\x00{"meter":"m","at":["2026-10-04T05:00:00+01:00"],"index":[1],"unconverted":[2],"status":["tamper"]}',
    b"\x01" + compact(_COLUMNS),
    b'\x02{"meter": "m", "at": "2026-10-04T05:00:00Z", "kind": "tamper", "detail": "lid"}',
    b'\x03{"id": "1", "interval_s": 360}',
    b'\x04{"logger": "l", "interval_s": 360}',
)


def decode(data: bytes) -> None:
    """The first octet says what kind of payload the rest is."""
    if not data:
        return
    try:
        found = DECODERS[data[0] % len(DECODERS)](data[1:])
    except BadPayload:
        return
    if isinstance(found, list):
        for fact in found:
            assert canonical(decode_fact(encode_fact(fact))) == canonical(fact)
