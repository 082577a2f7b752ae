"""What a simulated meter's registers, logs and readouts say by IEC 62056-21, as text, and what can be written to them.

By name, in m³ with the register's own digits:

    0.9.1  0.9.2                time and date; with a season flag S where the equipment keeps local time
    0.0.0                       the equipment's number
    7-0:13.2.0  7-0:13.0.0      index, of the converted (with a convertor) and of the unconverted register
    7-0:3.0.0                   the meter's own index (with a convertor: the convertor's own)
    7-0:0.8.1                   the recording interval, minutes
    P.01(from;to)               the log, an hour a row, with these three as channels
    7-0:13.26.0*01(...)(time)   in the readout: the index at the start of each Gas Day, the latest first

and as the LIS200 series has it:

    1:400.0                     date and time, without zone
    4:150.0                     the recording interval, minutes
    3:V.0(3;from;to;rows)       the log, in 18 columns: time in 3, converted and unconverted index in 5
                                and 7, state in 12, check in 18
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from zoneinfo import ZoneInfo

from simulators.meter import LogRow, Register, SimulatedMeter
from simulators.sites import Site

LOCAL = ZoneInfo("Europe/London")
STATUS_WORD = {"clock_invalid": 0x0002, "tamper": 0x0100, "battery_low": 0x0200, "reed_switch": 0x0400, "bypass_open": 0x0800}
LIS200_MESSAGE = {"clock_invalid": "11", "battery_low": "9"}
LIS200_TIME = "%Y-%m-%d,%H:%M:%S"
INTERVALS_MIN = range(1, 61)
STORED_NEWEST_MAX = 99


class Refused(Exception):
    """What is asked for is not there, or not to be written; the error's text."""


