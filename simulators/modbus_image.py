"""The registers of one simulated Modbus meter: laid out by a register map, made when they are asked for.

They are what the meter's log says at that virtual instant. The archive has a place for every interval; one that was not logged
is a record without values. Interval, clock and the archive's page are written as the map says; after the interval was set the
archive goes on at the other pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from collectors.modbus_maps import WORDS, Instant, RegisterMap, WordOrder
from collectors.modbus_registers import count_words, flags_word, instant_words, number_words
from simulators.meter import LogRow, SimulatedMeter


class Pace(NamedTuple):
    """From `from_s` on there is a record at every multiple of `interval_s`; `number` is that of the last one before."""

    from_s: int
    interval_s: int
    number: int


class Log:
    """Which records there are: each has a number, in the order in which they were made. Instants in s since 1970."""

    def __init__(self, interval_s: int) -> None:
        self._paces: Final = [Pace(0, interval_s, 0)]

    @property
    def interval_s(self) -> int:
        """How far apart records are now."""
        return self._paces[-1].interval_s

    def change(self, at_s: int, interval_s: int) -> None:
        """From now on another interval."""
        self._paces.append(Pace(at_s, interval_s, self.newest(at_s)))

    def newest(self, at_s: int) -> int:
        """The number of the last record at this instant."""
        pace = next(pace for pace in reversed(self._paces) if pace.from_s <= max(0, at_s))
        return pace.number + at_s // pace.interval_s - pace.from_s // pace.interval_s

    def at_s(self, number: int) -> int:
        """The instant of a record."""
        pace = next((pace for pace in reversed(self._paces) if pace.number < number), self._paces[0])
        return (pace.from_s // pace.interval_s + number - pace.number) * pace.interval_s


class RegisterImage:
    """The registers of one meter, as they are at an instant."""

    def __init__(self, meter: SimulatedMeter, map_: RegisterMap) -> None:
        self.meter, self.map = meter, map_
        self.log = Log(map_.archive.interval_s)
        self._page = 0

    def has(self, function: int) -> bool:
        """Whether it has registers of this function."""
        map_ = self.map
        settings = map_.interval or map_.set_clock or map_.archive.window
        return function == (3 if map_.table == "holding" else 4) or (function == 3 and settings is not None)

    def read(self, function: int, first: int, count: int, now: datetime) -> list[int] | None:
        """`count` registers from `first` on, of function 3 (holding) or 4 (input); None where there are none."""
        if function == (3 if self.map.table == "holding" else 4):
            start, end = self._archive_span()
            if start <= first and first + count <= end:
                return self._archive(first - start, count, now)
            known = self._header(now)
        else:
            known = {}
        if function == 3:
            known |= self._settings(now)
        if not any(register in known for register in range(first, first + count)):
            return None
        return [known.get(register, 0) for register in range(first, first + count)]

    def write(self, first: int, words: Sequence[int], now: datetime) -> bool:
        """Take over what is written; False where it is not to be written, or not to such a value."""
        setting, clock, window = self.map.interval, self.map.set_clock, self.map.archive.window
        if setting is not None and (first, len(words)) == (setting.address, WORDS[setting.type]):
            interval_s = _number(words, self.map.word_order) * setting.unit_s
            if not setting.min_s <= interval_s <= setting.max_s:
                return False
            self.log.change(int(self.meter.clock(now).timestamp()), interval_s)
            return True
        if clock is not None and (first, len(words)) == (clock.address, WORDS[clock.type]):
            try:
                self.meter.set_clock(_instant(words, clock, self.map.word_order), now)
            except ValueError:
                return False
            return True
        if window is not None and first == window.select and len(words) == 1 and words[0] < self.map.archive.capacity:
            self._page = words[0]
            return True
        return False

    def _archive_span(self) -> tuple[int, int]:
        """The first register of the archive, and that after its last; a page's begin with the position that it shows."""
        archive = self.map.archive
        if archive.window is not None:
            return archive.window.shows, archive.address + archive.window.records * archive.record_registers
        return archive.address, archive.address + archive.capacity * archive.record_registers

    def _extent(self, now: datetime) -> tuple[int, int]:
        """The numbers of the archive's oldest and newest record."""
        shows = self.meter.clock(now)
        newest = self.log.newest(int(shows.timestamp()))
        kept_from = max(self.meter.fitted_at, shows - self.meter.log_for)
        oldest = self.log.newest(int(kept_from.timestamp()) - 1) + 1
        return max(oldest, newest - self.map.archive.capacity + 1), newest

    def _header(self, now: datetime) -> dict[int, int]:
        map_, archive, order = self.map, self.map.archive, self.map.word_order
        oldest, newest = self._extent(now)
        parts = {
            map_.clock.address: instant_words(int(self.meter.clock(now).timestamp()), map_.clock, order),
            map_.status.address: [flags_word(self.meter.row_now(now).status, map_.status)],
            archive.stored.address: count_words(max(0, newest - oldest + 1), archive.stored, order),
            archive.newest_at.address: instant_words(self.log.at_s(newest), archive.newest_at, order),
        }
        if archive.newest is not None:
            parts[archive.newest.address] = count_words(newest % archive.capacity, archive.newest, order)
        return _laid_out(parts)

    def _settings(self, now: datetime) -> dict[int, int]:
        """The holding registers that can be written, as they read."""
        map_, order = self.map, self.map.word_order
        parts = {}
        if map_.interval is not None:
            interval = self.log.interval_s // map_.interval.unit_s
            parts[map_.interval.address] = number_words(interval, WORDS[map_.interval.type], order)
        if map_.set_clock is not None:
            shows_s = int(self.meter.clock(now).timestamp())
            parts[map_.set_clock.address] = instant_words(shows_s, map_.set_clock, order)
        if map_.archive.window is not None:
            parts[map_.archive.window.select] = [self._page]
        return _laid_out(parts)

    def _archive(self, offset: int, count: int, now: datetime) -> list[int]:
        """`count` words from the `offset`-th of the archive on, or of its page, which begins with the position it shows."""
        archive = self.map.archive
        size = archive.record_registers
        if archive.window is not None:
            first, before = self._page, [self._page]
            records = range(first, first + archive.window.records)
        else:
            first, before = offset // size, []
            records = range(first, (offset + count - 1) // size + 1)
            offset -= first * size
        words = [word for position in records for word in self._record(position % archive.capacity, now)]
        return (before + words)[offset : offset + count]

    def _record(self, position: int, now: datetime) -> list[int]:
        archive, order = self.map.archive, self.map.word_order
        oldest, newest = self._extent(now)
        number = newest - ((newest - position) % archive.capacity if archive.newest is not None else position)
        if number < oldest:
            return [0] * archive.record_registers
        at_s = self.log.at_s(number)
        at = datetime.fromtimestamp(at_s, UTC)
        found = self.meter.log(at, at, now, timedelta(seconds=1))
        row: LogRow | None = found[0] if found else None
        parts = {archive.at.address: instant_words(at_s, archive.at, order)}
        for part, ticks in (
            (archive.index, row.index if row else None),
            (archive.unconverted, row.unconverted if row else None),
            (archive.own_index, row.reference if row else None),
        ):
            if part is not None:
                parts[part.address] = count_words(ticks, part, order)
        if archive.status is not None:
            parts[archive.status.address] = [flags_word(row.status if row else (), archive.status)]
        laid_out = _laid_out(parts)
        return [laid_out.get(register, 0) for register in range(archive.record_registers)]


def _laid_out(parts: dict[int, list[int]]) -> dict[int, int]:
    return {address + n: word for address, words in parts.items() for n, word in enumerate(words)}


def _number(words: Sequence[int], order: WordOrder) -> int:
    value = 0
    for word in words if order == "big" else reversed(words):
        value = value << 16 | word
    return value


def _instant(words: Sequence[int], instant: Instant, order: WordOrder) -> datetime:
    """What was written to a clock."""
    if instant.type == "unix_u32":
        local = datetime.fromtimestamp(_number(words, order), UTC)
    elif instant.type == "bcd_ymdhms":
        local = datetime.strptime("".join(f"{word:04x}" for word in words), "%y%m%d%H%M%S").replace(tzinfo=UTC)
    else:
        year, month, day, hour, minute, second = words
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return local - timedelta(seconds=instant.utc_offset_s)
