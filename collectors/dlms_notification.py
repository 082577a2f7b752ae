"""What DLMS/COSEM meters push, as facts: whose notification it is, whether that holds, and the readings in it. Pure.

A meter whose map has keys is known by its system title and must cipher; any other is known by its logical device name. A
notification that is said again is a copy of its facts and counts once, so old invocation counters are no matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import msgspec

from collectors.dlms_base import DlmsError, Malformed
from collectors.dlms_data import Data
from collectors.dlms_describe import message as in_words
from collectors.dlms_maps import CLOCK_CODE, SENDER, DlmsMap, PushLayout
from collectors.dlms_objects import (
    CLOCK_COLUMN,
    REGISTER,
    VALUE,
    CaptureObject,
    ProfileRow,
    logical_name,
    profile_rows,
    time_of,
)
from collectors.dlms_rows import DlmsMeter, column_of, statuses, ticks
from collectors.dlms_security import GENERAL_GLOBAL, Keys, general_parts, unseal
from collectors.dlms_xdlms import DATA_NOTIFICATION, DataNotification, decode_message
from collectors.mqtt_payloads import BadPayload, Columns, to_facts
from metering.facts import Readings, ReferenceIndex
from metering.gasday import GasDays, to_datetime

ROWS_MAX = 5000
SHOWN = 40  # octets of a stranger's name


@dataclass(frozen=True, slots=True)
class Sender:
    """A meter that pushes. `name`: its logical device name, or its system title where there are `keys`. `host`: the only
    address that it pushes from; None: any."""

    meter_point: str
    meter: str
    name: bytes
    map: DlmsMap
    known: DlmsMeter
    keys: Keys | None = None
    host: str | None = None

    @property
    def layout(self) -> PushLayout:
        """What its notifications hold."""
        assert self.map.push is not None  # who makes a Sender has looked
        return self.map.push


class Stranger(DlmsError):
    """A message of nobody that we know."""


class BadNotification(DlmsError):
    """A message of one of our meters that cannot be used. `notification`: where it was sound so far."""

    def __init__(self, sender: Sender, reason: str, notification: DataNotification | None = None) -> None:
        super().__init__(reason)
        self.sender, self.notification = sender, notification


def sent_by(message: bytes, senders: Sequence[Sender], host: str) -> tuple[Sender, DataNotification]:
    """Whose notification this is. Raises Stranger; BadNotification where one of ours is not what it should be."""
    tag = message[:1]
    if tag == bytes([GENERAL_GLOBAL]):
        sender, text = _unsealed(message, senders, host)
        try:
            found = decode_message(text)
        except DlmsError as error:
            raise BadNotification(sender, str(error)) from error
        if not isinstance(found, DataNotification):
            raise BadNotification(sender, f"not a notification, but a {in_words(text)}")
    elif tag == bytes([DATA_NOTIFICATION]):
        sender, found = _in_the_clear(message, senders)
    else:
        raise Stranger(in_words(message))
    _check_host(sender, host)
    return sender, found


def _check_host(sender: Sender, host: str) -> None:
    if sender.host not in (None, host):
        raise Stranger(f"as {_shown(sender.name)}, which pushes from {sender.host} only")


def _unsealed(message: bytes, senders: Sequence[Sender], host: str) -> tuple[Sender, bytes]:
    try:
        title, sealed = general_parts(message)
    except DlmsError as error:
        raise Stranger(str(error)) from error
    for sender in senders:
        if sender.keys is not None and sender.name == title:
            _check_host(sender, host)  # first: whose seal does not hold may be anybody
            try:
                return sender, unseal(sealed, title, sender.keys)[1]
            except DlmsError as error:
                raise BadNotification(sender, str(error)) from error
    raise Stranger(f"system title {title[:SHOWN].hex()}")


def _in_the_clear(message: bytes, senders: Sequence[Sender]) -> tuple[Sender, DataNotification]:
    try:
        found = decode_message(message)
        assert isinstance(found, DataNotification)  # by its tag
        items = found.data.items
    except DlmsError as error:
        raise Stranger(f"a notification that cannot be read: {error}") from error
    names: set[str] = set()
    for sender in senders:
        objects = sender.layout.objects
        if sender.keys is None and len(items) == len(objects):
            name = _text(items[objects.index(SENDER)])
            if name == sender.name:
                return sender, found
            names.add(_shown(name))
    raise Stranger(f"a notification of {len(items)} values, in the clear, as {', '.join(sorted(names)[:3]) or 'nobody'}")


def _text(data: Data) -> bytes:
    value = data.value
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""


def _shown(name: bytes) -> str:
    return repr(name[:SHOWN])[1:]


def facts_of(sender: Sender, notification: DataNotification, days: GasDays) -> list[Readings]:
    """The readings in a notification, one fact for each Gas Day that they concern. Raises BadNotification."""
    try:
        rows, columns = _rows(sender, notification)
        return _facts(sender, rows, columns, days)
    except (DlmsError, BadPayload) as error:
        raise BadNotification(sender, str(error), notification) from error


def _rows(sender: Sender, notification: DataNotification) -> tuple[list[ProfileRow], list[CaptureObject]]:
    """By time, each once, under their columns."""
    layout, items = sender.layout, notification.data.items
    if len(items) != len(layout.objects):
        raise Malformed(f"a notification of {len(items)} values; the map has {len(layout.objects)}")
    known = sender.known
    if sender.map.profile in layout.objects:
        columns = _columns(layout.columns)
        buffer = items[layout.objects.index(sender.map.profile)]
        rows = list(profile_rows(buffer, columns, layout.period_s, known.zone, known.east_is_positive))
    else:
        columns = _columns(layout.objects)
        rows = [_only_row(sender, notification, columns)]
    if not 0 < len(rows) <= ROWS_MAX:
        raise Malformed(f"{len(rows)} rows; allowed: 1 to {ROWS_MAX}")
    rows.sort(key=lambda row: row.at)
    for before, row in pairwise(rows):
        if before.at == row.at and before.values != row.values:
            raise Malformed(f"two rows of {row.at.isoformat()} that differ")
    return [row for n, row in enumerate(rows) if n == 0 or row.at != rows[n - 1].at], columns


def _columns(codes: Sequence[str]) -> list[CaptureObject]:
    nameless = bytes(6)
    return [
        CLOCK_COLUMN if code == CLOCK_CODE else CaptureObject(REGISTER, logical_name(code) if code else nameless, VALUE)
        for code in codes
    ]


def _only_row(sender: Sender, notification: DataNotification, columns: Sequence[CaptureObject]) -> ProfileRow:
    """The values of now, by the clock beside them, or by when the meter says that it sent them."""
    at = column_of(columns, CLOCK_COLUMN.name)
    time = notification.time if at is None else time_of(notification.data.items[at])
    if time is None:
        raise Malformed("a notification without a time")
    instants = time.instants(sender.known.zone, sender.known.east_is_positive)
    if len(instants) > 1:
        raise Malformed("a time that may be either of two instants")
    return ProfileRow(instants[0], notification.data.items, time)


def _facts(sender: Sender, rows: Sequence[ProfileRow], columns: Sequence[CaptureObject], days: GasDays) -> list[Readings]:
    known, layout = sender.known, sender.layout

    def series(name: bytes | None, scaler: int | None, m3_per_tick: Decimal) -> tuple[int | None, ...] | None:
        if name is None:
            return None
        worth = m3_per_tick if scaler is None else Decimal(1).scaleb(scaler)
        return ticks(rows, column_of(columns, name), worth, m3_per_tick)

    index = series(known.index, layout.scaler, known.m3_per_tick)
    if index is None:
        raise Malformed("no value of the index")
    unconverted_tick = known.unconverted_m3_per_tick or known.m3_per_tick
    pushed = Columns(
        meter=sender.meter,
        at=[row.at for row in rows],
        index=index,
        unconverted=series(known.unconverted, layout.unconverted_scaler, unconverted_tick),
        status=statuses(known, rows, columns),
    )
    reference = series(known.reference, layout.scaler, known.m3_per_tick)
    of_instant = {} if reference is None else dict(zip(pushed.at, reference, strict=True))
    return [_with_reference(fact, of_instant, days) for fact in to_facts(pushed, sender.meter_point, days)]


def _with_reference(fact: Readings, of_instant: dict[datetime, int | None], days: GasDays) -> Readings:
    """With the meter's own index, where it is known at both of the Day's boundaries."""
    day = fact.gas_day.toordinal()
    start, end = (of_instant.get(to_datetime(us)) for us in (days.start_us(day), days.end_us(day)))
    if start is None or end is None:
        return fact
    return msgspec.structs.replace(fact, reference_index=ReferenceIndex(start=start, end=end))