class Registers:
    """One meter's."""

    def __init__(
        self, meter: SimulatedMeter, site: Site, now: Callable[[], datetime], stored_days: int, has_clock: bool
    ) -> None:
        self._meter, self._site, self._now = meter, site, now
        self._stored_days, self._has_clock = stored_days, has_clock
        self._interval_min = 60

    def text(self, code: str) -> str:
        """A register's data set. Raises Refused."""
        shows = self._meter.clock(self._now())
        if code in ("0.9.1", "0.9.2") and self._has_clock:
            return f"{code}({self._season_and_local(shows, '%H%M%S' if code == '0.9.1' else '%y%m%d')})"
        if code == "0.0.0":
            return f"0.0.0({self._site.equipment})"
        if code == "7-0:0.8.1":
            return f"{code}({self._interval_min}*min)"
        if code == "4:150.0":
            return f"{code}({self._interval_min})"
        if code == "1:400.0":
            return f"{code}({self._local(shows):{LIS200_TIME}})"
        for name, value in self._channels(self._meter.row_now(self._now())):
            if code == name:
                return f"{name}({value}*m3)"
        raise Refused("ER10")

    def write(self, code: str, value: str) -> None:
        """Take a new value. Raises Refused where there is none to take, or not this one."""
        if code in ("7-0:0.8.1", "4:150.0"):
            if not value.isdigit() or int(value) not in INTERVALS_MIN:
                raise Refused("ER12")
            self._interval_min = int(value)
        elif code in ("0.9.1", "1:400.0"):
            self._meter.set_clock(self._new_time(code, value), self._now())
        else:
            raise Refused("ER11")

    def readout(self) -> str:
        """All that is read out, a line each."""
        codes = ["0.0.0", *(("0.9.1", "0.9.2") if self._has_clock else ())]
        codes += [name for name, _ in self._channels(self._meter.row_now(self._now()))]
        return "\r\n".join([*map(self.text, codes), *self._stored(), "!\r\n"])

    def profile(self, argument: str) -> str:
        """The rows of the log between two stamps."""
        try:
            first, last = (_instant(stamp) for stamp in argument.split(";"))
        except ValueError:
            return "P.01(ERROR)"
        rows = self._meter.log(first, last, self._now())
        return "\r\n".join(line for part in _unbroken(rows) for line in self._profile_part(part)) or "P.01(ERROR)"

    def archive(self, argument: str) -> list[str]:
        """The rows of the log as LIS200 has them, in blocks. Raises Refused."""
        found = re.fullmatch(r"3;([^;]*);([^;]*);(\d+)", argument)
        if found is None:
            raise Refused("#0103")
        first, last = (datetime.strptime(found[n], LIS200_TIME) for n in (1, 2))  # noqa: DTZ007
        day = timedelta(days=1)
        rows = self._meter.log(first.replace(tzinfo=UTC) - day, last.replace(tzinfo=UTC) + day, self._now())
        lines = [self._archive_line(n, row) for n, row in enumerate(rows) if first <= self._local(row.at) <= last]
        if not lines:
            raise Refused("#0104")
        each = int(found[3])
        return ["\r\n".join(lines[n : n + each]) for n in range(0, len(lines), each)]

    def _archive_line(self, number: int, row: LogRow) -> str:
        converted = _m3(self._meter.register, row.index)
        unconverted = converted
        if self._meter.unconverted is not None and row.unconverted is not None:
            unconverted = _m3(self._meter.unconverted, row.unconverted)
        state = ";".join(LIS200_MESSAGE[name] for name in row.status if name in LIS200_MESSAGE) or "0"
        columns = [
            4711 + number,
            number,
            f"{self._local(row.at):{LIS200_TIME}}",
            converted,
            converted,
            unconverted,
            unconverted,
        ]
        columns += ["1.01325", "15.00", "1.00000", "1.00000", state, 0, 0, 0, 0, "0x8105", "CRC Ok"]
        return "".join(f"({column})" for column in columns)

    def _profile_part(self, rows: Sequence[LogRow]) -> Iterator[str]:
        channels = self._channels(rows[0])
        status = sum(STATUS_WORD.get(name, 0) for name in rows[0].status)
        time = self._season_and_local(rows[0].at, "%y%m%d%H%M%S")
        yield f"P.01({time})({status:04X})(60)({len(channels)})" + "".join(f"({name})(m3)" for name, _ in channels)
        for row in rows:
            yield "".join(f"({value})" for _, value in self._channels(row))

    def _stored(self) -> Iterator[str]:
        if not self._stored_days:
            return
        newest = self._meter.days.day_of(int(self._meter.clock(self._now()).timestamp() * 1_000_000))
        for back in range(min(self._stored_days, STORED_NEWEST_MAX)):
            at = datetime.fromtimestamp(self._meter.days.start_us(newest - back) // 1_000_000, UTC)
            for row in self._meter.log(at, at, self._now()):
                time = self._season_and_local(row.at, "%y%m%d%H%M%S")
                yield f"7-0:13.26.0*{back + 1:02}({_m3(self._meter.register, row.index)}*m3)({time})"

    def _channels(self, row: LogRow) -> list[tuple[str, str]]:
        """Codes and values of what is in a row, in m³ with the register's own digits."""
        meter = self._meter
        main = "7-0:13.0.0" if meter.unconverted is None else "7-0:13.2.0"
        channels = [(main, _m3(meter.register, row.index))]
        if meter.unconverted is not None and row.unconverted is not None:
            channels.append(("7-0:13.0.0", _m3(meter.unconverted, row.unconverted)))
        return [*channels, ("7-0:3.0.0", _m3(meter.register, row.reference))]

    def _new_time(self, code: str, value: str) -> datetime:
        """The instant that a written time means, the one nearest to what the clock shows."""
        shows = self._meter.clock(self._now())
        try:
            if code == "1:400.0":
                local = datetime.strptime(value, LIS200_TIME)  # noqa: DTZ007
            else:
                local = datetime.combine(self._local(shows), datetime.strptime(value[-6:], "%H%M%S").time())  # noqa: DTZ007
        except ValueError:
            raise Refused("ER12") from None
        zone = UTC if self._site.meter_time == "utc" else LOCAL
        return min((local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)), key=lambda at: abs(at - shows))

    def _local(self, instant: datetime) -> datetime:
        return instant.astimezone(UTC if self._site.meter_time == "utc" else LOCAL).replace(tzinfo=None)

    def _season_and_local(self, instant: datetime, form: str) -> str:
        if self._site.meter_time == "utc":
            return "2" + instant.astimezone(UTC).strftime(form)
        local = instant.astimezone(LOCAL)
        return ("1" if local.dst() else "0") + local.strftime(form)


def _unbroken(rows: Sequence[LogRow]) -> Iterator[list[LogRow]]:
    """Runs of rows an hour apart and of one status."""
    for _, run in groupby(enumerate(rows), lambda item: (item[1].at - item[0] * timedelta(hours=1), item[1].status)):
        yield [row for _, row in run]


def _instant(stamp: str) -> datetime:
    """`Syymmddhhmm` in British local time, or UTC where S is 2."""
    if not re.fullmatch("[012][0-9]{10}", stamp):
        raise ValueError(stamp)
    local = datetime.strptime(stamp[1:], "%y%m%d%H%M").replace(tzinfo=UTC)
    return local - timedelta(hours=1) if stamp[0] == "1" else local


def _m3(register: Register, index: int) -> str:
    value = index * register.m3_per_tick
    places = max(0, -int(register.m3_per_tick.as_tuple().exponent))
    width = register.digits + (1 if places else 0)
    return f"{value:0{width}.{places}f}" if places else f"{Decimal(value):0{width}f}"
