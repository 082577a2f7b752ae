"""One Modbus meter: a Day's readings out of its archive, its interval and its clock set, by its register map.

The questions go over a line of `modbus_line.py`; what the registers mean `modbus_registers.py` knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

from collectors.modbus_describe import Describer
from collectors.modbus_frames import ILLEGAL_ADDRESS, LineError, NothingCame, Refused
from collectors.modbus_line import ModbusLine
from collectors.modbus_maps import WORDS, RegisterMap
from collectors.modbus_registers import (
    ArchiveRecord,
    BadRegisters,
    Header,
    RecordDecoder,
    Span,
    Words,
    header_of,
    header_spans,
    instant_s,
    instant_words,
    interval_of,
    number_words,
    record_spans,
)
from collectors.reader import Answer, Unable, Unanswered
from collectors.reading import DayReadings, PollError
from collectors.trace import Frame, Trace
from metering.facts import ReferenceIndex

TOLERANCE_S = 60
CLOCK_STEP_ERROR_S = 5.0  # of a clock that was set, beside what its registers and the line make unsure
PAGE_ASKS = 3


class ModbusMeter:
    """One unit on a line, with its register map."""

    def __init__(self, line: ModbusLine, unit: int, map_: RegisterMap, site: str, interval_s: int = 3600) -> None:
        if allowed := map_.other_intervals(interval_s):
            raise ValueError(f"interval_s: {interval_s}; allowed with this map: {allowed}")
        self.line, self.unit, self.map, self.site, self.interval_s = line, unit, map_, site, interval_s
        self._decoder = RecordDecoder(map_.archive, map_.word_order)
        self._describer = Describer(line.framing, map_)
        self._header_spans = header_spans(map_)

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """The readings from `start` to `end` (whole seconds), from the meter's archive. Raises PollError.

        `now` is asked when the meter's clock has been read, for the offset.
        """
        async with self._talk():
            return await self._read_day(int(start.timestamp()), int(end.timestamp()), now)

    async def set_interval(self, interval_s: int) -> int:
        """As `Reader.set_interval`: the map's `interval` is written."""
        setting = self.map.interval
        if setting is None:
            raise Unable(self.site, f'its register map ("{self.map.title}") does not say where the interval is set')
        if interval_s % setting.unit_s or not setting.min_s <= interval_s <= setting.max_s:
            allowed = f"{setting.min_s} to {setting.max_s} s in steps of {setting.unit_s} s"
            raise Unable(self.site, f"an interval of {interval_s} s; allowed with its register map: {allowed}")
        words = number_words(interval_s // setting.unit_s, WORDS[setting.type], self.map.word_order)
        async with self._talk():
            await self.line.write(self.unit, setting.function, setting.address, words, self.map.pause_s)
            return interval_of(await self._interval_words(), setting)

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """As `Reader.set_clock`: the map's `set_clock` is written, in whole seconds, where the step is one at least."""
        setting = self.map.set_clock
        if setting is None:
            raise Unable(self.site, f'its register map ("{self.map.title}") does not say where the clock is set')
        async with self._talk():
            clock_s, offset_s, read_at = await self._clock(now)
            step_s = int(max(-step_max_s, min(step_max_s, -offset_s)))
            if step_s == 0:
                return offset_s
            passed_s = int((now() - read_at).total_seconds())
            words = instant_words(clock_s + passed_s + step_s, setting, self.map.word_order)
            await self.line.write(self.unit, 16, setting.address, words, self.map.pause_s)
            _, after_s, _ = await self._clock(now)
        if abs(after_s - offset_s - step_s) > CLOCK_STEP_ERROR_S:
            raise PollError(
                self.site, f"its clock was {offset_s:+.0f} s off, was moved by {step_s:+d} s and is {after_s:+.0f} s off"
            )
        return after_s

    @property
    def lock(self) -> asyncio.Lock:
        """As `Reader.lock`."""
        return self.line.lock

    @property
    def trace(self) -> Trace:
        """As `Reader.trace`."""
        return self.line.trace

    def describe(self, frame: Frame) -> str:
        """As `Reader.describe`; frames in the order in which they went."""
        return self._describer.describe(frame)

    async def close(self) -> None:
        """As `Reader.close`."""
        self.line.close()

    @asynccontextmanager
    async def _talk(self) -> AsyncIterator[None]:
        """What goes wrong is a PollError; the line is closed afterwards."""
        try:
            yield
        except NothingCame as error:
            raise Unanswered(self.site, str(error)) from error
        except (LineError, BadRegisters) as error:
            raise PollError(self.site, str(error)) from error
        finally:
            self.line.close()

    async def _read_day(self, start_s: int, end_s: int, now: Callable[[], datetime]) -> Answer:
        answers = await self._header()
        asked_at = now()
        apart = self.map.interval is not None and self.map.table != "holding"
        header = header_of(answers, self.map, await self._interval_words() if apart else None)
        offset_s = header.clock_s - asked_at.timestamp()
        records = await self._between(header, start_s - TOLERANCE_S, end_s + TOLERANCE_S)
        readings = _day_readings(self.map, header, records, range(start_s, end_s + 1, self.interval_s), offset_s)
        log_from = None
        if not any(index is not None for index in readings.index[:-1]) and header.stored:
            (oldest,) = await self._aged(header, header.stored - 1, header.stored - 1)
            log_from = datetime.fromtimestamp(oldest.at_s, UTC)
        return Answer(readings, log_from)

    async def _header(self) -> list[Words]:
        try:
            return await self._answers(self._header_spans)
        except Refused as error:  # a status that cannot be read spoils no Day
            if error.code != ILLEGAL_ADDRESS:
                raise
            return await self._answers(header_spans(self.map, with_status=False))

    async def _clock(self, now: Callable[[], datetime]) -> tuple[int, float, datetime]:
        """What the meter's clock shows, its offset, and when that was."""
        clock = self.map.clock
        (words,) = await self._answers([Span(clock.address, WORDS[clock.type])])
        read_at = now()
        shown_s = instant_s(words, clock)
        return shown_s, shown_s - read_at.timestamp(), read_at

    async def _interval_words(self) -> Words:
        """The registers of the interval, which are holding registers whatever the map's table."""
        assert self.map.interval is not None
        first, count = self.map.interval.address, WORDS[self.map.interval.type]
        registers = await self.line.read(self.unit, "holding", first, count, self.map.pause_s)
        return Words(first, registers, self.map.word_order)

    async def _answers(self, spans: Sequence[Span]) -> list[Words]:
        map_ = self.map
        return [
            Words(first, await self.line.read(self.unit, map_.table, first, count, map_.pause_s), map_.word_order)
            for first, count in spans
        ]

    async def _between(self, header: Header, start_s: int, end_s: int) -> list[ArchiveRecord]:
        """The records of a period. Where hours are missing from the archive, or twice in it, or the interval was another one,
        counting back from the newest record misses the period by as much: the window then grows towards it, by ever more."""
        if header.newest_at_s is None:
            return []
        interval_s, oldest, least = header.interval_s, header.stored - 1, 1
        young = min(max(0, -((end_s - header.newest_at_s) // interval_s)), oldest)
        old = min(max(young, (header.newest_at_s - start_s) // interval_s), oldest)
        records = await self._aged(header, old, young)
        while records[-1].at_s < end_s - interval_s and young > 0:
            more = min(young, max(least, 1 + (end_s - records[-1].at_s) // interval_s))
            records += await self._aged(header, young - 1, young - more)
            young, least = young - more, 2 * least
        while records[0].at_s >= start_s + interval_s and old < oldest:
            more = min(oldest - old, max(least, 1 + (records[0].at_s - start_s) // interval_s))
            records[:0] = await self._aged(header, old + more, old + 1)
            old, least = old + more, 2 * least
        return [record for record in records if start_s <= record.at_s <= end_s]

    async def _aged(self, header: Header, old: int, young: int) -> list[ArchiveRecord]:
        """The records from the `old`-th to the `young`-th before the newest, oldest first."""
        archive, count = self.map.archive, old - young + 1
        is_ring = archive.order == "ring"
        position = (header.newest - old) % archive.capacity if is_ring else young
        answers = await self._pages(position, count) if archive.window else await self._straight(position, count)
        if any(one.data == other.data for one, other in pairwise(answers)):
            raise BadRegisters(f"the same records twice, at {answers[0].first} and further on")  # an answer came twice
        records = self._decoder.records(answers)
        return records if is_ring else records[::-1]

    async def _straight(self, position: int, count: int) -> list[Words]:
        return await self._answers(record_spans(self.map.archive, position, count, self.map.max_count))

    async def _pages(self, position: int, count: int) -> list[Words]:
        """Each page with the position that it shows, as often as it is another one than was asked for."""
        archive, pages = self.map.archive, []
        assert archive.window is not None
        while count > 0:
            taken = min(count, archive.window.records, archive.capacity - position)
            pages.append(await self._page(position, taken * archive.record_registers))
            position, count = (position + taken) % archive.capacity, count - taken
        return pages

    async def _page(self, position: int, registers: int) -> Words:
        archive, map_, pause_s = self.map.archive, self.map, self.map.pause_s
        window = archive.window
        assert window is not None
        await self.line.write(self.unit, window.function, window.select, [position], pause_s)
        shown = -1
        for _ in range(PAGE_ASKS):
            shown, *found = await self.line.read(self.unit, map_.table, window.shows, 1 + registers, pause_s)
            if shown == position:
                return Words(archive.address, found, map_.word_order)
        raise BadRegisters(f"register {window.shows}: the archive shows position {shown}, asked was {position}")


def _day_readings(
    map_: RegisterMap, header: Header, records: Sequence[ArchiveRecord], wanted_s: range, offset_s: float
) -> DayReadings:
    """For each wanted instant the record nearest to it, no more than a minute away."""
    by_slot: dict[int, ArchiveRecord] = {}
    first_s, step_s, half_s = wanted_s.start, wanted_s.step, wanted_s.step // 2
    off_by: dict[int, int] = {}
    for record in records:
        slot, off_s = divmod(record.at_s - first_s + half_s, step_s)
        off_s = abs(off_s - half_s)
        if off_s <= TOLERANCE_S and off_s < off_by.get(slot, TOLERANCE_S + 1):
            by_slot[slot], off_by[slot] = record, off_s
    found = [by_slot.get(slot) for slot in range(len(wanted_s))]
    archive = map_.archive
    status = {name for record in found if record for name in record.status} if archive.status else set(header.status)
    return DayReadings(
        at=tuple(
            datetime.fromtimestamp(record.at_s if record else slot_s, UTC)
            for record, slot_s in zip(found, wanted_s, strict=True)
        ),
        index=tuple(record.index if record else None for record in found),
        unconverted=tuple(record.unconverted if record else None for record in found) if archive.unconverted else None,
        reference_index=_reference(map_, found[0], found[-1]),
        status=tuple(sorted(status)),
        clock_offset_s=offset_s,
    )


def _reference(map_: RegisterMap, first: ArchiveRecord | None, last: ArchiveRecord | None) -> ReferenceIndex | None:
    if first is None or last is None or first.own_index is None or last.own_index is None:
        return None
    archive = map_.archive
    return ReferenceIndex(
        start=first.own_index, end=last.own_index, digits=archive.own_digits, m3_per_tick=archive.own_m3_per_tick
    )
