"""What each User is provided with: the rows of its files, their versions, and when they are due (M4.5, 4.6.1(b), 5.2.1).

A file is about one User and Gas Day: the Day's own (`part` 0), or one of the Day's four-hour parts (1, 2, ...). It is
given again, with the next version, when a row changes. A row bears the version in which it last changed. All of it depends
on records and facts alone; only when a file is due rests on the instant at which a change was met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from metering.gasday import SECOND_US, GasDays, to_datetime
from metering.ledger import Day

DAILY = 0
PART_US = 4 * 3600 * SECOND_US
DAILY_COLUMNS = (
    "meter_point", "gas_day", "status", "start_index", "end_index", "volume_m3", "quantity_kwh", "valid", "failed",
    "version",
)  # fmt: skip
HOURLY_COLUMNS = ("meter_point", "gas_day", "meter", "at", "index", "version")
VALID_COLUMN = DAILY_COLUMNS.index("valid")
NAME_BYTES_MAX = 180
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")

Cells = tuple[str, ...]
Key = tuple[str, ...]


class FileName(NamedTuple):
    """Which file: the User, the Gas Day (an ordinal), and which part of it (0: the Day's own)."""

    user: str
    gas_day: int
    part: int


class Given(NamedTuple):
    """A row as it was last given to the User, and the version of the file in which it last changed."""

    cells: Cells
    version: int


class Edition(NamedTuple):
    """A file as it is to be given: its version, all its rows by key, and the keys of those that are new or changed."""

    version: int
    rows: dict[Key, Given]
    changed: tuple[Key, ...]


class Timing(NamedTuple):
    """Changes are gathered for `gather_us`; the Day's file is due `margin_us` before 11:00 at the latest."""

    gather_us: int
    margin_us: int


def daily_row(day: Day) -> Cells:
    """A Gas Day of a meter point as a row, its version left out."""
    values = (
        day.meter_point, day.gas_day, day.status, day.start_index, day.end_index, day.volume_m3, day.quantity_kwh,
        day.valid, " ".join(day.failed),
    )  # fmt: skip
    return tuple(map(_text, values))


def hourly_row(meter_point: str, gas_day: int, meter: str, at_us: int, index: int) -> Cells:
    """A reading as received from the equipment as a row (4.6.1(b)), its version left out."""
    at = to_datetime(at_us).isoformat().replace("+00:00", "Z")
    return meter_point, date.fromordinal(gas_day).isoformat(), meter, at, str(index)


def key_of(cells: Cells, part: int) -> Key:
    """By what a row is known in its file: the meter point; of a reading also the meter and the instant."""
    return cells[:1] if part == DAILY else (cells[0], cells[2], cells[3])


def next_edition(given: Mapping[Key, Given], standing: Mapping[Key, Cells], last_version: int) -> Edition | None:
    """The file's next edition, where what stands differs from what was given; None where there is nothing to say."""
    version = last_version + 1
    changed = tuple(sorted(key for key, cells in standing.items() if key not in given or given[key].cells != cells))
    if not changed and standing.keys() == given.keys():
        return None
    rows = {key: given[key] for key in standing if key in given} | {key: Given(standing[key], version) for key in changed}
    return Edition(version, rows, changed)


def content(part: int, rows: Mapping[Key, Given]) -> bytes:
    """The file: CSV in UTF-8 with a head, a row a line, in the order of their keys. What is not known is empty."""
    lines = [columns(part)]
    lines += [(*rows[key].cells, str(rows[key].version)) for key in sorted(rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines).encode()


def valid_rows(rows: Mapping[Key, Given]) -> list[tuple[str, int]]:
    """Of a Day's own file the meter points whose row gives Valid readings, each with the row's version."""
    return [(each.cells[0], each.version) for _, each in sorted(rows.items()) if is_valid(each.cells)]


def is_valid(cells: Cells) -> bool:
    """Whether a row of a Day's own file gives Valid readings."""
    return cells[VALID_COLUMN] == "true"


def daily_due_us(day: int, met_us: int, speaks: bool, days: GasDays, timing: Timing) -> int:
    """When the Day's file is due, after a change met at `met_us`.

    What `speaks` (readings that are Valid, or a change of what was given before) is gathered for a while, but waits no
    longer than till the margin before 11:00; a Day that is not Valid yet waits till then. Within the margin half of the
    time that is left is for gathering, so that what comes late still goes before 11:00.
    """
    begin_us = max(met_us, days.end_us(day))
    eleven_us = days.eleven_us(day)
    latest_us, gathered_us = eleven_us - timing.margin_us, begin_us + timing.gather_us
    if begin_us >= eleven_us:
        return gathered_us
    if begin_us >= latest_us:
        return min(gathered_us, begin_us + (eleven_us - begin_us) // 2)
    return min(gathered_us, latest_us) if speaks else latest_us


def part_due_us(day: int, part: int, met_us: int, days: GasDays, timing: Timing) -> int:
    """When the file of a four-hour part is due: after its end, what comes together gathered for a while."""
    end_us = min(days.start_us(day) + part * PART_US, days.end_us(day))
    return max(met_us, end_us) + timing.gather_us


def part_of(day: int, at_us: int, days: GasDays, boundary_us: int) -> int | None:
    """The four-hour part of the Day, from 1, that a reading's hour belongs to: that which ends with the reading or later.

    The reading at the Day's start is of the first. None for an instant that the Day does not hold.
    """
    start_us, end_us = days.start_us(day), days.end_us(day)
    if not start_us - boundary_us <= at_us <= end_us + boundary_us:
        return None
    within_us = min(max(at_us, start_us + 1), end_us) - start_us
    return -(-within_us // PART_US)


def file_name(file: FileName, version: int) -> str:
    """What a version of the file is called, in its User's folder."""
    day = date.fromordinal(file.gas_day).isoformat()
    kind = f"daily-{day}" if file.part == DAILY else f"hourly-{day}-part{file.part}"
    return f"{kind}-v{version:03}.csv"


def safe_name(user: str) -> str:
    """A User's name as that of a folder or of a topic: letters, digits and - as they are, else _ and two hexadecimal digits
    for each byte of UTF-8. A name that would be too long is cut, and a digest follows."""
    safe = "".join(chr(byte) if chr(byte) in _PLAIN else f"_{byte:02X}" for byte in user.encode())
    if len(safe) <= NAME_BYTES_MAX:
        return safe
    digest = hashlib.blake2b(user.encode(), digest_size=16).hexdigest()
    return f"{safe[: NAME_BYTES_MAX - 34]}_-{digest}"  # no name without a digest has _- in it


def columns(part: int) -> Cells:
    """The head of a file."""
    return DAILY_COLUMNS if part == DAILY else HOURLY_COLUMNS


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(cell: str) -> str:
    """A cell as RFC 4180 has it: in quotes where it holds what would end it."""
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell
