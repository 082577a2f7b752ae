"""What stands in IEC 62056-21 data blocks: data sets, times, and the load profile of `P.01`.

The load profile as the VDEW specification has it: a header `P.01(time)(status)(interval)(n)(code)(unit)...` with as many
codes and units as channels, then rows of n values, one row an interval. A new header comes where rows are missing, where the
status changes, and where the meter likes. `time` is that of the first row after it.

Times are `Syymmddhhmmss` or `Syymmddhhmm`: S is 0 in standard time, 1 in summer time, 2 for UTC. Some meters leave S out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal
from zoneinfo import ZoneInfo

from collectors.iec62056_21 import Malformed
from metering.facts import Status

ROWS_MAX = 100_000
CHANNELS_MAX = 32
INTERVAL_MIN_MAX = 24 * 60
STATUS_BITS: tuple[tuple[int, Status], ...] = (
    (0x0002, "clock_invalid"),  # VDEW: the clock's running reserve is exhausted
    (0x0100, "tamper"),  # from here on our own; a meter's manual wins
    (0x0200, "battery_low"),
    (0x0400, "reed_switch"),
    (0x0800, "bypass_open"),
)
_SET = re.compile(r"([^()\r\n!]*)((?:\([^()\r\n]*\))+)[\r\n]*")
_INDEX = re.compile(r"\d{1,15}(\.\d{0,10})?|\.\d{1,10}", re.ASCII)
_STATUS = re.compile("[0-9A-Fa-f]{0,8}")
_VALUE = re.compile(r"\(([^()]*)\)")
_STAMP = re.compile(r"([012]?)(\d{10})(\d{2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set: its code, empty where it has none, and its values as text."""

    code: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeterTime:
    """How a meter keeps time: its zone, and whether it follows it or UTC where it does not say (S)."""

    keeps: Literal["utc", "local"] = "utc"
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Europe/London"))

    def stamp(self, instant: datetime) -> str:
        """An instant as `Syymmddhhmm`, for a request."""
        if self.keeps == "utc":
            return "2" + instant.astimezone(UTC).strftime("%y%m%d%H%M")
        local = instant.astimezone(self.zone)
        return ("1" if local.dst() else "0") + local.strftime("%y%m%d%H%M")

    def shown(self, instant: datetime) -> datetime:
        """What the meter's clock and calendar show at an instant, without zone."""
        return instant.astimezone(UTC if self.keeps == "utc" else self.zone).replace(tzinfo=None)

    def instants(self, season: str, local: datetime) -> tuple[datetime, ...]:
        """The instants that a time may mean, in order: one, or without S two in the hour that comes twice in autumn."""
        if season == "2" or (not season and self.keeps == "utc"):
            return (local.replace(tzinfo=UTC),)
        aware = local.replace(tzinfo=self.zone)
        standard = (aware.utcoffset() or timedelta()) - (aware.dst() or timedelta())
        if season:
            return ((local - standard - timedelta(hours=int(season))).replace(tzinfo=UTC),)
        return tuple(sorted({aware.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a profile: its instant, what the status word says, and a value (or None: missing) for each channel of m³."""

    at: datetime
    status: tuple[Status, ...]
    values: dict[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class _Header:
    at: datetime
    status: tuple[Status, ...]
    interval: timedelta
    channels: tuple[tuple[str, str], ...]


def data_sets(text: str) -> Iterator[DataSet]:
    """The data sets of a block, in order; Malformed where something else stands between them."""
    at = 0
    text = text.lstrip("\r\n")
    while at < len(text) and not text.startswith("!", at):
        found = _SET.match(text, at)
        if found is None:
            raise Malformed(f"no data set at {text[at : at + 16]!r}")
        yield DataSet(found[1], tuple(_VALUE.findall(found[2])))
        at = found.end()


def split_stamp(text: str) -> tuple[str, datetime]:
    """`Syymmddhhmm[ss]` as S (or nothing) and a time without zone."""
    found = _STAMP.fullmatch(text)
    if found is None:
        raise Malformed(f"time {text[:16]!r}; allowed: Syymmddhhmm or Syymmddhhmmss")
    try:
        return found[1], datetime.strptime(found[2] + (found[3] or "00"), "%y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError as error:
        raise Malformed(f"time {text[:16]!r}: {error}") from error


def profile_rows(text: str, time: MeterTime) -> list[Row]:
    """The rows of a `P.01` answer, in the order of their instants; Malformed where it is none."""
    rows: list[Row] = []
    header: _Header | None = None
    for data_set in data_sets(text):
        values = data_set.values
        if data_set.code:
            header, values = _header(data_set, time, rows[-1].at if rows else None)
            due = header.at
        if header is None:
            raise Malformed("rows before a profile's header")
        for row in _rows(header, due, values):
            if rows and row.at <= rows[-1].at:
                raise Malformed(f"row of {row.at.isoformat()} after that of {rows[-1].at.isoformat()}")
            rows.append(row)
            due = row.at + header.interval
        if len(rows) > ROWS_MAX:
            raise Malformed(f"more than {ROWS_MAX} rows")
    return rows


def _header(data_set: DataSet, time: MeterTime, after: datetime | None) -> tuple[_Header, tuple[str, ...]]:
    """A header, and the values of rows that stand behind it."""
    values = data_set.values
    if data_set.code.rpartition(":")[2] != "P.01" or len(values) < 4:
        raise Malformed(f"{data_set.code[:16]!r} with {len(values)} values where a profile's header is due")
    instants = time.instants(*split_stamp(values[0]))
    count = _whole(values[3], "channels", CHANNELS_MAX)
    names = values[4 : 4 + 2 * count]
    if len(names) < 2 * count:
        raise Malformed(f"a profile's header of {count} channels with {len(names)} codes and units")
    header = _Header(
        at=next((at for at in instants if after is None or at > after), instants[-1]),
        status=_status(values[1]),
        interval=timedelta(minutes=_whole(values[2], "interval", INTERVAL_MIN_MAX)),
        channels=tuple(zip(names[::2], names[1::2], strict=True)),
    )
    return header, values[4 + 2 * count :]


def _rows(header: _Header, due: datetime, values: tuple[str, ...]) -> Iterator[Row]:
    width = len(header.channels)
    if len(values) % width:
        raise Malformed(f"{len(values)} values in rows of {width}")
    for first in range(0, len(values), width):
        cells = zip(header.channels, values[first : first + width], strict=True)
        yield Row(due, header.status, {code: _m3(text) for (code, unit), text in cells if _is_m3(unit)})
        due += header.interval


def _is_m3(unit: str) -> bool:
    return unit.replace("³", "3").lower() in ("m3", "nm3", "sm3")


def _m3(text: str) -> Decimal | None:
    """A value. An empty one, or one of dashes, is missing."""
    return decimal(text) if text.strip("-") else None


def m3_with_unit(text: str) -> Decimal | None:
    """A value with its unit behind it, or without; Malformed where that is another than m³."""
    value, _, unit = text.partition("*")
    if unit and not _is_m3(unit):
        raise Malformed(f"value {text[:32]!r} is not in m³")
    return _m3(value)


def decimal(text: str) -> Decimal:
    """A number; Malformed for anything else."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise Malformed(f"value {text[:16]!r} is no number") from None
    if not _INDEX.fullmatch(text.strip()):
        raise Malformed(f"value {text[:16]!r} is no index")
    return value


def _status(text: str) -> tuple[Status, ...]:
    if not _STATUS.fullmatch(text):
        raise Malformed(f"status {text[:16]!r} is not hexadecimal")
    word = int(text or "0", 16)
    return tuple(name for bit, name in STATUS_BITS if word & bit)


def _whole(text: str, what: str, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= largest:
        raise Malformed(f"{what} {text[:16]!r}; allowed: 1 to {largest}")
    return int(text)
